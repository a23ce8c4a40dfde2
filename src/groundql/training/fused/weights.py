"""The frozen linears of a decoder layer with their adapters, seen as matrices: merged for use, gradients for LoRA.

A layer multiplies by W + scale B A, formed in one buffer when it is needed: the adapter then costs no pass over the
activations, forward or backward, and the sum is taken in fp32 and rounded once. Linears that read the same input
(q, k, v; gate, up) are one matrix.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import bitsandbytes as bnb
import torch
from peft.tuners.lora import LoraLayer

from groundql.models.load import is_recent_cuda


@dataclass
class Linear:
    """One frozen linear and its adapter, if it has one."""

    base: Any  # nn.Linear or bitsandbytes' Linear4bit
    a: torch.Tensor | None = None  # (rank, n_in) fp32, trained
    b: torch.Tensor | None = None  # (n_out, rank) fp32, trained
    scale: float = 0.0

    @property
    def adapter(self) -> tuple[torch.Tensor, torch.Tensor, float] | None:
        """A, B and the scale of their product."""
        return None if self.a is None or self.b is None else (self.a.detach(), self.b.detach(), self.scale)


@dataclass
class Matrix:
    """Linears over one input as a matrix (n_out, n_in), rows in their order."""

    linears: tuple[Linear, ...]
    n_in: int
    bias: torch.Tensor | None = None  # (n_out,)
    rows: tuple[int, ...] = ()  # of each linear
    # On a CPU: the frozen weights, unpacked once, and the sum with the adapter of the last forward pass.
    dense: torch.Tensor | None = field(default=None, repr=False)
    merged: torch.Tensor | None = field(default=None, repr=False)

    @property
    def n_out(self) -> int:
        """Rows of all linears."""
        return sum(self.rows)

    @property
    def parameters(self) -> list[torch.Tensor]:
        """A and B of each linear that has them, in order."""
        return [p for linear in self.linears for p in (linear.a, linear.b) if p is not None]


def read_matrix(modules: Sequence[Any]) -> Matrix:
    """The matrix of these modules: linears of torch or bitsandbytes, plain or wrapped by PEFT."""
    linears = tuple(_read_linear(module) for module in modules)
    biases = [linear.base.bias for linear in linears]
    bias = None
    if any(one is not None for one in biases):
        sizes = [(linear.base.out_features, one) for linear, one in zip(linears, biases, strict=True)]
        reference = next(one for one in biases if one is not None)
        bias = torch.cat([one.detach() if one is not None else reference.new_zeros(n) for n, one in sizes])
    return Matrix(
        linears=linears,
        n_in=linears[0].base.in_features,
        bias=bias,
        rows=tuple(linear.base.out_features for linear in linears),
    )


def _read_linear(module: Any) -> Linear:
    if not isinstance(module, LoraLayer):
        return Linear(module)
    (name,) = module.active_adapters
    return Linear(
        module.get_base_layer(),
        module.lora_A[name].weight,
        module.lora_B[name].weight,
        float(module.scaling[name]),
    )


def merged(matrix: Matrix, buffer: torch.Tensor, *, again: bool = False) -> torch.Tensor:
    """W + scale B A as (n_out, n_in) in the buffer's type; on CUDA in the front of `buffer`, a flat scratch.

    `again`: for the backward of a pass; on a CPU what its forward made is still there.
    """
    if buffer.device.type == "cpu":
        return _merged_on_cpu(matrix, buffer.dtype, again=again)
    if not is_recent_cuda(buffer.device):
        return _merged_plain(matrix, buffer.dtype)
    from groundql.training.fused.unpack import merge_4bit, merge_dense

    out = buffer[: matrix.n_out * matrix.n_in].view(matrix.n_out, matrix.n_in)
    start = 0
    for linear, n in zip(matrix.linears, matrix.rows, strict=True):
        weight = linear.base.weight
        if isinstance(linear.base, bnb.nn.Linear4bit):
            merge_4bit(weight.data, weight.quant_state, linear.adapter, out[start : start + n])
        else:
            merge_dense(weight.data, linear.adapter, out[start : start + n])
        start += n
    return out


def _merged_on_cpu(matrix: Matrix, dtype: torch.dtype, *, again: bool) -> torch.Tensor:
    """The frozen weights are unpacked once, and the sum has a place of its own: memory is not short there."""
    if again and matrix.merged is not None:
        return matrix.merged
    if matrix.dense is None:
        matrix.dense = torch.cat([_unpacked(linear.base, dtype) for linear in matrix.linears])
    frozen: torch.Tensor = matrix.dense
    if all(linear.adapter is None for linear in matrix.linears):
        return frozen
    if matrix.merged is None:
        matrix.merged = frozen.clone()
    out: torch.Tensor = matrix.merged
    for linear, of_frozen, part in zip(
        matrix.linears, frozen.split(matrix.rows), out.split(matrix.rows), strict=True
    ):
        if linear.adapter:
            a, b, scale = linear.adapter
            torch.addmm(of_frozen, b.to(dtype), a.to(dtype), alpha=scale, out=part)
    return out


def _merged_plain(matrix: Matrix, dtype: torch.dtype) -> torch.Tensor:
    """On CUDA cards before Ampere, in torch."""
    out = torch.cat([_unpacked(linear.base, dtype) for linear in matrix.linears])
    for linear, part in zip(matrix.linears, out.split(matrix.rows), strict=True):
        if linear.adapter:
            a, b, scale = linear.adapter
            part.addmm_(b.to(dtype), a.to(dtype), alpha=scale)
    return out


def _unpacked(base: Any, dtype: torch.dtype) -> torch.Tensor:
    weight = base.weight.data
    if isinstance(base, bnb.nn.Linear4bit):
        weight = bnb.functional.dequantize_4bit(weight, base.weight.quant_state)
    return weight.to(dtype)


class AdapterGradients:
    """Sums gradients of a matrix's adapters over pieces of the tokens, in the order of `Matrix.parameters`."""

    def __init__(self, matrix: Matrix) -> None:
        self.matrix = matrix
        self.tuned = [linear for linear in matrix.linears if linear.a is not None]
        self.sums: list[torch.Tensor | None] = [None] * (2 * len(self.tuned))
        self.factors: tuple[torch.Tensor, list[torch.Tensor]] | None = (
            None  # A of all, B of each with its scale
        )

    def add(self, x: torch.Tensor, grad: torch.Tensor) -> None:
        """x: (T, n_in), what the matrix read. grad: (T, n_out), the gradient of what it wrote."""
        if not self.tuned:
            return
        if self.factors is None:
            self.factors = self._read_factors(x.dtype)
        a, bs = self.factors
        ranks = [b.shape[1] for b in bs]
        down = (x @ a.t()).split(ranks, dim=1)  # (T, rank) each: what A made of the input
        grads = [
            part
            for part, linear in zip(grad.split(self.matrix.rows, dim=1), self.matrix.linears, strict=True)
            if linear.a is not None
        ]
        ups = [g @ b for g, b in zip(grads, bs, strict=True)]
        up = ups[0] if len(ups) == 1 else torch.cat(ups, dim=1)
        of_a = _product(up.t(), x).split(ranks)
        for i, (g, u) in enumerate(zip(grads, down, strict=True)):
            self._add(2 * i, of_a[i])
            self._add(2 * i + 1, _product(g.t(), u) * self.tuned[i].scale)

    def _read_factors(self, dtype: torch.dtype) -> tuple[torch.Tensor, list[torch.Tensor]]:
        adapters = [linear.adapter for linear in self.tuned]
        found = [adapter for adapter in adapters if adapter is not None]
        a = torch.cat([a for a, _, _ in found]).to(dtype)
        return a, [(b * scale).to(dtype) for _, b, scale in found]

    def _add(self, place: int, value: torch.Tensor) -> None:
        before = self.sums[place]
        self.sums[place] = value if before is None else before.add_(value)

    def result(self) -> list[torch.Tensor | None]:
        """Gradients in fp32."""
        return [None if value is None else value.float() for value in self.sums]


def _product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """A matrix product whose sums leave in fp32 where the device can."""
    if left.device.type == "cuda" and left.dtype != torch.float32:
        return torch.mm(left, right, out_dtype=torch.float32)
    return left @ right
