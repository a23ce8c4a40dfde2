"""A DuckDB file that may only be read: its tables, and one query on it under a deadline and caps.

What it stops: writing (read-only file); files, folders, COPY, ATTACH, extensions and the network (external access off);
undoing any of that (configuration locked); Python's own variables as tables; every statement whose type, as DuckDB
names it, is not SELECT, and a second statement; queries without end (interrupted at the deadline); memory beyond the
cap, without temporary files; results without bound.

What it does not stop: a single step that takes long, which `executor` ends by killing the process; reading all of the
file, its raw bytes too (DuckDB leaves its own file open to file functions), and the catalogue with the file's path; a fault inside DuckDB, which runs in our process: only the
process boundary and the limits of `worker` stand against it. A query that changes data inside WITH has type SELECT:
the read-only file refuses it.
"""

import math
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

from groundql.databases.engine_values import cell, example_literals, example_query
from groundql.databases.guard import CHUNK_ROWS, SQL_BYTES, Answer, Refused, TooLarge, take_rows
from groundql.errors import DatabaseMissing, DataError, DependencyMissing
from groundql.records import Column, ForeignKey, Table

TICK_S = 0.05  # between looks at the clock
MEMORY_MB = 512  # the same as SQLite's heap limit here
LOCKED = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "python_enable_replacements": "false",  # else a query may name a variable of ours as its table
    "memory_limit": f"{MEMORY_MB}MB",
    "max_temp_directory_size": "0B",
    "threads": "1",
    "lock_configuration": "true",
}
CELL_TYPES = frozenset(  # values of these come as cells
    [
        *("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE", "VARCHAR", "BLOB"),
        *("UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT"),
    ]
)

Rows = list[tuple[Any, ...]]


