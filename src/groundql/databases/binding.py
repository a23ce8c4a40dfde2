"""Asks the engine whether a statement binds: prepared, never run, on an empty twin of the database."""

import functools
import threading
from pathlib import Path
from typing import Any

import apsw

from groundql.databases.guard import Guarded, Refused, allow, open_guarded
from groundql.databases.schema import schema_ddl
from groundql.errors import DataError
from groundql.records import Schema

N_TWINS = 256  # of each kind kept, of schemas in each thread; a twin takes about 100 kB


class _Kept(threading.local):
    """Twins of one thread, since a guarded connection remembers the statement that it is at.

    Two threads at one would take each other's for a second statement. No lock, since the process may be forked while another thread holds it.
    """

    def __init__(self) -> None:
        self.of_schemas: dict[
            int, tuple[Schema, Twin]
        ] = {}  # by id; the schema is kept, so that its id stays its own


_kept = _Kept()


class Twin:
    """An empty copy of one database on which statements are prepared; not for use from several threads at once."""

    def __init__(self, connection: Guarded) -> None:
        self.connection = connection
        self._read: dict[str, frozenset[tuple[str, str]]] = {}

    def prepare(self, sql: str) -> str | None:
        """None where `sql` is one statement that prepares, else why not. About 0.02 ms."""
        try:
            return None if self.connection.prepared(sql) else "no statement"
        except (apsw.Error, Refused) as error:
            return str(error) or type(error).__name__
        except (ValueError, MemoryError) as error:  # lone surrogates, beyond a limit of Python
            return f"not text that SQLite takes: {error}"

    def unlocked(self) -> apsw.Connection:
        """An empty copy in memory that takes PRAGMA, for statements of our own."""
        copy = apsw.Connection(":memory:")
        rows = own_rows(
            self.connection, "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND type != 'trigger'"
        )
        copy.execute(";\n".join(str(sql) for (sql,) in rows if "sqlite_sequence" not in str(sql))).fetchall()
        return copy

    def read_columns(self, sql: str) -> frozenset[tuple[str, str]]:
        """(table, column) pairs that the engine binds in `sql`, lower case; a table of which no column is read has "".

        Double-quoted strings are on for this, so that a gold which uses them can be asked. Empty where `sql` does not
        prepare.
        """
        if sql in self._read:
            return self._read[sql]
        found: set[tuple[str, str]] = set()

        def record(
            action: int, first: str | None, second: str | None, database: str | None, trigger: str | None
        ) -> int:
            if action == apsw.SQLITE_READ and first:
                found.add((first.lower(), (second or "").lower()))
            return allow(action, first, second, database, trigger)

        self.connection.authorizer = record
        self.connection.config(apsw.SQLITE_DBCONFIG_DQS_DML, 1)
        try:
            self._read[sql] = frozenset(found) if self.prepare(sql) is None else frozenset()
            return self._read[sql]
        finally:
            self.connection.config(apsw.SQLITE_DBCONFIG_DQS_DML, 0)
            self.connection.authorizer = allow


def prepare(source: Schema | Path, sql: str) -> str | None:
    """None where SQLite prepares `sql` as one read-only query on `source`, else the engine's own words.

    `source` is a Schema or a SQLite file. Double-quoted strings are off: an unknown "name" is an error.
    Writes, PRAGMA and ATTACH come back as "not authorized".
    """
    return twin_of(source).prepare(sql)


def twin_of(source: Schema | Path) -> Twin:
    """This thread's cached empty twin of a schema, or of a SQLite file as it is on disk now."""
    if isinstance(source, Path):
        stat = source.stat()
        try:
            return _file_twin(str(source), stat.st_mtime_ns, stat.st_size, threading.get_ident())
        except apsw.Error as error:
            raise DataError(f"{source} cannot be read as a SQLite database: {error}") from None
    twins = _kept.of_schemas
    known = twins.get(id(source))
    if known is None:
        if len(twins) >= N_TWINS:
            twins.pop(next(iter(twins)))
        known = twins[id(source)] = (source, twin_from_ddl(schema_ddl(source)))
    return known[1]


def twin_from_ddl(ddl: str, *, quoted_strings: bool = False) -> Twin:
    """A new empty database with these CREATE statements; apsw.Error where they do not run."""
    connection = Guarded(":memory:", statementcachesize=0)
    connection.execute(ddl).fetchall()
    return Twin(connection.guard(quoted_strings=quoted_strings))


def own_rows(connection: Guarded, sql: str) -> list[tuple[Any, ...]]:
    """Rows of a statement of ours on a guarded connection."""
    connection.is_ours = True
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.is_ours = False


@functools.lru_cache(N_TWINS)
def _file_twin(path: str, mtime_ns: int, n_bytes: int, thread: int) -> Twin:
    """Tables, views and indexes of the file, without rows; the file itself, read-only, where they cannot be copied."""
    file = open_guarded(path)
    kept = "sql IS NOT NULL AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
    parts = own_rows(
        file,
        f"SELECT sql FROM sqlite_master WHERE {kept} AND type != 'trigger' ORDER BY type = 'index', type = 'view', rowid",
    )
    try:
        twin = twin_from_ddl(";\n".join(str(sql) for (sql,) in parts))
    except apsw.Error:
        return Twin(file)
    file.close()
    return twin
