"""Values of engines beside SQLite as cells of an Outcome, and as SQL literals for a prompt."""

import json
import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from groundql.records import Cell

EXAMPLE_SCAN_ROWS = 2000  # example values come from the first rows of a table, so that reading stays fast
EXAMPLE_CHARS = 40  # longer texts are no examples: cut ones would be values that do not exist
MAX_INT_DIGITS = 4000  # Python refuses to print integers beyond 4300 digits
BARE = re.compile(
    r"(?:u?(?:tiny|small|big|huge)?int(?:eger)?|decimal|numeric|double|float|real|bool(?:ean)?)\b(?!.*\])",
    re.IGNORECASE,
)
BINARY = re.compile(r"bytea|blob|bit\b", re.IGNORECASE)


def cell(value: Any) -> Cell:
    """A Python value of a driver as a cell.

    A boolean is 0 or 1; a decimal an integer where it is whole, else a float; dates and times are ISO text, with a
    time zone in UTC; an interval is days and seconds; lists and structs are JSON of cells; all else is its text.
    """
    if isinstance(value, bool):
        return int(value)
    if value is None or isinstance(value, int | float | str | bytes):
        return value
    if isinstance(value, Decimal):
        return decimal_cell(value)
    if isinstance(value, datetime):
        return (value.astimezone(UTC) if value.tzinfo else value).isoformat(" ")
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return f"{value.days} days {value.seconds}.{value.microseconds:06d} s"
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    if isinstance(value, list | tuple | dict):
        return json.dumps(_nested(value), ensure_ascii=False)
    return str(value)


def decimal_cell(value: Decimal) -> Cell:
    """The exact integer where `value` is whole, else the nearest float; NaN and infinity are floats too."""
    if value.is_finite() and value.adjusted() < MAX_INT_DIGITS and value == value.to_integral_value():
        return int(value)
    return float(value)


def quoted_name(name: str) -> str:
    """The name in double quotes, as both engines read any name."""
    return '"' + name.replace('"', '""') + '"'


def example_query(table: str, column: str, n_examples: int) -> str:
    """A query for the first distinct short values of a column, as text; for DuckDB and PostgreSQL alike."""
    name = quoted_name(column)
    return (
        f"SELECT v FROM (SELECT CAST({name} AS VARCHAR) AS v, row_number() OVER () AS n "
        f"FROM (SELECT {name} FROM {quoted_name(table)} LIMIT {EXAMPLE_SCAN_ROWS}) AS head) AS texts "
        f"WHERE length(v) BETWEEN 1 AND {EXAMPLE_CHARS} GROUP BY v ORDER BY min(n) LIMIT {4 * n_examples}"
    )


def example_literals(texts: Iterable[str], column_type: str, n_examples: int) -> tuple[str, ...]:
    """The first `n_examples` texts as SQL literals of a column of this type; binary values give none."""
    if BINARY.match(column_type):
        return ()
    if BARE.match(column_type):
        return tuple(texts)[:n_examples]
    shown = [text for text in texts if text.isprintable() and text.strip()]
    return tuple("'" + text.replace("'", "''") + "'" for text in shown[:n_examples])


def _nested(value: Any) -> Any:
    """The value with cells in place of what JSON does not know; keys become text."""
    if isinstance(value, list | tuple):
        return [_nested(part) for part in value]
    if isinstance(value, dict):
        return {str(cell(key)): _nested(part) for key, part in value.items()}
    found = cell(value)
    return found.hex() if isinstance(found, bytes) else found
