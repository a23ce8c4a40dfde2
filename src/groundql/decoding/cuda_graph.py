"""The step of a batch as one CUDA graph, captured once for its tensors and replayed; elsewhere the step as it is.

A step is about a thousand small kernels: launched one by one they cost the host several times what they cost the
device. Needs torch.
"""

from typing import Any

import torch

from groundql.decoding.slots import Slots


class Stepper:
    """Takes the steps of one `Slots` and fetches what they found."""

    def __init__(self, slots: Slots, *, use_graph: bool) -> None:
        self._slots = slots
        self._graph: Any = None
        self._graphs_left = use_graph and torch.cuda.is_available()
        self._n_steps = 0

    def step(self, n_own: int) -> "Fetched":
        """Start a step and the copying of what it finds; `n_own` as in `Slots.step` where no graph is used."""
        if (
            self._graph is None and self._graphs_left and self._n_steps
        ):  # the first step has warmed everything up
            self._capture()
        if self._graph is not None:
            self._graph.replay()
        else:
            self._slots.step(None if self._graphs_left else n_own)
        self._n_steps += 1
        return Fetched(self._slots.best)

    def _capture(self) -> None:
        """Capture the step. A model that cannot be captured is stepped through without, and gives the same."""
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        torch._C._cuda_clearCublasWorkspaces()  # each graph makes its own, in memory that goes with it
        try:
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self._slots.step()
        except RuntimeError:
            self._graphs_left = False
            torch.cuda.synchronize()
            return
        finally:
            torch._C._cuda_clearCublasWorkspaces()
        self._graph = graph


class Fetched:
    """A tensor on its way to the host."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self._event = None
        if tensor.is_cuda:
            self._host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            self._host.copy_(tensor, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()
        else:
            self._host = tensor

    def is_ready(self) -> bool:
        """Whether it has come."""
        return self._event is None or self._event.query()

    def wait(self) -> Any:
        """The tensor as a numpy array."""
        if self._event is not None:
            self._event.synchronize()
        return self._host.numpy()
