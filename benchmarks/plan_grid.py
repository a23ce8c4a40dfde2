"""The plan beside what torch's allocator says, for every catalog model at several budgets. Needs a CUDA card.

    python -m benchmarks.plan_grid EXAMPLES.npz [--models NAME...] [--json OUT] [--at-once 8] [--limit 90] [--steps 2]

Random weights in each model's exact shape, NF4, rank 32, 8-bit AdamW, packs of real lengths; what layers keep and
whether there is a graph is the plan's choice under the budget's memory, and the allocator is held to it. A process a
model, each with a time limit; memory alone is measured, so several run at once (speed wants one at a time and some `--steps`). Without a GPU a tiny model runs, and only
the plan's numbers are filled in.
"""

import argparse
import gc
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks import fused_step
from benchmarks.examples_file import load_examples, made_up_examples
from benchmarks.random_models import random_base_model, row_of
from benchmarks.stock_training import in_vocabulary, peaks_mib
from groundql.models.catalog import CATALOG, BaseModelRow
from groundql.models.fused_memory import FFN_TOKENS, Keeps
from groundql.models.load import grow_segments
from groundql.models.memory import CONTEXT_MIB, plan_of
from groundql.models.workload import QuestionLengths
from groundql.training.examples import Example
from groundql.training.fused.model import FusedModel
from groundql.training.step import cap_memory


class Budget(NamedTuple):
    """One cell of a model's row."""

    memory_gib: float
    pack_tokens: int
    graph: Any  # True, False or "auto"
    checkpointing: Any  # True or "auto"


BUDGETS = (
    Budget(6, 8192, False, True),
    Budget(6, 8192, "auto", "auto"),
    Budget(12, 4096, "auto", "auto"),
    Budget(4, 2048, "auto", "auto"),
)


def measure_model(
    name: str, examples: Sequence[Example], budgets: Sequence[Budget], n_timed: int
) -> Iterator[dict[str, Any]]:
    """A row for each budget."""
    row = row_of(name)
    model = fused_step.tuned_model(random_base_model(row), Keeps(0, 0, FFN_TOKENS))
    for budget in budgets:
        config = fused_step.settings_of(
            row,
            budget.pack_tokens,
            graph=budget.graph,
            memory_gib=budget.memory_gib,
            checkpointing=budget.checkpointing,
        )
        fitting = [e for e in examples if e.n_tokens <= budget.pack_tokens]
        plan = plan_of(
            config,
            row,
            [QuestionLengths(e.prefix, len(e.prefix), len(e.suffix), len(e.answer)) for e in fitting],
        )
        assert plan.keeps is not None
        facts = {"model": name, **budget._asdict(), "keeps": list(plan.keeps), "graph": plan.graph}
        facts |= {"fits": plan.fits, "planned_mib": round(plan.peak_mib)}
        if plan.fits:
            cap_memory(budget.memory_gib * 1024, CONTEXT_MIB)
            try:
                facts |= measure_budget(model, row, plan, fitting, budget.pack_tokens, n_timed)
            except torch.OutOfMemoryError as error:
                facts["stopped"] = f"out of memory: {str(error).split('.')[0]}"
        yield facts
        gc.collect()  # a model refers to itself
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def measure_budget(
    model: Any, row: BaseModelRow, plan: Any, examples: Sequence[Example], pack_tokens: int, n_timed: int
) -> dict[str, Any]:
    """Two steps and `n_timed` more with what the plan chose: peaks of all and of the later ones, whose time is taken."""
    model.label_loss_through = None  # the graph before lets its memory go
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    fused = FusedModel(
        model,
        n_kept=plan.keeps.all,
        n_kept_attention=plan.keeps.attention,
        ffn_tokens=plan.keeps.ffn_tokens,
    )
    model.label_loss_through = fused
    if plan.graph and torch.cuda.is_available():
        fused.use_graph()
    packs = fused_step.full_packs(examples, pack_tokens)[: 2 + n_timed]
    batches = fused_step.batches_of(packs, model)
    optimizer = fused_step.optimizer_of(model)
    for batch in batches[:2]:
        fused_step.one_step(model, batch, optimizer)
    whole = {f"{key.removesuffix('_mib')}_with_start_mib": value for key, value in peaks_mib().items()}
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    losses = [float(fused_step.one_step(model, batch, optimizer)) for batch in batches[2:]]
    took_s = time.perf_counter() - started
    found = {**peaks_mib(), **whole, "losses": [round(loss, 3) for loss in losses]}
    if "reserved_mib" in found:
        found["excess"] = round(
            plan.peak_mib / max(found["reserved_mib"], found["reserved_with_start_mib"]) - 1, 3
        )
    return {
        **found,
        "losses": found["losses"][:3],
        "timed_steps": len(losses),
        "ms_per_step": round(1000 * took_s / max(1, len(losses))),
        "tokens_per_s": round(sum(map(len, packs[2:])) / took_s),
    }


