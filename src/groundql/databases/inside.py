"""Runs guarded statements in this very process, which must be a forked child that its parent watches.

The statements go through the same guard as in `executor`, and the process has the same limits, but rows need no way
from one process to another. What `executor` does for a worker the parent does here: the child says when the statement
that it is at is overdue, and is killed then (`verdicts.processes`); what it leaves undone goes to `executor`.
"""

import contextlib
import resource
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Protocol, Self

from groundql.databases.engines import Engine
from groundql.databases.executor import GRACE_S, Job, outcome_of
from groundql.databases.guard import Guarded, run_guarded
from groundql.databases.worker import Key, answer, bound_cpu, bound_process
from groundql.records import Outcome

NEVER_S = float("inf")
NO_ENGINES: dict[str, Engine] = {}  # engines beside SQLite are for an Executor


class Runs(Protocol):
    """What runs statements: an Executor, or an Inside."""

    def run_each(self, jobs: Iterable[Job]) -> Iterator[tuple[int, Outcome]]:
        """(number of the job from 0, outcome) as they come."""


class Inside:
    """`run_each` of an Executor without a process between; use it as a context manager, in a child alone.

    `say_due` is told before each statement when it is overdue, on the clock of `time.monotonic`, and after it that
    nothing is. A file is read in one transaction from the first statement on it to `let_go`: all see the same state,
    and no statement pays for a lock.
    """

    def __init__(self, say_due: Callable[[float], None]) -> None:
        self._say_due = say_due
        self._connections: dict[Key, Guarded] = {}

    def __enter__(self) -> Self:
        bound_process(address_bytes_used())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.let_go()

    def let_go(self) -> None:
        """Close all files."""
        while self._connections:
            self._connections.popitem()[1].close()

    def run_each(self, jobs: Iterable[Job]) -> Iterator[tuple[int, Outcome]]:
        """(number of the job from 0, outcome), in order."""
        say_due, connections = self._say_due, self._connections
        try:
            for number, job in enumerate(jobs):
                path, sql, deadline_s, max_rows, quoted_strings, _, n_rounds, _, counts_steps = job
                connection = connections.get((path, quoted_strings))
                say_due(monotonic() + deadline_s + GRACE_S)
                if connection is None or n_rounds:
                    found = answer(connections, NO_ENGINES, job, holds=True)
                else:  # as `answer` does it, at less cost
                    bound_cpu(deadline_s)
                    found = run_guarded(
                        connection, sql, deadline_s=deadline_s, max_rows=max_rows, counts_steps=counts_steps
                    )
                say_due(NEVER_S)
                yield number, outcome_of(found)
        finally:
            say_due(NEVER_S)


def address_bytes_used() -> int:
    """Bytes of address space that this process has; 0 where the system does not say."""
    try:
        n_pages = int(Path("/proc/self/statm").read_bytes().split()[0])
    except (OSError, ValueError):
        return 0
    return n_pages * resource.getpagesize()


@contextlib.contextmanager
def may_write() -> Iterator[None]:
    """While open, a process that runs statements may write files of ours; elsewhere nothing changes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    if soft == hard:
        yield
        return
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
