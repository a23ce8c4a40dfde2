"""AdamW with 8-bit state over all adapter weights as one flat tensor: three launches a step, two bytes a weight."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from bitsandbytes.optim import AdamW8bit


class FlatAdamW8bit(AdamW8bit):  # type: ignore[misc]  # bitsandbytes is not checked
    """bitsandbytes' block-wise AdamW; the parameters become views of the one tensor that it sees.

    For CUDA. Not with a gradient scaler (float16), which looks for gradients on the optimizer's own tensors.
    """

    def __init__(self, parameters: Iterable[torch.nn.Parameter], *, lr: float, weight_decay: float) -> None:
        self.parts = [p for p in parameters if p.requires_grad]
        flat = torch.nn.Parameter(torch.cat([p.detach().flatten() for p in self.parts]))
        pieces = flat.data.split([p.numel() for p in self.parts])
        for part, piece in zip(self.parts, pieces, strict=True):
            part.data = piece.view_as(part)
        super().__init__([flat], lr=lr, weight_decay=weight_decay)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; nothing where no parameter has a gradient, zero for those that have none."""
        if all(part.grad is None for part in self.parts):
            return None
        flat = self.param_groups[0]["params"][0]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parts]
        flat.grad = _as_one(gradients)
        try:
            return super().step(closure)
        finally:
            flat.grad = None

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Of the parameters."""
        for part in self.parts:
            part.grad = None


def _as_one(gradients: list[torch.Tensor]) -> torch.Tensor:
    """All of them end to end; no copy where they lie so already, as those of a CUDA graph do."""
    first = gradients[0]
    n = sum(gradient.numel() for gradient in gradients)
    place = first.data_ptr()
    for gradient in gradients:
        if gradient.data_ptr() != place or not gradient.is_contiguous():
            return torch.cat([gradient.detach().flatten() for gradient in gradients])
        place += gradient.numel() * gradient.element_size()
    if first.untyped_storage().nbytes() < (first.storage_offset() + n) * first.element_size():
        return torch.cat([gradient.detach().flatten() for gradient in gradients])  # neighbours by chance
    return first.detach().as_strided((n,), (1,))
