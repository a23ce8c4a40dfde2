"""Forward and backward of one decoder layer, written out: what is kept, what is computed again, in which order.

Pre-norm layers with rotary positions: RMSNorm and gated FFN (Qwen2, Llama), LayerNorm and plain FFN (StarCoder2).
A layer keeps its input alone and computes the rest again, or keeps more, as memory allows (`Keep`). The FFN's backward
goes over the tokens in pieces: its inner width is what takes memory.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from types import ModuleType
from typing import Any, Protocol

import torch

from groundql.training.fused.weights import AdapterGradients, Matrix, merged


class Attention(Protocol):
    """Attention over one pack, and its gradient."""

    def forward(self, qkv: torch.Tensor, *, keep: bool) -> tuple[torch.Tensor, Any]:
        """The result (T, heads * d), and what backward needs of it where `keep`."""

    def backward(self, grad: torch.Tensor, qkv: torch.Tensor, out: torch.Tensor, kept: Any) -> torch.Tensor:
        """The gradient of `qkv`."""


class Keep(IntEnum):
    """What a layer keeps for its backward; each saves time over the one before and takes more memory."""

    INPUT = 0  # all else is computed again
    ATTENTION = 1  # what attention made: little memory for what it saves
    ALL = 2  # the FFN's inner tensors too: nothing is computed again


@dataclass(frozen=True)
class Norm:
    """Weights of a norm; LayerNorm where there is a bias."""

    weight: torch.Tensor
    bias: torch.Tensor | None
    eps: float


@dataclass(frozen=True)
class Layer:
    """One decoder layer."""

    attention_norm: Norm
    qkv: Matrix
    out: Matrix
    ffn_norm: Norm
    inner: Matrix  # gate and up, or up alone
    down: Matrix
    n_rotated: int  # query and key heads
    is_first: bool  # its input is the embedding, which needs no gradient

    @property
    def matrices(self) -> tuple[Matrix, Matrix, Matrix, Matrix]:
        """In the order in which gradients are returned."""
        return self.qkv, self.out, self.inner, self.down

    @property
    def parameters(self) -> list[torch.Tensor]:
        """Adapters' weights, in that order."""
        return [p for matrix in self.matrices for p in matrix.parameters]


@dataclass(frozen=True)
class PassContext:
    """What all layers of one forward and backward share."""

    ops: ModuleType  # `plain` or `kernels`
    attention: Attention
    cos: torch.Tensor  # (T, d)
    sin: torch.Tensor
    scratch: tuple[torch.Tensor, torch.Tensor]  # flat, for one merged matrix each: a large one, and `down`
    ffn_tokens: int  # tokens that go through the FFN together in backward


@dataclass
class _Kept:
    """What backward reads of a layer besides its input."""

    qkv: torch.Tensor  # rotated
    attended: torch.Tensor
    attention: Any
    middle: torch.Tensor  # the stream between attention and FFN
    inner: list[torch.Tensor]  # of each piece of tokens; empty: to be computed again


def run_layer(
    x: torch.Tensor, layer: Layer, context: PassContext, *, keep: Keep, places: torch.Tensor | None = None
) -> torch.Tensor:
    """The stream after `layer`; x: (T, h). With `places`, (K,) in the pack: there alone, (K, h)."""
    out: torch.Tensor = _LayerPass.apply(x, layer, context, keep, places, *layer.parameters)
    return out


class _LayerPass(torch.autograd.Function):  # type: ignore[misc]  # torch is not checked
    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        layer: Layer,
        context: PassContext,
        keep: Keep,
        places: torch.Tensor | None,
        *_: torch.Tensor,
    ) -> torch.Tensor:
        # What stays is allocated first, beside what stayed before: the rest leaves no gaps between them.
        out = torch.empty_like(x) if places is None else x.new_empty(len(places), x.shape[1])
        made = _attention_half(
            x, layer, context, places, keep=keep > Keep.INPUT, middle=out if keep == Keep.INPUT else None
        )
        middles, kept = made.middle, made if keep > Keep.INPUT else None
        del made  # the FFN needs the room
        inner_weight = merged(layer.inner, context.scratch[0])
        down_weight = merged(layer.down, context.scratch[1])
        for some in _pieces(middles, context):
            middle = middles[some]
            inner = _product(_norm(middle, layer.ffn_norm, context), inner_weight, layer.inner.bias)
            gated = context.ops.gate_forward(inner, layer.down.n_in)
            _add_product(middle, gated, down_weight, layer.down.bias, out[some])
            if kept and keep == Keep.ALL:
                kept.inner.append(inner)
        ctx.layer, ctx.context, ctx.places, ctx.kept = layer, context, places, kept
        ctx.save_for_backward(x)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        layer, context = ctx.layer, ctx.context
        # What stays is allocated first here too.
        of_x = None if layer.is_first else torch.empty_like(x)
        block = _gradient_block(layer)
        kept = ctx.kept or _attention_half(x, layer, context, ctx.places, keep=True)
        ctx.kept = None  # a second backward would find tensors that the first has overwritten
        of_middle, ffn_grads = _ffn_backward(grads[0], kept, layer, context)
        attention_grads = _attention_backward(of_middle, x, kept, layer, context, ctx.places, of_x)
        return of_x, None, None, None, None, *_in_block([*attention_grads, *ffn_grads], block)


