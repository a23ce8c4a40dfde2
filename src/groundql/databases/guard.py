"""A SQLite connection that may only read, and one statement run on it under a deadline and caps.

What it stops: writing, ATTACH, VACUUM, PRAGMA, temporary tables and loading extensions (read-only file, authorizer,
defensive mode); functions that touch files or make huge values; queries without end (deadline, looked at every
5,000 virtual-machine steps); results, values, statements and sorts without bound (caps and limits).

What it does not stop: a single step that takes long, which the 10 MB value limit keeps to fractions of a second and
`executor` ends by killing the process; reading any table of the file, `sqlite_master` included; a fault inside SQLite
itself, against which only the process boundary and the operating system stand.

This module imports apsw alone, so that a worker process starts fast.
"""

import marshal
import math
import re
from collections.abc import Iterator
from itertools import islice
from operator import itemgetter
from pathlib import Path
from time import monotonic, perf_counter
from typing import Any
from urllib.parse import quote

import apsw

HEAP_BYTES = 512 * 2**20  # all of SQLite's memory in one worker: caches, sorters, values
VALUE_BYTES = 10_000_000  # one string or blob; this also bounds how long a single step can take
RESULT_BYTES = 64 * 2**20  # all rows of one result, as marshal writes them
SQL_BYTES = 100_000  # one statement
CHECK_STEPS = 5000  # virtual-machine steps between looks at the clock; 1.4 % of run time
FEW_CELLS = RESULT_BYTES // VALUE_BYTES  # of SQLite: so few cannot be too large
CHUNK_ROWS = 500  # rows taken before their bytes are counted

OK, DENY = apsw.SQLITE_OK, apsw.SQLITE_DENY
READ, SELECT, FUNCTION, RECURSIVE = (  # of what the authorizer is asked, all that may be allowed
    *(apsw.SQLITE_READ, apsw.SQLITE_SELECT, apsw.SQLITE_FUNCTION, apsw.SQLITE_RECURSIVE),
)
DENIED_FUNCTIONS = frozenset(
    [
        "load_extension",
        "writefile",
        "readfile",
        "edit",
        "fts3_tokenizer",
        "fts5",
        "randomblob",
        "zeroblob",
        "sqlite_log",
    ]
)
LIMITS = {
    apsw.SQLITE_LIMIT_LENGTH: VALUE_BYTES,
    apsw.SQLITE_LIMIT_SQL_LENGTH: SQL_BYTES,
    apsw.SQLITE_LIMIT_ATTACHED: 0,
    apsw.SQLITE_LIMIT_EXPR_DEPTH: 200,
    apsw.SQLITE_LIMIT_COMPOUND_SELECT: 50,
    apsw.SQLITE_LIMIT_VDBE_OP: 250_000,
    apsw.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 1000,
    apsw.SQLITE_LIMIT_WORKER_THREADS: 0,
}
NAME_OF = itemgetter(0)
VACUUM_WORDS = "cannot VACUUM from within a transaction"  # it comes before the authorizer is asked
IGNORABLE = re.compile(r"(?:\s|;|--[^\n]*+|/\*(?:(?!\*/).)*+(?:\*/|\Z))*+", re.DOTALL)

Answer = tuple[str, tuple[str, ...], list[tuple[Any, ...]], str, float, int]


class Refused(Exception):
    """The statement is not one that may run here."""


class TooLarge(Exception):
    """The result is beyond a cap."""


def allow(
    action: int, first: str | None, second: str | None, database: str | None, trigger: str | None
) -> int:
    """SQLite's authorizer: reading and harmless functions, nothing else. It is asked of every name in a query."""
    if action == READ or action == SELECT:  # noqa: SIM109  a tuple takes twice as long, and it is asked 7 times a query
        return OK
    if action == FUNCTION:
        return DENY if (second or "").lower() in DENIED_FUNCTIONS else OK
    return OK if action == RECURSIVE else DENY


