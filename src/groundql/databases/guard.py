"""A SQLite connection that may only read, and one statement run on it under a deadline and caps.

What it stops: writing, ATTACH, VACUUM, PRAGMA, temporary tables and loading extensions (read-only file, authorizer,
defensive mode); functions that touch files or make huge values; queries without end (deadline, looked at every
2,000 virtual-machine steps); results, values, statements and sorts without bound (caps and limits).

What it does not stop: a single step that takes long, which the 10 MB value limit keeps to fractions of a second and
`executor` ends by killing the process; reading any table of the file, `sqlite_master` included; a fault inside SQLite
itself, against which only the process boundary and the operating system stand.

This module imports apsw alone, so that a worker process starts fast.
"""

import itertools
import marshal
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import apsw

HEAP_BYTES = 512 * 2**20  # all of SQLite's memory in one worker: caches, sorters, values
VALUE_BYTES = 10_000_000  # one string or blob; this also bounds how long a single step can take
RESULT_BYTES = 64 * 2**20  # all rows of one result, as marshal writes them
SQL_BYTES = 100_000  # one statement
CHECK_STEPS = 2000  # virtual-machine steps between looks at the clock; 1.4 % to 3 % of run time
CHUNK_ROWS = 500  # rows taken before their bytes are counted

ALLOWED = frozenset((apsw.SQLITE_SELECT, apsw.SQLITE_READ, apsw.SQLITE_RECURSIVE))
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
IGNORABLE = re.compile(r"(?:\s|;|--[^\n]*+|/\*(?:(?!\*/).)*+(?:\*/|\Z))*+", re.DOTALL)

Answer = tuple[str, tuple[str, ...], list[tuple[Any, ...]], str, float, int]


class Refused(Exception):
    """The statement is not one that may run here."""


class TooLarge(Exception):
    """The result is beyond a cap."""


class Started(NamedTuple):
    """What is known of a statement once it is prepared."""

    sql: str
    columns: tuple[str, ...]


def allow(
    action: int, first: str | None, second: str | None, database: str | None, trigger: str | None
) -> int:
    """SQLite's authorizer: reading and harmless functions, nothing else."""
    if action == apsw.SQLITE_FUNCTION:
        return apsw.SQLITE_DENY if (second or "").lower() in DENIED_FUNCTIONS else apsw.SQLITE_OK
    return apsw.SQLITE_OK if action in ALLOWED else apsw.SQLITE_DENY


def lock_down(connection: apsw.Connection, *, quoted_strings: bool) -> None:
    """Apply every setting that holds for one connection; `quoted_strings` keeps SQLite's "name" fallback."""
    connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
    connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
    connection.config(apsw.SQLITE_DBCONFIG_DQS_DML, int(quoted_strings))
    for limit, value in LIMITS.items():
        connection.limit(limit, value)
    connection.authorizer = allow


