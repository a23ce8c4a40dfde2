"""The ladder: from what a model wrote to a verdict, each rung implying the one before.

`ex_bird` stands beside the ladder. It reproduces BIRD's official rule to the bit: whatever SQL was handed in is run
with SQLite's defaults, double-quoted strings included, and the rows are compared as sets. So a prediction that is
not `grounded`, because it writes "titel" where the column is title, can still be `ex_bird`. Two things differ from
the official script, both for safety: nothing but reading runs, and each query has the deadline for itself.

With double-quoted strings off a name either resolves as it does with them on, or the statement does not prepare. So
one run, with them on, serves `ran` and `ex_strict` too, which ask for `grounded` first.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from groundql.records import (
    Cell,
    Completion,
    Dialect,
    Outcome,
    Question,
    Row,
    RowsAre,
)
from groundql.verdicts.parsing import (
    depends_on_clock_or_chance,
    is_one_select,
    is_ordered,
    is_read_only,
    parse_fault,
    parse_query,
    sqlglot_accepts,
)
from groundql.verdicts.rows import same_results, same_sets
from groundql.verdicts.shipping import SAME, Parcel, PreviewParts
from groundql.verdicts.ties import FAULT

N_PREVIEW_ROWS = 5
N_PREVIEW_COLUMNS = 20
N_PREVIEW_CHARS = 80
NAME_FAULT = re.compile(r"no such (?:column|table|function): |ambiguous column name: ")
NO_ROWS_AT_HAND = "no rows at hand to run on"


class Rungs(NamedTuple):
    """What can be said of a completion without running it."""

    extracted: bool
    sqlglot_accepts: bool | None
    parsed: bool
    read_only: bool
    grounded: bool
    error: str


PREPARED = Rungs(extracted=True, sqlglot_accepts=None, parsed=True, read_only=True, grounded=True, error="")


def climb(
    completion: Completion | None,
    prepare: Callable[[str], str | None],
    *,
    asks_sqlglot: bool = True,
    dialect: Dialect = "sqlite",
) -> Rungs:
    """The rungs up to `grounded`; `prepare` gives None or the engine's words. No completion passes no rung.

    What the engine prepares, as one statement that may only read, is parsed and read-only by its word, and so is a
    SELECT of which it looks up the names, because it reads a statement to its end first. sqlglot is asked about the
    rest. Without `asks_sqlglot` the paper's rule is left open: parsing is most of the ladder's cost.
    """
    sql = completion.sql if completion else None
    accepts = None
    if asks_sqlglot:
        text = sql or (completion.text if completion else "")
        accepts = bool(text.strip()) and sqlglot_accepts(text, dialect)
    refusal = prepare(sql) if sql else None
    if sql and refusal is None:
        return PREPARED if accepts is None else PREPARED._replace(sqlglot_accepts=accepts)
    if sql and refusal and is_one_select(sql) and NAME_FAULT.match(refusal):
        return Rungs(
            extracted=True,
            sqlglot_accepts=accepts,
            parsed=True,
            read_only=True,
            grounded=False,
            error=refusal,
        )
    tree = parse_query(sql, dialect) if sql else None
    read_only = tree is not None and is_read_only(tree)
    if completion is None:
        error = "no prediction for this question"
    elif not sql and completion.status == "abstained":
        error = f"abstained: {completion.reason}" if completion.reason else "abstained"
    elif not sql:
        error = "no SQL in the answer"
    elif tree is None:
        error = parse_fault(sql, dialect)
    elif not read_only:
        error = "it writes"
    else:
        error = refusal or ""
    return Rungs(
        extracted=bool(sql),
        sqlglot_accepts=accepts,
        parsed=tree is not None,
        read_only=read_only,
        grounded=False,
        error=error,
    )


def judge_one(
    question: Question,
    rungs: Rungs,
    *,
    gold: Outcome | None,
    predicted: Outcome | None,
    official: Outcome | None = None,
    rows: RowsAre = "real",
    gold_fault: str = "",
) -> Parcel:
    """What is found on one question, from outcomes that were run before; `shipping.unpacked` makes it a verdict.

    `gold` None: it could not be run, and `gold_fault` says why; what would need it is None. `predicted` is the
    outcome of the extracted SQL, `official` that of the text which the official script would run (the same unless
    given). A gold that was run and failed makes `ex_bird` False, as the official script has it, and `ex_strict` None.
    """
    ran: bool | None = None
    ex_bird: bool | None = None
    ex_strict: bool | None = None
    error = rungs.error
    if rows != "none":
        ran = rungs.grounded and predicted is not None and predicted.status == "ok"
        if rungs.grounded and predicted is not None and not ran:
            error = (
                f"{predicted.status}: {predicted.error}" if predicted.status != "error" else predicted.error
            )
    if gold is not None:
        handed_in = official or predicted
        ex_bird = (
            handed_in is not None
            and handed_in.status == gold.status == "ok"
            and (gold is handed_in or same_sets(gold.rows, handed_in.rows))
        )
        if gold.status == "ok":
            ex_strict = bool(ran and predicted is gold)
            if ran and predicted and not ex_strict:
                difference = _difference(question.gold_sql or "", gold, predicted)
                ex_strict, error = not difference, difference or error
    extracted, accepts, parsed, read_only, grounded, _ = rungs
    return (
        *(extracted, accepts, parsed, read_only, grounded, ran, ex_bird, ex_strict, error, gold_fault, rows),
        *(preview(gold), SAME if predicted is gold else preview(predicted), None),
    )


def gold_fault_of(
    question: Question, gold: Outcome | None, refusal: str | None, *, cuts_tie: bool = False
) -> str:
    """What is wrong with a gold query as a judge, several faults joined by "; "; "" where nothing is known.

    `refusal` is the engine's word on preparing it with double-quoted strings off, None where it prepares; `gold` is
    None where there are no rows. What runs and yet does not prepare can only be such a string.
    """
    if question.gold_sql is None:
        return "no gold SQL"
    if gold is None:
        return f"gold does not bind: {refusal}" if refusal else NO_ROWS_AT_HAND
    faults = []
    if gold.status == "timeout":
        faults.append(f"gold {gold.error}")
    elif gold.status != "ok":
        faults.append(f"gold does not run: {gold.error}")
    elif not gold.rows:
        faults.append("gold returns no rows")
    if cuts_tie:
        faults.append(FAULT)
    if refusal and gold.status == "ok":
        faults.append("gold writes strings in double quotes, which `grounded` refuses")
    if depends_on_clock_or_chance(question.gold_sql):
        faults.append("gold depends on the clock or on chance")
    return "; ".join(faults)


def preview(outcome: Outcome | None) -> PreviewParts | None:
    """The head of a result for people, as the fields of a ResultPreview; None where nothing ran."""
    if outcome is None or outcome.status != "ok":
        return None
    columns, rows = outcome.columns, outcome.rows[:N_PREVIEW_ROWS]
    if len(columns) > N_PREVIEW_COLUMNS or _has_long(rows):
        columns = columns[:N_PREVIEW_COLUMNS]
        rows = tuple(tuple(_shown_cell(value) for value in row[:N_PREVIEW_COLUMNS]) for row in rows)
    return columns, rows, len(outcome.rows)


def _has_long(rows: tuple[Row, ...]) -> bool:
    """Whether a cell has to be cut for display."""
    for row in rows:
        for value in row:
            kind = type(value)
            if (kind is str and len(value) > N_PREVIEW_CHARS) or kind is bytes:  # type: ignore[arg-type]
                return True
    return False


def _shown_cell(value: Cell) -> Cell:
    if isinstance(value, bytes):
        value = f"x'{value[: N_PREVIEW_CHARS // 2].hex()}'"
    return (
        value[: N_PREVIEW_CHARS - 1] + "…"
        if isinstance(value, str) and len(value) > N_PREVIEW_CHARS
        else value
    )


def _difference(gold_sql: str, gold: Outcome, predicted: Outcome) -> str:
    """How two results differ as lists, where the gold orders, or as bags; in a few words, none where they do not."""
    if len(gold.columns) != len(predicted.columns):
        return f"{len(predicted.columns)} columns, gold has {len(gold.columns)}"
    if len(gold.rows) != len(predicted.rows):
        return f"{len(predicted.rows)} rows, gold has {len(gold.rows)}"
    ordered = is_ordered(gold_sql)
    if same_results(gold, predicted, ordered=ordered):
        return ""
    same_bag = ordered and same_results(gold, predicted, ordered=False)
    return "the same rows in another order" if same_bag else "other values"
