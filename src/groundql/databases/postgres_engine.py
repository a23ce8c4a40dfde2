"""A PostgreSQL database that may only be read: one query on it under a deadline and caps.

What it stops, each by a layer that holds where the others fail:

- Everything but a query: the statement runs as a cursor's, and PostgreSQL's grammar takes no other statement there,
  no INSERT, UPDATE or DELETE inside WITH, and over the extended protocol no second statement.
- Functions with an effect: a call of a function that PostgreSQL's catalogue marks volatile is refused before it runs
  (set_config, nextval, pg_advisory_lock, lo_import, pg_read_file, dblink, pg_sleep ...), and so is one that runs SQL
  given as text. The few volatile functions without an effect (random, clock_timestamp ...) may be called.
- Rights: a role that may do more than read is refused when the connection opens, see `role_fault`.
- Remains: the transaction is read-only and rolled back, which takes back settings too; then DISCARD ALL lets go of
  locks and everything else that a session keeps.
- Queries without end: what is left of the deadline is the statement timeout of each fetch, and the server looks once a
  second whether we are still there. Rows and bytes are capped while they come.

What it does not stop: reading everything that the role may read, the catalogue included; memory of the server for one
huge value (up to 1 GB) or many sorts; temporary files, unless the role has `temp_file_limit`; volatile functions
behind views, operators, casts or functions marked otherwise, which whoever made them answers for.
"""

import re
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from groundql.databases.engine_values import decimal_cell
from groundql.databases.guard import RESULT_BYTES, SQL_BYTES, Answer, Refused, TooLarge, take_rows
from groundql.databases.postgres_connection import connect, module, role_fault, shown
from groundql.errors import DataError, GroundqlError
from groundql.records import Cell

FIRST_ROWS = 4  # of the first fetch; the later ones go by how wide these were
CHUNK_BYTES = 2 * 2**20
MAX_CHUNK_ROWS = 2000
HARMLESS_VOLATILE = frozenset(
    [
        "random",
        "random_normal",
        "clock_timestamp",
        "timeofday",
        "gen_random_uuid",
        "uuidv4",
        "uuidv7",
        "uuid_generate_v4",
        "pg_relation_size",
        "pg_table_size",
        "pg_total_relation_size",
        "current_query",
        "bernoulli",  # of TABLESAMPLE, as is the next
        "system",
    ]
)
RUN_TEXT = frozenset(  # not volatile by the catalogue, yet they run SQL given as text
    [
        *("query_to_xml", "query_to_xmlschema", "query_to_xml_and_xmlschema"),
        *("cursor_to_xml", "cursor_to_xmlschema"),
        *("ts_stat", "ts_rewrite", "crosstab", "crosstab2", "crosstab3", "crosstab4", "crosstabn"),
        *("connectby", "xpath_table"),
    ]
)
# A name before a bracket, or before a comment that a bracket may follow. Inside texts it is refused too.
CALL = re.compile(r"""(?<![\w$])([\w$]++)"?\s*+(?=\(|/\*|--)""")
CALL_IN_QUOTES = re.compile(r""""([^"]++)"\s*+(?=\(|/\*|--)""")
REFUSALS = ("25006", "42501")  # read-only transaction, insufficient privilege
TOO_LARGE = ("53", "54")  # classes: insufficient resources, program limit exceeded

INTEGERS = frozenset((20, 21, 23, 26))  # type numbers of pg_type: int8, int2, int4, oid
FLOATS = frozenset((700, 701))


class Fault(Exception):
    """What the server said; `state` is the SQLSTATE, "" where the connection broke."""

    def __init__(self, state: str, words: str) -> None:
        super().__init__(words)
        self.state = state