def open_guarded(path: Path | str, *, quoted_strings: bool = False) -> apsw.Connection:
    """A locked connection to an existing SQLite file; apsw.CantOpenError where it is not there.

    A file in WAL mode without a -wal file beside it is opened as immutable, because SQLite would have to create
    files next to it otherwise.
    """
    name = str(path)
    with open(name, "rb") as file:  # noqa: PTH123  the worker imports no more than it needs
        header = file.read(20)
    unwritten_wal = header[18:20] == b"\x02\x02" and not Path(name + "-wal").exists()
    uri = f"file:{quote(name)}?mode=ro" + ("&immutable=1" if unwritten_wal else "")
    connection = apsw.Connection(uri, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
    connection.execute(
        "PRAGMA temp_store = MEMORY"
    )  # no temporary files; before the authorizer, which denies PRAGMA
    lock_down(connection, quoted_strings=quoted_strings)
    return connection


class one_statement:  # noqa: N801  reads as the verb it is; a class, because a generator costs 2 us more a query
    """While open, `connection` takes `sql` as one statement: a second one after it raises Refused before the first runs.

    The list holds what was prepared. With `run` False the statement is prepared and then abandoned.
    """

    __slots__ = ("connection", "run", "sql", "started")

    def __init__(self, connection: apsw.Connection, sql: str, *, run: bool) -> None:
        self.connection, self.sql, self.run = connection, sql, run
        self.started: list[Started] = []

    def __enter__(self) -> list[Started]:
        self.connection.exec_trace = self._look
        return self.started

    def __exit__(self, *_: object) -> None:
        self.connection.exec_trace = None

    def _look(self, cursor: apsw.Cursor, statement: str, bindings: Any) -> bool:
        if statement != self.sql or self.started:
            if statement.strip(" \t\r\n;") == "" and not self.started:
                return True
            rest = self.sql[len(statement) :] if self.sql.startswith(statement) else ""
            if self.started or not IGNORABLE.fullmatch(rest):
                raise Refused("more than one statement")
        elif not statement.strip(" \t\r\n;"):
            return True
        if cursor.is_explain:
            raise Refused("EXPLAIN is not a query")
        self.started.append(Started(statement, tuple([column[0] for column in cursor.get_description()])))
        return self.run


def run_guarded(
    connection: apsw.Connection, sql: str, *, deadline_s: float, max_rows: int, counts_steps: bool = True
) -> Answer:
    """(status, columns, rows, error, elapsed_s, vm_steps) of one statement; never raises for what `sql` does.

    The guard costs about 12 us a statement, counting steps 5 us more: without `counts_steps` they are 0.
    """
    start_s = time.monotonic()
    end_s = start_s + deadline_s
    steps: list[int] = []
    columns: tuple[str, ...] = ()
    connection.set_progress_handler(lambda: time.monotonic() > end_s, CHECK_STEPS)
    if counts_steps:
        connection.trace_v2(
            apsw.SQLITE_TRACE_PROFILE,
            lambda event: steps.append(event["stmt_status"]["SQLITE_STMTSTATUS_VM_STEP"]),
        )
    rows: list[tuple[Any, ...]] = []
    status, error = "ok", ""
    try:
        with one_statement(connection, sql, run=True) as started:
            cursor = connection.execute(sql, can_cache=False)
            columns = started[0].columns if started else ()
        try:
            rows = take_rows(cursor, max_rows)
        except UnicodeDecodeError:
            rows = _take_undecodable(connection, sql, len(columns), max_rows)
        finally:
            cursor.close(True)
    except Exception as failure:  # whatever the model's SQL provokes is a result, not a fault of ours
        status, error, rows = _status_of(failure), _words(failure, deadline_s), []
    finally:
        connection.set_progress_handler(None)
        if counts_steps:
            connection.trace_v2(0, None)
    return status, columns, rows, error, time.monotonic() - start_s, sum(steps)


def time_pair(
    connection: apsw.Connection, sql: str, against: str, *, n_rounds: int, deadline_s: float, max_rows: int
) -> Answer:
    """Rounds of `sql` and `against` in turn, as rows (execute of each, then execute and fetch of each), in seconds.

    The statements should have run before: a fault of either, or the deadline, ends the rounds; what was timed stays.
    """
    end_s = time.monotonic() + deadline_s
    rounds: list[tuple[Any, ...]] = []
    connection.set_progress_handler(lambda: time.monotonic() > end_s, CHECK_STEPS)
    try:
        for _ in range(n_rounds):
            executed, fetched = [], []
            for text in (sql, against):
                start_s = time.perf_counter()
                cursor = connection.execute(text, can_cache=False)
                executed.append(time.perf_counter() - start_s)
                for _ in itertools.islice(cursor, max_rows):
                    pass
                fetched.append(time.perf_counter() - start_s)
                cursor.close(True)
            rounds.append((*executed, *fetched))
    except apsw.InterruptError:
        pass
    except Exception as failure:
        return _status_of(failure), (), [], _words(failure, deadline_s), 0.0, 0
    finally:
        connection.set_progress_handler(None)
    return "ok", ("execute_s", "against_execute_s", "all_s", "against_all_s"), rounds, "", 0.0, 0


def take_rows(cursor: Iterator[tuple[Any, ...]], max_rows: int) -> list[tuple[Any, ...]]:
    """All rows that are still to come; TooLarge beyond `max_rows` or `RESULT_BYTES`."""
    rows: list[tuple[Any, ...]] = []
    n_bytes = 0
    while chunk := list(itertools.islice(cursor, CHUNK_ROWS)):
        rows += chunk
        if len(rows) > max_rows:
            raise TooLarge(f"more than {max_rows:,} rows")
        n_bytes += len(marshal.dumps(chunk))
        if n_bytes > RESULT_BYTES:
            raise TooLarge(f"more than {RESULT_BYTES // 2**20} MiB of rows")
        if len(chunk) < CHUNK_ROWS:
            break
    return rows


def _take_undecodable(
    connection: apsw.Connection, sql: str, n_columns: int, max_rows: int
) -> list[tuple[Any, ...]]:
    r"""Rows of a query that returns text which is not UTF-8 (Spider's wta_1 does); a wrong byte becomes \xNN."""
    names = [f"c{i}" for i in range(n_columns)]
    cells = ", ".join(
        f"CASE typeof({c}) WHEN 'text' THEN CAST({c} AS BLOB) ELSE {c} END, typeof({c})" for c in names
    )
    wrapped = f"WITH r({', '.join(names)}) AS ({sql.rstrip().rstrip(';')}\n) SELECT {cells} FROM r"
    rows = take_rows(connection.execute(wrapped, can_cache=False), max_rows)
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
    if is_denied or str(failure).startswith("not authorized"):  # a denied function comes as a plain SQLError
        return "refused"
    if isinstance(failure, (TooLarge, apsw.TooBigError, apsw.NoMemError, MemoryError)):
        return "too_large"
    return "error"


def _words(failure: Exception, deadline_s: float) -> str:
    if isinstance(failure, apsw.InterruptError):
        return f"did not end within {deadline_s:g} s"
    if isinstance(failure, (MemoryError, apsw.NoMemError)):
        return "needs more memory than a query may have"
    return str(failure) or type(failure).__name__
