"""The one place that runs SQL which a model wrote, in worker processes under guard.

What each statement may do is in `guard`. Here stands what keeps one statement from harming the others: a worker that
does not answer shortly after the deadline is killed and replaced, and only the statement it was at is marked; a worker
that dies is replaced the same way. It does not stop a statement from reading all of the database file that it is
given, and it is no sandbox against a fault in SQLite: give it files whose content the model may see.
"""

import marshal
import os
import selectors
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from groundql.databases.guard import Answer
from groundql.databases.worker import LENGTH
from groundql.errors import GroundqlError
from groundql.records import Outcome, OutcomeStatus

GRACE_S = 2.0  # beyond the deadline, before a worker is killed
AHEAD_JOBS = 24  # jobs sent to a worker before it answers, so that it never waits for us
AHEAD_BYTES = 16_384  # no more than this waits in the pipe, so that neither side blocks on a full one


class Job(NamedTuple):
    """One statement to run on one SQLite file, or on the database of another engine that a URL names."""

    path: Path | str  # a str may be a URL: duckdb:PATH, postgresql://...
    sql: str
    deadline_s: float = 30.0
    max_rows: int = 100_000
    quoted_strings: bool = False  # True: an unknown "name" is a string, as SQLite's default has it
    against: str = ""  # with `n_rounds`: the rows are times of both, see `guard.time_pair`
    n_rounds: int = 0
    bind_only: bool = False  # engines beside SQLite: whether it binds, without running it
    counts_steps: bool = True  # SQLite: fill `vm_steps`, which costs 5 us

    def packed(self) -> bytes:
        """As the worker reads it."""
        return marshal.dumps((str(self.path), *self[1:]))


