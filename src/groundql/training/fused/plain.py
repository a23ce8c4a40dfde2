"""Element-wise work of a decoder layer in torch: any device and type, and the reference of `kernels`.

Norms and sums are taken in fp32 as transformers takes them; what is stored has the type of what it came from.
"""

import torch
from torch.nn.functional import gelu, layer_norm, silu

_GELU_SLOPE = 1.5957691216057308  # 2 sqrt(2 / pi): tanh-gelu is x * sigmoid(_GELU_SLOPE (x + 0.044715 x^3))


def norm_forward(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, eps: float
) -> torch.Tensor:
    """RMSNorm, or LayerNorm where there is a bias. x: (T, h). Returns (T, h)."""
    if bias is not None:
        return layer_norm(x, (x.shape[-1],), weight, bias, eps)
    wide = x.float()
    return (wide * _inverse_rms(wide, eps)).to(x.dtype).mul_(weight)


def _inverse_rms(x: torch.Tensor, eps: float) -> torch.Tensor:
    """(T, 1) for x (T, h) fp32, without a tensor of squares."""
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return length.square_().div_(x.shape[-1]).add_(eps).rsqrt_()


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
    wide = x.float()
    if is_layer_norm:
        wide = wide - wide.mean(-1, keepdim=True)
    scale = _inverse_rms(wide, eps)
    dx = grad.float() * weight.float()
    mean = dx.mean(-1, keepdim=True) if is_layer_norm else None
    along = (dx * wide).mean(-1, keepdim=True).mul_(scale).mul_(scale)
    dx.addcmul_(wide, along, value=-1)
    if mean is not None:
        dx -= mean
    out.copy_(torch.addcmul(residual.float(), dx, scale))


def rotate_(
    qkv: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, n_rotated: int, *, back: bool = False
) -> None:
    """Rotary positions on the first `n_rotated` heads of each token, in place; `back` turns them back.

    qkv: (T, heads * d), row-contiguous. cos, sin: (T, d), halves equal, as transformers gives them.
    """
    n_tokens, depth = cos.shape
    half = depth // 2
    heads = qkv[:, : n_rotated * depth].unflatten(1, (n_rotated, depth))  # a view
    low, high = heads[..., :half].clone(), heads[..., half:]
    c, s = cos[:, None, :half].to(qkv.dtype), sin[:, None, :half].to(qkv.dtype)
    if back:
        s = -s
    heads[..., :half] = low * c - high * s
    heads[..., half:] = high * c + low * s


def gate_forward(inner: torch.Tensor, width: int) -> torch.Tensor:
    """silu(gate) * up where `inner` is (T, 2 f), gates first; tanh-gelu where it is (T, f). Returns (T, f)."""
    if inner.shape[1] > width:
        return silu(inner[:, :width]).mul_(inner[:, width:])
    return gelu(inner, approximate="tanh")


def gate_backward_(inner: torch.Tensor, grad: torch.Tensor) -> None:
    """In place: `inner` becomes its own gradient, and `grad` (T, f) of the result becomes the result itself."""
    width = grad.shape[1]
    if inner.shape[1] > width:
        gate, up = inner.split(width, dim=1)
        of_gate = silu(gate)
        result = of_gate * up
        of_silu = grad * up
        torch.mul(grad, of_gate, out=up)
        gate.copy_(torch.ops.aten.silu_backward(of_silu, gate))
        grad.copy_(result)
        return
    gate = inner.clone()
    s = torch.sigmoid(_GELU_SLOPE * (gate + 0.044715 * gate**3))
    inner.copy_(grad * (s + gate * s * (1 - s) * _GELU_SLOPE * (1 + 0.134145 * gate**2)))
    grad.copy_(gate * s)


def cross_entropy_(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Loss of each row, (K,) fp32; `logits` (K, vocab) become their gradient, in place. Both 0 where a label is below 0."""
    counts = (labels >= 0).float()
    labels = labels.clamp(min=0)
    wide = logits.float()  # the same tensor where it is fp32
    wide.sub_(wide.amax(-1, keepdim=True))
    of_label = wide.gather(1, labels[:, None])
    total = wide.exp_().sum(
        -1, keepdim=True
    )  # a sum in parts: torch's log_softmax is 7e-6 off over 49,152 words
    losses: torch.Tensor = (total.log() - of_label).squeeze(1) * counts
    wide.mul_(counts[:, None] / total)
    wide.scatter_add_(1, labels[:, None], -counts[:, None])
    if wide is not logits:
        logits.copy_(wide)
    return losses
