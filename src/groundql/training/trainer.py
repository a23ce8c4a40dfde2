"""QLoRA on transformers' Trainer: our packs and loss in, a loss log, a guard on every step, the best adapter out."""

import importlib.util
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from transformers import PrinterCallback, TrainerCallback, TrainingArguments, set_seed

from groundql.config import Config, LoraSettings
from groundql.errors import SettingError, TrainingStopped
from groundql.models.fused_memory import Keeps
from groundql.models.workload import recomputes
from groundql.training import attention, processes
from groundql.training.exact import ExactTrainer, Rows
from groundql.training.examples import Example
from groundql.training.guard import StepGuard, without_gradients
from groundql.training.optimizer import FlatAdamW8bit
from groundql.training.packs import (
    Pack,
    collate_examples,
    collate_pack,
    collate_packs,
    label_loss,
    make_packs,
)
from groundql.training.preflight import check_batches
from groundql.training.run_folder import append_log, cut_log, last_checkpoint, n_dropped_steps
from groundql.training.sharding import shard_base
from groundql.training.step import (
    fixed_size,
    hold_freed_memory,
    install_step,
    probe_until_it_fits,
    release_graph,
    uses_spans,
)
from groundql.training.time_limit import CoolsByTheClock

ScoreDev = Callable[[Any], dict[str, float]]  # the model to executed scores on dev: ex_strict, grounded
OnStep = Callable[[int, int, float | None], None]  # step, steps in all, loss where one was logged


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """What a finished training measured."""

    n_steps: int
    n_planned_steps: int  # more than n_steps where training.max_minutes stopped it
    n_dropped_steps: int  # non-finite: never reached the weights
    best_step: int
    trained_tokens: int
    elapsed_s: float
    probed_peak_mib: float | None  # of one pass over the largest row before training; None on CPU
    peak_mib: float | None  # of the CUDA allocator; None on CPU


def add_lora(model: Any, settings: LoraSettings, *, seed: int) -> Any:
    """`model` with fresh LoRA weights in fp32 on the target linears, drawn from `seed`; everything else frozen.

    Raises:
        SettingError: a target that the model does not have.
    """
    targets = settings.targets if settings.targets == "all-linear" else list(settings.targets)
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        use_rslora=settings.rslora,
        target_modules=targets,
        task_type="CAUSAL_LM",
    )
    linears = {
        name.rsplit(".", 1)[-1] for name, module in model.named_modules() if "Linear" in type(module).__name__
    }
    missing = [name for name in targets if name not in linears] if isinstance(targets, list) else []
    if missing:
        raise SettingError(
            f"lora.targets: this model has no {', '.join(missing)}; it has {', '.join(sorted(linears))}"
        )
    set_seed(seed)
    tuned = get_peft_model(model, config)
    for module in tuned.modules():
        if isinstance(module, LoraLayer):
            module.cast_input_dtype_enabled = False  # autocast casts the weights; inputs need no fp32 copy
    return tuned


class SqlTrainer(ExactTrainer):
    """transformers' Trainer whose evaluation runs the SQL: dev loss from packs, scores from `score_dev`."""

    score_dev: ScoreDev | None = None
    control: Any

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        release_graph(self.model)  # it holds what evaluation needs
        # A model in parts over the processes needs all of them for a forward pass; a whole one only the first.
        metrics = self._scores() if self.is_in_parts else processes.from_first(self._scores)
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _scores(self) -> dict[str, float]:
        metrics: dict[str, float] = {}
        if self.eval_dataset:  # empty where no dev question fits the prompt
            metrics["eval_loss"] = self._dev_loss()
        if self.score_dev is not None:
            self.model.eval()
            metrics |= {f"eval_{name}": value for name, value in self.score_dev(self.model).items()}
            self.model.train()
        return metrics

    def _dev_loss(self) -> float:
        """Mean loss a label token over the dev packs."""
        self.model.eval()
        total, n_labels = 0.0, 0
        with torch.no_grad():
            for batch in self.dev_batches():
                inputs = self._prepare_inputs(batch)
                labels = inputs.pop("labels")
                n = int((labels != -100).sum())
                with self.compute_loss_context_manager():
                    total += float(label_loss(self.model(**inputs), labels, 1))
                n_labels += n
        self.model.train()
        return total / n_labels


