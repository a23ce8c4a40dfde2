"""Engines beside SQLite, found by a database's URL; each is imported when it is first asked for."""

import functools
import os
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from groundql.databases.executor import Executor, Job
from groundql.databases.guard import Answer
from groundql.errors import DataError
from groundql.records import Outcome, Table, dialect_of

BIND_S = 10.0  # for one statement to bind


class Engine(Protocol):
    """A locked connection. Its answers never raise for what the SQL does."""

    def run(self, sql: str, *, deadline_s: float, max_rows: int) -> Answer:
        """(status, columns, rows, error, elapsed_s, steps) of one query."""

    def bind(self, sql: str, *, deadline_s: float) -> Answer:
        """Status "ok" where `sql` is one query that the engine can bind; it is not run."""

    def function_names(self) -> frozenset[str]:
        """Names of the functions that it has, lower case."""

    def close(self) -> None:
        """Let the database go."""


def open_engine(url: str) -> Engine:
    """A guarded connection; DatabaseMissing, DataError or DependencyMissing where there can be none."""
    if dialect_of(url) == "duckdb":
        from groundql.databases.duckdb_engine import DuckdbEngine

        return DuckdbEngine(duckdb_path(url))
    if dialect_of(url) == "postgres":
        from groundql.databases.postgres_engine import PostgresEngine

        return PostgresEngine(url)
    raise DataError(f"{url!r} names no engine; write duckdb:PATH or postgresql://USER@HOST/NAME")


def duckdb_path(url: str) -> Path:
    """The file that a duckdb: URL names."""
    return Path(url.removeprefix("duckdb:"))


def read_engine_tables(url: str, n_examples: int) -> list[Table]:
    """Tables with columns, types, keys, comments as descriptions, and example values, by queries of our own."""
    engine = open_engine(url)
    try:
        if dialect_of(url) == "duckdb":
            from groundql.databases.duckdb_engine import DuckdbEngine

            assert isinstance(engine, DuckdbEngine)
            return engine.read_tables(n_examples)
        from groundql.databases.postgres_engine import PostgresEngine
        from groundql.databases.postgres_schema import read_postgres_tables

        assert isinstance(engine, PostgresEngine)
        return read_postgres_tables(engine, n_examples)
    finally:
        engine.close()


@functools.lru_cache(64)
def read_engine_functions(url: str) -> frozenset[str]:
    """Names of the functions that a database's engine has, lower case."""
    engine = open_engine(url)
    try:
        return engine.function_names()
    finally:
        engine.close()


def raise_if_unopened(outcome: Outcome) -> None:
    """Nothing where the query was asked of its database, whatever came of it.

    Raises:
        DataError: it could not be opened: an error that took no time at all, see `worker.engine_answer`.
    """
    if outcome.status == "error" and outcome.elapsed_s == 0.0:
        raise DataError(outcome.error)


class Binder:
    """Asks an engine whether statements bind, in a process of its own; use it as a context manager, or close it.

    Where SQLite prepares on an empty twin, these bind on the database itself: neither reads rows to do it.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._executor = Executor()
        self._process_id = os.getpid()
        self._inherited: list[Executor] = []
        self._known: dict[str, str | None] = {}

    def prepare(self, sql: str) -> str | None:
        """None where `sql` is one query that binds, else the engine's words.

        Raises:
            DataError: the database cannot be opened now: no fault of the query, and nothing that is kept.
        """
        if sql in self._known:
            return self._known[sql]
        ((_, outcome),) = self._own_executor().run_each([Job(self.url, sql, BIND_S, bind_only=True)])
        raise_if_unopened(outcome)
        words = None if outcome.status == "ok" else outcome.error or outcome.status
        if outcome.status in ("ok", "error", "refused"):  # a timeout may pass
            self._known[sql] = words
        return words

    def has_row(self, sql: str, *, deadline_s: float) -> bool | None:
        """Whether a query gives a row; None where it did not end well."""
        ((_, outcome),) = self._own_executor().run_each([Job(self.url, sql, deadline_s, 1)])
        return bool(outcome.rows) if outcome.status == "ok" else None

    def _own_executor(self) -> Executor:
        """One of this process: after a fork the parent's goes on with the parent, and is kept, so that nothing ends it."""
        if os.getpid() != self._process_id:
            self._inherited.append(self._executor)
            self._executor = Executor()
            self._process_id = os.getpid()
        return self._executor

    def close(self) -> None:
        """End the process."""
        self._executor.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
