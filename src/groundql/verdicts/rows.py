"""Whether two results are the same: by BIRD's official rule, and by the stricter one."""

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from itertools import chain
from typing import Any

from groundql.records import Cell, Outcome, Row

N_DIGITS = (
    6  # significant digits of REAL values that must agree; float noise needs about 12, rounding in SQL fewer
)
HALF_STEP = (
    10.0 ** -(N_DIGITS + 1) * 3
)  # moves values off a rounding step: noise straddles one grid, not both

FEW_ROWS = 16

RowKey = tuple[Hashable, ...]


def same_sets(gold: Sequence[Row], predicted: Sequence[Row]) -> bool:
    """BIRD's official rule: rows as sets of tuples. Duplicates, order and 1 against 1.0 do not count."""
    if gold == predicted:
        return True
    few, many = (gold, predicted) if len(gold) < len(predicted) else (predicted, gold)
    found = set(few)
    return not many or (many[0] in found and set(many) == found)


def same_rows(gold: Sequence[Row], predicted: Sequence[Row], *, ordered: bool) -> bool:
    """Rows equal as lists where `ordered`, else as bags: integers exact, REAL values to 6 significant digits.

    1 equals 1.0 and NULL equals NULL; '1' differs from 1, and a blob from text. Columns keep their places.
    """
    if len(gold) != len(predicted) or (gold and len(gold[0]) != len(predicted[0])):
        return False
    if _equal(gold, predicted, ordered=ordered):
        return True
    if not (_has_real(gold) or _has_real(predicted)):
        return False
    return any(
        _equal(_keys(gold, shift), _keys(predicted, shift), ordered=ordered)
        for shift in ((0.0, HALF_STEP) if _has_real(gold) else (0.0,))
    )


def _has_real(rows: Sequence[Row]) -> bool:
    return float in set(map(type, chain.from_iterable(rows)))


def same_results(gold: Outcome, predicted: Outcome, *, ordered: bool) -> bool:
    """Both ran, and `same_rows`; an empty result has a width too."""
    both_ran = gold.status == "ok" and predicted.status == "ok"
    if both_ran and gold is predicted:
        return True
    if not both_ran or len(gold.columns) != len(predicted.columns):
        return False
    return same_rows(gold.rows, predicted.rows, ordered=ordered)


def cell_key(value: Cell, shift: float = 0.0) -> Hashable:
    """A hashable key of one value; keys are equal where `same_rows` calls the values equal."""
    if isinstance(value, float):
        if not math.isfinite(value):
            return str(value)
        return (int(value) if value.is_integer() else float(f"{value * (1 + shift):.{N_DIGITS - 1}e}"),)
    return (value,) if isinstance(value, int) else value


def _equal(
    gold: Sequence[Row] | Sequence[RowKey], predicted: Sequence[Row] | Sequence[RowKey], *, ordered: bool
) -> bool:
    if gold == predicted or (type(gold) is not type(predicted) and list(gold) == list(predicted)):
        return True
    return not ordered and _counts(gold) == _counts(predicted)


def _counts(rows: Sequence[Row] | Sequence[RowKey]) -> dict[Any, int]:
    """How often each row occurs; a Counter takes longer to make for few rows."""
    if len(rows) > FEW_ROWS:
        return Counter(rows)
    counts: dict[Any, int] = {}
    for row in rows:
        counts[row] = counts.get(row, 0) + 1
    return counts


def _keys(rows: Sequence[Row], shift: float) -> tuple[RowKey, ...]:
    return tuple([tuple([cell_key(value, shift) for value in row]) for row in rows])
