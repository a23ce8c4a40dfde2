"""How fast and large QLoRA is on the stock stack, with our prompts: the yardstick of `train_speed`.

`stock_padded`: transformers' Trainer + peft + bitsandbytes as their guides say: one full prompt a question, random
batches of 2 padded to the longer, gradient checkpointing, the model's own loss over all logits.
`trl_packed`: TRL's SFTTrainer with packing (best-fit decreasing) and its own defaults, its own fused loss too.
Both: all-linear LoRA of rank 32 without dropout on the same frozen base. Only real tokens are counted, no padding.
"""

import random
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import Trainer, TrainerCallback, TrainingArguments

from groundql.training.examples import Example

IGNORE = -100
WARM_UP = 3  # steps that are not timed: allocator, autotuning, first launches
MakeModel = Callable[[], Any]


@dataclass
class Budget:
    """When a run ends, whichever comes first, and on how many questions it draws."""

    steps: int = 60
    seconds: float = 60.0  # of timed steps
    questions: int = 2000  # a random sample; packing all of them takes longer than measuring


@dataclass
class _Meter(TrainerCallback):  # type: ignore[misc]
    """Counts what each batch holds and times the steps after the first few."""

    budget: Budget
    batches: deque[tuple[int, int, int]] = field(
        default_factory=deque
    )  # real tokens, questions, padded tokens
    counted: list[int] = field(default_factory=lambda: [0, 0, 0])
    losses: list[Any] = field(default_factory=list)
    n_steps: int = 0
    started: float = 0.0
    elapsed_s: float = 0.0

    def collated(self, real: int, questions: int, padded: int) -> None:
        """A batch was made; the loader makes them in the order in which they are trained on."""
        self.batches.append((real, questions, padded))

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        batch = self.batches.popleft()
        self.n_steps += 1
        if self.n_steps > WARM_UP:
            self.counted = [a + b for a, b in zip(self.counted, batch, strict=True)]
        if self.n_steps == WARM_UP:
            _wait()
            self.started = time.perf_counter()
        n_timed = self.n_steps - WARM_UP
        over = n_timed > 0 and time.perf_counter() - self.started > self.budget.seconds
        if n_timed >= self.budget.steps or over:
            control.should_training_stop = True
        if n_timed > 0:
            self.elapsed_s = time.perf_counter() - self.started

    def facts(self) -> dict[str, Any]:
        """What was measured."""
        real, questions, padded = self.counted
        n_timed = max(self.n_steps - WARM_UP, 0)
        seconds = self.elapsed_s or float("nan")
        return {
            "tokens_per_s": round(real / seconds, 1),
            "questions_per_s": round(questions / seconds, 2),
            "ms_per_step": round(1000 * seconds / max(n_timed, 1), 1),
            "steps": n_timed,
            "seconds": round(seconds, 1),
            "tokens_per_step": round(real / max(n_timed, 1)),
            "padding_share": round(1 - real / max(padded, 1), 3),
            **peaks_mib(),
            "first_losses": [round(float(loss), 4) for loss in self.losses[:5]],
        }


def peaks_mib() -> dict[str, int]:
    """The allocator's peaks since they were reset; nothing without a card."""
    if not torch.cuda.is_available():
        return {}
    return {
        "allocated_mib": round(torch.cuda.max_memory_allocated() / 2**20),
        "reserved_mib": round(torch.cuda.max_memory_reserved() / 2**20),
    }


@torch.no_grad()
def loss_of_separate(model: Any, examples: Sequence[Example]) -> float:
    """Mean loss a label token over these examples, each alone through the model's own layers, logits and loss."""
    total, n_labels = 0.0, 0
    for example in examples:
        ids = torch.tensor([example.prefix + example.suffix + example.answer], device=model.device)
        logits = model(input_ids=ids).logits[0, -len(example.answer) - 1 : -1].float()
        loss = torch.nn.functional.cross_entropy(logits, ids[0, -len(example.answer) :], reduction="sum")
        total, n_labels = total + float(loss), n_labels + len(example.answer)
    return total / n_labels