def _attention_half(
    x: torch.Tensor,
    layer: Layer,
    context: PassContext,
    places: torch.Tensor | None,
    *,
    keep: bool,
    middle: torch.Tensor | None = None,
) -> _Kept:
    """`middle`: where the stream after attention goes; None: to a new tensor."""
    weight = merged(layer.qkv, context.scratch[0])
    qkv = _product(_norm(x, layer.attention_norm, context), weight, layer.qkv.bias)
    context.ops.rotate_(qkv, context.cos, context.sin, layer.n_rotated)
    attended, state = context.attention.forward(qkv, keep=keep)
    stream, heads = (x, attended) if places is None else (x[places], attended[places])
    middle = torch.empty_like(stream) if middle is None else middle
    _add_product(stream, heads, merged(layer.out, context.scratch[1]), layer.out.bias, middle)
    return _Kept(qkv, attended, state, middle, [])


def _ffn_backward(
    grad: torch.Tensor, kept: _Kept, layer: Layer, context: PassContext
) -> tuple[torch.Tensor, list[torch.Tensor | None]]:
    """Gradients of the stream between attention and FFN, and of the FFN's adapters."""
    of_inner, of_down = AdapterGradients(layer.inner), AdapterGradients(layer.down)
    of_middle = torch.empty_like(grad)
    norm = layer.ffn_norm
    inner_weight = merged(layer.inner, context.scratch[0], again=True)
    down_weight = merged(layer.down, context.scratch[1], again=True)
    for place, some in enumerate(_pieces(grad, context)):
        middle, of_out = kept.middle[some], grad[some]
        normed = _norm(middle, norm, context)
        inner = kept.inner[place] if kept.inner else _product(normed, inner_weight, layer.inner.bias)
        gated = of_out @ down_weight  # its gradient, then itself
        context.ops.gate_backward_(inner, gated)  # `inner` becomes its gradient
        of_down.add(gated, of_out)
        del gated
        of_inner.add(normed, inner)
        of_normed = inner @ inner_weight
        context.ops.norm_backward(
            of_normed,
            middle,
            norm.weight,
            is_layer_norm=norm.bias is not None,
            eps=norm.eps,
            residual=of_out,
            out=of_middle[some],
        )
    return of_middle, [*of_inner.result(), *of_down.result()]


def _attention_backward(
    of_middle: torch.Tensor,
    x: torch.Tensor,
    kept: _Kept,
    layer: Layer,
    context: PassContext,
    places: torch.Tensor | None,
    of_x: torch.Tensor | None,
) -> list[torch.Tensor | None]:
    """Gradients of the adapters of attention; that of the layer's input goes to `of_x`, where it is wanted."""
    of_out, of_qkv = AdapterGradients(layer.out), AdapterGradients(layer.qkv)
    norm = layer.attention_norm
    of_attended = of_middle @ merged(layer.out, context.scratch[1], again=True)
    of_out.add(kept.attended if places is None else kept.attended[places], of_middle)
    if places is not None:  # nothing else of this layer reaches the loss
        of_attended = torch.zeros_like(kept.attended).index_add_(0, places, of_attended)
        of_middle = torch.zeros_like(x).index_add_(0, places, of_middle)
    grad = context.attention.backward(of_attended, kept.qkv, kept.attended, kept.attention)
    context.ops.rotate_(grad, context.cos, context.sin, layer.n_rotated, back=True)
    of_qkv.add(_norm(x, norm, context), grad)
    grads = [*of_qkv.result(), *of_out.result()]
    if of_x is not None:
        context.ops.norm_backward(
            grad @ merged(layer.qkv, context.scratch[0], again=True),
            x,
            norm.weight,
            is_layer_norm=norm.bias is not None,
            eps=norm.eps,
            residual=of_middle,
            out=of_x,
        )
    return grads


def _gradient_block(layer: Layer) -> torch.Tensor | None:
    """Room for the gradients of a layer's adapters: made first, as many small ones made later lie in the way of large ones."""
    parameters = layer.parameters
    if not parameters or parameters[0].device.type == "cpu":
        return None
    return parameters[0].new_empty(sum(p.numel() for p in parameters))


def _in_block(gradients: list[torch.Tensor | None], block: torch.Tensor | None) -> list[torch.Tensor | None]:
    """The same gradients, as views of `block` where there is one."""
    there = [gradient for gradient in gradients if gradient is not None]
    if block is None or len(there) != len(gradients):
        return gradients
    torch.cat([gradient.flatten() for gradient in there], out=block)
    pieces = block.split([gradient.numel() for gradient in there])
    return [piece.view_as(gradient) for piece, gradient in zip(pieces, there, strict=True)]


def _pieces(x: torch.Tensor, context: PassContext) -> Iterator[slice]:
    """The tokens in pieces of equal size, as few as `ffn_tokens` allows."""
    n = -(-len(x) // context.ffn_tokens)
    size = -(-len(x) // n)
    return (slice(start, start + size) for start in range(0, len(x), size))


def _norm(x: torch.Tensor, norm: Norm, context: PassContext) -> torch.Tensor:
    out: torch.Tensor = context.ops.norm_forward(x, norm.weight, norm.bias, norm.eps)
    return out


def _product(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    return x @ weight.t() if bias is None else torch.addmm(bias, x, weight.t())


def _add_product(
    stream: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    out: torch.Tensor,
) -> None:
    """Write `stream` plus what `weight` and `bias` make of x into `out`, which may be `stream` itself."""
    if out is not stream and out.data_ptr() != stream.data_ptr():
        out.copy_(stream)
    out.addmm_(x, weight.t())
    if bias is not None:
        out += bias
