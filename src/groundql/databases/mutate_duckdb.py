"""Changed copies of a DuckDB file: what `mutate` does to a SQLite file."""

import contextlib
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from groundql.databases.duckdb_engine import LOCKED, duckdb_module, first_part
from groundql.databases.mutate import MAX_ROWS, Constants, Kind, changed_rows
from groundql.databases.schema import quoted
from groundql.errors import DataError
from groundql.records import Schema, Table

ROWS_AT_ONCE = 100  # in one INSERT: one by one takes a millisecond each
OPEN = {
    name: value
    for name, value in LOCKED.items()
    if name not in ("enable_external_access", "lock_configuration")
}


def write_duckdb_mutant(
    source: Path, target: Path, schema: Schema, *, seed: int, constants: Constants
) -> None:
    """A changed copy of `source` as a new file `target`; `constants` by lower-case (table, column).

    Types stay; keys, checks and indexes are left out, because DuckDB cannot switch foreign keys off. A table that
    cannot be copied, of a type that lives in the other file alone, is left out. Only statements of ours run here.
    """
    duckdb = duckdb_module()
    writer = duckdb.connect(str(target), config=OPEN)
    try:
        writer.execute(f"ATTACH {_text(str(source.absolute()))} AS source (READ_ONLY)")
        views = writer.execute(
            "SELECT view_name, sql FROM duckdb_views() WHERE NOT internal AND database_name = 'source' "
            "AND schema_name = 'main' ORDER BY view_oid"
        ).fetchall()
        names = {name for name, _ in views}
        for table in schema.tables:
            if table.name not in names:
                with contextlib.suppress(duckdb.Error):
                    _copy_table(writer, duckdb, table, random.Random(f"{seed} {table.name}"), constants)
        for _, sql in views:
            with contextlib.suppress(duckdb.Error):
                writer.execute(sql)
    except duckdb.Error as error:
        raise DataError(f"{source} cannot be copied: {first_part(error)}") from None
    finally:
        writer.close()


def _copy_table(writer: Any, duckdb: Any, table: Table, rng: random.Random, constants: Constants) -> None:
    place = f"source.main.{quoted(table.name)}"
    writer.execute(f"CREATE TABLE {quoted(table.name)} AS SELECT * FROM {place} LIMIT 0")
    cursor = writer.execute(f"SELECT * FROM {place} LIMIT {MAX_ROWS}")
    keys = {name.lower() for name in table.primary_key}
    linked = {name.lower() for key in table.foreign_keys for name in key.columns}
    filled = {column.name.lower() for column in table.columns if column.not_null}
    kinds = [
        Kind(name, is_key=name in keys, is_linked=name in linked, may_be_empty=name not in filled)
        for name in (str(column[0]).lower() for column in cursor.description)
    ]
    rows = [list(row) for row in cursor.fetchall()]
    for some in changed_rows(table.name, rows, kinds, rng, constants):
        for start in range(0, len(some), ROWS_AT_ONCE):
            _insert(writer, duckdb, table.name, some[start : start + ROWS_AT_ONCE])


def _insert(writer: Any, duckdb: Any, table: str, rows: Sequence[list[Any]]) -> None:
    """Put rows in, all at once or, where a constant does not fit its column's type, those that go in."""
    hole = f"({', '.join('?' * len(rows[0]))})"
    try:
        writer.execute(
            f"INSERT INTO {quoted(table)} VALUES {', '.join([hole] * len(rows))}",
            [value for row in rows for value in row],
        )
    except duckdb.Error:
        for row in rows:
            with contextlib.suppress(duckdb.Error):
                writer.execute(f"INSERT INTO {quoted(table)} VALUES {hole}", row)


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
