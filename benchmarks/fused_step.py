"""Our training step on a model of a catalog row's exact shape with random weights: its speed, its memory, its kernels.

Real tokens only are counted, not what fills a pack up to a graph's shape.
"""

import time
from collections.abc import Sequence
from typing import Any

import torch

from benchmarks.stock_training import peaks_mib
from groundql.config import Config, DataSettings, LoraSettings, ModelSettings, TrainingSettings
from groundql.models.catalog import BaseModelRow
from groundql.models.fused_memory import Keeps
from groundql.models.memory import fused_parts, plan_of, sum_mib
from groundql.models.workload import Pass, QuestionLengths
from groundql.training.examples import Example
from groundql.training.fused.model import FusedModel, install, wants_spans
from groundql.training.optimizer import FlatAdamW8bit
from groundql.training.packs import IGNORE, Pack, collate_pack, make_packs
from groundql.training.trainer import add_lora


def tuned_model(base: Any, keeps: Keeps, *, rank: int = 32, graph: bool = False) -> Any:
    """A fresh adapter on all linears of `base`, with the fused step."""
    model = add_lora(base, LoraSettings(rank=rank, alpha=2 * rank), seed=0)
    fused = FusedModel(model, n_kept_attention=keeps.attention, n_kept=keeps.all, ffn_tokens=keeps.ffn_tokens)
    install(model, fused)
    if graph:
        fused.use_graph()
    return model.train()


def batches_of(packs: Sequence[Pack], model: Any) -> list[dict[str, Any]]:
    """Batches on the model's device; of one shape where a graph takes them."""
    spans = wants_spans(model, model.device)
    size = None
    if model.label_loss_through.graphed is not None:
        size = max(map(len, packs)), 1 + max(sum(x != IGNORE for x in pack.labels) for pack in packs)
    return [
        {k: v.to(model.device) for k, v in collate_pack([pack], with_spans=spans, size=size).items()}
        for pack in packs
    ]


def optimizer_of(model: Any) -> Any:
    """AdamW as training uses it."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    if torch.cuda.is_available():
        return FlatAdamW8bit(parameters, lr=2e-4, weight_decay=0.0)
    return torch.optim.AdamW(parameters, lr=2e-4, weight_decay=0.0)


def one_step(model: Any, batch: dict[str, Any], optimizer: Any) -> torch.Tensor:
    """Forward, backward, clipping, the guard against non-finite gradients, and AdamW."""
    inputs = dict(batch)
    n = (inputs.pop("labels") != IGNORE).sum()
    loss: torch.Tensor = model(**inputs)["loss_sum"] / n
    loss.backward()
    parameters = [p for p in model.parameters() if p.requires_grad]
    norm = torch.nn.utils.clip_grad_norm_(parameters, 1.0, foreach=True)
    if bool(norm.isfinite()):
        optimizer.step()
    optimizer.zero_grad()
    return loss.detach()


def warm_up(model: Any, batches: Sequence[dict[str, Any]], optimizer: Any) -> None:
    """Steps that nobody times or weighs: kernels are compiled, a graph is captured."""
    for batch in batches[:6]:
        one_step(model, batch, optimizer)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def measure(
    model: Any, packs: Sequence[Pack], batches: Sequence[dict[str, Any]], optimizer: Any, seconds: float
) -> dict[str, Any]:
    """Tokens and questions a second over whole steps, and the allocator's peaks; after `warm_up`."""
    started, n_steps, tokens, questions, losses = time.perf_counter(), 0, 0, 0, []
    while time.perf_counter() - started < seconds:
        batch, pack = batches[n_steps % len(batches)], packs[n_steps % len(packs)]
        losses.append(one_step(model, batch, optimizer))
        n_steps, tokens, questions = n_steps + 1, tokens + len(pack), questions + pack.n_questions
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    took = time.perf_counter() - started
    return {
        "tokens_per_s": round(tokens / took),
        "questions_per_s": round(questions / took, 1),
        "ms_per_step": round(1000 * took / n_steps, 1),
        "steps": n_steps,
        "seconds": round(took, 1),
        "tokens_per_step": round(tokens / n_steps),
        "first_losses": [round(float(loss), 4) for loss in losses[:3]],
        **peaks_mib(),
    }


