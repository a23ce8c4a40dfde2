"""Samples that keep distributions, the distance to the whole, and splits in which no database occurs twice."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from fractions import Fraction
from math import ceil, floor
from random import Random

from groundql.errors import SettingError
from groundql.questions.complexity import sql_shape
from groundql.questions.entries import did_you_mean
from groundql.records import Question, Record

N_EVIDENCE_BUCKETS = (
    10  # of equal size, over questions with evidence; questions without are a bucket of their own
)
KEYS = ("evidence", "database", "difficulty", "complexity")
N_SPLIT_TRIES = 200

StratumOf = Callable[[Question], Hashable]


class Distance(Record):
    """How far a sample lies from the whole under one key; 0 is the same distribution."""

    key: str
    n_strata: int
    total_variation: float  # half the sum of |share in sample - share in whole| over strata, 0 to 1
    kolmogorov_smirnov: float | None = (
        None  # the largest gap between the two cumulative curves of evidence length
    )


def stratified_sample(
    questions: Sequence[Question], fraction: float, *, by: Sequence[str] = ("evidence",), seed: int
) -> tuple[Question, ...]:
    """`fraction` of n questions, halves rounded up, in their old order, with the shares of the whole.

    Questions are put in order by their strata (first key outermost, strata and their members shuffled by `seed`) and
    taken at even distances from a random start. So every stratum of the first key, and every joint stratum, gets its
    exact share rounded up or down; strata of later keys alone get it on average. Rounding each joint stratum by
    largest remainder instead would round all strata of one size the same way and bend the later keys.
    """
    if not 0 < fraction <= 1:
        raise SettingError(f"fraction must lie above 0 and up to 1, it is {fraction}")
    n_taken = floor(
        Fraction(str(fraction)) * len(questions) + Fraction(1, 2)
    )  # 0.15 of 10 is 1.5, not a little less
    if n_taken == 0:
        raise SettingError(f"{fraction} of {len(questions)} questions is none; raise the fraction")
    random = Random(seed)
    strata = [stratum_of(key, questions) for key in by]
    ordered = _in_strata_order(list(range(len(questions))), questions, strata, random)
    n_all = len(questions)
    start = random.randrange(n_all)
    taken = [
        row
        for place, row in enumerate(ordered)
        if (start + (place + 1) * n_taken) // n_all > (start + place * n_taken) // n_all
    ]
    return tuple(questions[row] for row in sorted(taken))


def _in_strata_order(
    rows: list[int], questions: Sequence[Question], strata: Sequence[StratumOf], random: Random
) -> list[int]:
    if not strata:
        return random.sample(rows, len(rows))
    members: dict[Hashable, list[int]] = {}
    for row in rows:
        members.setdefault(strata[0](questions[row]), []).append(row)
    groups = random.sample(list(members.values()), len(members))
    return [row for group in groups for row in _in_strata_order(group, questions, strata[1:], random)]


def stratum_of(key: str, whole: Sequence[Question]) -> StratumOf:
    """The function that gives a question's stratum under `key`; evidence buckets are cut on `whole`."""
    if key == "evidence":
        edges = evidence_edges(whole)
        return lambda question: evidence_bucket(question, edges)
    if key == "database":
        return lambda question: question.db_id
    if key == "difficulty":
        return lambda question: question.difficulty
    if key == "complexity":
        return lambda question: _shape_name(question.gold_sql)
    raise SettingError(f"{key!r} is not something to sample by{did_you_mean(key, list(KEYS))}")


def evidence_edges(questions: Sequence[Question]) -> tuple[int, ...]:
    """Upper ends of the evidence buckets in characters, without the last: quantiles of the lengths above 0.

    Equal lengths stay in one bucket, so there can be fewer than `N_EVIDENCE_BUCKETS`.
    """
    lengths = sorted(len(question.evidence) for question in questions if question.evidence)
    if not lengths:
        return ()
    ends = {
        lengths[ceil(len(lengths) * part / N_EVIDENCE_BUCKETS) - 1] for part in range(1, N_EVIDENCE_BUCKETS)
    }
    return tuple(sorted(ends - {lengths[-1]}))


def evidence_bucket(question: Question, edges: Sequence[int]) -> int:
    """0 without evidence, else 1 + the number of edges that the length in characters exceeds."""
    return 1 + bisect_left(edges, len(question.evidence)) if question.evidence else 0


def _shape_name(sql: str | None) -> str:
    shape = sql_shape(sql) if sql else None
    return shape.shape_class if shape else "not parsed"


def distance(sample: Sequence[Question], whole: Sequence[Question], key: str) -> Distance:
    """How far `sample` lies from `whole` under `key`."""
    stratum = stratum_of(key, whole)
    in_whole = Counter(map(stratum, whole))
    in_sample = Counter(map(stratum, sample))
    gaps = (abs(in_sample[name] / len(sample) - count / len(whole)) for name, count in in_whole.items())
    curve_gap = None
    if key == "evidence":
        curve_gap = kolmogorov_smirnov([len(q.evidence) for q in sample], [len(q.evidence) for q in whole])
    return Distance(
        key=key, n_strata=len(in_whole), total_variation=sum(gaps) / 2, kolmogorov_smirnov=curve_gap
    )


def kolmogorov_smirnov(left: Sequence[int], right: Sequence[int]) -> float:
    """The largest gap between two empirical cumulative distributions.

    >>> kolmogorov_smirnov([1, 2, 3, 4], [3, 4, 5, 6])
    0.5
    """
    n_left, n_right = Counter(left), Counter(right)
    below_left = below_right = 0
    gap = 0.0
    for value in sorted(n_left | n_right):
        below_left += n_left[value]
        below_right += n_right[value]
        gap = max(gap, abs(below_left / len(left) - below_right / len(right)))
    return gap


def split_by_database(
    questions: Sequence[Question], fractions: Sequence[float], *, seed: int
) -> tuple[tuple[Question, ...], ...]:
    """One split a fraction, near it in questions; no database in two splits, questions in their old order.

    Databases are dealt in random order to the split that lacks most; the closest of many deals is taken.
    """
    if any(fraction <= 0 for fraction in fractions) or abs(sum(fractions) - 1) > 1e-6:
        raise SettingError(
            f"fractions of a split must be above 0 and add up to 1: {', '.join(map(str, fractions))}"
        )
    sizes = Counter(question.db_id for question in questions)
    if len(sizes) < len(fractions):
        raise SettingError(
            f"{len(sizes)} databases cannot fill {len(fractions)} splits; give fewer fractions"
        )
    random = Random(seed)
    targets = [fraction * len(questions) for fraction in fractions]
    deals = [_deal(sizes, targets, random) for _ in range(N_SPLIT_TRIES)]
    _, split_of = min(deals, key=lambda deal: deal[0])
    return tuple(
        tuple(question for question in questions if split_of[question.db_id] == number)
        for number in range(len(fractions))
    )


def _deal(sizes: Counter[str], targets: Sequence[float], random: Random) -> tuple[float, dict[str, int]]:
    """The worst miss in questions, and the split of every database; the last databases go to splits still empty."""
    lacking = list(targets)
    split_of: dict[str, int] = {}
    empty = set(range(len(targets)))
    for n_dealt, db_id in enumerate(random.sample(list(sizes), len(sizes))):
        open_splits = empty if len(sizes) - n_dealt == len(empty) else range(len(targets))
        split_of[db_id] = max(open_splits, key=lacking.__getitem__)
        lacking[split_of[db_id]] -= sizes[db_id]
        empty.discard(split_of[db_id])
    return max(map(abs, lacking)), split_of