def run_child(name: str, limit_s: float, handed_on: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The rows of one model, as they come."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.plan_grid", *handed_on, "--child", name],
        stdout=subprocess.PIPE,
        text=True,
    )
    timer = threading.Timer(limit_s, process.kill)
    timer.start()
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("{"):
            yield json.loads(line)
    code = process.wait()
    timer.cancel()
    if code:
        yield {"model": name, "stopped": "its time was over" if code < 0 else f"it failed with status {code}"}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    lines = [
        "| model | GiB | pack | kept | graph | planned | allocated | reserved | with start | plan is | ms a step | tok/s |",
        "|---|---:|---:|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in sorted(rows, key=lambda r: list(CATALOG).index(r["model"]) if r["model"] in CATALOG else 99):
        excess = f"{100 * row['excess']:+.0f} %" if "excess" in row else ""
        cells = [row["model"], row.get("memory_gib", ""), row.get("pack_tokens", ""), row.get("keeps", "")]
        cells += [row.get("graph", ""), row.get("planned_mib", ""), row.get("allocated_mib", "")]
        cells += [row.get("reserved_mib", ""), row.get("reserved_with_start_mib", ""), excess]
        cells += [row.get("ms_per_step", ""), row.get("tokens_per_s", "")]
        note = row.get("stopped") or ("the plan refuses it" if row.get("fits") is False else "")
        lines.append("| " + " | ".join(map(str, cells)) + " | " + note)
    return "\n".join(lines)


def main() -> None:
    """Run what is asked for; print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("examples", type=Path, nargs="?")
    parser.add_argument("--models", nargs="+", default=list(CATALOG))
    parser.add_argument("--packs", type=int, nargs="+", help="budgets of these packs alone, in tokens")
    parser.add_argument("--at-once", type=int, default=1, help="models at once: needs a large card")
    parser.add_argument("--limit", type=float, default=300.0, help="seconds a model")
    parser.add_argument("--steps", type=int, default=2, help="timed steps of each budget")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        grow_segments()
        row = row_of(asked.child)
        examples = load_examples(asked.examples) if asked.examples else made_up_examples(400)
        budgets = [one for one in BUDGETS if not asked.packs or one.pack_tokens in asked.packs]
        for found in measure_model(asked.child, in_vocabulary(examples, row.vocab), budgets, asked.steps):
            print(json.dumps(found), flush=True)
        return
    if not torch.cuda.is_available():
        print("no GPU here: a tiny model, and nothing of memory is measured", file=sys.stderr)
        asked.models = ["tiny"]
    rows: list[dict[str, Any]] = []
    lock = threading.Lock()

    def run(names: list[str], handed_on: Sequence[str]) -> None:
        while True:
            with lock:
                if not names:
                    return
                name = names.pop(0)
            for found in run_child(name, asked.limit, handed_on):
                with lock:
                    rows.append(found)
                    if asked.json:
                        asked.json.write_text(json.dumps(rows, indent=1) + "\n")

    handed_on = [str(asked.examples)] if asked.examples else []
    handed_on += ["--steps", str(asked.steps)]
    if asked.packs:
        handed_on += ["--packs", *map(str, asked.packs)]
    names = list(asked.models)
    threads = [threading.Thread(target=run, args=(names, handed_on)) for _ in range(asked.at_once)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(table(rows))


if __name__ == "__main__":
    main()