@torch.no_grad()
def loss_of_packed(model: Any, examples: Sequence[Example]) -> float:
    """Mean loss a label token over these examples in packs, through the fused layers."""
    packs = make_packs(
        examples, pack_tokens=max(8192, *(e.n_tokens for e in examples)), group_size=16, seed=0
    )
    spans = wants_spans(model, model.device)
    total, n_labels = 0.0, 0
    for pack in packs:
        batch = {k: v.to(model.device) for k, v in collate_pack([pack], with_spans=spans).items()}
        n_labels += int((batch.pop("labels") != IGNORE).sum())
        total += float(model(**batch)["loss_sum"])
    return total / n_labels


def settings_of(
    row: BaseModelRow, pack_tokens: int, *, graph: Any, memory_gib: float | None, checkpointing: Any = "auto"
) -> Config:
    """The config of such a training: NF4, all linears at rank 32, 8-bit AdamW."""
    return Config(
        model=ModelSettings(name=row.name),
        lora=LoraSettings(rank=32, alpha=64),
        data=DataSettings(train="pocket"),
        training=TrainingSettings(
            select_by="last",
            optimizer="adamw_8bit",
            pack_tokens=pack_tokens,
            cuda_graph=graph,
            checkpointing=checkpointing,
        ),
        memory_gib=memory_gib,
    )


def planned_mib(config: Config, row: BaseModelRow, packs: Sequence[Pack], keeps: Keeps) -> int:
    """What the plan says of the heaviest of these packs: to compare with `reserved_mib`."""
    passes = (
        Pass(
            n_tokens=len(p), n_real_tokens=len(p), n_logit_rows=sum(x != IGNORE for x in p.labels), n_pairs=0
        )
        for p in packs
    )
    graph = config.training.cuda_graph is True
    return round(max(sum_mib(fused_parts(config, row, one, keeps, graph=graph)) for one in passes))


def planned_keeps(config: Config, row: BaseModelRow, examples: Sequence[Example]) -> Keeps:
    """What the plan lets layers keep under the config's memory."""
    lengths = [QuestionLengths(e.prefix, len(e.prefix), len(e.suffix), len(e.answer)) for e in examples]
    keeps = plan_of(config, row, lengths).keeps
    assert keeps is not None
    return keeps


def profile(model: Any, batch: dict[str, Any], optimizer: Any, n: int = 30) -> dict[str, Any]:
    """Where one step goes: all kernels' ms, and ms and launches of the longest ones by name. Nothing of the host is noted."""
    activity = torch.profiler.ProfilerActivity
    on_card = torch.cuda.is_available()
    with torch.profiler.profile(activities=[activity.CUDA if on_card else activity.CPU]) as seen:
        one_step(model, batch, optimizer)
        if on_card:
            torch.cuda.synchronize()
    by_kernel: dict[str, tuple[float, int]] = {}
    for event in seen.events():
        if "CUDA" in str(event.device_type) and "#" not in event.name:  # with it: a span of kernels, not one
            time_us, count = by_kernel.get(event.name, (0.0, 0))
            by_kernel[event.name] = (time_us + event.device_time, count + 1)
    longest = sorted(by_kernel.items(), key=lambda kv: -kv[1][0])[:n]
    return {
        "tokens": batch["input_ids"].shape[1],
        "kernels_ms": round(sum(t for t, _ in by_kernel.values()) / 1000, 1),
        "longest": [[round(t / 1000, 2), count, name[:90]] for name, (t, count) in longest],
    }


def full_packs(examples: Sequence[Example], pack_tokens: int, group_size: int = 16) -> list[Pack]:
    """Up to 40 packs, those that an epoch's end leaves half empty aside."""
    fitting = [e for e in examples if e.n_tokens <= pack_tokens]
    packs = make_packs(fitting, pack_tokens=pack_tokens, group_size=group_size, seed=0)
    return [pack for pack in packs if len(pack) >= 0.9 * pack_tokens][:40]
