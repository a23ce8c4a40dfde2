"""Shares work out over forked processes, so that all cores judge: parsing and comparing cost more than most queries.

A forked process starts in a millisecond with everything imported. Where the system cannot fork, or where other threads
may hold locks that a child would wait for, the caller works alone.
"""

import gc
import multiprocessing
import signal
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

from groundql.errors import GroundqlError

N_AT_ONCE = 16  # results sent together; so many may be lost of each process when the whole is killed

Task = TypeVar("Task")
Tool = TypeVar("Tool")
Result = TypeVar("Result")


def can_share() -> bool:
    """Whether forking is safe here."""
    return sys.platform == "linux" and multiprocessing.parent_process() is None


def shared_out(
    tasks: Sequence[Task],
    work: Callable[[Task, Tool], Iterable[Result]],
    open_tool: Callable[[], AbstractContextManager[Tool]],
    n_processes: int,
) -> Iterator[list[Result]]:
    """Results of all tasks, some at a time as they come; tasks are begun in their order.

    Each process opens one tool, which `work` gets with every task. A GroundqlError of `work` is raised here. A process
    that dies leaves the results of its task missing.
    """
    context = multiprocessing.get_context("fork")
    begun = context.Value("i", 0)
    processes, pipes = [], []
    is_ours = not gc.get_freeze_count()
    gc.freeze()  # a collection in a child would touch, and so copy, all that was imported
    try:
        for _ in range(min(n_processes, len(tasks))):
            receiving, sending = context.Pipe(duplex=False)
            process = context.Process(target=_work_through, args=(begun, tasks, work, open_tool, sending))
            with warnings.catch_warnings():
                warnings.simplefilter(
                    "ignore", DeprecationWarning
                )  # of threads: the children use no locks of theirs
                process.start()
            sending.close()
            processes.append(process)
            pipes.append(receiving)
        while pipes:
            for pipe in wait(pipes):
                assert isinstance(pipe, Connection)
                try:
                    message = pipe.recv()
                except EOFError:
                    pipes.remove(pipe)
                    continue
                if isinstance(message, GroundqlError):
                    raise message
                yield message
    finally:
        if is_ours:
            gc.unfreeze()
        for process in processes:
            process.terminate()
            process.join()


def _work_through(
    begun: Any,
    tasks: Sequence[Task],
    work: Callable[[Task, Tool], Iterable[Result]],
    open_tool: Callable[[], AbstractContextManager[Tool]],
    sending: Connection,
) -> None:
    """In a child: take the next task until none is left."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when we end
    try:
        with open_tool() as tool:
            while (task := _next(begun, tasks)) is not None:
                results: list[Result] = []
                for result in work(task, tool):
                    results.append(result)
                    if len(results) >= N_AT_ONCE:
                        sending.send(results)
                        results = []
                sending.send(results)
    except GroundqlError as error:
        sending.send(error)
    except BrokenPipeError:
        return  # the parent is gone


def _next(begun: Any, tasks: Sequence[Task]) -> Task | None:
    with begun.get_lock():
        number = begun.value
        begun.value += 1
    return tasks[number] if number < len(tasks) else None
