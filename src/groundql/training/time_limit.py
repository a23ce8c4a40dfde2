"""A learning rate that falls with the clock where `training.max_minutes` is set: a slow machine too ends cooled down."""

import time
from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback


class CoolsByTheClock(TrainerCallback):  # type: ignore[misc]  # transformers is not checked
    """Holds each step's rate to at most the highest one times the share of the time that is left.

    Stopped at a high rate a model is worse than its loss would have it: the first demo stopped at 29 % of its rate.
    """

    def __init__(self, limit_s: float, now: Callable[[], float] = time.monotonic) -> None:
        self.limit_s, self.now = limit_s, now
        self.started_s = now()
        self.rate: float | None = None  # of the last step

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.started_s = self.now()

    def on_pre_optimizer_step(
        self, args: Any, state: Any, control: Any, optimizer: Any = None, **_: Any
    ) -> None:
        left = max(0.0, 1 - (self.now() - self.started_s) / self.limit_s)
        for group in optimizer.param_groups:  # the schedule sets them anew after each step
            group["lr"] = self.rate = min(float(group["lr"]), args.learning_rate * left)

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        if logs and "learning_rate" in logs and self.rate is not None:
            logs["learning_rate"] = self.rate  # what was used
