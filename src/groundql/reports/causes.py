"""Where on the ladder a prediction fell, and the cause in a few words: what the report page filters by."""

import re
from collections.abc import Sequence

from groundql.records import Verdict

# The rungs that imply one another, in order: the page's funnel. One exception: ex_strict compares REAL values to
# some digits, ex_bird to the last bit.
CHAIN = ("extracted", "parsed", "read_only", "grounded", "ran", "ex_bird", "ex_strict")
RIGHT = "right"
UNDECIDED = "undecided"
ABSTAINED = "abstained"

_AT_PARSE = ((r"statements", "several statements"), (r"not a query|no statement", "not a query"))
# SQLite's own messages, and the words that guards of a run use; the first that matches names the cause.
_AT_PREPARE = (
    (r"no such table", "no such table"),
    (r"no such column", "no such column"),
    (r"ambiguous column", "ambiguous column"),
    (r"no such function", "no such function"),
    (r"wrong number of arguments", "wrong arguments"),
    (r"misuse of (aggregate|window)|aggregate functions are not allowed", "misused aggregate"),
    (r"syntax error|incomplete input|unrecognized token", "syntax error"),
    (r"GROUP BY term|ORDER BY term|ORDER BY clause|SELECTs to the left and right", "clauses do not fit"),
    (r"not authorized|prohibited|refused", "refused"),
)
_AT_RUN = (
    (r"crash", "crashed"),
    (r"deadline|time.?out|timed out|interrupt", "too slow"),
    (r"too.large|too many|more than|too big|memory", "too large"),
    (r"not authorized|prohibited|refused", "refused"),
)
_BY_FIELD = (
    *("misplaced_column", "invented_column", "invented_table"),
    *("invented_alias", "invented_function"),
)


def fell_at(verdict: Verdict, rungs: Sequence[str] = CHAIN) -> str:
    """The first of `rungs` that was not passed; "" where the last one is; `undecided` where nobody can say.

    A gold that does not run leaves ex_bird False, as the official script has it, and ex_strict undecided: then so
    is the whole, unless the prediction fell before.
    """
    last = getattr(verdict, rungs[-1])
    if last:
        return ""
    for name in rungs:
        passed = getattr(verdict, name)
        if passed is None or (last is None and name.startswith("ex_")):
            return UNDECIDED
        if not passed:
            return name
    raise AssertionError(f"question {verdict.question_id} passes and does not pass {rungs[-1]}")


def cause(verdict: Verdict, rungs: Sequence[str] = CHAIN) -> str:
    """Why the prediction is not right, in a few words that many share; `right` or `undecided` otherwise."""
    fell = fell_at(verdict, rungs)
    if fell == "grounded":
        found = next((name.replace("_", " ") for name in _BY_FIELD if getattr(verdict, name, None)), "")
        return found or _first_match(_AT_PREPARE, verdict.error, "does not prepare")
    if fell == "ran":
        return _first_match(_AT_RUN, verdict.error, "error while running")
    if fell == "ex_bird":
        return _rows_cause(verdict)
    if fell == "ex_strict":
        return "other order" if "order" in verdict.error else "other duplicates"
    if fell == "parsed":
        return _first_match(_AT_PARSE, verdict.error, "does not parse")
    if fell == "extracted" and verdict.abstained:
        return ABSTAINED
    return {"": RIGHT, "extracted": "no SQL", "read_only": "writes"}.get(fell, fell)


def _first_match(patterns: Sequence[tuple[str, str]], message: str, otherwise: str) -> str:
    return next((name for pattern, name in patterns if re.search(pattern, message, re.IGNORECASE)), otherwise)


def _rows_cause(verdict: Verdict) -> str:
    """What differs first between both results, from their previews: columns, count of rows, values."""
    gold, predicted = verdict.gold_result, verdict.predicted_result
    if gold is None or predicted is None:
        return "other rows"
    if not predicted.n_rows and gold.n_rows:
        return "empty result"
    if predicted.columns and gold.columns and len(predicted.columns) != len(gold.columns):
        return "other columns"
    return "other number of rows" if predicted.n_rows != gold.n_rows else "other values"