class Guarded(apsw.Connection):
    """A connection that takes one statement at a time, each with an end; the guard stays set between statements.

    What the callbacks need stands in attributes, so that a statement costs no setting and taking back of them.
    """

    end_s = math.inf  # on the clock of `time.monotonic`: when the statement that runs is interrupted
    sql = ""
    runs = True  # False: a statement is prepared and then abandoned
    is_ours = False  # True: statements of our own, which may be several
    columns: tuple[str, ...] | None = None  # of the statement, once it is prepared
    n_steps = 0
    counts_steps = False

    def guard(self, *, quoted_strings: bool) -> "Guarded":
        """Apply every setting; `quoted_strings` keeps SQLite's "name" fallback. Statements of ours come before this."""
        lock_down(self, quoted_strings=quoted_strings)
        self.set_progress_handler(self._is_due, CHECK_STEPS)
        self.exec_trace = self._look
        return self

    def _is_due(self) -> bool:
        return monotonic() > self.end_s

    def _look(self, cursor: apsw.Cursor, statement: str, bindings: Any) -> bool:
        """Called with each statement that is prepared: a second one raises Refused before the first has run."""
        if statement == self.sql and self.columns is None and not cursor.is_explain:
            columns = tuple(map(NAME_OF, cursor.get_description()))
            if columns or statement.strip(" \t\r\n;"):
                self.columns = columns
                return self.runs
            return True
        if self.is_ours:
            return True
        if self.columns is None and not statement.strip(" \t\r\n;"):
            return True
        rest = self.sql[len(statement) :] if self.sql.startswith(statement) else ""
        if self.columns is not None or not IGNORABLE.fullmatch(rest):
            raise Refused("more than one statement")
        if cursor.is_explain:
            raise Refused("EXPLAIN is not a query")
        self.columns = tuple(map(NAME_OF, cursor.get_description()))
        return self.runs

    def count_steps(self, counts: bool) -> None:
        """Whether `n_steps` adds up virtual-machine steps from here on; it costs 5 us a statement."""
        if counts != self.counts_steps:
            self.trace_v2(apsw.SQLITE_TRACE_PROFILE if counts else 0, self._add_steps if counts else None)
            self.counts_steps = counts

    def _add_steps(self, event: Any) -> None:
        self.n_steps += event["stmt_status"]["SQLITE_STMTSTATUS_VM_STEP"]

    def prepared(self, sql: str) -> bool:
        """Whether `sql` holds a statement, and SQLite prepares it; it is not run. Raises what SQLite or the guard says."""
        self.sql, self.columns, self.runs = sql, None, False
        try:
            self.execute(sql)
        except apsw.ExecTraceAbort:
            return self.columns is not None
        finally:
            self.runs = True
        return False


def lock_down(connection: apsw.Connection, *, quoted_strings: bool) -> None:
    """Apply every setting that holds for one connection; `quoted_strings` keeps SQLite's "name" fallback."""
    connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
    connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
    connection.config(apsw.SQLITE_DBCONFIG_DQS_DML, int(quoted_strings))
    for limit, value in LIMITS.items():
        connection.limit(limit, value)
    connection.authorizer = allow


def open_guarded(path: Path | str, *, quoted_strings: bool = False, holds: bool = False) -> Guarded:
    """A locked connection to an existing SQLite file; apsw.CantOpenError where it is not there.

    `holds`: from its first statement on it keeps one state of the file in view, and others from writing it; it is then
    for one thread alone.

    A file in WAL mode without a -wal file beside it is opened as immutable, because SQLite would have to create
    files next to it otherwise.
    """
    name = str(path)
    with open(name, "rb", buffering=0) as file:  # noqa: PTH123  the worker imports no more than it needs
        header = file.read(20)
    unwritten_wal = header[18:20] == b"\x02\x02" and not Path(name + "-wal").exists()
    uri = f"file:{quote(name)}?mode=ro" + ("&immutable=1" if unwritten_wal else "")
    flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    if holds:
        flags |= apsw.SQLITE_OPEN_NOMUTEX  # for one thread alone
    connection = Guarded(uri, flags=flags, statementcachesize=0)  # statements are seldom asked twice
    # no temporary files; before the authorizer, which denies PRAGMA and BEGIN
    connection.execute("PRAGMA temp_store = MEMORY" + ("; BEGIN" if holds else "")).fetchall()
    return connection.guard(quoted_strings=quoted_strings)


def run_guarded(
    connection: Guarded, sql: str, *, deadline_s: float, max_rows: int, counts_steps: bool = True
) -> Answer:
    """(status, columns, rows, error, elapsed_s, vm_steps) of one statement; never raises for what `sql` does.

    Without `counts_steps` they are 0, and 5 us are saved. `connection.columns` tells afterwards whether it was
    prepared: it is None where it was not.
    """
    start_s = monotonic()
    if counts_steps is not connection.counts_steps:
        connection.count_steps(counts_steps)
    connection.sql, connection.columns, connection.n_steps = sql, None, 0
    connection.end_s = start_s + deadline_s
    try:
        cursor = connection.execute(sql)
        rows = list(islice(cursor, CHUNK_ROWS))
        n_rows = len(rows)
        if n_rows == CHUNK_ROWS or n_rows > max_rows or (n_rows and n_rows * len(rows[0]) > FEW_CELLS):
            take_rows(cursor, max_rows, rows)
        status, error = "ok", ""
    except Exception as failure:  # whatever the model's SQL provokes is a result, not a fault of ours
        status, rows, error = _after(failure, connection, max_rows, deadline_s)
    return status, connection.columns or (), rows, error, monotonic() - start_s, connection.n_steps


