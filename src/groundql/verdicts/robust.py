"""Whether a match holds on changed copies of the database too, or was luck with these rows."""

import contextlib
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from sqlglot import exp

from groundql.databases.executor import Job
from groundql.databases.inside import Runs, may_write
from groundql.databases.mutate import Constants, Value, write_mutant
from groundql.records import Outcome, Schema
from groundql.verdicts.joins_and_values import compared
from groundql.verdicts.parsing import is_ordered, parse_query
from groundql.verdicts.rows import same_results

Pair = tuple[str, str]  # gold and prediction


def robust_pairs(
    path: Path,
    schema: Schema,
    pairs: Sequence[Pair],
    executor: Runs,
    *,
    n_instances: int,
    seed: int,
    deadline_s: float,
    max_rows: int,
) -> list[bool]:
    """For each pair, whether both give the same rows on every one of `n_instances` changed copies of `path`.

    The copies hold values near the constants of all the queries. A copy on which the gold does not run says nothing.
    """
    constants = _constants([sql for pair in pairs for sql in pair], schema)
    holds = [True] * len(pairs)
    with tempfile.TemporaryDirectory(prefix="groundql-") as folder:
        for number in range(n_instances):
            mutant = Path(folder) / f"{number}.sqlite"
            with may_write():
                write_mutant(path, mutant, seed=seed + number, constants=constants)
            asked = [at for at, held in enumerate(holds) if held]
            jobs = [
                Job(mutant, sql, deadline_s, max_rows, quoted_strings=True)
                for at in asked
                for sql in pairs[at]
            ]
            for at, gold, predicted in _outcomes(asked, executor.run_each(jobs)):
                if gold.status == "ok":
                    holds[at] = same_results(gold, predicted, ordered=is_ordered(pairs[at][0]))
            with contextlib.suppress(FileNotFoundError):
                mutant.unlink()
    return holds


def _outcomes(
    asked: list[int], done: Iterable[tuple[int, Outcome]]
) -> Iterator[tuple[int, Outcome, Outcome]]:
    """(place, gold's outcome, prediction's) as soon as both are there."""
    waiting: dict[int, tuple[int, Outcome]] = {}
    for number, outcome in done:
        place, is_prediction = divmod(number, 2)
        if place not in waiting:
            waiting[place] = (is_prediction, outcome)
            continue
        first_is_prediction, first = waiting.pop(place)
        gold, predicted = (outcome, first) if first_is_prediction else (first, outcome)
        yield asked[place], gold, predicted


def _constants(queries: Iterable[str], schema: Schema) -> Constants:
    """What the queries compare each column with, as values; texts that spell numbers count as numbers too."""
    found: dict[tuple[str, str], dict[Value, None]] = defaultdict(dict)
    for sql in dict.fromkeys(queries):
        tree = parse_query(sql)
        if tree is None:
            continue
        for place, literal in compared(tree, schema):
            found[place].update(dict.fromkeys(_values(literal)))
    return {place: list(values) for place, values in found.items()}


def _values(literal: exp.Literal) -> list[Value]:
    text = literal.name
    values: list[Value] = [text.strip("%")] if literal.is_string else []
    with contextlib.suppress(ValueError, OverflowError):
        number = float(text)
        values.append(int(number) if number.is_integer() and "." not in text else number)
    return values
