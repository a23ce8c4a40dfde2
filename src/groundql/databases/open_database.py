"""A database that is open to be asked: its schema, whether a query binds, and what it returns, under guard."""

import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import apsw

from groundql.databases.binding import prepare
from groundql.databases.engines import Binder, raise_if_unopened
from groundql.databases.executor import Executor
from groundql.databases.files import sqlite_file
from groundql.databases.place import locate, shown_place
from groundql.databases.schema import read_schema
from groundql.databases.table_files import is_table_file, table_files
from groundql.databases.translate import engine_sql
from groundql.errors import DatabaseMissing
from groundql.records import DatabaseFiles, Dialect, Outcome, Schema, dialect_of

N_EXECUTORS = 4  # queries at once on one database; further ones wait
SCHEMA_S = 300.0  # a server's schema is read again when it is older; a file's when its tables change

State = tuple[tuple[int, int, int], ...]


class OpenDatabase:
    """One database; safe to use from several threads. Use it as a context manager, or close it."""

    def __init__(self, place: str | Path, *, n_examples: int = 2) -> None:
        """Read the schema of the database that `place` (a path or a URL) names.

        Raises:
            DatabaseMissing: nothing is there, or it holds no table.
            DataError: it cannot be read, or its role may do more than read.
            DependencyMissing: the engine's package is not installed.
        """
        self.place = place
        self.n_examples = n_examples
        self._lock = threading.RLock()
        self._idle: queue.LifoQueue[Executor] = queue.LifoQueue()
        self._room = threading.Semaphore(N_EXECUTORS)
        self._binder: Binder | None = None
        self._state: State = ()
        self._read_at_s = 0.0
        self._generation = 0
        self._read()

    @property
    def files(self) -> DatabaseFiles:
        """Where it lies."""
        return self._files

    @property
    def db_id(self) -> str:
        """Its name: of the file without its end, of the folder, or of the server's database."""
        return self._files.db_id

    @property
    def dialect(self) -> Dialect:
        """The engine, and the SQL that `prepare` and `run` take."""
        return self._files.dialect

    @property
    def schema(self) -> Schema:
        """Tables, columns, keys, comments and example values as they are now: read again where the file changed.

        Raises:
            DatabaseMissing: the file is not there any more.
        """
        with self._lock:
            is_old = time.monotonic() - self._read_at_s > SCHEMA_S
            state = self._watched_state()
            if state != self._state and not is_old and self._has_same_tables(state):
                self._state = state
            elif state != self._state or (self.dialect == "postgres" and is_old):
                self._read()
            return self._schema

    def translate(self, sql: str) -> str:
        """A query of the canonical dialect, which models write, in the SQL of this engine."""
        return engine_sql(sql, self.schema, self.dialect)

    def prepare(self, sql: str) -> str | None:
        """None where the engine prepares `sql` as one read-only query, else its own words. No row is read.

        Raises:
            DatabaseMissing, DataError: the database is not there any more, or cannot be opened now.
        """
        schema = self.schema
        if self.dialect == "sqlite":
            return prepare(schema, sql)
        with self._lock:
            if self._binder is None:
                self._binder = Binder(self._files.url)
            return self._binder.prepare(sql)

    def run(self, sql: str, *, deadline_s: float = 30.0, max_rows: int = 1000) -> Outcome:
        """What one query gave, read-only, under a deadline and caps; whatever `sql` does is in the outcome.

        Raises:
            DatabaseMissing, DataError: the database is not there any more, or cannot be opened now.
        """
        _ = self.schema  # a changed file is opened anew
        target: Path | str = self._files.url or sqlite_file(self._files)
        with self._executor() as executor:
            outcome = executor.run(target, sql, deadline_s=deadline_s, max_rows=max_rows)
        raise_if_unopened(outcome)
        return outcome

    def close(self) -> None:
        """End the processes that run queries; the next query would start new ones."""
        with self._lock:
            self._generation += 1
            if self._binder:
                self._binder.close()
                self._binder = None
            while not self._idle.empty():
                self._idle.get_nowait().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _executor(self) -> Iterator[Executor]:
        """One that nobody else uses; given back unless the database changed meanwhile."""
        with self._room:
            with self._lock:
                generation = self._generation
                executor = Executor() if self._idle.empty() else self._idle.get_nowait()
            try:
                yield executor
            finally:
                with self._lock:
                    if generation == self._generation:
                        self._idle.put(executor)
                    else:
                        executor.close()

    def _read(self) -> None:
        """Read the schema, and let go of processes that have the database as it was."""
        self.close()
        state = self._watched_state()
        files = locate(self.place)
        schema = read_schema(files, n_examples=self.n_examples)
        if not schema.tables:
            raise DatabaseMissing(f"{shown_place(self.place)} holds no table")
        self._state, self._files, self._schema = (
            state,
            files,
            schema,
        )  # not before: what failed is tried again
        self._version = _tables_version(self._files.sqlite_path) if self._files.sqlite_path else None
        self._read_at_s = time.monotonic()

    def _has_same_tables(self, state: State) -> bool:
        """Whether a SQLite file that changed is the same file with the same tables: rows may change all the time."""
        if (
            self._files.sqlite_path is None
            or not state
            or not self._state
            or state[0][2] != self._state[0][2]
        ):
            return False
        return _tables_version(self._files.sqlite_path) == self._version

    def _watched_state(self) -> State:
        """Size, time of the last change and number of each file that the database is made of; () for a server."""
        text = str(self.place)
        if dialect_of(text) == "postgres" or not text.strip():
            return ()
        path = Path(text.removeprefix("duckdb:").removeprefix("sqlite:").removeprefix("//")).expanduser()
        paths = (
            table_files(path)
            if path.is_dir() or is_table_file(path)
            else [path, path.with_name(f"{path.name}-wal")]
        )
        states = []
        for one in paths:
            try:
                stat = one.stat()
            except OSError:
                continue
            states.append((stat.st_size, stat.st_mtime_ns, stat.st_ino))
        return tuple(states)


def _tables_version(path: Path) -> int | None:
    """A number that changes with every change of the file's tables; None where it cannot be read."""
    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            return int(str(connection.execute("PRAGMA schema_version").fetchall()[0][0]))
        finally:
            connection.close()
    except apsw.Error:
        return None
