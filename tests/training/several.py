"""Real processes that meet over gloo, forked from this one: importing torch again would take longer than the test."""

import os
import pickle
import signal
import socket
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from accelerate.state import AcceleratorState, PartialState

from groundql.training import processes

TIME_LIMIT_S = 100


def in_processes(n: int, work: Callable[[int], Any], folder: Path) -> list[Any]:
    """What `work(rank)` returns or raises in each of `n` processes; None for one that was killed.

    A process that is still there after `TIME_LIMIT_S` is taken for a deadlock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pids = []
    for rank in range(n):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of fork with threads: the child uses none
            pid = os.fork()
        if pid == 0:
            _child(rank, n, port, work, folder / f"{rank}.pickle")
        pids.append(pid)
    _wait_for(pids)
    paths = [folder / f"{rank}.pickle" for rank in range(n)]
    found = [pickle.loads(path.read_bytes()) if path.exists() else None for path in paths]
    for path in paths:
        path.unlink(missing_ok=True)
    return found


def _child(rank: int, n: int, port: int, work: Callable[[int], Any], path: Path) -> None:
    try:
        where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
        os.environ.update({**where, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(n)})
        os.environ["OMP_NUM_THREADS"] = "1"  # as torchrun sets it; accelerate warns where nobody did
        AcceleratorState._reset_state(reset_partial_state=True)
        PartialState._reset_state()
        try:
            processes.join()
            found = work(rank)
        except Exception as error:
            found = error
        path.write_bytes(pickle.dumps(found))
    finally:
        os._exit(0)


def _wait_for(pids: list[int]) -> None:
    left, ends_s = set(pids), time.monotonic() + TIME_LIMIT_S
    while left:
        left -= {pid for pid in left if os.waitpid(pid, os.WNOHANG)[0]}
        if time.monotonic() > ends_s:
            for pid in left:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            raise TimeoutError(f"{len(left)} of {len(pids)} processes wait for ever")
        time.sleep(0.01)
