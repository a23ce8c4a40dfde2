"""What the equivalence rules may rely on in one database: columns, keys that hold no NULL, and collations."""

import functools
from dataclasses import dataclass

import apsw
from sqlglot.schema import MappingSchema

from groundql.databases.binding import Twin
from groundql.databases.schema import quoted


@dataclass(frozen=True, eq=False)
class Facts:
    """Read from the engine, never from notes about keys: BIRD's tables.json names keys that its files do not enforce."""

    columns: dict[str, tuple[str, ...]]  # all names lower case
    not_null: frozenset[tuple[str, str]]  # (table, column) that cannot hold NULL
    keys: dict[str, frozenset[str]]  # table -> its whole primary key, where no part of it can be NULL
    has_collations: bool  # a column compares otherwise than byte by byte

    @functools.cached_property
    def schema(self) -> MappingSchema:
        """The same columns as sqlglot wants them; types are not used."""
        named: dict[str, object] = {
            table: dict.fromkeys(columns, "text") for table, columns in self.columns.items()
        }
        return MappingSchema(named, dialect="sqlite", normalize=False)


def read_facts(twin: Twin) -> Facts:
    """The facts of a database, from its empty twin."""
    free = twin.unlocked()
    columns: dict[str, tuple[str, ...]] = {}
    keys: dict[str, frozenset[str]] = {}
    not_null: set[tuple[str, str]] = set()
    has_collations = False
    tables = free.execute(
        "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite%'"
    )
    for (table,) in tables.fetchall():
        name = str(table).lower()
        infos = free.execute(f"PRAGMA table_xinfo({quoted(str(table))})").fetchall()
        columns[name] = tuple(str(info[1]).lower() for info in infos if info[6] != 1)
        primary = [str(info[1]).lower() for info in infos if info[5]]
        filled = {str(info[1]).lower() for info in infos if info[3]}
        if len(primary) == 1 and _is_rowid(free, str(table), primary[0], infos):
            filled.add(primary[0])
        not_null |= {(name, column) for column in filled}
        if primary and set(primary) <= filled:
            keys[name] = frozenset(primary)
        has_collations = has_collations or _has_collation(free, str(table), infos)
    return Facts(columns=columns, not_null=frozenset(not_null), keys=keys, has_collations=has_collations)


def _is_rowid(connection: apsw.Connection, table: str, column: str, infos: list[tuple[object, ...]]) -> bool:
    """INTEGER PRIMARY KEY, which is never NULL; with DESC it has an index of its own and may be."""
    is_integer = any(str(info[1]).lower() == column and str(info[2]).upper() == "INTEGER" for info in infos)
    indexes = connection.execute(f"PRAGMA index_list({quoted(table)})").fetchall()
    return is_integer and not any(index[3] == "pk" for index in indexes)


def _has_collation(connection: apsw.Connection, table: str, infos: list[tuple[object, ...]]) -> bool:
    try:
        return any(connection.column_metadata("main", table, str(info[1]))[1] != "BINARY" for info in infos)
    except apsw.Error:  # a view
        return False