class PostgresEngine:
    """One connection of a role that may only read."""

    def __init__(self, url: str) -> None:
        """Connect; DatabaseMissing where nothing answers, DataError where the role may do more than read."""
        self.url = url
        self._connect()

    def _connect(self) -> None:
        psycopg = module()
        self.connection = connect(self.url)
        with self.connection.cursor() as cursor:
            fault = role_fault(cursor)
            if fault:
                self.connection.close()
                raise DataError(
                    f"{shown(self.url)}: {fault}; docs/engines.md makes a role that may only read"
                )
            rows = cursor.execute(
                "SELECT DISTINCT lower(proname) FROM pg_proc WHERE provolatile = 'v'"
            ).fetchall()
        self.refused_names = (frozenset(str(name) for (name,) in rows) - HARMLESS_VOLATILE) | RUN_TEXT
        self._pgconn = self.connection.pgconn
        self._pq = psycopg.pq

    def close(self) -> None:
        """End the connection."""
        self.connection.close()

    def function_names(self) -> frozenset[str]:
        """Names that a query may call, lower case; those that the grammar makes itself (coalesce, cast) are not there."""
        with self.connection.cursor() as cursor:
            return frozenset(
                str(name) for (name,) in cursor.execute("SELECT DISTINCT lower(proname) FROM pg_proc")
            )

    def run(self, sql: str, *, deadline_s: float, max_rows: int) -> Answer:
        """(status, columns, rows, error, elapsed_s, 0) of one query; never raises for what `sql` does.

        Raises:
            DatabaseMissing, DataError: the connection broke, and there is no new one.
        """
        return self._guarded(sql, deadline_s, max_rows)

    def bind(self, sql: str, *, deadline_s: float) -> Answer:
        """Status "ok" where PostgreSQL takes `sql` as one query with known names and types; it is not planned or run."""
        return self._guarded(sql, deadline_s, None)

    def _guarded(self, sql: str, deadline_s: float, max_rows: int | None) -> Answer:
        """`max_rows` None: bind alone."""
        start_s = time.monotonic()
        end_s = start_s + deadline_s
        status, error, columns, rows = "ok", "", [], []  # type: str, str, list[str], list[tuple[Any, ...]]
        try:
            if self._pgconn.status != self._pq.ConnStatus.OK:
                self._connect()
            query = self._checked(sql)
            self._send(f"BEGIN READ ONLY; SET LOCAL statement_timeout = {_left_ms(end_s)}")
            self._bind(query)
            if max_rows is not None:
                self._execute(query)
                rows = take_rows(_Fetched(self, end_s, columns), max_rows)
        except GroundqlError:  # no connection again: no query's doing
            raise
        except Exception as failure:  # whatever the model's SQL provokes is a result, not a fault of ours
            status, rows = _status_of(failure), []
            error = f"did not end within {deadline_s:g} s" if status == "timeout" else _words(failure)
        self._leave_nothing()
        return status, tuple(columns), rows, error, time.monotonic() - start_s, 0

    def _checked(self, sql: str) -> bytes:
        """The statement as bytes; Refused for what no query of ours may hold."""
        query = sql.encode()
        if len(query) > SQL_BYTES:
            raise TooLarge(f"a statement of more than {SQL_BYTES:,} bytes")
        if b"\0" in query:
            raise Fault("22021", "a zero byte in the statement")
        if self.refused_names:
            name = refused_call(sql, self.refused_names)
            if name:
                raise Refused(f"{name} is not a function that a query may call")
        return query

    def _bind(self, query: bytes) -> None:
        """Let the server parse and analyse the query; Refused where it is a statement of another kind."""
        try:
            self._check(self._pgconn.prepare(b"", _cursor_for(query)))
        except Fault as fault:
            if "multiple commands" in str(fault):
                raise Refused("more than one statement") from None
            if fault.state == "0A000" and str(fault).startswith("DECLARE CURSOR"):
                raise Refused("it changes data inside WITH") from None
            if fault.state == "42601" and self._is_statement(query):
                raise Refused("not a query") from None
            raise
        if b"$" in query:
            self._check(self._pgconn.prepare(b"", query))
            if self._check(self._pgconn.describe_prepared(b"")).nparams:
                raise Fault("42P02", "there is no parameter $1")

    def _is_statement(self, query: bytes) -> bool:
        """Whether the server can parse `query` as a statement of any kind; it does not run it."""
        self._send("ROLLBACK; BEGIN READ ONLY")
        try:
            self._check(self._pgconn.prepare(b"", query))
        except Fault as fault:
            return fault.state != "42601"
        return True

    def _execute(self, query: bytes) -> None:
        self._check(self._pgconn.exec_params(_cursor_for(query), None))

    def fetch(self, n_rows: int, end_s: float) -> Any:
        """The cursor's next rows, with what is left of the deadline as their timeout."""
        self._send(f"SET LOCAL statement_timeout = {_left_ms(end_s)}")
        return self._check(self._pgconn.exec_params(b"FETCH FORWARD %d FROM groundql" % n_rows, None))

    def _leave_nothing(self) -> None:
        """End the transaction and forget what the session holds; a connection that cannot is closed."""
        if self._pgconn.status != self._pq.ConnStatus.OK:
            return
        try:
            self._send("ROLLBACK")
            self._send("DISCARD ALL")
        except Fault:
            self._pgconn.finish()

    def _send(self, own_sql: str) -> None:
        """Run statements of our own."""
        self._check(self._pgconn.exec_(own_sql.encode()))

    def _check(self, result: Any) -> Any:
        """The result; Fault where it is an error."""
        if result.status in (self._pq.ExecStatus.COMMAND_OK, self._pq.ExecStatus.TUPLES_OK):
            return result
        field = self._pq.DiagnosticField
        state = result.error_field(field.SQLSTATE) or b""
        words = result.error_field(field.MESSAGE_PRIMARY) or result.error_message or b""
        raise Fault(state.decode(), words.decode("utf-8", "replace").strip())


