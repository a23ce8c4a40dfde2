"""Whether two results are the same: by BIRD's official rule, and by the stricter one."""

import math
from collections import Counter
from collections.abc import Hashable, Sequence

from groundql.records import Cell, Outcome, Row

N_DIGITS = (
    6  # significant digits of REAL values that must agree; float noise needs about 12, rounding in SQL fewer
)
HALF_STEP = (
    10.0 ** -(N_DIGITS + 1) * 3
)  # moves values off a rounding step: noise straddles one grid, not both

RowKey = tuple[Hashable, ...]


def same_sets(gold: Sequence[Row], predicted: Sequence[Row]) -> bool:
    """BIRD's official rule: rows as sets of tuples. Duplicates, order and 1 against 1.0 do not count."""
    return set(gold) == set(predicted)


def same_rows(gold: Sequence[Row], predicted: Sequence[Row], *, ordered: bool) -> bool:
    """Rows equal as lists where `ordered`, else as bags: integers exact, REAL values to 6 significant digits.

    1 equals 1.0 and NULL equals NULL; '1' differs from 1, and a blob from text. Columns keep their places.
    """
    if len(gold) != len(predicted) or (gold and len(gold[0]) != len(predicted[0])):
        return False
    if _equal(gold, predicted, ordered=ordered):
        return True
    if not any(isinstance(value, float) for row in gold for value in row):
        return _equal(_keys(gold, 0.0), _keys(predicted, 0.0), ordered=ordered)
    return any(
        _equal(_keys(gold, shift), _keys(predicted, shift), ordered=ordered) for shift in (0.0, HALF_STEP)
    )


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
    return list(gold) == list(predicted) if ordered else Counter(gold) == Counter(predicted)


def _keys(rows: Sequence[Row], shift: float) -> list[RowKey]:
    return [tuple(cell_key(value, shift) for value in row) for row in rows]
