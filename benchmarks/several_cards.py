"""One training step spread over cards: speed, and whether loss and gradients are those of one card.

    python -m benchmarks.several_cards EXAMPLES.npz --json one.json
    torchrun --standalone --nproc-per-node 2 -m benchmarks.several_cards EXAMPLES.npz --json two.json --beside one.json

Our own trainer on random weights, two packs an optimizer step however many processes there are (one or two). `--beside`
prints the greatest relative difference of loss and gradient norm over the steps. Without a GPU a tiny model runs.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks import fused_step
from benchmarks.examples_file import load_examples, made_up_examples
from benchmarks.random_models import random_base_model, row_of
from benchmarks.stock_training import in_vocabulary, peaks_mib
from groundql.models.load import grow_segments
from groundql.models.memory import plan_of
from groundql.models.workload import QuestionLengths
from groundql.training import processes
from groundql.training.packs import make_packs
from groundql.training.trainer import add_lora, train_adapter

PACKS_A_STEP = 2


def train(asked: argparse.Namespace) -> dict[str, Any]:
    """Steps of one epoch over as many packs as are asked for."""
    row = row_of(asked.model)
    examples = load_examples(asked.examples) if asked.examples else made_up_examples(200)
    examples = in_vocabulary([e for e in examples if e.n_tokens <= asked.pack_tokens], row.vocab)
    config = fused_step.settings_of(row, asked.pack_tokens, graph="auto", memory_gib=asked.memory_gib)
    settings = config.training.model_copy(
        update={"accumulation": PACKS_A_STEP // processes.n_processes(), "epochs": 1, "logging_steps": 1}
    )
    config = config.model_copy(update={"training": settings})
    chosen = examples
    while len(make_packs(chosen, pack_tokens=asked.pack_tokens, group_size=16, seed=0)) > asked.packs:
        chosen = chosen[: len(chosen) * 9 // 10]
    lengths = [QuestionLengths(e.prefix, len(e.prefix), len(e.suffix), len(e.answer)) for e in chosen]
    plan = plan_of(config, row, lengths)
    model = add_lora(random_base_model(row), config.lora, seed=0)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        run_dir = processes.from_first(lambda: Path(folder) / "run")
        result = train_adapter(
            model, chosen, [], config=config, run_dir=run_dir, pad_id=0, keeps=plan.keeps, graph=plan.graph
        )
        processes.wait()
        log = run_dir / "log.jsonl"
        lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    steps = [[line["loss"], line["grad_norm"]] for line in lines if "loss" in line]
    return {
        "model": asked.model,
        "processes": processes.n_processes(),
        "graph": plan.graph,
        "keeps": list(plan.keeps or ()),
        "steps": result.n_steps,
        "tokens_per_s": round(result.trained_tokens / result.elapsed_s),
        "seconds": round(result.elapsed_s, 1),
        "seconds_with_start": round(time.monotonic() - started, 1),
        "losses_and_norms": steps,
        **peaks_mib(),
    }


def greatest_difference(one: dict[str, Any], two: dict[str, Any]) -> float:
    """Of any loss or gradient norm, relative."""
    pairs = zip(one["losses_and_norms"], two["losses_and_norms"], strict=True)
    return max(abs(a - b) / max(abs(a), 1e-9) for x, y in pairs for a, b in zip(x, y, strict=True))


def main() -> None:
    """Run it in this process of however many."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("examples", type=Path, nargs="?")
    parser.add_argument("--model", default="Qwen2.5-Coder-1.5B-Instruct")
    parser.add_argument("--pack-tokens", type=int, default=8192)
    parser.add_argument("--packs", type=int, default=60)
    parser.add_argument("--memory-gib", type=float, default=6.0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--beside", type=Path)
    asked = parser.parse_args()
    grow_segments()
    if not torch.cuda.is_available():
        asked.model = "tiny"
        print("no GPU here: a tiny model; its times compare with nothing", file=sys.stderr)
    processes.join()
    found = train(asked)
    if processes.is_first():
        print(json.dumps(found | {"losses_and_norms": found["losses_and_norms"][:3]}))
        if asked.json:
            asked.json.write_text(json.dumps(found) + "\n")
        if asked.beside:
            other = json.loads(asked.beside.read_text())
            print(f"greatest relative difference to one process: {greatest_difference(other, found):.2e}")
            print(f"tokens/s x {found['tokens_per_s'] / other['tokens_per_s']:.2f}")
    processes.leave()


if __name__ == "__main__":
    main()
