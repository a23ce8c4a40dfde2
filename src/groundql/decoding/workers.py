"""A crew shared out over forked processes: the constraint's Python runs on many cores while the GPU takes its step.

A forked process has tokenizer, schemas and what was compiled at hand without a copy. It must not touch the GPU, and
nothing here does. No torch.
"""

import gc
import multiprocessing
import os
import pickle
import select
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

from groundql.decoding.crew import Desk, Did, Findings, MakeChooser
from groundql.decoding.rows import RowChooser, Written
from groundql.errors import GroundqlError

MAX_PROCESSES = 12  # beyond this the messages cost what the cores gain
MAX_BEHIND = 4  # steps that a process may leave unanswered before the GPU waits for it


class WorkerDied(GroundqlError):
    """A process that chose for some rows ended."""


def usual_processes(device_type: str) -> int:
    """Processes that pay: the cores beside this one, where a GPU computes; none where the model needs the cores."""
    if device_type != "cuda" or sys.platform != "linux" or multiprocessing.parent_process() is not None:
        return 0
    n = min(MAX_PROCESSES, len(os.sched_getaffinity(0)) - 1)
    return n if n > 1 else 0


class ProcessCrew:
    """Choosers in several processes, each row's in one of them."""

    def __init__(self, pipes: Sequence[Connection]) -> None:
        self._pipes = pipes
        self._pipe_of: dict[int, int] = {}  # by place
        self._n_rows = [0] * len(pipes)
        self._n_unheard = [0] * len(pipes)  # steps that a process was asked about and has not answered
        self._number_of = {pipe.fileno(): number for number, pipe in enumerate(pipes)}
        self._poll = select.poll()
        for pipe in pipes:
            self._poll.register(pipe.fileno(), select.POLLIN)

    def start(self, places: Sequence[int]) -> None:
        shares: dict[int, list[int]] = {}
        for place in places:
            pipe = self._n_rows.index(min(self._n_rows))
            self._n_rows[pipe] += 1
            self._pipe_of[place] = pipe
            shares.setdefault(pipe, []).append(place)
        for pipe, share in shares.items():
            self._send(pipe, (share,))

    def ask(self, found: Findings) -> None:
        shares: dict[int, list[int]] = {}
        for i, place in enumerate(found.places):
            shares.setdefault(self._pipe_of[place], []).append(i)
        for pipe, share in shares.items():
            self._n_unheard[pipe] += 1
            self._send(pipe, tuple(found.part(share)))

    def hear(self, may_leave: Callable[[], bool] | None = None) -> list[Did]:
        did: list[Did] = []
        while any(self._n_unheard):
            is_bound = may_leave is None or max(self._n_unheard) > MAX_BEHIND
            ready = self._poll.poll(None if is_bound else 1)
            for descriptor, _ in ready:
                did += self._receive(self._number_of[descriptor])
            if not ready and not is_bound and may_leave is not None and may_leave():
                break
        return did

    def _send(self, pipe: int, message: Any) -> None:
        try:
            self._pipes[pipe].send_bytes(pickle.dumps(message, protocol=5))
        except OSError:
            raise WorkerDied("a process that checks the constraint ended") from None

    def _receive(self, pipe: int) -> list[Did]:
        try:
            message = pickle.loads(self._pipes[pipe].recv_bytes())
        except (EOFError, OSError):
            raise WorkerDied("a process that checks the constraint ended") from None
        if isinstance(message, str):
            raise WorkerDied(f"a process that checks the constraint failed:\n{message}")
        self._n_unheard[pipe] -= 1
        did: list[Did] = message
        for place, one in did:
            if isinstance(one, Written):
                self._n_rows[self._pipe_of.pop(place)] -= 1
        return did


@contextmanager
def process_crew(prepare: Callable[[], MakeChooser], n_processes: int) -> Iterator[ProcessCrew]:
    """A crew of `n_processes`, which end when the caller is done.

    `prepare` and what it returns run in them, and are inherited, not sent. This process is forked once: the first of
    them prepares and forks the others, while this one goes on. A process with a GPU's memory mapped is slow to fork.
    """
    context = multiprocessing.get_context("fork")
    pairs = [context.Pipe() for _ in range(n_processes)]
    is_ours = not gc.get_freeze_count()
    gc.freeze()  # no collection in a child touches what was there before, tensors of the GPU among it
    first = context.Process(target=_serve_all, args=(pairs, prepare), daemon=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", DeprecationWarning
            )  # of threads: the children use no locks of theirs
            first.start()
        for _, theirs in pairs:
            theirs.close()
        yield ProcessCrew([ours for ours, _ in pairs])
    finally:
        if is_ours:
            gc.unfreeze()
        for ours, _ in pairs:
            ours.close()
        if first.pid is not None:
            first.join(timeout=1)
        if first.is_alive():
            first.terminate()
            first.join()


def _serve_all(pairs: Sequence[tuple[Connection, Connection]], prepare: Callable[[], MakeChooser]) -> None:
    """Prepare, fork a process for each pipe but the first, and serve that one here."""
    for ours, _ in pairs:  # inherited ends would keep pipes open
        ours.close()
    make = _prepared(prepare)
    gc.freeze()
    others = []
    for number in range(1, len(pairs)):
        child = os.fork()
        if not child:
            _serve_one([theirs for _, theirs in pairs], number, make)
            os._exit(0)
        others.append(child)
    _serve_one([theirs for _, theirs in pairs], 0, make)
    for child in others:
        os.waitpid(child, 0)


def _prepared(prepare: Callable[[], MakeChooser]) -> MakeChooser:
    """What `prepare` returns; where it fails, a chooser that tells so at the first row."""
    try:
        return prepare()
    except Exception as error:
        failed = error

    def tell(place: int) -> RowChooser:
        raise failed

    return tell


def _serve_one(pipes: Sequence[Connection], number: int, make: MakeChooser) -> None:
    """Answer at one of the pipes until it is closed: places begin; findings are answered by what rows did."""
    for other, pipe in enumerate(pipes):
        if other != number:
            pipe.close()
    pipe = pipes[number]
    desk = Desk(make)
    while True:
        try:
            message = pickle.loads(pipe.recv_bytes())
        except (EOFError, OSError):
            return
        answer: list[Did] | str | None = None
        try:
            if len(message) == 1:
                desk.start(*message)
            else:
                answer = desk.advance(Findings(*message))
        except Exception:  # told to the caller, who raises it
            answer = traceback.format_exc()
        try:
            if answer is not None:
                pipe.send_bytes(pickle.dumps(answer, protocol=5))
        except OSError:
            return
