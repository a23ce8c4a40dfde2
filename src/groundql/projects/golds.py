"""Drafts and own questions as lines whose golds were run: what is empty, doubled or has no canonical form is left out."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from groundql.databases.engine_values import quoted_name
from groundql.databases.open_database import OpenDatabase
from groundql.databases.translate import from_engine_sql
from groundql.errors import NotInDialect
from groundql.prompts.dialect import canonical_sql
from groundql.questions.drafting import Draft
from groundql.records import Difficulty, Outcome, Row

SEEN_ROWS = 5000  # of each table, for what its columns are and which values they hold
FEW_ROWS = 200  # of a table whose rows are too large
DEADLINE_S = 10.0
MAX_ROWS = 1000  # a result with more is nobody's answer
A_PATTERN = 4  # drafts of one template on the same tables
WAYS = 3  # in which one gold is asked for, in training

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Line:
    """One question with a gold that ran."""

    question_id: str
    text: str
    sql: str  # in the engine's own SQL
    split: str
    source: str  # "drafted" or "own"
    template: str = ""
    evidence: str = ""
    difficulty: Difficulty = ""


@dataclass(frozen=True)
class Gold:
    """A draft whose query runs, in both spellings."""

    draft: Draft
    canonical: str
    sql: str


def first_rows(database: OpenDatabase) -> dict[str, Sequence[Row]]:
    """The first rows of each table, columns in the schema's order; none of one that cannot be read."""
    found: dict[str, Sequence[Row]] = {}
    for table in database.schema.tables:
        columns = ", ".join(quoted_name(column.name) for column in table.columns)
        for limit in (SEEN_ROWS, FEW_ROWS):
            outcome = database.run(
                f"SELECT {columns} FROM {quoted_name(table.name)} LIMIT {limit}",
                deadline_s=DEADLINE_S,
                max_rows=limit,
            )
            if outcome.status == "ok":
                found[table.name] = outcome.rows
                break
    return found


def kept_drafts(
    database: OpenDatabase,
    drafts: Sequence[Draft],
    *,
    limit: int,
    seed: int,
    on_progress: Progress | None = None,
) -> tuple[list[Gold], Counter[str]]:
    """At most `limit` drafts whose golds run and return something, and how many were left out why."""
    kept: list[Gold] = []
    left_out: Counter[str] = Counter()
    n_of: Counter[tuple[str, tuple[str, ...]]] = Counter()
    seen: set[str] = set()
    shuffled = Random(seed).sample(drafts, len(drafts))
    for done, draft in enumerate(shuffled, start=1):
        if on_progress:
            on_progress(done)
        if n_of[draft.template, draft.tables] == A_PATTERN:
            left_out["more of the same pattern"] += 1
        elif len(kept) == limit:
            left_out["more than asked for"] += 1
        else:
            gold = _gold(database, draft)
            reason = (
                gold if isinstance(gold, str) else "the same query twice" if gold.canonical in seen else ""
            )
            if reason or isinstance(gold, str):
                left_out[reason] += 1
                continue
            seen.add(gold.canonical)
            n_of[draft.template, draft.tables] += 1
            kept.append(gold)
    return kept, left_out


def _gold(database: OpenDatabase, draft: Draft) -> Gold | str:
    """The draft in the canonical dialect and in the engine's SQL, run; else why it is left out."""
    try:
        canonical = canonical_sql(draft.sql, database.schema)
        sql = database.translate(canonical)
        if (
            canonical_sql(from_engine_sql(sql, database.schema, database.dialect), database.schema)
            != canonical
        ):
            return "no way back from the engine's SQL"
    except NotInDialect:
        return "no canonical form"
    fault = fault_of(database.run(sql, deadline_s=DEADLINE_S, max_rows=MAX_ROWS))
    return fault or Gold(draft, canonical, sql)


def fault_of(outcome: Outcome) -> str:
    """Why a result is no gold's; "" where it is."""
    if outcome.status != "ok":
        return "too many rows" if outcome.status == "too_large" else f"does not run ({outcome.status})"
    if not outcome.rows:
        return "no rows"
    if len(outcome.rows) == 1 and all(cell in (None, 0) for cell in outcome.rows[0]):
        return "nothing but NULL or 0"
    return ""


def as_lines(golds: Sequence[Gold], splits: Sequence[str], taken: set[str], *, seed: int) -> list[Line]:
    """Lines of the golds: in training each in several ways, elsewhere in one; no text twice, none of `taken`."""
    random = Random(seed)
    lines: list[Line] = []
    asked = set(taken)
    for gold, split in zip(golds, splits, strict=True):
        ways = random.sample(gold.draft.texts, min(WAYS if split == "train" else 1, len(gold.draft.texts)))
        for text in ways:
            if text.lower() in asked:
                continue
            asked.add(text.lower())
            lines.append(
                Line(
                    question_id=f"d{len(lines) + 1}",
                    text=text,
                    sql=gold.sql,
                    split=split,
                    source="drafted",
                    template=gold.draft.template,
                    difficulty=gold.draft.difficulty,
                )
            )
    return lines
