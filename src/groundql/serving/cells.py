"""Rows as JSON: every cell keeps its value, and what JSON cannot say has a form of its own."""

import base64
import math
from collections.abc import Iterable
from typing import Any

from groundql.records import Cell, Outcome, Row


def json_cell(cell: Cell) -> Any:
    """The cell; a blob as {"base64": ...}, a float that is no number as {"float": "Infinity"}.

    A whole number beyond 2**53 stays a JSON number: its text is exact, a reader in JavaScript has to look at that.
    """
    if isinstance(cell, bytes):
        return {"base64": base64.b64encode(cell).decode("ascii")}
    if isinstance(cell, float) and not math.isfinite(cell):
        return {"float": "NaN" if math.isnan(cell) else "Infinity" if cell > 0 else "-Infinity"}
    return cell


def json_rows(rows: Iterable[Row]) -> list[list[Any]]:
    """All rows, as lists."""
    return [[json_cell(cell) for cell in row] for row in rows]


def bounded(outcome: Outcome, max_bytes: int) -> Outcome:
    """The outcome, or "too_large" where its rows take more than `max_bytes` as JSON, roughly counted."""
    n_bytes = 0
    for row in outcome.rows:
        n_bytes += 2
        for cell in row:
            n_bytes += 12 if not isinstance(cell, (str, bytes)) else 3 + len(cell) * 4 // 3
        if n_bytes > max_bytes:
            return Outcome(
                status="too_large",
                columns=outcome.columns,
                error=f"more than {max_bytes / 2**20:.3g} MiB of rows; ask for fewer, or for shorter columns",
                elapsed_s=outcome.elapsed_s,
            )
    return outcome
