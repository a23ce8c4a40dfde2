"""A whole forward and backward as one CUDA graph: a step costs the device's time and none of the host's.

The host takes longer to start the kernels of a small or middling pack than the card to run them. Packs are filled up to
one size, so that one captured graph serves all; what differs (ids, positions, spans, labels) is copied into its inputs.
The graph holds its memory for itself. Gradients are views of one tensor in it, without a copy.
"""

from typing import Any

import torch

from groundql.training.fused.spans import Spans

_WARM_UP = 2  # eager passes before the capture: kernels are compiled and libraries opened there


class GraphedLoss:
    """The summed loss of a pack and its gradients, captured at the first batch and replayed for all of that shape."""

    def __init__(self, compute: Any, parameters: list[torch.nn.Parameter]) -> None:
        """`compute` takes a batch to its summed loss; `parameters` are what gradients are taken of."""
        self.compute, self.parameters = compute, parameters
        self.graph: Any = None
        self.inputs: dict[str, Any] = {}
        self.loss: torch.Tensor | None = None
        self.gradient: torch.Tensor | None = None  # of all parameters, one after the other

    def __call__(self, batch: dict[str, Any]) -> torch.Tensor:
        """The summed loss, a scalar with gradients."""
        if self.graph is None:
            self._capture(batch)
        loss: torch.Tensor = _Replay.apply(self, batch, *self.parameters)
        return loss

    def fits(self, batch: dict[str, Any]) -> bool:
        """Whether the graph serves this batch: it has its shape, or there is no graph yet."""
        return self.graph is None or _shapes(batch) == _shapes(self.inputs)

    def release(self) -> None:
        """Let go of the graph and its memory; the next batch is captured anew."""
        self.graph, self.inputs, self.loss, self.gradient = None, {}, None, None

    def _capture(self, batch: dict[str, Any]) -> None:
        clear_workspaces()  # of other streams: the warm-up makes its own
        self.inputs = {name: _copy(value) for name, value in batch.items()}
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream), torch.enable_grad():
            for _ in range(_WARM_UP):
                torch.autograd.grad(self.compute(self.inputs), self.parameters)
        torch.cuda.current_stream().wait_stream(stream)
        clear_workspaces()  # what the warm-up held is the graph's now
        graph = torch.cuda.CUDAGraph()
        with torch.enable_grad(), torch.cuda.graph(graph):
            loss = self.compute(self.inputs)
            gradients = torch.autograd.grad(loss, self.parameters)
            self.gradient = torch.cat([gradient.flatten() for gradient in gradients])
            self.loss = loss.detach()
            del gradients
        # The graph's workspaces lie in its own memory: were they kept for the next one, so were all of that memory.
        torch._C._cuda_clearCublasWorkspaces()
        self.graph = graph

    def replay(self, batch: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss and gradient of `batch`, in tensors that the next replay overwrites."""
        self._let_go()
        for name, value in batch.items():
            _fill(self.inputs[name], value)
        self.graph.replay()
        assert self.loss is not None
        assert self.gradient is not None
        return self.loss, self.gradient

    def _let_go(self) -> None:
        """Parameters that still have the last replay's gradient, to add the next one to, get a copy of it."""
        assert self.gradient is not None
        storage = self.gradient.untyped_storage().data_ptr()
        for parameter in self.parameters:
            if parameter.grad is None or parameter.grad.untyped_storage().data_ptr() != storage:
                return
            parameter.grad = parameter.grad.clone()

    def of_parameters(self, gradient: torch.Tensor) -> list[torch.Tensor]:
        """Each parameter's part, a view: one tensor under all of them is what `FlatAdamW8bit` reads without a copy."""
        pieces = gradient.split([p.numel() for p in self.parameters])
        return [piece.view_as(p) for piece, p in zip(pieces, self.parameters, strict=True)]


class _Replay(torch.autograd.Function):  # type: ignore[misc]  # torch is not checked
    @staticmethod
    def forward(ctx: Any, graphed: GraphedLoss, batch: dict[str, Any], *_: torch.Tensor) -> torch.Tensor:
        loss, ctx.gradient = graphed.replay(batch)
        ctx.graphed = graphed
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[Any, ...]:
        return None, None, *ctx.graphed.of_parameters(ctx.gradient.mul_(grads[0]))


def clear_workspaces() -> None:
    """Let go of cuBLAS's workspaces, a pair (64 MiB on Hopper cards) for each stream so far, and of what is cached."""
    torch.cuda.synchronize()
    torch._C._cuda_clearCublasWorkspaces()
    torch.cuda.empty_cache()


def _tensors(value: Any) -> list[torch.Tensor]:
    found = vars(value).values() if isinstance(value, Spans) else [value]
    return [x for x in found if isinstance(x, torch.Tensor)]


def _copy(value: Any) -> Any:
    if isinstance(value, Spans):
        return Spans(**{k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in vars(value).items()})
    return value.clone()


def _fill(target: Any, value: Any) -> None:
    for to, new in zip(_tensors(target), _tensors(value), strict=True):
        to.copy_(new, non_blocking=True)


def _shapes(batch: dict[str, Any]) -> dict[str, list[torch.Size]]:
    return {name: [x.shape for x in _tensors(value)] for name, value in batch.items()}
