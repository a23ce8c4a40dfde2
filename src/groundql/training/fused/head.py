"""Loss at label positions, a few rows of logits at a time: no tensor of all logits exists, forward or backward.

The head is frozen, so the gradient of its rows is formed while the logits are there and only that is kept.
"""

from types import ModuleType
from typing import Any

import torch

from groundql.models.load import is_recent_cuda

LOGITS_AT_ONCE = 2**26  # numbers: 128 MiB in 16 bit


def summed_loss(rows: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross entropy of each row with its label, summed: a scalar in fp32.

    Args:
        rows: (K, h), what the head reads.
        weight: (vocab, h), frozen.
        labels: (K,) int64, a token each; below 0: the row carries no loss.
    """
    total: torch.Tensor = _LabelLoss.apply(rows, weight, labels)
    return total


def element_ops(device: torch.device) -> ModuleType:
    """The element-wise kernels for a device: Triton on CUDA from compute capability 8.0, else torch."""
    from groundql.training.fused import plain

    if is_recent_cuda(device):
        from groundql.training.fused import kernels

        return kernels
    return plain


def rows_at_once(vocab: int) -> int:
    """How many rows of logits are formed together."""
    return max(1, LOGITS_AT_ONCE // vocab)


class _LabelLoss(torch.autograd.Function):  # type: ignore[misc]  # torch is not checked
    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        ops = element_ops(rows.device)
        total = torch.zeros((), dtype=torch.float32, device=rows.device)
        grad = torch.empty_like(rows) if ctx.needs_input_grad[0] else None
        step = rows_at_once(weight.shape[0])
        for start in range(0, len(rows), step):
            some = slice(start, start + step)
            logits = rows[some] @ weight.t()
            total += ops.cross_entropy_(logits, labels[some]).sum()
            if grad is not None:
                torch.mm(logits, weight, out=grad[some])
            del logits  # else the next ones would be made beside them
        ctx.save_for_backward(grad)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (grad,) = ctx.saved_tensors
        return grad * grads[0].to(grad.dtype), None, None