class DuckdbEngine:
    """One locked connection."""

    def __init__(self, path: Path) -> None:
        """Open an existing file; DatabaseMissing where there is none, DataError where it is no DuckDB file."""
        self._duckdb = duckdb_module()
        if not path.is_file():
            raise DatabaseMissing(f"{path} is not there")
        self.path = path
        self._connect()
        self._end_s = math.inf  # of the query that runs
        self._lock = threading.Lock()  # an interrupt never comes after its query's end
        self._is_closed = threading.Event()
        self._watch = threading.Thread(target=self._interrupt_when_due, daemon=True)
        self._watch.start()

    def _connect(self) -> None:
        try:
            self._connection = self._duckdb.connect(str(self.path), read_only=True, config=LOCKED)
        except self._duckdb.Error as error:
            words = f"{self.path} cannot be read as a DuckDB database: {first_part(error)}"
            raise DataError(words) from None

    def close(self) -> None:
        """Let the file go."""
        self._is_closed.set()
        self._watch.join()
        self._connection.close()

    def _interrupt_when_due(self) -> None:
        """One thread for all queries: starting one for each would cost a third of a short query."""
        while not self._is_closed.wait(TICK_S):
            with self._lock:
                if time.monotonic() > self._end_s:
                    self._connection.interrupt()

    def run(self, sql: str, *, deadline_s: float, max_rows: int) -> Answer:
        """(status, columns, rows, error, elapsed_s, 0) of one query; never raises for what `sql` does."""

        def fetch(query: str) -> tuple[tuple[str, ...], Rows]:
            cursor = self._connection.execute(query)
            rows = take_rows(_cells(cursor, end_s), max_rows)
            return tuple(str(column[0]) for column in cursor.description), rows

        end_s = time.monotonic() + deadline_s
        return self._guarded(sql, deadline_s, fetch)

    def bind(self, sql: str, *, deadline_s: float) -> Answer:
        """Status "ok" where DuckDB plans `sql` as one query on this file, by EXPLAIN; nothing is read."""

        def explain(query: str) -> tuple[tuple[str, ...], Rows]:
            self._connection.execute(f"EXPLAIN {query}")
            return (), []

        return self._guarded(sql, deadline_s, explain)

    def _guarded(
        self, sql: str, deadline_s: float, work: Callable[[str], tuple[tuple[str, ...], Rows]]
    ) -> Answer:
        start_s = time.monotonic()
        self._end_s = start_s + deadline_s
        status, error, columns, rows = "ok", "", (), []  # type: str, str, tuple[str, ...], Rows
        try:
            columns, rows = work(self._one_query(sql))
        except Exception as failure:  # whatever the model's SQL provokes is a result, not a fault of ours
            status = self._status_of(failure)
            error = f"did not end within {deadline_s:g} s" if status == "timeout" else first_part(failure)
            self._rest()
            if isinstance(failure, self._duckdb.FatalException | self._duckdb.InternalException):
                self._connection.close()  # such a fault would fail every query after it
                self._connect()
        self._rest()
        return status, columns, rows, error, time.monotonic() - start_s, 0

    def _rest(self) -> None:
        """No query runs: from here on none is interrupted."""
        with self._lock:
            self._end_s = math.inf

    def _one_query(self, sql: str) -> str:
        """The text of the one SELECT in `sql`, by DuckDB's own statement types; Refused for anything else."""
        if len(sql.encode()) > SQL_BYTES:
            raise TooLarge(f"a statement of more than {SQL_BYTES:,} bytes")
        statements = self._connection.extract_statements(sql)
        if not statements:
            raise ValueError("no statement")
        if len(statements) > 1:
            raise Refused("more than one statement")
        kind = statements[0].type
        if kind != self._duckdb.StatementType.SELECT:
            raise Refused(f"{kind.name} is not a query")
        return str(statements[0].query)

    def _status_of(self, failure: Exception) -> str:
        if isinstance(failure, self._duckdb.InterruptException | TimeoutError):
            return "timeout"
        if isinstance(failure, Refused | self._duckdb.PermissionException) or "read-only mode" in str(
            failure
        ):
            return "refused"
        if isinstance(failure, TooLarge | MemoryError | self._duckdb.OutOfMemoryException):
            return "too_large"
        return "error"

    def function_names(self) -> frozenset[str]:
        """Names that a query may call, lower case; those that the grammar makes itself (coalesce, cast) are not there."""
        rows = self._connection.execute("SELECT DISTINCT lower(function_name) FROM duckdb_functions()")
        return frozenset(str(name) for (name,) in rows.fetchall())

    def read_tables(self, n_examples: int) -> list[Table]:
        """Tables and views of the file's own schema `main`, with keys, comments and example values."""
        ask = self._connection.execute
        named = ask(
            "SELECT table_name, comment, table_oid FROM duckdb_tables() WHERE NOT internal AND schema_name = 'main' "
            "AND database_name = current_database() UNION ALL "
            "SELECT view_name, comment, view_oid FROM duckdb_views() WHERE NOT internal AND schema_name = 'main' "
            "AND database_name = current_database() ORDER BY 3"
        ).fetchall()
        columns: dict[str, list[Column]] = defaultdict(list)
        for table, name, kind, is_nullable, comment in ask(
            "SELECT table_name, column_name, data_type, is_nullable, comment FROM duckdb_columns() "
            "WHERE NOT internal AND schema_name = 'main' AND database_name = current_database() "
            "ORDER BY table_oid, column_index"
        ).fetchall():
            column = Column(name=name, type=kind, description=comment or "", not_null=not is_nullable)
            columns[table].append(self._with_examples(table, column, n_examples))
        keys: dict[str, tuple[str, ...]] = {}
        foreign: dict[str, list[ForeignKey]] = defaultdict(list)
        for table, kind, own, target, theirs in ask(
            "SELECT table_name, constraint_type, constraint_column_names, referenced_table, "
            "referenced_column_names FROM duckdb_constraints() WHERE schema_name = 'main' "
            "AND database_name = current_database() ORDER BY table_oid, constraint_index"
        ).fetchall():
            if kind == "PRIMARY KEY":
                keys[table] = tuple(own)
            elif kind == "FOREIGN KEY":
                key = ForeignKey(columns=tuple(own), ref_table=target, ref_columns=tuple(theirs))
                foreign[table].append(key)
        return [
            Table(
                name=name,
                columns=tuple(columns[name]),
                primary_key=keys.get(name, ()),
                foreign_keys=tuple(foreign[name]),
                description=comment or "",
            )
            for name, comment, _ in named
        ]

    def _with_examples(self, table: str, column: Column, n_examples: int) -> Column:
        if not n_examples:
            return column
        try:
            rows = self._connection.execute(example_query(table, column.name, n_examples)).fetchall()
        except self._duckdb.Error:  # a view that does not run, a type without text
            return column
        examples = example_literals([str(text) for (text,) in rows], column.type, n_examples)
        return column.model_copy(update={"examples": examples})


def _cells(cursor: Any, end_s: float) -> Iterator[tuple[Any, ...]]:
    """Rows as cells, drawn in chunks; TimeoutError after `end_s`."""
    are_cells = all(str(column[1]) in CELL_TYPES for column in cursor.description)
    while chunk := cursor.fetchmany(CHUNK_ROWS):
        if time.monotonic() > end_s:
            raise TimeoutError
        yield from chunk if are_cells else (tuple(map(cell, row)) for row in chunk)


def first_part(failure: Exception) -> str:
    """DuckDB's message without the excerpt of the statement and the advice below it."""
    return str(failure).split("\n\n")[0].strip() or type(failure).__name__


def duckdb_module() -> Any:
    """The duckdb package; DependencyMissing where it is not installed."""
    try:
        import duckdb
    except ImportError:
        raise DependencyMissing("a duckdb: database needs DuckDB: pip install 'groundql[duckdb]'") from None
    return cast(Any, duckdb)