class _Fetched:
    """Iterates over a cursor's rows as cells; fills `columns` with their names."""

    def __init__(self, engine: PostgresEngine, end_s: float, columns: list[str]) -> None:
        self._engine, self._end_s = engine, end_s
        self._n_rows = FIRST_ROWS
        self._result = engine.fetch(self._n_rows, end_s)
        self._at = self._n_bytes = self._n_all_bytes = 0
        self._readers = [reader_of(self._result.ftype(i)) for i in range(self._result.nfields)]
        columns += [self._result.fname(i).decode("utf-8", "replace") for i in range(self._result.nfields)]

    def __iter__(self) -> "_Fetched":
        return self

    def __next__(self) -> tuple[Any, ...]:
        if self._at == self._result.ntuples:
            if self._at < self._n_rows:
                raise StopIteration
            self._n_rows = min(MAX_CHUNK_ROWS, max(1, CHUNK_BYTES * self._n_rows // max(1, self._n_bytes)))
            self._n_all_bytes += self._n_bytes
            self._at = self._n_bytes = 0
            self._result = self._engine.fetch(self._n_rows, self._end_s)
            return next(self)
        get_value, at = self._result.get_value, self._at
        texts = [get_value(at, i) for i in range(len(self._readers))]
        self._n_bytes += sum(len(text) for text in texts if text)
        if self._n_all_bytes + self._n_bytes > RESULT_BYTES:
            raise TooLarge(f"more than {RESULT_BYTES // 2**20} MiB of rows")
        self._at += 1
        return tuple(
            None if text is None else read(text) for text, read in zip(texts, self._readers, strict=True)
        )


def reader_of(kind: int) -> Callable[[bytes], Cell]:
    """What makes a cell of a value as the server writes it; `kind` is the type's number in pg_type.

    Numbers are numbers (numeric: an integer where whole, else a float), booleans 0 and 1, bytea bytes; char(n) loses
    the blanks that fill it. Dates, times, UUIDs, arrays, JSON and all else stay the server's text, times in UTC.
    """
    if kind in INTEGERS:
        return int
    if kind in FLOATS:
        return float
    return READERS.get(kind, _text)


def _text(text: bytes) -> Cell:
    return text.decode("utf-8", "backslashreplace")


READERS: dict[int, Callable[[bytes], Cell]] = {
    16: lambda text: int(text == b"t"),  # bool
    17: lambda text: bytes.fromhex(text[2:].decode()),  # bytea
    1042: lambda text: text.decode("utf-8", "backslashreplace").rstrip(" "),  # char(n)
    1700: lambda text: decimal_cell(Decimal(text.decode())),  # numeric
}


def refused_call(sql: str, names: frozenset[str]) -> str:
    """The first of `names` that `sql` calls, "" where it calls none; names with escapes (U&"...") count as refused.

    It errs to the safe side: a name before a bracket counts inside a text too.
    """
    if re.search(r"""u&\s*+\"""", sql, re.IGNORECASE):
        return 'U&"..."'
    for pattern in (CALL, CALL_IN_QUOTES):
        for match in pattern.finditer(sql):
            name = match[1].lower()
            if name in names or name.lstrip("0123456789$") in names:
                return name
    return ""


def _cursor_for(query: bytes) -> bytes:
    return b"DECLARE groundql NO SCROLL CURSOR WITHOUT HOLD FOR " + query


def _left_ms(end_s: float) -> int:
    """What is left of the deadline for one statement of the server; TimeoutError where nothing is (0 means no limit)."""
    left_ms = int((end_s - time.monotonic()) * 1000)
    if left_ms <= 0:
        raise TimeoutError
    return left_ms


def _status_of(failure: Exception) -> str:
    state = failure.state if isinstance(failure, Fault) else ""
    if isinstance(failure, TimeoutError) or state == "57014":
        return "timeout"
    if isinstance(failure, Refused) or state in REFUSALS:
        return "refused"
    if isinstance(failure, TooLarge | MemoryError) or state[:2] in TOO_LARGE:
        return "too_large"
    return "error"


def _words(failure: Exception) -> str:
    if isinstance(failure, MemoryError):
        return "needs more memory than a query may have"
    words = str(failure) or type(failure).__name__
    return f"{words} (SQLSTATE {failure.state})" if isinstance(failure, Fault) and failure.state else words
