"""Element-wise kernels of a decoder layer in Triton, with the signatures of `plain`. CUDA from compute capability 8.0.

Sums and means are in fp32; what is stored has the type of the tensor that it is stored in.
"""

import torch
import triton
import triton.language as tl


def norm_forward(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, eps: float
) -> torch.Tensor:
    """RMSNorm, or LayerNorm where there is a bias. x: (T, h). Returns (T, h)."""
    n_tokens, width = x.shape
    out = torch.empty_like(x)
    block = triton.next_power_of_2(width)
    has_bias = bias is not None
    _norm_forward[(n_tokens,)](
        x, weight, bias if has_bias else weight, out, width, eps, HAS_BIAS=has_bias, BLOCK=block, num_warps=8
    )
    return out


@triton.jit
def _norm_forward(x_ptr, w_ptr, b_ptr, out_ptr, width, eps, HAS_BIAS: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    cols = tl.arange(0, BLOCK)
    inside = cols < width
    x = tl.load(x_ptr + row * width + cols, mask=inside, other=0.0).to(tl.float32)
    w = tl.load(w_ptr + cols, mask=inside, other=0.0).to(tl.float32)
    if HAS_BIAS:
        mean = tl.sum(x, axis=0) / width
        x = tl.where(inside, x - mean, 0.0)
    scale = tl.rsqrt(tl.sum(x * x, axis=0) / width + eps)
    y = x * scale * w
    if HAS_BIAS:
        y += tl.load(b_ptr + cols, mask=inside, other=0.0).to(tl.float32)
    tl.store(out_ptr + row * width + cols, y.to(out_ptr.dtype.element_ty), mask=inside)


def norm_backward(
    grad: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor,
    *,
    is_layer_norm: bool,
    eps: float,
    residual: torch.Tensor,
    out: torch.Tensor,
) -> None:
    """Write to `out` the gradient of the norm's input plus `residual`, the one that comes past the norm. All (T, h)."""
    n_tokens, width = x.shape
    _norm_backward[(n_tokens,)](
        grad,
        x,
        weight,
        residual,
        out,
        width,
        eps,
        CENTRED=is_layer_norm,
        BLOCK=triton.next_power_of_2(width),
        num_warps=8,
    )


@triton.jit
def _norm_backward(
    g_ptr, x_ptr, w_ptr, r_ptr, out_ptr, width, eps, CENTRED: tl.constexpr, BLOCK: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64)
    cols = tl.arange(0, BLOCK)
    inside = cols < width
    at = row * width + cols
    x = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
    w = tl.load(w_ptr + cols, mask=inside, other=0.0).to(tl.float32)
    g = tl.load(g_ptr + at, mask=inside, other=0.0).to(tl.float32) * w
    if CENTRED:
        x = tl.where(inside, x - tl.sum(x, axis=0) / width, 0.0)
    scale = tl.rsqrt(tl.sum(x * x, axis=0) / width + eps)
    x = x * scale
    dx = g - x * (tl.sum(g * x, axis=0) / width)
    if CENTRED:
        dx -= tl.sum(g, axis=0) / width
    dx = dx * scale + tl.load(r_ptr + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(out_ptr + at, dx.to(out_ptr.dtype.element_ty), mask=inside)


def rotate_(
    qkv: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, n_rotated: int, *, back: bool = False
) -> None:
    """Rotary positions on the first `n_rotated` heads of each token, in place; `back` turns them back.

    qkv: (T, heads * d), row-contiguous. cos, sin: (T, d), halves equal, as transformers gives them.
    """
    n_tokens, depth = cos.shape
    _rotate[(n_tokens,)](
        qkv,
        cos,
        sin,
        qkv.stride(0),
        n_rotated,
        -1.0 if back else 1.0,
        HALF=depth // 2,
        HEADS=triton.next_power_of_2(n_rotated),
        num_warps=4,
    )


@triton.jit
def _rotate(qkv_ptr, cos_ptr, sin_ptr, stride, n_rotated, sign, HALF: tl.constexpr, HEADS: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    lane = tl.arange(0, HALF)
    cos = tl.load(cos_ptr + row * 2 * HALF + lane).to(tl.float32)[None, :]
    sin = tl.load(sin_ptr + row * 2 * HALF + lane).to(tl.float32)[None, :] * sign
    heads = tl.arange(0, HEADS)
    at = qkv_ptr + row * stride + heads[:, None] * 2 * HALF + lane[None, :]
    inside = (heads < n_rotated)[:, None] & (lane >= 0)[None, :]
    low = tl.load(at, mask=inside, other=0.0).to(tl.float32)
    high = tl.load(at + HALF, mask=inside, other=0.0).to(tl.float32)
    tl.store(at, (low * cos - high * sin).to(qkv_ptr.dtype.element_ty), mask=inside)
    tl.store(at + HALF, (high * cos + low * sin).to(qkv_ptr.dtype.element_ty), mask=inside)


def gate_forward(inner: torch.Tensor, width: int) -> torch.Tensor:
    """silu(gate) * up where `inner` is (T, 2 f), gates first; tanh-gelu where it is (T, f). Returns (T, f)."""
    n_tokens = inner.shape[0]
    out = torch.empty(n_tokens, width, dtype=inner.dtype, device=inner.device)
    grid = (n_tokens, triton.cdiv(width, 1024))
    _gate_forward[grid](inner, out, width, GATED=inner.shape[1] > width, BLOCK=1024, num_warps=4)
    return out


@triton.jit
def _gate_forward(inner_ptr, out_ptr, width, GATED: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    cols = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = cols < width
    if GATED:
        g = tl.load(inner_ptr + row * 2 * width + cols, mask=inside, other=0.0).to(tl.float32)
        u = tl.load(inner_ptr + row * 2 * width + width + cols, mask=inside, other=0.0).to(tl.float32)
        y = g * tl.sigmoid(g) * u
    else:
        g = tl.load(inner_ptr + row * width + cols, mask=inside, other=0.0).to(tl.float32)
        y = g * tl.sigmoid(1.5957691216057308 * (g + 0.044715 * g * g * g))
    tl.store(out_ptr + row * width + cols, y.to(out_ptr.dtype.element_ty), mask=inside)


def gate_backward_(inner: torch.Tensor, grad: torch.Tensor) -> None:
    """In place: `inner` becomes its own gradient, and `grad` (T, f) of the result becomes the result itself."""
    n_tokens, width = grad.shape
    grid = (n_tokens, triton.cdiv(width, 1024))
    _gate_backward[grid](inner, grad, width, GATED=inner.shape[1] > width, BLOCK=1024, num_warps=4)


@triton.jit
def _gate_backward(inner_ptr, grad_ptr, width, GATED: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    cols = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = cols < width
    dy = tl.load(grad_ptr + row * width + cols, mask=inside, other=0.0).to(tl.float32)
    if GATED:
        at = inner_ptr + row * 2 * width + cols
        g = tl.load(at, mask=inside, other=0.0).to(tl.float32)
        u = tl.load(at + width, mask=inside, other=0.0).to(tl.float32)
        s = tl.sigmoid(g)
        silu = g * s
        tl.store(at, (dy * u * (s + silu * (1 - s))).to(inner_ptr.dtype.element_ty), mask=inside)
        tl.store(at + width, (dy * silu).to(inner_ptr.dtype.element_ty), mask=inside)
        y = silu * u
    else:
        at = inner_ptr + row * width + cols
        g = tl.load(at, mask=inside, other=0.0).to(tl.float32)
        s = tl.sigmoid(1.5957691216057308 * (g + 0.044715 * g * g * g))
        slope = 1.5957691216057308 * (1 + 0.134145 * g * g)
        tl.store(at, (dy * (s + g * s * (1 - s) * slope)).to(inner_ptr.dtype.element_ty), mask=inside)
        y = g * s
    tl.store(grad_ptr + row * width + cols, y.to(grad_ptr.dtype.element_ty), mask=inside)


def cross_entropy_(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Loss of each row, (K,) fp32; `logits` (K, vocab) become their gradient, in place. Both 0 where a label is below 0."""
    n_rows, vocab = logits.shape
    losses = torch.empty(n_rows, dtype=torch.float32, device=logits.device)
    _cross_entropy[(n_rows,)](logits, labels, losses, vocab, BLOCK=8192, num_warps=16)
    return losses


@triton.jit
def _cross_entropy(logits_ptr, labels_ptr, losses_ptr, vocab, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    label = tl.load(labels_ptr + row)
    base = logits_ptr + row * vocab
    lane = tl.arange(0, BLOCK)
    top = tl.full((BLOCK,), -1.0e30, tl.float32)
    total = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, vocab, BLOCK):
        cols = start + lane
        x = tl.load(base + cols, mask=cols < vocab, other=float("-inf")).to(tl.float32)
        new = tl.maximum(top, x)
        total = total * tl.exp(top - new) + tl.exp(x - new)
        top = new
    highest = tl.max(top, axis=0)
    log_sum = highest + tl.log(tl.sum(total * tl.exp(top - highest), axis=0))
    counts = tl.where(label >= 0, 1.0, 0.0)
    of_label = tl.load(base + tl.maximum(label, 0)).to(tl.float32)
    tl.store(losses_ptr + row, (log_sum - of_label) * counts)
    for start in range(0, vocab, BLOCK):
        cols = start + lane
        x = tl.load(base + cols, mask=cols < vocab, other=float("-inf")).to(tl.float32)
        grad = tl.exp(x - log_sum) - tl.where(cols == label, 1.0, 0.0)
        tl.store(base + cols, (grad * counts).to(logits_ptr.dtype.element_ty), mask=cols < vocab)
