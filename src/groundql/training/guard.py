"""Keeps a step whose loss or gradient is not finite from the weights, and stops a run where that goes on."""

from collections.abc import Sequence
from typing import Any

import torch

from groundql.errors import TrainingStopped

MAX_DROPPED_IN_A_ROW = 5  # non-finite steps before the run stops
MAX_DROPPED_WITH_SCALER = 20  # fp16: the loss scale starts at 65,536 and halves on each such step


class StepGuard:
    """Looks at the losses and gradients of one optimizer step after the other."""

    def __init__(self) -> None:
        self.n_in_a_row = 0
        self.time_is_over = False  # training.max_minutes, agreed on by all processes
        self._finite: torch.Tensor | None = (
            None  # of this step's losses so far; on the device: nobody waits for it
        )

    def saw_loss(self, loss: torch.Tensor) -> None:
        """Take in the loss of one forward pass of this step."""
        finite = loss.detach().isfinite().all()
        self._finite = finite if self._finite is None else self._finite & finite

    def losses_are_finite(self) -> bool:
        """Whether all losses of this step were; waits for the device."""
        return self._finite is None or bool(self._finite)

    def losses_were_bad_elsewhere(self) -> None:
        """A loss of this step was not finite in some process."""
        if self._finite is not None:
            self._finite = torch.zeros_like(self._finite)

    def reason_to_drop(self, gradients: Sequence[torch.Tensor]) -> str | None:
        """Why this step may not reach the weights; None where it may. Ends the step: waits once for the device."""
        norms = torch._foreach_norm(list(gradients)) if gradients else []
        finite = torch.stack([norm.isfinite() for norm in norms]).all() if norms else None
        flags = [flag for flag in (self._finite, finite) if flag is not None]
        loss_ok, gradient_ok = True, True
        if flags:
            values = torch.stack([flag.reshape(()) for flag in flags]).tolist()
            loss_ok = values[0] if self._finite is not None else True
            gradient_ok = values[-1] if finite is not None else True
        self._finite = None
        if loss_ok and gradient_ok:
            self.n_in_a_row = 0
            return None
        self.n_in_a_row += 1
        return "the loss is not finite" if not loss_ok else "the gradient is not finite"

    def stop_if_it_goes_on(self, step: int, reason: str, *, has_scaler: bool) -> None:
        """Nothing, or the end of the run.

        Raises:
            TrainingStopped: too many steps in a row were dropped.
        """
        limit = MAX_DROPPED_WITH_SCALER if has_scaler else MAX_DROPPED_IN_A_ROW
        if self.n_in_a_row >= limit:
            raise TrainingStopped(
                f"{reason.removesuffix(' is not finite')} was not finite {self.n_in_a_row} steps in a row (step {step}); "
                "lower training.learning_rate, or set model.compute_dtype to bfloat16 or float32"
            )


def without_gradients(model: Any) -> None:
    """Drop the gradients: AdamW passes over parameters that have none, so that the step changes nothing."""
    for parameter in model.parameters():
        parameter.grad = None
