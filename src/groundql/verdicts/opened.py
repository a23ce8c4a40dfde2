"""A database as the checks of one run need it: its twin, its facts, and a connection for questions of our own."""

import functools
import weakref
from pathlib import Path

import apsw

from groundql.databases.binding import Twin, twin_of
from groundql.databases.engines import Binder, read_engine_functions
from groundql.databases.files import has_rows, sqlite_file
from groundql.databases.guard import Guarded, open_guarded, run_guarded
from groundql.databases.kept import KeptOutcomes, same_text
from groundql.databases.schema import read_schema
from groundql.errors import DataError
from groundql.records import DatabaseFiles, Outcome, Schema
from groundql.verdicts.ast_equal import canonical
from groundql.verdicts.facts import Facts, read_facts
from groundql.verdicts.joins_and_values import read_places
from groundql.verdicts.parsing import parse_query

LOOKUP_S = 2.0  # for one question of our own to the database


class OpenDatabase:
    """One database; `path` is None where it has no rows, or where another engine than SQLite holds them.

    `place` is what a Job asks: the path or the engine's URL.
    """

    def __init__(self, files: DatabaseFiles) -> None:
        self.files = files
        self.path: Path | None = sqlite_file(files) if has_rows(files) else None
        self.place: Path | str | None = files.url or self.path
        self.dialect = files.dialect
        self.is_sqlite = self.dialect == "sqlite"
        self._binder = Binder(files.url) if files.url else None
        if self._binder:
            weakref.finalize(self, self._binder.close)
            assert (
                self.schema.tables
            )  # read now: a database that cannot be opened is a fault of the run, not of its queries
        self._forms: dict[tuple[str, bool], str | None] = {}
        self._held: dict[str, bool | None] = {}
        self._places: dict[str, frozenset[tuple[str, str]]] = {}
        self._refusals: dict[str, str | None] = {}

    @functools.cached_property
    def twin(self) -> Twin:
        """SQLite's empty twin, of the schema alone where the rows lie elsewhere."""
        return twin_of(self.path or self.schema)

    @functools.cached_property
    def schema(self) -> Schema:
        """Tables and columns; read when first asked for."""
        return read_schema(self.files, n_examples=0)

    @functools.cached_property
    def kept(self) -> KeptOutcomes | None:
        """What earlier runs know of this database's gold queries; None without rows."""
        return KeptOutcomes(self.path) if self.path else None

    @functools.cached_property
    def facts(self) -> Facts:
        """What equivalence rules may rely on here."""
        return read_facts(self.twin)

    @functools.cached_property
    def _connection(self) -> Guarded:
        assert self.path is not None
        return open_guarded(self.path)

    def prepares(self, key: str) -> bool:
        """Whether a query, as `same_text` has it, is known to prepare here."""
        return self._refusals.get(key, "") is None

    def refusal(self, sql: str) -> str | None:
        """Why a query does not prepare here, None where it does; asked once."""
        key = same_text(sql)
        if key not in self._refusals:
            try:
                self._refusals[key] = self._prepare(sql)
            except DataError as error:  # a server that went away; it may come back
                return str(error)
        return self._refusals[key]

    def _prepare(self, sql: str) -> str | None:
        if self._binder:
            return self._binder.prepare(sql)
        if "sqlite_" in sql.lower():
            return self.twin.prepare(
                sql
            )  # the file has tables of SQLite's own, which are no part of the schema
        return self._on_file.prepare(sql)

    @functools.cached_property
    def _on_file(self) -> Twin:
        """The file itself, where there is one: opening it takes a fifth of what making its twin does."""
        if self.path is None or "twin" in self.__dict__:
            return self.twin
        try:
            return Twin(self._connection)
        except (apsw.Error, OSError):
            return self.twin  # it says what is wrong

    def learn(self, sql: str, outcome: Outcome) -> None:
        """`sql` is as `same_text` has it. What began to run need not be asked whether it prepares, nor what failed before: it was prepared as here.

        Not so where double quotes or SQLite's own tables mean other things on the file than on its twin.
        """
        if not self.is_sqlite:
            if outcome.status == "ok":
                self._refusals[sql] = None
            return
        if '"' in sql or "sqlite_" in sql.lower():
            return
        status = outcome.status
        if outcome.columns:
            if status == "ok" or status in ("error", "timeout"):
                self._refusals[sql] = None
        elif status in ("error", "refused") and sql.isascii() and "\0" not in sql:
            self._refusals[sql] = outcome.error

    def form(self, sql: str, is_relaxed: bool) -> str | None:
        """The canonical form of a query on this database, or None; made once."""
        key = (same_text(sql), is_relaxed)
        if key not in self._forms:
            self._forms[key] = canonical(sql, self.facts, relaxed=is_relaxed)
        return self._forms[key]

    def holds(self, lookup: str) -> bool | None:
        """Whether a lookup of ours gives a row; None where it does not end in time. What a model wrote runs elsewhere."""
        if lookup not in self._held:
            if self._binder:
                self._held[lookup] = self._binder.has_row(lookup, deadline_s=LOOKUP_S)
            else:
                status, _, rows, *_ = run_guarded(
                    self._connection, lookup, deadline_s=LOOKUP_S, max_rows=1, counts_steps=False
                )
                self._held[lookup] = bool(rows) if status == "ok" else None
        return self._held[lookup]

    def function_names(self) -> frozenset[str]:
        """Names that the engine beside SQLite can call."""
        return read_engine_functions(self.files.url)

    def read_columns(self, sql: str) -> frozenset[tuple[str, str]]:
        """(table, column) pairs that a query reads; empty where it does not prepare.

        SQLite says so itself; for other engines the names are looked up in the tree.
        """
        if self.is_sqlite:
            return self.twin.read_columns(sql)
        key = same_text(sql)
        if key not in self._places:
            tree = parse_query(sql, self.files.dialect) if self.refusal(sql) is None else None
            self._places[key] = read_places(tree, self.schema) if tree is not None else frozenset()
        return self._places[key]
