"""Speed and memory of our training step on a model of a catalog row's exact shape, with random weights.

    python -m benchmarks.fused_step EXAMPLES.npz --model Qwen2.5-Coder-1.5B-Instruct --pack-tokens 8192 16384

Real tokens only: packs have no padding. Prints a JSON object for each setting. Without a GPU it runs a tiny model and
says so.
"""

import argparse
import gc
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.examples_file import load_examples, load_facts
from benchmarks.random_models import load_base_model, row_of, save_random_model
from benchmarks.stock_training import in_vocabulary
from groundql.config import Config, DataSettings, LoraSettings, ModelSettings, TrainingSettings
from groundql.models.catalog import BaseModelRow
from groundql.models.fused_memory import Keeps
from groundql.models.load import grow_segments
from groundql.models.memory import fused_parts, sum_mib
from groundql.models.workload import Pass
from groundql.training.examples import Example
from groundql.training.fused.model import FusedModel, install, wants_spans
from groundql.training.optimizer import FlatAdamW8bit
from groundql.training.packs import IGNORE, Pack, collate_pack, make_packs
from groundql.training.trainer import add_lora


def tuned_model(
    folder: Path,
    quantization: str,
    rank: int,
    *,
    kept: tuple[int, int],
    ffn_tokens: int,
    graph: bool = False,
) -> Any:
    """A fresh adapter on all linears of the base in `folder`, with the fused step."""
    lora = LoraSettings(rank=rank, alpha=2 * rank)
    model = add_lora(load_base_model(folder, quantization), lora, seed=0)
    fused = FusedModel(model, n_kept_attention=kept[0], n_kept=kept[1], ffn_tokens=ffn_tokens)
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


def optimizer_of(model: Any, name: str) -> Any:
    """AdamW as training uses it."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    if name == "8bit":
        return FlatAdamW8bit(parameters, lr=2e-4, weight_decay=0.0)
    return torch.optim.AdamW(parameters, lr=2e-4, weight_decay=0.0, fused=torch.cuda.is_available())


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


def measure(model: Any, packs: Sequence[Pack], optimizer: Any, seconds: float) -> dict[str, Any]:
    """Tokens and questions a second over whole steps, and the allocator's peak."""
    batches = batches_of(packs, model)
    on_cuda = torch.cuda.is_available()
    for batch in batches[:6]:
        one_step(model, batch, optimizer)
    if on_cuda:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    started, n_steps, tokens, questions, losses = time.perf_counter(), 0, 0, 0, []
    while time.perf_counter() - started < seconds:
        batch, pack = batches[n_steps % len(batches)], packs[n_steps % len(packs)]
        losses.append(one_step(model, batch, optimizer))
        n_steps, tokens, questions = n_steps + 1, tokens + len(pack), questions + pack.n_questions
    if on_cuda:
        torch.cuda.synchronize()
    took = time.perf_counter() - started
    facts = {
        "steps": n_steps,
        "tokens_a_second": round(tokens / took),
        "questions_a_second": round(questions / took, 1),
        "ms_a_step": round(1000 * took / n_steps, 1),
        "tokens_a_step": round(tokens / n_steps),
        "losses": [round(float(x), 3) for x in losses[:3]],
    }
    if on_cuda:
        facts["peak_reserved_mib"] = round(torch.cuda.max_memory_reserved() / 2**20)
        facts["peak_allocated_mib"] = round(torch.cuda.max_memory_allocated() / 2**20)
    return facts


def predicted_mib(row: BaseModelRow, asked: argparse.Namespace, packs: Sequence[Pack], kept: Any) -> float:
    """What the plan says of the heaviest of these packs: to compare with `peak_reserved_mib`."""
    config = Config(
        model=ModelSettings(name=row.name, quantization=asked.quantization),
        lora=LoraSettings(rank=asked.rank, alpha=2 * asked.rank),
        data=DataSettings(train="pocket"),
        training=TrainingSettings(
            select_by="last", optimizer="adamw_8bit" if asked.optimizer == "8bit" else "adamw"
        ),
    )
    keeps = Keeps(*kept, asked.ffn_tokens)
    passes = (
        Pass(
            n_tokens=len(p), n_real_tokens=len(p), n_logit_rows=sum(x != IGNORE for x in p.labels), n_pairs=0
        )
        for p in packs
    )
    return round(max(sum_mib(fused_parts(config, row, one, keeps)) for one in passes))


def moments_mib(model: Any, batch: dict[str, Any], optimizer: Any) -> dict[str, int]:
    """MiB allocated at the moments of one step: before it, its forward's peak, after forward, backward's, the update's."""
    inputs = dict(batch)
    n = (inputs.pop("labels") != IGNORE).sum()
    found: dict[str, int] = {}

    def note(name: str, *, peak: bool) -> None:
        torch.cuda.synchronize()
        value = torch.cuda.max_memory_allocated() if peak else torch.cuda.memory_allocated()
        found[name] = round(value / 2**20)
        torch.cuda.reset_peak_memory_stats()

    note("before", peak=False)
    loss = model(**inputs)["loss_sum"] / n
    note("forward_peak", peak=True)
    note("after_forward", peak=False)
    loss.backward()
    note("backward_peak", peak=True)
    note("after_backward", peak=False)
    optimizer.step()
    note("update_peak", peak=True)
    optimizer.zero_grad()
    return found


