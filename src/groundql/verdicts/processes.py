"""Shares work out over forked processes, so that all cores judge.

A forked process starts in a millisecond with everything imported. Where the system cannot fork, or where other threads
may hold locks that a child would wait for, the caller works alone.
"""

import contextlib
import fcntl
import gc
import marshal
import multiprocessing
import os
import pickle
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from multiprocessing.connection import Connection, wait
from typing import Any, NoReturn, TypeVar

from groundql.errors import GroundqlError

N_AT_ONCE = 128  # results sent together at most; so many may be lost of each process when the whole is killed
AT_LEAST_EVERY_S = 0.1  # results wait no longer than this for the next one
F_SETPIPE_SZ = 1031  # of Linux, where alone this module forks
PIPE_BYTES = (
    2**20
)  # results that wait for the caller; a pipe of the usual 64 kB would make a process wait too
PLAIN, OTHER, DONE, FAULT = b"p", b"o", b"d", b"f"  # first byte of a message: what the rest is

Task = TypeVar("Task")
Tool = TypeVar("Tool")
Result = TypeVar("Result")
SayDue = Callable[[float], None]  # when what the process is at is overdue, on the clock of `time.monotonic`


def can_share() -> bool:
    """Whether forking is safe here."""
    return sys.platform == "linux" and multiprocessing.parent_process() is None


def shared_out(
    tasks: Sequence[Task],
    work: Callable[[Task, Tool], Iterable[Result]],
    open_tool: Callable[[SayDue], AbstractContextManager[Tool]],
    n_processes: int,
) -> Iterator[list[Result]]:
    """Results of all tasks, some at a time as they come; tasks are begun in their order.

    Each process opens one tool, which `work` gets with every task. A GroundqlError of `work` is raised here. A process
    that dies leaves results of its task missing, and another takes its place; so does one that is killed here,
    because what it said to be at is overdue.
    """
    context = multiprocessing.get_context("fork")
    begun = context.Value("i", 0)
    due_s = context.RawArray("d", [float("inf")] * (n_processes + len(tasks)))
    running: dict[Connection, tuple[int, int]] = {}  # (process id, its number)
    ended: list[int] = []  # process ids, awaited at the end: one that lets go of its memory holds up none
    n_started = 0

    def start() -> None:
        nonlocal n_started
        receiving, sending = _wide_pipe(context)
        process_id = _fork()
        if not process_id:
            _work_and_end(begun, tasks, work, open_tool, sending, due_s, n_started)
        sending.close()
        running[receiving] = process_id, n_started
        n_started += 1

    with _seldom_collecting():
        try:
            for _ in range(min(n_processes, len(tasks))):
                start()
            while running:
                first_due_s = min(due_s[number] for _, number in running.values())
                left_s = min(1.0, max(0.0, first_due_s - time.monotonic()))
                for pipe in wait(list(running), left_s):
                    assert isinstance(pipe, Connection)
                    kind, body = _message(pipe)
                    if kind in (b"", DONE):
                        ended.append(running.pop(pipe)[0])
                        if not kind and begun.value < len(tasks) and n_started < len(due_s):
                            start()
                    elif kind == FAULT:
                        raise pickle.loads(body)
                    else:
                        yield marshal.loads(body) if kind == PLAIN else pickle.loads(body)
                for process_id, number in running.values():
                    if due_s[number] < time.monotonic():
                        _kill(process_id)
        finally:
            for process_id, _ in running.values():
                _kill(process_id)
                ended.append(process_id)
            for process_id in ended:
                _await(process_id)


@contextlib.contextmanager
def _seldom_collecting() -> Iterator[None]:
    """The collector leaves what is old alone, in children too, and asks seldom."""
    is_ours, threshold = not gc.get_freeze_count(), gc.get_threshold()
    gc.freeze()  # a collection in a child would touch, and so copy, all that was imported
    gc.set_threshold(100_000, 20)  # rows and verdicts are many and hold no cycles
    try:
        yield
    finally:
        if is_ours:
            gc.freeze()  # what was made meanwhile counts as old at once: no collection walks through it now
            gc.unfreeze()
        gc.set_threshold(*threshold)


def _wide_pipe(context: Any) -> tuple[Connection, Connection]:
    """Ends to receive and to send at, with room for `PIPE_BYTES` where this user may have it."""
    receiving, sending = context.Pipe(duplex=False)
    with contextlib.suppress(OSError):
        fcntl.fcntl(sending.fileno(), F_SETPIPE_SZ, PIPE_BYTES)
    return receiving, sending


def _fork() -> int:
    """As os.fork; a multiprocessing.Process takes a millisecond more on both sides."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads: the children use no locks of theirs
        return os.fork()


def _kill(process_id: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process_id, signal.SIGKILL)


def _await(process_id: int) -> None:
    """Wait for the end of a child; where someone else has waited for it, it has ended."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(process_id, 0)


def _message(pipe: Connection) -> tuple[bytes, memoryview]:
    """Kind and content of what a process sent; no kind where it is gone."""
    try:
        message = memoryview(pipe.recv_bytes())
    except (EOFError, OSError):
        return b"", memoryview(b"")
    return bytes(message[:1]), message[1:]


def _results_message(results: list[Any]) -> bytes:
    """Plain values by marshal, which takes half the time."""
    try:
        return PLAIN + marshal.dumps(results)
    except ValueError:
        return OTHER + pickle.dumps(results)


def _work_and_end(*arguments: Any) -> NoReturn:
    """What a child does; nothing in it is left to close, and nothing of its parent's may be."""
    try:
        _work_through(*arguments)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _work_through(
    begun: Any,
    tasks: Sequence[Task],
    work: Callable[[Task, Tool], Iterable[Result]],
    open_tool: Callable[[SayDue], AbstractContextManager[Tool]],
    sending: Connection,
    due_s: Any,
    own_number: int,
) -> None:
    """In a child: take the next task until none is left."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when we end
    results: list[Result] = []
    since_s = time.monotonic()

    def send() -> None:
        nonlocal since_s
        sending.send_bytes(_results_message(results))
        results.clear()
        since_s = time.monotonic()

    def say_due(at_s: float) -> None:
        due_s[own_number] = at_s
        if results and time.monotonic() - since_s > AT_LEAST_EVERY_S:
            send()

    try:
        with open_tool(say_due) as tool:
            while (task := _next(begun, tasks)) is not None:
                for result in work(task, tool):
                    results.append(result)
                    if len(results) >= N_AT_ONCE:
                        send()
                if results:
                    send()
        sending.send_bytes(DONE)
    except GroundqlError as error:
        sending.send_bytes(FAULT + pickle.dumps(error))
    except (BrokenPipeError, MemoryError):
        return  # the parent is gone, or does what is left


def _next(begun: Any, tasks: Sequence[Task]) -> Task | None:
    with begun.get_lock():
        number = begun.value
        begun.value += 1
    return tasks[number] if number < len(tasks) else None