def stock_padded(
    make_model: MakeModel,
    examples: Sequence[Example],
    budget: Budget | None = None,
    *,
    batch_size: int = 2,
    checkpointing: bool = True,
    learning_rate: float = 2e-4,
    pad_id: int = 0,
    seed: int = 7,
) -> dict[str, Any]:
    """transformers + peft + bitsandbytes: padded random batches, full prompts, the model's own loss."""
    budget = budget or Budget()
    rows = _sampled(examples, budget, seed)
    model = make_model()
    if getattr(model, "is_loaded_in_4bit", False):
        model = prepare_model_for_kbit_training(
            model,
            use_gradient_checkpointing=checkpointing,
            gradient_checkpointing_kwargs={"use_reentrant": False},
        )
    model = get_peft_model(model, _lora())
    meter = _Meter(budget)

    def collate(batch: Sequence[Example]) -> dict[str, torch.Tensor]:
        ids = [torch.tensor(e.prefix + e.suffix + e.answer) for e in batch]
        labels = [torch.tensor([IGNORE] * (len(e.prefix) + len(e.suffix)) + list(e.answer)) for e in batch]
        pad = torch.nn.utils.rnn.pad_sequence
        input_ids = pad(ids, batch_first=True, padding_value=pad_id)
        mask = pad([torch.ones_like(one) for one in ids], batch_first=True, padding_value=0)
        meter.collated(sum(map(len, ids)), len(batch), input_ids.numel())
        return {
            "input_ids": input_ids,
            "attention_mask": mask,
            "labels": pad(labels, batch_first=True, padding_value=IGNORE),
        }

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            per_device_train_batch_size=batch_size,
            optim="adamw_torch_fused" if torch.cuda.is_available() else "adamw_torch",
            **_arguments(budget, len(rows), batch_size, checkpointing, learning_rate, seed),
        )
        trainer = _metered(Trainer, meter)(
            model=model,
            args=arguments,
            train_dataset=rows,
            data_collator=collate,
            callbacks=[meter],
        )
        stopped = _train(trainer)
    recipe = f"transformers + peft + bitsandbytes, padded batch {batch_size}" + (
        ", checkpointing" if checkpointing else ""
    )
    return {"recipe": recipe, **meter.facts(), "stopped": stopped}


def trl_packed(
    make_model: MakeModel,
    examples: Sequence[Example],
    budget: Budget | None = None,
    *,
    pack_tokens: int = 4096,
    strategy: str = "bfd",
    learning_rate: float = 2e-4,
    pad_id: int = 0,
    end_id: int = 1,
    seed: int = 7,
) -> dict[str, Any]:
    """TRL's SFTTrainer with packing, one pack a step, on the same examples; nothing of TRL's defaults is changed but
    the length, the learning rate and the number of packs. Longer examples are left out, as TRL would cut them.

    TRL wants FlashAttention for packing; without it transformers masks a pack block by block under SDPA, which is
    correct and what is measured here.
    """
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    budget = budget or Budget()
    rows = [e for e in _sampled(examples, budget, seed) if e.n_tokens <= pack_tokens]
    data = Dataset.from_dict(
        {
            "input_ids": [list(e.prefix + e.suffix + e.answer) for e in rows],
            "labels": [[IGNORE] * (e.n_tokens - len(e.answer)) + list(e.answer) for e in rows],
        }
    )
    meter = _Meter(budget)
    with tempfile.TemporaryDirectory() as folder:
        settings = _arguments(budget, len(rows), 1, True, learning_rate, seed)
        for name in ("gradient_checkpointing", "activation_checkpointing", "bf16"):
            settings.pop(name, None)  # TRL's own defaults: on, on
            settings.pop(f"{name}_kwargs", None)
        arguments = SFTConfig(
            folder,
            per_device_train_batch_size=1,
            packing=True,
            packing_strategy=strategy,
            max_length=pack_tokens,
            **settings,
        )
        trainer = _metered(SFTTrainer, meter)(
            model=make_model(),
            args=arguments,
            train_dataset=data,
            processing_class=_bare_tokenizer(pad_id, end_id),
            peft_config=_lora(),
            callbacks=[meter],
        )
        trainer.data_collator = _counted(trainer.data_collator, meter)
        stopped = _train(trainer)
    recipe = f"TRL SFT, {strategy} packing to {pack_tokens:,} tokens, its own defaults"
    left_out = min(budget.questions, len(examples)) - len(rows)
    return {"recipe": recipe, "left_out": left_out, **meter.facts(), "stopped": stopped}