class _Worker:
    """One process and the jobs that it has not answered."""

    def __init__(self) -> None:
        source_dir = str(Path(__file__).resolve().parents[2])
        search_path = os.pathsep.join(filter(None, (source_dir, os.environ.get("PYTHONPATH"))))
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "groundql.databases.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": search_path},
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.jobs_fd = self.process.stdin.fileno()
        self.answers_fd = self.process.stdout.fileno()
        self.ready = False
        self.waiting: deque[tuple[int, Job, int]] = deque()  # number, job, its bytes in the pipe
        self.since_s = time.monotonic()  # when the job at the head can have begun, or later
        self.outgoing = bytearray()
        self.received = bytearray()

    def has_room(self) -> bool:
        ahead_bytes = sum(n_bytes for _, _, n_bytes in self.waiting)
        return not self.waiting or (len(self.waiting) < AHEAD_JOBS and ahead_bytes < AHEAD_BYTES)

    def send(self, number: int, job: Job) -> None:
        """Take a job for the next `flush`; a long one waits in the pipe only when the worker is free to read it."""
        body = job.packed()
        if not self.waiting:
            self.since_s = time.monotonic()
        self.waiting.append((number, job, len(body)))
        self.outgoing += LENGTH.pack(len(body)) + body

    def flush(self) -> None:
        """Write the jobs handed over; several in one write wake the worker once."""
        message, self.outgoing = memoryview(bytes(self.outgoing)), bytearray()
        try:
            while message:
                message = message[os.write(self.jobs_fd, message) :]
        except BrokenPipeError:
            return  # the end of its answers will tell

    def receive(self) -> tuple[list[Any], bool]:
        """(answers that are whole, whether the worker is still there)."""
        chunk = os.read(self.answers_fd, 2**20)
        self.received += chunk
        messages = []
        while len(self.received) >= LENGTH.size:
            end = LENGTH.size + LENGTH.unpack_from(self.received)[0]
            if len(self.received) < end:
                break
            messages.append(marshal.loads(self.received[LENGTH.size : end]))
            del self.received[:end]
        if messages and not self.ready:
            self.ready = True
            messages = messages[1:]
            self.since_s = time.monotonic()
        return messages, bool(chunk)

    def left_s(self) -> float:
        """Seconds until the job at the head is overdue."""
        if not self.waiting:
            return float("inf")
        return (
            self.since_s
            + self.waiting[0][1].deadline_s
            + GRACE_S
            + (0 if self.ready else 30)
            - time.monotonic()
        )

    def stop(self) -> None:
        """Kill the process, and take back what the system holds for it."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()


class Executor:
    """Worker processes that run SQL; use it as a context manager. `run` may be called from several threads."""

    def __init__(self, n_workers: int = 1) -> None:
        self.n_workers = max(1, n_workers)
        self._workers: list[_Worker] = []
        self._lock = threading.Lock()

    def __enter__(self) -> "Executor":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all workers; the next job would start new ones."""
        while self._workers:
            self._workers.pop().stop()

    def run(
        self,
        path: Path | str,
        sql: str,
        *,
        deadline_s: float = 30.0,
        max_rows: int = 100_000,
        quoted_strings: bool = False,
    ) -> Outcome:
        """What one statement gave. A file that cannot be opened is an `error` outcome."""
        ((_, outcome),) = self.run_each([Job(path, sql, deadline_s, max_rows, quoted_strings)])
        return outcome

    def run_each(self, jobs: Iterable[Job]) -> Iterator[tuple[int, Outcome]]:
        """(number of the job from 0, outcome) as they come; jobs are drawn from the iterable as workers get free."""
        with self._lock:
            coming = enumerate(jobs)
            again: deque[tuple[int, Job]] = deque()
            try:
                while True:
                    self._fill(coming, again)
                    for worker in self._workers:
                        if worker.outgoing:
                            worker.flush()
                    busy = [worker for worker in self._workers if worker.waiting]
                    if not busy:
                        return
                    yield from self._answers(busy, again)
            finally:
                for worker in [worker for worker in self._workers if worker.waiting]:
                    self._drop(worker)

    def _fill(self, coming: Iterator[tuple[int, Job]], again: deque[tuple[int, Job]]) -> None:
        """Give out jobs, the least laden worker first; workers start when there is work for them."""
        while True:
            free = [worker for worker in self._workers if worker.has_room()]
            idle = [worker for worker in free if not worker.waiting]
            can_start = len(self._workers) < self.n_workers
            if not free and not can_start:
                return
            numbered = again.popleft() if again else next(coming, None)
            if numbered is None:
                return
            if not idle and can_start:
                self._workers.append(_Worker())
                free.append(self._workers[-1])
            min(free, key=lambda worker: len(worker.waiting)).send(*numbered)

    def _answers(self, busy: list[_Worker], again: deque[tuple[int, Job]]) -> Iterator[tuple[int, Outcome]]:
        with selectors.DefaultSelector() as selector:
            for worker in busy:
                selector.register(worker.answers_fd, selectors.EVENT_READ, worker)
            events = selector.select(max(0.0, min(worker.left_s() for worker in busy)))
        for key, _ in events:
            worker = key.data
            answers, is_there = worker.receive()
            for answer in answers:
                number, _, _ = worker.waiting.popleft()
                worker.since_s = time.monotonic()
                yield number, outcome_of(answer)
            if not is_there:
                yield from self._replace(worker, again, "crashed", "the process that ran it died")
        if not events:
            for worker in busy:
                if worker.left_s() <= 0:
                    words = (
                        f"did not end within {worker.waiting[0][1].deadline_s:g} s; its process was killed"
                    )
                    yield from self._replace(worker, again, "timeout", words)

    def _replace(
        self, worker: _Worker, again: deque[tuple[int, Job]], status: OutcomeStatus, words: str
    ) -> Iterator[tuple[int, Outcome]]:
        """Mark the job at the head, give the others to a new worker."""
        self._drop(worker)
        if not worker.ready:
            raise GroundqlError(
                "the process that runs SQL does not start: python -m groundql.databases.worker shows why"
            )
        waiting = list(worker.waiting)
        worker.waiting.clear()
        again.extend((number, job) for number, job, _ in waiting[1:])
        if waiting:
            yield (
                waiting[0][0],
                Outcome(status=status, error=words, elapsed_s=time.monotonic() - worker.since_s),
            )

    def _drop(self, worker: _Worker) -> None:
        if worker in self._workers:
            self._workers.remove(worker)
        worker.stop()


def outcome_of(answer: Answer) -> Outcome:
    """The record of a worker's answer, unchecked: the worker wrote it, and rows may be many."""
    status, columns, rows, error, elapsed_s, vm_steps = answer
    return Outcome.from_whole(
        {
            "status": status,
            "columns": columns,
            "rows": tuple(rows),
            "error": error,
            "elapsed_s": elapsed_s,
            "vm_steps": vm_steps,
        }
    )


def run_many(jobs: Iterable[Job], n_workers: int = 1) -> list[Outcome]:
    """Outcomes in the order of `jobs`."""
    with Executor(n_workers) as executor:
        return [outcome for _, outcome in sorted(executor.run_each(jobs), key=lambda numbered: numbered[0])]