def _after(
    failure: Exception, connection: Guarded, max_rows: int, deadline_s: float
) -> tuple[str, list[tuple[Any, ...]], str]:
    """Status, rows and words where a statement raised; texts that are not UTF-8 are asked for once more."""
    if isinstance(failure, UnicodeDecodeError):
        try:
            return "ok", _take_undecodable(connection, connection.sql, max_rows), ""
        except Exception as second:
            failure = second
    return _status_of(failure), [], _words(failure, deadline_s)


def time_pair(
    connection: Guarded, sql: str, against: str, *, n_rounds: int, deadline_s: float, max_rows: int
) -> Answer:
    """Rounds of `sql` and `against` in turn, as rows (execute of each, then execute and fetch of each), in seconds.

    The statements should have run before: a fault of either, or the deadline, ends the rounds; what was timed stays.
    """
    connection.end_s = monotonic() + deadline_s
    connection.count_steps(False)
    rounds: list[tuple[Any, ...]] = []
    try:
        for _ in range(n_rounds):
            executed, fetched = [], []
            for text in (sql, against):
                connection.sql, connection.columns = text, None
                start_s = perf_counter()
                cursor = connection.execute(text)
                executed.append(perf_counter() - start_s)
                for _ in islice(cursor, max_rows):
                    pass
                fetched.append(perf_counter() - start_s)
                cursor.close(True)
            rounds.append((*executed, *fetched))
    except apsw.InterruptError:
        pass
    except Exception as failure:
        return _status_of(failure), (), [], _words(failure, deadline_s), 0.0, 0
    return "ok", ("execute_s", "against_execute_s", "all_s", "against_all_s"), rounds, "", 0.0, 0


def take_rows(
    cursor: Iterator[tuple[Any, ...]], max_rows: int, rows: list[tuple[Any, ...]] | None = None
) -> list[tuple[Any, ...]]:
    """All rows that are still to come, after `rows`; TooLarge beyond `max_rows` or `RESULT_BYTES`.

    `rows` is the first chunk where that was taken before, and grows.
    """
    rows = list(islice(cursor, CHUNK_ROWS)) if rows is None else rows
    chunk, n_bytes = rows, 0
    while True:
        if len(rows) > max_rows:
            raise TooLarge(f"more than {max_rows:,} rows")
        n_bytes += len(marshal.dumps(chunk))
        if n_bytes > RESULT_BYTES:
            raise TooLarge(f"more than {RESULT_BYTES // 2**20} MiB of rows")
        if len(chunk) < CHUNK_ROWS:
            return rows
        chunk = list(islice(cursor, CHUNK_ROWS))
        rows += chunk


def _take_undecodable(connection: Guarded, sql: str, max_rows: int) -> list[tuple[Any, ...]]:
    r"""Rows of a query that returns text which is not UTF-8 (Spider's wta_1 does); a wrong byte becomes \xNN."""
    columns, n_steps = connection.columns or (), connection.n_steps
    names = [f"c{i}" for i in range(len(columns))]
    cells = ", ".join(
        f"CASE typeof({c}) WHEN 'text' THEN CAST({c} AS BLOB) ELSE {c} END, typeof({c})" for c in names
    )
    wrapped = f"WITH r({', '.join(names)}) AS ({sql.rstrip().rstrip(';')}\n) SELECT {cells} FROM r"
    connection.sql, connection.columns = wrapped, None
    try:
        rows = take_rows(connection.execute(wrapped), max_rows)
    finally:
        connection.columns, connection.n_steps = columns, n_steps
    return [
        tuple(
            value.decode("utf-8", "backslashreplace") if kind == "text" else value
            for value, kind in zip(row[::2], row[1::2], strict=True)
        )
        for row in rows
    ]


def _status_of(failure: Exception) -> str:
    if isinstance(failure, apsw.InterruptError):
        return "timeout"
    is_denied = isinstance(failure, (Refused, apsw.AuthError, apsw.ReadOnlyError))
    if is_denied or str(failure).startswith(
        ("not authorized", VACUUM_WORDS)
    ):  # a denied function is a plain SQLError
        return "refused"
    if isinstance(failure, (TooLarge, apsw.TooBigError, apsw.NoMemError, MemoryError)):
        return "too_large"
    return "error"


def _words(failure: Exception, deadline_s: float) -> str:
    if isinstance(failure, apsw.InterruptError):
        return f"did not end within {deadline_s:g} s"
    if isinstance(failure, (MemoryError, apsw.NoMemError)):
        return "needs more memory than a query may have"
    if str(failure).startswith(VACUUM_WORDS):
        return "authorization denied"  # as where no transaction is open
    return str(failure) or type(failure).__name__