def _counted(collate: Callable[[Any], Any], meter: _Meter) -> Callable[[list[dict[str, Any]]], Any]:
    """`collate` of TRL's packs, told to the meter."""

    def counted(batch: list[dict[str, Any]]) -> Any:
        made = collate(batch)
        real = sum(len(row["input_ids"]) for row in batch)
        n_questions = sum(len(row.get("seq_lengths", (1,))) for row in batch)
        meter.collated(real, n_questions, made["input_ids"].numel())
        return made

    return counted


def _lora() -> LoraConfig:
    return LoraConfig(
        r=32, lora_alpha=64, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"
    )


def _arguments(
    budget: Budget, n_rows: int, batch_size: int, checkpointing: bool, learning_rate: float, seed: int
) -> dict[str, Any]:
    """What both share; nothing here but the learning rate changes what a step does."""
    field_name = "activation_checkpointing"
    if field_name not in TrainingArguments.__dataclass_fields__:
        field_name = "gradient_checkpointing"  # its name before transformers 5.23
    chosen: dict[str, Any] = {field_name: checkpointing}
    if checkpointing:
        chosen[f"{field_name}_kwargs"] = {"use_reentrant": False}
    return chosen | {
        "max_steps": budget.steps + WARM_UP + 1,
        "learning_rate": learning_rate,
        "lr_scheduler_type": "constant",
        "bf16": torch.cuda.is_available(),
        "use_cpu": not torch.cuda.is_available(),
        "logging_strategy": "no",
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "dataloader_pin_memory": torch.cuda.is_available(),
        "seed": seed,
    }


def _metered(trainer_class: Any, meter: _Meter) -> Any:
    """`trainer_class` that hands the loss of every step to the meter, without waiting for the device."""

    class Metered(trainer_class):  # type: ignore[misc]
        def training_step(self, *arguments: Any, **named: Any) -> Any:
            loss = super().training_step(*arguments, **named)
            meter.losses.append(loss.detach())
            return loss

    return Metered


def _train(trainer: Any) -> str | None:
    """Train; None where it reached its budget, else why not."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        trainer.train()
    except torch.OutOfMemoryError as error:
        return f"out of memory: {str(error).split('.')[0]}"
    finally:
        _wait()
    return None


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _sampled(examples: Sequence[Example], budget: Budget, seed: int) -> list[Example]:
    n = min(budget.questions, len(examples))
    return random.Random(seed).sample(list(examples), n)


def _bare_tokenizer(pad_id: int, end_id: int) -> Any:
    """A tokenizer that only knows its padding and end: the examples are token ids already."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = models.WordLevel({"<pad>": pad_id, "<end>": end_id}, unk_token="<pad>")
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(words), pad_token="<pad>", eos_token="<end>")


def in_vocabulary(examples: Sequence[Example], vocab: int) -> list[Example]:
    """The examples with ids folded into a smaller vocabulary, for a model that stands in for a real one."""

    def fold(ids: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(i % vocab for i in ids)

    return [replace(e, prefix=fold(e.prefix), suffix=fold(e.suffix), answer=fold(e.answer)) for e in examples]
