"""A process that runs guarded statements: jobs on stdin, answers on stdout, each a length and a marshal.

Beside the guard of each connection the process itself is bounded: address space, no file may grow, processor time a
job. It ends when stdin does. Marshal is read from our own processes alone.
"""

import marshal
import resource
import signal
import struct
import sys
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import apsw

from groundql.databases.guard import HEAP_BYTES, Answer, Guarded, open_guarded, run_guarded, time_pair

if TYPE_CHECKING:
    from groundql.databases.engines import Engine

LENGTH = struct.Struct(">I")
ADDRESS_BYTES = 2 * 2**30
N_OPEN = 16  # connections kept; the one opened first is closed
N_OPEN_ENGINES = 2  # each may take its own memory cap
CPU_GRACE_S = 10

Key = tuple[Path | str, bool]
URLS = (
    "duckdb:",
    "postgresql://",
    "postgres://",
)  # what names an engine beside SQLite, see `records.dialect_of`
Packed = tuple[Path | str, str, float, int, bool, str, int, bool, bool]  # the fields of `executor.Job`


def bound_process(used_bytes: int = 0) -> None:
    """Set the limits that hold for the whole process; what the system does not know is passed over.

    `used_bytes` of address space are there already, and come on top.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when we end
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write beyond the limit is an error, not our death
    for limit, value in (
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_AS, used_bytes + ADDRESS_BYTES),
    ):
        try:
            resource.setrlimit(limit, (value, resource.getrlimit(limit)[1]))
        except (OSError, ValueError):
            continue
    apsw.hard_heap_limit(HEAP_BYTES)


_cpu_bound_until_s = 0.0  # on the clock of `time.monotonic`, which no single thread outruns


def bound_cpu(deadline_s: float) -> None:
    """Let this job have its deadline and a little more of processor time; set for twice that, so that few jobs do."""
    global _cpu_bound_until_s
    needed_s, now_s = deadline_s + CPU_GRACE_S, time.monotonic()
    if now_s + needed_s <= _cpu_bound_until_s <= now_s + 3 * needed_s:
        return
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    soft = int(time.process_time() + 2 * needed_s)
    if hard == resource.RLIM_INFINITY or soft < hard:
        resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))
    _cpu_bound_until_s = now_s + 2 * needed_s


def answer(
    connections: dict[Key, Guarded], engines: "dict[str, Engine]", job: Packed, *, holds: bool = False
) -> Answer:
    """What one job gave; a file that cannot be opened is an error like any other. `holds`: see `open_guarded`."""
    path, sql, deadline_s, max_rows, quoted_strings, against, n_rounds, bind_only, counts_steps = job
    bound_cpu(deadline_s)
    key = (path, quoted_strings)
    connection = connections.get(key)
    if connection is None:
        if not isinstance(path, Path) and path.startswith(URLS):
            return engine_answer(engines, path, sql, deadline_s, None if bind_only else max_rows)
        try:
            connection = open_guarded(path, quoted_strings=quoted_strings, holds=holds)
        except (apsw.Error, OSError) as failure:
            return "error", (), [], f"{path} cannot be opened: {failure}", 0.0, 0
        connections[key] = connection
        if len(connections) > N_OPEN:
            connections.pop(next(iter(connections))).close()
    if n_rounds:
        return time_pair(
            connection, sql, against, n_rounds=n_rounds, deadline_s=deadline_s, max_rows=max_rows
        )
    return run_guarded(connection, sql, deadline_s=deadline_s, max_rows=max_rows, counts_steps=counts_steps)


def engine_answer(
    engines: "dict[str, Engine]", url: str, sql: str, deadline_s: float, max_rows: int | None
) -> Answer:
    """What one job gave on an engine beside SQLite; `max_rows` None: whether it binds."""
    from groundql.databases.engines import open_engine
    from groundql.errors import GroundqlError

    try:
        engine = engines.pop(url, None) or open_engine(url)
        engines[url] = engine
        if len(engines) > N_OPEN_ENGINES:
            engines.pop(next(iter(engines))).close()
        if max_rows is None:
            return engine.bind(sql, deadline_s=deadline_s)
        return engine.run(sql, deadline_s=deadline_s, max_rows=max_rows)
    except GroundqlError as failure:  # it cannot be opened, or not again
        return "error", (), [], str(failure), 0.0, 0


def write_message(stream: IO[bytes], message: Any) -> None:
    """One message, flushed."""
    body = marshal.dumps(message)
    stream.write(LENGTH.pack(len(body)) + body)
    stream.flush()


def main() -> None:
    """Answer jobs until stdin ends."""
    bound_process()
    jobs, answers = sys.stdin.buffer, sys.stdout.buffer
    connections: dict[Key, Guarded] = {}
    engines: dict[str, Engine] = {}
    write_message(answers, "ready")
    while head := jobs.read(LENGTH.size):
        job = marshal.loads(jobs.read(*LENGTH.unpack(head)))
        try:
            message = answer(connections, engines, job)
            write_message(answers, message)
        except MemoryError:
            connections.clear()
            engines.clear()
            write_message(answers, ("too_large", (), [], "needs more memory than a query may have", 0.0, 0))


if __name__ == "__main__":
    main()
