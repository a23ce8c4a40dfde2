"""transformers' Trainer with steps that are the same however often it is killed, and over however many processes.

- The order of the rows is drawn from the seed and the epoch. Where several processes share them, the last step is
  filled up with blank rows, which carry no loss: no row is trained on twice, as the stock loader would have it.
- Gradients are summed over the processes once a step and weighted by label tokens, without a wrapper around the model.
- A checkpoint also holds the losses since the last log line, so that the log of a resumed run has the same lines.
"""

import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import send_to_device
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import Trainer

from groundql.errors import SettingError
from groundql.training import processes
from groundql.training.guard import StepGuard
from groundql.training.sharding import is_sharded

IGNORE = -100  # the label that carries no loss


@dataclass(frozen=True)
class Blank:
    """A row that takes part in a step without any loss."""

    row: Any


class Rows(Dataset[Any]):  # type: ignore[misc]  # torch is not checked
    """A list as a torch data set; the index behind its end is a blank row."""

    def __init__(self, rows: Sequence[Any]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        if index == len(self.rows):
            return Blank(min(self.rows, key=lambda row: getattr(row, "n_tokens", None) or len(row)))
        return self.rows[index]


def collate_rows(rows: Sequence[Any], collate: Callable[[Sequence[Any]], dict[str, Any]]) -> dict[str, Any]:
    """`collate` of rows some of which may be blank: these keep their tokens and lose their labels."""
    batch = collate([row.row if isinstance(row, Blank) else row for row in rows])
    for i, row in enumerate(rows):
        for name in ("labels", "targets"):
            if isinstance(row, Blank) and name in batch:
                batch[name][i] = IGNORE
    return batch


class SeededOrder(Sampler[int]):  # type: ignore[misc]  # likewise
    """Every row once, in an order drawn from seed and epoch, then blanks up to a multiple."""

    def __init__(self, n_rows: int, multiple: int, seed: int) -> None:
        self.n_rows, self.seed, self.epoch = n_rows, seed, 0
        self.n_blanks = -n_rows % multiple

    def set_epoch(self, epoch: int) -> None:
        """The loader says which epoch begins."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.n_rows + self.n_blanks

    def __iter__(self) -> Iterator[int]:
        order = list(range(self.n_rows))
        random.Random(f"{self.seed} {self.epoch}").shuffle(order)
        yield from order
        yield from [self.n_rows] * self.n_blanks


class ExactTrainer(Trainer):  # type: ignore[misc]  # transformers is not checked
    """See the module's head."""

    guard: StepGuard
    ends_s: float | None = None  # on the monotonic clock: then training stops where it is
    train_dataset: Any
    accelerator: Any
    data_collator: Any
    state: Any
    args: Any

    def __init__(self, *arguments: Any, guard: StepGuard, **named: Any) -> None:
        super().__init__(*arguments, **named)
        if self.is_fsdp_enabled:
            raise SettingError(
                "accelerate's own FSDP would split the adapter too: launch without it and set training.shard_base = true"
            )
        self.guard = guard
        self.data_collator = partial(collate_rows, collate=self.data_collator)
        self.is_in_parts = is_sharded(self.model)
        if processes.n_processes() > 1:
            # No DistributedDataParallel: its hooks would tie our step to its forward pass; see `training_step`.
            self.accelerator.prepare_model = partial(self.accelerator.prepare_model, evaluation_mode=True)

    def _get_train_sampler(self, *_: Any, **__: Any) -> SeededOrder:
        n = processes.n_processes()
        multiple = n * self.args.per_device_train_batch_size if n > 1 else 1
        return SeededOrder(len(self.train_dataset), multiple, self.args.seed)

    def training_step(self, model: Any, *arguments: Any, **named: Any) -> torch.Tensor:
        """One forward and backward pass; after the last of a step, gradients and verdicts are those of all processes."""
        loss: torch.Tensor = super().training_step(model, *arguments, **named)
        self.guard.saw_loss(loss)
        if self.accelerator.sync_gradients:
            self.guard.time_is_over = self.ends_s is not None and time.monotonic() > self.ends_s
            if processes.n_processes() > 1:
                self._share_step()
        return loss

    def _share_step(self) -> None:
        trainable = [p for p in self.model.parameters() if p.requires_grad]
        flags = [not self.guard.losses_are_finite(), self.guard.time_is_over]
        bad, over = processes.share_step(trainable, flags, self.args.device)
        self.guard.time_is_over = over
        if bad:
            self.guard.losses_were_bad_elsewhere()

    def dev_batches(self) -> Iterator[Any]:
        """The dev rows in batches on this process's device, all of them."""
        loader = DataLoader(
            self.eval_dataset, batch_size=self.args.per_device_eval_batch_size, collate_fn=self.data_collator
        )
        for batch in loader:
            yield send_to_device(batch, self.args.device)

    def _save_rng_state(self, output_dir: str) -> None:
        """Chance, and what was summed since the last log line; in all processes before the checkpoint counts as whole."""
        super()._save_rng_state(output_dir)
        window = {
            "loss": float(self._tr_loss),  # fp32: JSON holds it exactly
            "logged_at": self._globalstep_last_logged,
            "dropped_in_a_row": self.guard.n_in_a_row,
        }
        _window_path(output_dir).write_text(json.dumps(window), encoding="utf-8")
        processes.wait()

    def _load_rng_state(self, checkpoint: str | None) -> None:
        super()._load_rng_state(checkpoint)
        if checkpoint is not None and (path := _window_path(checkpoint)).is_file():
            window = json.loads(path.read_text(encoding="utf-8"))
            self._tr_loss.fill_(float(window["loss"]))
            self._globalstep_last_logged = int(window["logged_at"])
            self.guard.n_in_a_row = int(window["dropped_in_a_row"])


def _window_path(checkpoint: str) -> Path:
    return Path(checkpoint) / f"log_window_{processes.rank()}.json"
