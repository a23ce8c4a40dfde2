"""A crew shared out over forked processes: the constraint's Python runs on many cores while the GPU takes its step.

A forked process has tokenizer, schemas and what was compiled at hand without a copy. It must not touch the GPU, and
nothing here does. No torch.
"""

import gc
import multiprocessing
import os
import pickle
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from groundql.decoding.crew import LocalCrew, MakeChooser
from groundql.decoding.rows import Feed, Written
from groundql.errors import GroundqlError

MAX_PROCESSES = 12  # each step waits for the slowest; beyond this the messages cost what the cores gain


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

    def start(self, places: Sequence[int]) -> None:
        shares: dict[int, list[int]] = {}
        for place in places:
            pipe = self._n_rows.index(min(self._n_rows))
            self._n_rows[pipe] += 1
            self._pipe_of[place] = pipe
            shares.setdefault(pipe, []).append(place)
        for pipe, share in shares.items():
            self._send(pipe, ("start", share))

    def advance(
        self, places: Sequence[int], ids: np.ndarray, log_probabilities: np.ndarray
    ) -> list[Feed | Written]:
        return self._asked("advance", places, ids, log_probabilities)

    def advance_whole(
        self, places: Sequence[int], scores: np.ndarray, log_probabilities: np.ndarray
    ) -> list[Feed | Written]:
        return self._asked("advance_whole", places, scores, log_probabilities)

    def _asked(
        self, what: str, places: Sequence[int], first: np.ndarray, second: np.ndarray
    ) -> list[Feed | Written]:
        """Ask every process about its rows, then hear them all."""
        shares: dict[int, list[int]] = {}
        for i, place in enumerate(places):
            shares.setdefault(self._pipe_of[place], []).append(i)
        for pipe, share in shares.items():
            self._send(pipe, (what, [places[i] for i in share], first[share], second[share]))
        did: list[Feed | Written | None] = [None] * len(places)
        for pipe, share in shares.items():
            feeds, written = self._receive(pipe)
            for at, i in enumerate(share):
                did[i] = self._kept(places[i], written.get(at) or Feed(*feeds[at]))
        return [one for one in did if one is not None]

    def _kept(self, place: int, did: Feed | Written) -> Feed | Written:
        if isinstance(did, Written):
            self._n_rows[self._pipe_of.pop(place)] -= 1
        return did

    def _send(self, pipe: int, message: Any) -> None:
        try:
            self._pipes[pipe].send_bytes(pickle.dumps(message, protocol=5))
        except OSError:
            raise WorkerDied("a process that checks the constraint ended") from None

    def _receive(self, pipe: int) -> Any:
        try:
            message = pickle.loads(self._pipes[pipe].recv_bytes())
        except (EOFError, OSError):
            raise WorkerDied("a process that checks the constraint ended") from None
        if isinstance(message, str):
            raise WorkerDied(f"a process that checks the constraint failed:\n{message}")
        return message


@contextmanager
def process_crew(make: MakeChooser, n_processes: int) -> Iterator[ProcessCrew]:
    """A crew of `n_processes`, which end when the caller is done. `make` runs in them, and is inherited, not sent."""
    context = multiprocessing.get_context("fork")
    processes: list[Any] = []
    pipes: list[Connection] = []
    is_ours = not gc.get_freeze_count()
    gc.freeze()  # no collection in a child touches what was there before, tensors of the GPU among it
    try:
        for _ in range(n_processes):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, [*pipes, ours], make), daemon=True)
            with warnings.catch_warnings():
                warnings.simplefilter(
                    "ignore", DeprecationWarning
                )  # of threads: the children use no locks of theirs
                process.start()
            theirs.close()
            processes.append(process)
            pipes.append(ours)
        yield ProcessCrew(pipes)
    finally:
        if is_ours:
            gc.unfreeze()
        for pipe in pipes:
            pipe.close()
        for process in processes:
            process.join(timeout=1)
            if process.is_alive():
                process.terminate()
                process.join()


def _serve(pipe: Connection, others: Sequence[Connection], make: MakeChooser) -> None:
    """Answer until the pipe is closed."""
    for other in others:  # inherited ends would keep pipes open
        other.close()
    crew = LocalCrew(make)
    while True:
        try:
            kind, *rest = pickle.loads(pipe.recv_bytes())
        except (EOFError, OSError):
            return
        try:
            answer = _answer(crew, kind, rest)
        except Exception:  # told to the caller, who raises it
            answer = traceback.format_exc()
        try:
            if answer is not None:
                pipe.send_bytes(pickle.dumps(answer, protocol=5))
        except OSError:
            return


def _answer(crew: LocalCrew, kind: str, rest: list[Any]) -> Any:
    """What goes back: nothing for a start, feeds as plain tuples and texts by their place among the rows asked."""
    if kind == "start":
        crew.start(*rest)
        return None
    did = (crew.advance if kind == "advance" else crew.advance_whole)(*rest)
    feeds = [(0, 0, False) if isinstance(one, Written) else (one.n_ids, one.token, one.whole) for one in did]
    return feeds, {i: one for i, one in enumerate(did) if isinstance(one, Written)}
