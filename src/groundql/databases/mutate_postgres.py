"""Changed rows of a PostgreSQL database without writing any: CTEs under the tables' names, in front of a query.

A role that may only read can make no copy. But a CTE takes the place of a table whose name is written without its
schema, so the same query sees rows dropped, doubled, emptied and moved to constants. Which ones, a hash of each row
and the seed says: the same each time, and the same for every query.
"""

import re
from collections.abc import Sequence

from groundql.databases.mutate import MAX_ROWS, P_DOUBLE, P_DROP, P_EMPTY, P_NEAR, Constants, Value
from groundql.databases.schema import quoted
from groundql.records import Column, Table

N_SHARES = 1000
NUMBERS = ("smallint", "integer", "bigint", "numeric", "real", "double precision")
TEXTS = ("text", "character varying")
ROW = "groundql_row"
WITH = re.compile(r"(?:\s|--[^\n]*\n|/\*.*?\*/)*with\s", re.IGNORECASE | re.DOTALL)


def shadowed(sql: str, tables: Sequence[Table], *, seed: int, constants: Constants) -> str:
    """`sql`, one query whose tables have no schema before their names, on changed rows of `tables`.

    It has no WITH RECURSIVE, where a CTE would see itself in place of its table. Keys keep their values, and a table
    with a key has no rows doubled. Values are not swapped between rows.
    """
    parts = ", ".join(f"{quoted(table.name)} AS ({_changed(table, seed, constants)})" for table in tables)
    if not parts:
        return sql
    own = WITH.match(sql)
    return f"WITH {parts}, {sql[own.end() :]}" if own else f"WITH {parts} ({sql.strip().rstrip('; ')}\n)"


def _changed(table: Table, seed: int, constants: Constants) -> str:
    fixed = {name.lower() for name in table.primary_key}
    fixed |= {name.lower() for key in table.foreign_keys for name in key.columns}
    values = ", ".join(
        quoted(column.name) if column.name.lower() in fixed else _value(table, column, seed, constants)
        for column in table.columns
    )
    name, row = quoted(table.name), quoted(ROW)
    rows = f"SELECT t.*, CAST(t AS text) AS {row} FROM {name} AS t LIMIT {MAX_ROWS}"
    kept = f"SELECT {values} FROM ({rows}) AS r WHERE NOT {_chance(f'{seed} drop', 0, P_DROP)}"
    if table.primary_key:
        return kept
    return f"{kept} UNION ALL {kept} AND {_chance(f'{seed} double', 0, P_DOUBLE)}"


def _value(table: Table, column: Column, seed: int, constants: Constants) -> str:
    name, salt = quoted(column.name), f"{seed} {column.name}"
    branches = []
    if not column.not_null:
        branches.append(f"WHEN {_chance(salt, 0, P_EMPTY)} THEN NULL")
    near = [
        literal
        for value in constants.get((table.name.lower(), column.name.lower()), ())
        if (literal := _literal(value, column.type.lower()))
    ]
    share = P_NEAR / len(near) if near else 0.0
    for number, literal in enumerate(near):
        low = P_EMPTY + number * share
        branches.append(f"WHEN {_chance(salt, low, low + share)} THEN {literal}")
    return f"CASE {' '.join(branches)} ELSE {name} END AS {name}" if branches else name


def _literal(value: Value, kind: str) -> str:
    """A constant that a column of this type takes; "" where it does not."""
    if kind.startswith(TEXTS) and isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    is_number = isinstance(value, (int, float)) and kind.startswith(NUMBERS)
    if is_number and abs(value) < 2**15:  # type: ignore[arg-type]
        return f"CAST({value!r} AS {kind})"
    return ""


def _chance(salt: str, low: float, high: float) -> str:
    """A condition that holds for this share of the rows, by their hash."""
    salt = salt.replace("'", "''")
    drawn = f"abs(hashtext({quoted(ROW)} || '{salt}') % {N_SHARES})"
    return f"({drawn} >= {round(low * N_SHARES)} AND {drawn} < {round(high * N_SHARES)})"