class _Watch(TrainerCallback):  # type: ignore[misc]  # transformers is not checked
    """Writes the log and reports progress in the first process, and keeps non-finite steps from the weights in all."""

    def __init__(
        self,
        run_dir: Path,
        on_step: OnStep | None,
        guard: StepGuard,
        *,
        save_steps: int | None,
        last_step: int,
    ) -> None:
        self.run_dir, self.on_step, self.guard = run_dir, on_step, guard
        self.writes = processes.is_first()
        self.writer = _curves(run_dir / "tensorboard", last_step) if self.writes else None
        self.save_steps = save_steps

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        reason = self.guard.reason_to_drop([p.grad for p in model.parameters() if p.grad is not None])
        if reason is None:
            return
        without_gradients(model)
        if self.writes:
            append_log(self.run_dir, {"step": state.global_step + 1, "dropped": reason})
        self.guard.stop_if_it_goes_on(state.global_step + 1, reason, has_scaler=args.fp16)

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        facts = {key: value for key, value in (logs or {}).items() if isinstance(value, int | float)}
        if "train_runtime" in facts or not self.writes:
            return
        append_log(self.run_dir, {"step": state.global_step, **facts})
        if self.writer:
            for key, value in facts.items():
                self.writer.add_scalar(key, value, state.global_step)
            self.writer.flush()
        if self.on_step and "loss" in facts:
            self.on_step(state.global_step, state.max_steps, facts["loss"])

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        ends_epoch = float(state.epoch).is_integer()  # there it is saved anyway, once it is evaluated
        if self.save_steps and state.global_step % self.save_steps == 0 and not ends_epoch:
            control.should_save = True
        if self.guard.time_is_over:
            control.should_training_stop = True
        if self.on_step and self.writes:
            self.on_step(state.global_step, state.max_steps, None)


def _curves(folder: Path, last_step: int) -> Any:
    """A TensorBoard writer that hides what was written after `last_step`; None where tensorboard is not installed.

    log.jsonl holds the same numbers.
    """
    if importlib.util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=last_step + 1)


def train_adapter(
    model: Any,
    examples: Sequence[Example],
    dev_examples: Sequence[Example],
    *,
    config: Config,
    run_dir: Path,
    pad_id: int,
    score_dev: ScoreDev | None = None,
    on_step: OnStep | None = None,
    resume: bool = False,
    keeps: Keeps | None = None,
    graph: bool = True,
    say: Callable[[str], None] = lambda _: None,
) -> TrainingResult:
    """Train the LoRA weights of `model` (from `add_lora`) in place; `model` ends as the chosen checkpoint.

    Raises:
        TrainingStopped: non-finite gradients in a row, or the card's memory ran out.
        AskedWrongly: an example longer than a pack.
    """
    settings = config.training
    kept = install_step(model, config, keeps, graph=graph)
    if model.device.type == "cpu":
        hold_freed_memory()
    rows, dev_rows, collate = _rows_and_collate(model, examples, dev_examples, config, pad_id)
    if settings.shard_base:
        shard_base(model, model.device)
    has_dev = bool(dev_rows) or score_dev is not None
    arguments = _arguments(config, run_dir, model, has_dev=has_dev)
    checkpoint = processes.from_first(lambda: last_checkpoint(run_dir)) if resume else None
    last_step = int(checkpoint.name.split("-")[1]) if checkpoint else 0
    if resume:
        processes.from_first(lambda: cut_log(run_dir, last_step))
    check_batches((collate([row]) for row in rows[:2]), examples)
    optimizer = _optimizer(model, config)  # before a graph is captured: it moves the weights
    probed_mib = probe_until_it_fits(model, config, collate([max(rows, key=_n_tokens)]), kept, say)
    guard = StepGuard()
    watch = _Watch(run_dir, on_step, guard, save_steps=settings.save_steps, last_step=last_step)
    set_seed(settings.seed)
    trainer = SqlTrainer(
        model=model,
        args=arguments,
        train_dataset=Rows(rows),
        eval_dataset=Rows(dev_rows) if has_dev else None,
        data_collator=collate,
        compute_loss_func=label_loss,
        callbacks=[*_clocks(config), watch],
        guard=guard,
        optimizers=(optimizer, None),
    )
    trainer.remove_callback(PrinterCallback)  # ours reports
    trainer.score_dev = score_dev
    if settings.max_minutes:
        trainer.ends_s = time.monotonic() + settings.max_minutes * 60
    elapsed_s = _run(trainer, checkpoint, watch)
    n_tokens = sum(_n_tokens(row) for row in rows)
    return _result(trainer, run_dir, n_tokens=n_tokens, elapsed_s=elapsed_s, probed_mib=probed_mib)


def _result(
    trainer: "SqlTrainer", run_dir: Path, *, n_tokens: int, elapsed_s: float, probed_mib: float | None
) -> TrainingResult:
    """Where a training of epochs of `n_tokens` has ended."""
    state = trainer.state
    best = state.best_model_checkpoint
    return TrainingResult(
        n_steps=state.global_step,
        n_planned_steps=state.max_steps,
        n_dropped_steps=processes.from_first(lambda: n_dropped_steps(run_dir)),
        best_step=int(best.rsplit("-", 1)[1]) if best else state.global_step,
        trained_tokens=round(n_tokens * float(state.epoch)),
        elapsed_s=elapsed_s,
        probed_peak_mib=probed_mib,
        peak_mib=torch.cuda.max_memory_reserved() / 2**20 if torch.cuda.is_available() else None,
    )