def profile(model: Any, pack: Pack, optimizer: Any, n: int = 22) -> None:
    """Where a step goes: kernels by time, on stderr."""
    (batch,) = batches_of([pack], model)
    with torch.profiler.profile() as seen:
        for _ in range(2):
            one_step(model, batch, optimizer)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
    by_kernel: dict[str, tuple[float, int]] = {}
    for event in seen.events():
        if "CUDA" in str(event.device_type):
            time_us, count = by_kernel.get(event.name, (0.0, 0))
            by_kernel[event.name] = (time_us + event.device_time, count + 1)
    total = sum(t for t, _ in by_kernel.values())
    print(f"kernels: {total / 2000:.1f} ms a step", file=sys.stderr)
    for name, (time_us, count) in sorted(by_kernel.items(), key=lambda kv: -kv[1][0])[:n]:
        print(f"  {time_us / 2000:8.2f} ms {count // 2:6d}  {name[:90]}", file=sys.stderr)


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("examples", type=Path)
    parser.add_argument("--model", default="Qwen2.5-Coder-1.5B-Instruct")
    parser.add_argument("--pack-tokens", type=int, nargs="+", default=[8192])
    parser.add_argument("--group-size", type=int, default=16)
    parser.add_argument("--kept", nargs="+", default=["0+0"], help="layers that keep attention's + all")
    parser.add_argument("--ffn-tokens", type=int, default=4096)
    parser.add_argument("--rank", type=int, default=32)
    parser.add_argument("--quantization", default="nf4", choices=["nf4", "fp4", "none"])
    parser.add_argument("--optimizer", default="8bit", choices=["8bit", "32bit"])
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--cap-gib", type=float, help="of the CUDA allocator")
    parser.add_argument("--weights", type=Path, help="where the random weights are kept")
    parser.add_argument("--graph", action="store_true", help="whole passes as one CUDA graph")
    parser.add_argument("--profile", action="store_true")
    asked = parser.parse_args()

    examples = load_examples(asked.examples)
    name = asked.model
    if not torch.cuda.is_available():
        print("no GPU here: a tiny model on the CPU; its times compare with nothing", file=sys.stderr)
        name, asked.optimizer = "tiny", "32bit"
    row = row_of(name)
    facts = load_facts(asked.examples)
    if max(facts["pad_id"], facts["end_id"]) >= row.vocab:
        examples = in_vocabulary(examples, row.vocab)
    with tempfile.TemporaryDirectory() as temporary:
        grow_segments()
        folder = save_random_model(row, asked.weights or Path(temporary) / "model")
        if asked.cap_gib and torch.cuda.is_available():
            total = torch.cuda.get_device_properties(0).total_memory
            torch.cuda.set_per_process_memory_fraction(asked.cap_gib * 2**30 / total)
        for pack_tokens in asked.pack_tokens:
            packs = full_packs(examples, pack_tokens, asked.group_size)
            for kept in (tuple(map(int, text.split("+"))) for text in asked.kept):
                common = {
                    "model": name,
                    "pack_tokens": pack_tokens,
                    "kept": kept,
                    "ffn_tokens": asked.ffn_tokens,
                    "quantization": asked.quantization,
                    "optimizer": asked.optimizer,
                    "rank": asked.rank,
                    "cap_gib": asked.cap_gib,
                    "graph": asked.graph,
                    "predicted_mib": predicted_mib(row, asked, packs, kept),
                }
                try:
                    model = tuned_model(
                        folder,
                        asked.quantization,
                        asked.rank,
                        kept=kept,
                        ffn_tokens=asked.ffn_tokens,
                        graph=asked.graph,
                    )
                    optimizer = optimizer_of(model, asked.optimizer)
                    common |= measure(model, packs, optimizer, asked.seconds)
                    if torch.cuda.is_available() and not asked.graph:
                        largest = batches_of([max(packs, key=len)], model)[0]
                        common["moments_mib"] = moments_mib(model, largest, optimizer)
                    print(json.dumps(common), flush=True)
                    if asked.profile:
                        profile(model, packs[0], optimizer)
                except torch.OutOfMemoryError:
                    print(json.dumps(common | {"failed": "out of memory"}), flush=True)
                model = optimizer = None
                gc.collect()  # a model refers to itself
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()


def full_packs(examples: Sequence[Example], pack_tokens: int, group_size: int) -> list[Pack]:
    """Up to 40 packs that are at least nine tenths full."""
    fitting = [e for e in examples if e.n_tokens <= pack_tokens]
    packs = make_packs(fitting, pack_tokens=pack_tokens, group_size=group_size, seed=0)
    return [pack for pack in packs if len(pack) >= 0.9 * pack_tokens][:40]


if __name__ == "__main__":
    main()
