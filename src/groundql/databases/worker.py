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
from typing import IO, TYPE_CHECKING, Any

import apsw

from groundql.databases.guard import HEAP_BYTES, Answer, open_guarded, run_guarded, time_pair

if TYPE_CHECKING:
    from groundql.databases.engines import Engine

LENGTH = struct.Struct(">I")
ADDRESS_BYTES = 2 * 2**30
N_OPEN = 16  # connections kept; the one used longest ago is closed
N_OPEN_ENGINES = 2  # each may take its own memory cap
CPU_GRACE_S = 10

Key = tuple[str, bool]
URLS = (
    "duckdb:",
    "postgresql://",
    "postgres://",
)  # what names an engine beside SQLite, see `records.dialect_of`
Packed = tuple[str, str, float, int, bool, str, int, bool]  # a job as `executor.Job.packed` writes it


def bound_process() -> None:
    """Set the limits that hold for the whole process; what the system does not know is passed over."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when we end
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write beyond the limit is an error, not our death
    for limit, value in (
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_AS, ADDRESS_BYTES),
    ):
        try:
            resource.setrlimit(limit, (value, resource.getrlimit(limit)[1]))
        except (OSError, ValueError):
            continue
    apsw.hard_heap_limit(HEAP_BYTES)


def bound_cpu(deadline_s: float) -> None:
    """Let this job have its deadline and a little more of processor time."""
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    soft = int(time.process_time() + deadline_s + CPU_GRACE_S)
    if hard == resource.RLIM_INFINITY or soft < hard:
        resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def answer(connections: dict[Key, apsw.Connection], engines: "dict[str, Engine]", job: Packed) -> Answer:
    """What one job gave; a file that cannot be opened is an error like any other."""
    path, sql, deadline_s, max_rows, quoted_strings, against, n_rounds, bind_only = job
    bound_cpu(deadline_s)
    if path.startswith(URLS):
        return engine_answer(engines, path, sql, deadline_s, None if bind_only else max_rows)
    key = (path, quoted_strings)
    try:
        connection = connections.pop(key, None) or open_guarded(path, quoted_strings=quoted_strings)
    except (apsw.Error, OSError) as failure:
        return "error", (), [], f"{path} cannot be opened: {failure}", 0.0, 0
    connections[key] = connection
    if len(connections) > N_OPEN:
        connections.pop(next(iter(connections))).close()
    if n_rounds:
        return time_pair(
            connection, sql, against, n_rounds=n_rounds, deadline_s=deadline_s, max_rows=max_rows
        )
    return run_guarded(connection, sql, deadline_s=deadline_s, max_rows=max_rows)


def engine_answer(
    engines: "dict[str, Engine]", url: str, sql: str, deadline_s: float, max_rows: int | None
) -> Answer:
    """What one job gave on an engine beside SQLite; `max_rows` None: whether it binds."""
    from groundql.databases.engines import open_engine
    from groundql.errors import GroundqlError

    try:
        engine = engines.pop(url, None) or open_engine(url)
    except GroundqlError as failure:
        return "error", (), [], str(failure), 0.0, 0
    engines[url] = engine
    if len(engines) > N_OPEN_ENGINES:
        engines.pop(next(iter(engines))).close()
    if max_rows is None:
        return engine.bind(sql, deadline_s=deadline_s)
    return engine.run(sql, deadline_s=deadline_s, max_rows=max_rows)


def write_message(stream: IO[bytes], message: Any) -> None:
    """One message, flushed."""
    body = marshal.dumps(message)
    stream.write(LENGTH.pack(len(body)) + body)
    stream.flush()


def main() -> None:
    """Answer jobs until stdin ends."""
    bound_process()
    jobs, answers = sys.stdin.buffer, sys.stdout.buffer
    connections: dict[Key, apsw.Connection] = {}
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