def _clocks(config: Config) -> list[TrainerCallback]:
    """A learning rate that ends with the time; several processes have several clocks and go without."""
    minutes = config.training.max_minutes
    if not minutes or config.training.schedule == "constant" or processes.n_processes() > 1:
        return []
    return [CoolsByTheClock(minutes * 60)]


def _run(trainer: "SqlTrainer", checkpoint: Path | None, watch: "_Watch") -> float:
    """Seconds that the steps took.

    Raises:
        TrainingStopped: the card's memory ran out.
    """
    if torch.cuda.is_available():
        torch.cuda.empty_cache()  # what loading left reserved is not training's peak
        torch.cuda.reset_peak_memory_stats()
    started = time.monotonic()
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except torch.OutOfMemoryError:
        raise TrainingStopped(
            "the card's memory ran out; lower training.pack_tokens or batch_size, or set training.checkpointing = true"
        ) from None
    finally:
        if watch.writer:
            watch.writer.close()
    return time.monotonic() - started


def _optimizer(model: Any, config: Config) -> Any:
    """AdamW with 8-bit state where the settings want it and a CUDA card runs it; None: the Trainer's own AdamW."""
    if not config.eight_bit_state or model.device.type != "cuda" or model.dtype == torch.float16:
        return None
    settings = config.training
    return FlatAdamW8bit(model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)


def _n_tokens(row: Pack | Example) -> int:
    return len(row) if isinstance(row, Pack) else row.n_tokens


def _rows_and_collate(
    model: Any, examples: Sequence[Example], dev_examples: Sequence[Example], config: Config, pad_id: int
) -> tuple[Sequence[Any], Sequence[Any], Callable[[Sequence[Any]], dict[str, torch.Tensor]]]:
    """What a data set row is, and how rows become a batch: packs or separate questions."""
    settings = config.training
    if settings.packing == "none":
        return list(examples), list(dev_examples), partial(collate_examples, pad_id=pad_id)
    pack = partial(
        make_packs, pack_tokens=settings.budget_tokens, group_size=settings.group_size, seed=settings.seed
    )
    rows, dev_rows = pack(examples), pack(dev_examples)
    if uses_spans(model):
        size = fixed_size(model, [*rows, *dev_rows])
        return rows, dev_rows, partial(collate_pack, with_spans=True, size=size)
    window = getattr(model.config, "sliding_window", None)
    longest = max(e.n_tokens for e in (*examples, *dev_examples))
    if settings.batch_size == 1 and (window is None or longest <= window):
        model.set_attn_implementation(attention.NAME)
        return rows, dev_rows, collate_pack
    return rows, dev_rows, partial(collate_packs, pad_id=pad_id, window=window)


def _arguments(config: Config, run_dir: Path, model: Any, *, has_dev: bool) -> TrainingArguments:
    settings = config.training
    dtype = next(
        p.dtype for name, p in model.named_parameters() if "lora_" not in name and p.is_floating_point()
    )
    on_cuda = torch.cuda.is_available()
    by_dev = has_dev and settings.select_by != "last"
    checkpointing = "activation_checkpointing"
    if checkpointing not in TrainingArguments.__dataclass_fields__:
        checkpointing = "gradient_checkpointing"  # its name before transformers 5.23
    again = recomputes(config) and model.label_loss_through is None  # the fused step does so by itself
    chosen: dict[str, Any] = {checkpointing: again}
    if again:
        chosen[f"{checkpointing}_kwargs"] = {"use_reentrant": False}
    if by_dev:
        chosen |= {
            "load_best_model_at_end": True,
            "metric_for_best_model": f"eval_{settings.select_by}",
            "greater_is_better": settings.select_by != "loss",
        }
    arguments = TrainingArguments(
        output_dir=str(run_dir / "checkpoints"),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.accumulation,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.schedule,
        warmup_steps=settings.warmup_ratio,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        logging_steps=settings.logging_steps,
        save_strategy="epoch",  # and every `save_steps`: see _Watch
        eval_strategy="epoch" if has_dev else "no",
        save_total_limit=3,
        bf16=dtype == torch.bfloat16,
        fp16=dtype == torch.float16 and on_cuda,
        use_cpu=not on_cuda,
        remove_unused_columns=False,
        label_names=["labels"],
        dataloader_pin_memory=on_cuda,
        dataloader_num_workers=int(on_cuda),  # the next batch is made while the card works
        disable_tqdm=True,
        report_to="none",
        seed=settings.seed,
        data_seed=settings.seed,
        optim="adamw_torch_fused",
        **chosen,
    )
    if arguments.world_size == 1:
        # One process, one card: else the Trainer would split a pack over all that it sees.
        arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments
