"""One run over several processes (torchrun, accelerate launch): who writes, who waits, what all agree on.

In a process of its own every function here does nothing but call what it is given.
"""

import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from accelerate import PartialState

from groundql.errors import GroundqlError, TrainingStopped

T = TypeVar("T")
LONGEST_WAIT = timedelta(
    days=2
)  # for the first process: decoding dev takes longer than the launchers' 10 to 30 min
BUCKET = 2**23  # gradient elements summed in one call: 32 MiB in fp32


def n_processes() -> int:
    """How many processes train together, as the launcher says."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """The number of this process, from 0."""
    return int(os.environ.get("RANK", "0")) if n_processes() > 1 else 0


def is_first() -> bool:
    """Whether this process writes and speaks for all."""
    return rank() == 0


def named(message: str) -> str:
    """`message` with the process that says it, where there are several."""
    return f"process {rank() + 1} of {n_processes()}: {message}" if n_processes() > 1 else message


def join() -> None:
    """Meet the other processes, where there are any: gloo on CPUs, NCCL on GPUs."""
    if n_processes() > 1:
        PartialState(cpu=not torch.cuda.is_available())
        _waiting_room()


def leave() -> None:
    """Part from the other processes at the end of a run that went well."""
    if n_processes() > 1 and dist.is_initialized():
        wait()
        _waiting_room.cache_clear()
        dist.destroy_process_group()


@cache
def _waiting_room() -> Any:
    """A group for waiting: by gloo, so that no watchdog of NCCL takes a long wait for a hang."""
    return dist.new_group(backend="gloo", timeout=LONGEST_WAIT)


def wait() -> None:
    """Go on when all processes are here."""
    if n_processes() > 1:
        dist.barrier(group=_waiting_room())


def from_first(make: Callable[[], T]) -> T:
    """What `make` returns in the first process, in all of them: the others wait for it.

    Raises:
        TrainingStopped: in the other processes, where `make` failed in the first, which raises its own error.
    """
    if n_processes() == 1:
        return make()
    if is_first():
        try:
            made = make()
        except BaseException as error:
            _broadcast((False, str(error) or type(error).__name__))
            raise
        _broadcast((True, made))
        return made
    ok, value = _broadcast(None)
    if not ok:
        raise StoppedElsewhere("stopped because the first process did")
    return value  # type: ignore[no-any-return]  # what `make` returned there


def _broadcast(value: Any) -> Any:
    box = [value]
    dist.broadcast_object_list(box, src=0, group=_waiting_room())
    return box[0]


class StoppedElsewhere(TrainingStopped):
    """Another process says why."""


def is_lost_connection(error: RuntimeError) -> bool:
    """Whether `error` says that another process is gone."""
    signs = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Read error")
    lost = isinstance(error, dist.DistBackendError | dist.DistNetworkError) or any(
        s in str(error) for s in signs
    )
    return n_processes() > 1 and lost


def name_process(error: GroundqlError) -> None:
    """Put the process before the message of `error`, where there are several."""
    error.args = (named(str(error)),)


def share_step(
    parameters: Sequence[torch.nn.Parameter], flags: Sequence[bool], device: torch.device
) -> list[bool]:
    """Replace each gradient by its mean over the processes; whether each flag is up in any of them.

    A parameter without a gradient counts as zero: another process may have one for it. Gradients travel in buckets,
    so that the copy stays small. All processes end with the same bits.
    """
    bucket: list[torch.Tensor] = []
    size = 0
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        bucket.append(parameter.grad)
        size += parameter.numel()
        if size >= BUCKET:
            _average(bucket)
            bucket, size = [], 0
    if bucket:
        _average(bucket)
    up = torch.tensor([float(flag) for flag in flags], device=device)
    dist.all_reduce(up)
    return [value > 0 for value in up.tolist()]


def _average(tensors: Sequence[torch.Tensor]) -> None:
    flat = torch.cat([tensor.reshape(-1).float() for tensor in tensors])
    dist.all_reduce(flat)
    flat /= n_processes()
    for tensor, part in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))
