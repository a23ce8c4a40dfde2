"""The facts of a data set: categories, SQL complexity, evidence, lengths, gold queries that cannot judge.

Counts alone: reading schemas, counting tokens and running golds is the caller's, so that this runs anywhere.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import ceil
from typing import Literal

from groundql.questions.complexity import SHAPE_CLASSES, SqlShape, sql_shape
from groundql.questions.sample import evidence_bucket, evidence_edges
from groundql.records import DataSet, Difficulty, Question, Record, RowsAre, Schema

MeasureTexts = Callable[[Sequence[str]], Sequence[int]]

LIMITS = (512, 1024, 2048, 4096, 8192)  # lengths that people set as a limit
DIFFICULTIES: tuple[Difficulty, ...] = (
    "simple",
    "easy",
    "moderate",
    "medium",
    "challenging",
    "hard",
    "extra",
    "",
)
N_BINS = 24


class Spread(Record):
    """How a length is spread: nearest-rank percentiles and a histogram of equal bins."""

    n: int
    smallest: int
    median: int
    mean: float
    p90: int
    p95: int
    p99: int
    largest: int
    bin_edges: tuple[float, ...]  # one more than counts; the last bin takes all beyond the 99th percentile
    bin_counts: tuple[int, ...]


class Lengths(Record):
    """Lengths of what a model reads and writes, all in one unit."""

    unit: Literal["tokens", "characters"]
    tokenizer: str  # whose tokens; "" for characters
    question: Spread
    evidence: Spread | None  # of questions that have some
    sql: Spread | None
    schema_: Spread | None  # one a database
    whole: Spread | None  # schema + question + evidence + SQL of each question, without the marks of a chat
    within: dict[int, int]  # limit -> questions whose whole is no longer


class Slice(Record):
    """Questions of one database."""

    db_id: str
    rows: RowsAre
    n_questions: int
    n_with_evidence: int
    n_tables: int | None  # None where there is no schema
    n_columns: int | None
    n_foreign_keys: int | None
    schema_length: int | None
    mean_tables_in_gold: float | None
    by_difficulty: dict[str, int]
    by_shape: dict[str, int]


class EvidenceBucket(Record):
    """Questions whose evidence has `smallest` to `largest` characters: the strata of `groundql sample --by evidence`."""

    smallest: int
    largest: int
    n_questions: int
    mean_tables_in_gold: float | None
    share_nested: float | None  # of the golds that parse


class GoldFault(Record):
    """A gold query that cannot judge."""

    question_id: str
    db_id: str
    stage: Literal["bind", "run"]
    error: str
    sql: str


class GoldCheck(Record):
    """What the engine said of the gold queries."""

    n_gold: int
    n_bound: int  # SQLite prepares them, an unknown "name" in double quotes being a string
    n_bound_strictly: int  # the same with double-quoted strings off
    n_run: int  # on a database with rows
    n_ran: int  # without an error, within the deadline
    n_with_rows: int  # and gave at least one row
    deadline_s: float | None
    faults: tuple[GoldFault, ...]


class Complexity(Record):
    """Parts of the gold queries; counts of queries."""

    n_parsed: int
    not_parsed: tuple[str, ...]  # question ids whose gold sqlglot does not take as a query
    tables: dict[int, int]
    joins: dict[int, int]
    depth: dict[int, int]
    clauses: dict[str, int]
    functions: dict[str, int]
    set_operations: dict[str, int]
    n_with_window: int
    n_with_subquery: int


class Exploration(Record):
    """All facts of one data set."""

    spec: str
    name: str
    split: str
    fingerprint: str
    n_questions: int
    n_databases: int
    n_with_evidence: int
    n_with_gold: int
    n_repeated_texts: int  # questions whose text stood before, on the same database
    rows: dict[RowsAre, int]  # databases by what their rows are
    by_difficulty: dict[str, int]
    by_shape: dict[str, int]
    difficulty_by_shape: dict[str, dict[str, int]]
    complexity: Complexity
    evidence_characters: Spread | None  # of questions that have some
    evidence_buckets: tuple[EvidenceBucket, ...]
    lengths: Lengths
    databases: tuple[Slice, ...]  # most questions first
    golds: GoldCheck | None


def count_characters(texts: Sequence[str]) -> list[int]:
    """The length of each text in characters."""
    return [len(text) for text in texts]


def explore(
    data: DataSet,
    schemas: Mapping[str, Schema],
    schema_texts: Mapping[str, str],
    *,
    measure: MeasureTexts = count_characters,
    tokenizer: str = "",
    golds: GoldCheck | None = None,
) -> Exploration:
    """The facts of `data`.

    Args:
        data: The questions.
        schemas: By db_id; may lack some.
        schema_texts: The schemas as the prompt shows them, by db_id.
        measure: Lengths of texts: tokens of `tokenizer`, or characters where `tokenizer` is "".
        tokenizer: The name of the tokenizer behind `measure`.
        golds: What the engine said of the gold queries, if it was asked.
    """
    questions = data.questions
    shapes = {q.question_id: sql_shape(q.gold_sql) if q.gold_sql else None for q in questions}
    schema_lengths = dict(zip(schema_texts, measure(list(schema_texts.values())), strict=True))
    difficulties = [name for name in DIFFICULTIES if any(q.difficulty == name for q in questions)]
    return Exploration(
        spec=data.spec,
        name=data.name,
        split=data.split,
        fingerprint=data.fingerprint(),
        n_questions=len(questions),
        n_databases=len(data.databases),
        n_with_evidence=sum(bool(q.evidence) for q in questions),
        n_with_gold=sum(bool(q.gold_sql) for q in questions),
        n_repeated_texts=len(questions) - len({(q.db_id, q.text.strip().lower()) for q in questions}),
        rows=dict(Counter(files.rows for files in data.databases.values())),
        by_difficulty={name: sum(q.difficulty == name for q in questions) for name in difficulties},
        by_shape=_count_shapes(questions, shapes),
        difficulty_by_shape={
            name: _count_shapes([q for q in questions if q.difficulty == name], shapes)
            for name in difficulties
        },
        complexity=_complexity(questions, shapes),
        evidence_characters=spread([len(q.evidence) for q in questions if q.evidence]),
        evidence_buckets=_evidence_buckets(questions, shapes),
        lengths=_lengths(questions, schema_lengths, measure, tokenizer),
        databases=_slices(data, schemas, schema_lengths, shapes),
        golds=golds,
    )


Shapes = Mapping[str, SqlShape | None]


def _count_shapes(questions: Sequence[Question], shapes: Shapes) -> dict[str, int]:
    counts = Counter(shape.shape_class for q in questions if (shape := shapes[q.question_id]))
    return {name: counts[name] for name in SHAPE_CLASSES if counts[name]}


def _complexity(questions: Sequence[Question], shapes: Shapes) -> Complexity:
    parsed = [shape for shape in shapes.values() if shape]
    return Complexity(
        n_parsed=len(parsed),
        not_parsed=tuple(q.question_id for q in questions if q.gold_sql and shapes[q.question_id] is None),
        tables=_in_order(shape.n_tables for shape in parsed),
        joins=_in_order(shape.n_joins for shape in parsed),
        depth=_in_order(shape.depth for shape in parsed),
        clauses=dict(Counter(name for shape in parsed for name in shape.clauses).most_common()),
        functions=dict(Counter(name for shape in parsed for name in shape.functions).most_common()),
        set_operations=dict(Counter(name for shape in parsed for name in shape.set_operations).most_common()),
        n_with_window=sum(shape.n_windows > 0 for shape in parsed),
        n_with_subquery=sum(shape.n_subqueries > 0 for shape in parsed),
    )


def _in_order(numbers: Iterable[int]) -> dict[int, int]:
    return dict(sorted(Counter(numbers).items()))


def _evidence_buckets(questions: Sequence[Question], shapes: Shapes) -> tuple[EvidenceBucket, ...]:
    edges = evidence_edges(questions)
    members: dict[int, list[Question]] = {}
    for question in questions:
        members.setdefault(evidence_bucket(question, edges), []).append(question)
    buckets = []
    for _, inside in sorted(members.items()):
        parsed = [shape for q in inside if (shape := shapes[q.question_id])]
        buckets.append(
            EvidenceBucket(
                smallest=min(len(q.evidence) for q in inside),
                largest=max(len(q.evidence) for q in inside),
                n_questions=len(inside),
                mean_tables_in_gold=_mean([shape.n_tables for shape in parsed]),
                share_nested=_mean([shape.depth > 1 for shape in parsed]),
            )
        )
    return tuple(buckets)


def _lengths(
    questions: Sequence[Question], schema_lengths: Mapping[str, int], measure: MeasureTexts, tokenizer: str
) -> Lengths:
    in_question = measure([q.text for q in questions])
    in_evidence = measure([q.evidence for q in questions])
    in_sql = measure([q.gold_sql or "" for q in questions])
    whole = [
        schema_lengths[q.db_id] + parts
        for q, parts in zip(
            questions, map(sum, zip(in_question, in_evidence, in_sql, strict=True)), strict=True
        )
        if q.db_id in schema_lengths
    ]
    counted = spread(in_question)
    assert counted is not None  # a data set has at least one question
    return Lengths(
        unit="tokens" if tokenizer else "characters",
        tokenizer=tokenizer,
        question=counted,
        evidence=spread([n for q, n in zip(questions, in_evidence, strict=True) if q.evidence]),
        sql=spread([n for q, n in zip(questions, in_sql, strict=True) if q.gold_sql]),
        schema_=spread(list(schema_lengths.values())),
        whole=spread(whole),
        within={limit: sum(length <= limit for length in whole) for limit in LIMITS if whole},
    )


def _slices(
    data: DataSet, schemas: Mapping[str, Schema], schema_lengths: Mapping[str, int], shapes: Shapes
) -> tuple[Slice, ...]:
    members: dict[str, list[Question]] = {}
    for question in data.questions:
        members.setdefault(question.db_id, []).append(question)
    slices = []
    for db_id, inside in members.items():
        tables = schemas[db_id].tables if db_id in schemas else None
        by_difficulty = Counter(q.difficulty for q in inside)
        slices.append(
            Slice(
                db_id=db_id,
                rows=data.databases[db_id].rows,
                n_questions=len(inside),
                n_with_evidence=sum(bool(q.evidence) for q in inside),
                n_tables=None if tables is None else len(tables),
                n_columns=None if tables is None else sum(len(table.columns) for table in tables),
                n_foreign_keys=None if tables is None else sum(len(table.foreign_keys) for table in tables),
                schema_length=schema_lengths.get(db_id),
                mean_tables_in_gold=_mean(
                    [shape.n_tables for q in inside if (shape := shapes[q.question_id])]
                ),
                by_difficulty={
                    str(name): by_difficulty[name] for name in DIFFICULTIES if by_difficulty[name]
                },
                by_shape=_count_shapes(inside, shapes),
            )
        )
    return tuple(sorted(slices, key=lambda part: (-part.n_questions, part.db_id)))


def _mean(numbers: Sequence[float]) -> float | None:
    return sum(numbers) / len(numbers) if numbers else None


def spread(lengths: Sequence[int]) -> Spread | None:
    """How lengths are spread; None for none.

    >>> found = spread([1, 2, 3, 4, 100])
    >>> found.median, found.mean, found.p90, found.largest
    (3, 22.0, 100, 100)
    """
    if not lengths:
        return None
    ordered = sorted(lengths)

    def percentile(part: int) -> int:
        return ordered[ceil(len(ordered) * part / 100) - 1]

    edges = _bin_edges(ordered[0], percentile(99))
    counts = [0] * (len(edges) - 1)
    for length in ordered:
        counts[min(max(bisect_left(edges, length) - 1, 0), len(counts) - 1)] += 1
    return Spread(
        n=len(ordered),
        smallest=ordered[0],
        median=percentile(50),
        mean=sum(ordered) / len(ordered),
        p90=percentile(90),
        p95=percentile(95),
        p99=percentile(99),
        largest=ordered[-1],
        bin_edges=tuple(edges),
        bin_counts=tuple(counts),
    )


def _bin_edges(low: int, high: int) -> list[float]:
    """At most N_BINS bins of one whole width that cover low to high; a bin takes its upper edge, the first both."""
    width = max(1, ceil((high - low) / N_BINS))
    n_bins = max(1, ceil((high - low) / width))
    return [float(low + width * number) for number in range(n_bins + 1)]
