"""Attention over one pack for `layer`: Triton's on recent CUDA cards, torch's elsewhere."""

from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

from groundql.training.attention import PackLayout, packed_attention
from groundql.training.fused.spans import Spans


class FlashAttention:
    """No mask and no copies; keeps the result and a sum a head and token."""

    def __init__(self, spans: Spans, shape: tuple[int, int, int], window: int) -> None:
        self.spans, self.shape, self.window = spans, shape, window

    def forward(self, qkv: torch.Tensor, *, keep: bool) -> tuple[torch.Tensor, Any]:
        """See `layer.Attention`."""
        from groundql.training.fused.flash import attend

        return attend(qkv, self.spans, *self.shape, self.window)

    def backward(self, grad: torch.Tensor, qkv: torch.Tensor, out: torch.Tensor, kept: Any) -> torch.Tensor:
        """See `layer.Attention`."""
        from groundql.training.fused.flash import attend_backward

        return attend_backward(grad, qkv, out, kept, self.spans, self.shape, self.window)


class PlainAttention:
    """In torch, differentiated by torch: over a layout, or under a mask where a sliding window cuts the pack."""

    def __init__(self, sees: PackLayout | torch.Tensor, shape: tuple[int, int, int]) -> None:
        self.sees, self.shape = sees, shape  # a mask is (T, T) bool

    def forward(self, qkv: torch.Tensor, *, keep: bool) -> tuple[torch.Tensor, Any]:
        """See `layer.Attention`."""
        with torch.set_grad_enabled(keep):
            leaf = qkv.detach().requires_grad_(keep)
            out = self._attend(leaf)
        return out.detach(), (leaf, out) if keep else None

    def backward(self, grad: torch.Tensor, qkv: torch.Tensor, out: torch.Tensor, kept: Any) -> torch.Tensor:
        """See `layer.Attention`."""
        leaf, attended = kept
        (of_qkv,) = torch.autograd.grad(attended, leaf, grad)
        return of_qkv.contiguous()

    def _attend(self, qkv: torch.Tensor) -> torch.Tensor:
        n_heads, n_kv, depth = self.shape
        heads = qkv.view(len(qkv), -1, depth).transpose(0, 1)[None]  # (1, heads + 2 kv, T, d)
        q, k, v = heads.split([n_heads, n_kv, n_kv], dim=1)
        if isinstance(self.sees, PackLayout):
            out = packed_attention(q, k, v, self.sees, None, with_matmul=False)[0]
        else:
            k, v = (x.repeat_interleave(n_heads // n_kv, dim=1) for x in (k, v))
            out = scaled_dot_product_attention(q, k, v, attn_mask=self.sees[None, None])[0].transpose(0, 1)
        return out.reshape(len(qkv), -1)
