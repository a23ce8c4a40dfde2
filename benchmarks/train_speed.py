"""Training speed and memory beside the stock stack, on the same questions and the same model shape.

    python -m benchmarks.train_speed EXAMPLES.npz [--model NAME] [--seconds 20] [--json OUT]
    python -m benchmarks.train_speed EXAMPLES.npz --ways padded trl:4096 ours:8192:graph ours:8192:0+0 ours:16384

Each way is a process of its own, so that memory numbers are apart. Weights are random, in the model's exact shape. A way:

    padded             transformers + peft + bitsandbytes, padded pairs, checkpointing
    trl:TOKENS         TRL's SFTTrainer with packing
    ours:TOKENS        packs that share schemas; what layers keep is planned for --memory-gib
    ours:TOKENS:graph  the same as one CUDA graph
    ours:...:A+B       A layers keep what attention made, B keep all

Only real tokens count, no padding. A schema that is shared is one token where the stock stack has many: questions a
second is the honest ratio. Examples come from `encode_examples`; without a file they are made up. Without a GPU a
tiny model runs and times compare with nothing.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import fused_step
from benchmarks.examples_file import load_examples, load_facts, made_up_examples
from benchmarks.random_models import load_base_model, row_of, save_random_model
from benchmarks.stock_training import Budget, in_vocabulary, loss_of_separate, stock_padded, trl_packed
from groundql.models.fused_memory import FFN_TOKENS, SMALL_FFN_TOKENS, Keeps
from groundql.models.load import grow_segments
from groundql.models.memory import CONTEXT_MIB
from groundql.training.examples import Example
from groundql.training.step import cap_memory

WAYS = ["padded", "trl:4096", "ours:8192:graph", "ours:8192:0+0", "ours:16384:0+0"]
READY = "ready"  # what a child says before it measures


def prepare_stock(way: str, folder: Path, examples: Sequence[Example], asked: Any) -> Callable[[], Any]:
    """The stock stack, loaded; what is returned measures it."""
    kind, _, tokens = way.partition(":")
    if kind not in ("padded", "trl"):
        raise ValueError(f"no way is named {kind}")
    model = load_base_model(folder, "nf4")
    first_loss = loss_of_separate(model.eval(), same_examples(examples))
    budget = Budget(steps=10**6, seconds=asked.seconds)

    def measure() -> dict[str, Any]:
        if kind == "padded":
            found = stock_padded(lambda: model, examples, budget, pad_id=asked.pad_id)
        else:
            found = trl_packed(
                lambda: model,
                examples,
                budget,
                pack_tokens=int(tokens),
                pad_id=asked.pad_id,
                end_id=asked.end_id,
            )
        return {**found, "first_loss": first_loss}

    return measure


def prepare_ours(way: str, folder: Path, examples: Sequence[Example], asked: Any) -> Callable[[], Any]:
    """Our step, loaded, compiled, and captured where it is a graph; what is returned measures it."""
    tokens, *options = way.split(":")[1:]
    row = row_of(asked.model)
    graph = "graph" in options and torch.cuda.is_available()
    config = fused_step.settings_of(row, int(tokens), graph=graph, memory_gib=asked.memory_gib)
    packs = fused_step.full_packs(examples, int(tokens))
    given = next((option for option in options if "+" in option), None)
    if given:
        n_attention, n_all = map(int, given.split("+"))
        keeps = Keeps(n_attention, n_all, FFN_TOKENS if graph or n_attention + n_all else SMALL_FFN_TOKENS)
    else:
        fitting = [e for e in examples if e.n_tokens <= int(tokens)]
        keeps = fused_step.planned_keeps(config, row, fitting)
    cap_memory(asked.memory_gib * 1024, CONTEXT_MIB)
    model = fused_step.tuned_model(load_base_model(folder, "nf4"), keeps, graph=graph)
    first_loss = fused_step.loss_of_packed(model, same_examples(examples))
    optimizer = fused_step.optimizer_of(model)
    batches = fused_step.batches_of(packs, model)
    fused_step.warm_up(model, batches, optimizer)

    def measure() -> dict[str, Any]:
        found = {
            "recipe": f"ours, packs of {int(tokens):,} tokens" + (", one CUDA graph" if graph else ""),
            "keeps": list(keeps),
            "planned_mib": fused_step.planned_mib(config, row, packs, keeps),
            "first_loss": first_loss,
            **fused_step.measure(model, packs, batches, optimizer, asked.seconds),
        }
        if asked.profile:
            found["profile"] = fused_step.profile(model, batches[0], optimizer)
        return found

    return measure


def same_examples(examples: Sequence[Example]) -> list[Example]:
    """The few on which every way says its loss before training: all should say the same."""
    return random.Random(0).sample([e for e in examples if e.n_tokens <= 2048], 8)


def run_child(way: str, examples: Sequence[Example], asked: argparse.Namespace) -> None:
    """In its own process: prepare, wait for the turn where there are others, measure, print one JSON object."""
    grow_segments()
    facts: dict[str, Any] = {"way": way, "model": asked.model}
    try:
        prepare = prepare_ours if way.startswith("ours") else prepare_stock
        measure = prepare(way, asked.weights, examples, asked)
        print(READY, flush=True)
        if asked.turns:
            sys.stdin.readline()
        facts |= measure()
    except torch.OutOfMemoryError as error:
        facts["stopped"] = f"out of memory: {str(error).split('.')[0]}"
    print(json.dumps(facts), flush=True)


class Child:
    """One way in a process of its own, killed after its time."""

    def __init__(self, way: str, arguments: Sequence[str], limit_s: float) -> None:
        self.way = way
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.train_speed", *arguments, "--child", way],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.timer = threading.Timer(limit_s, self.process.kill)
        self.timer.start()

    def wait_until_ready(self) -> None:
        """Returns when it is prepared, or has ended."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.strip() == READY:
                return

    def result(self) -> dict[str, Any]:
        """What it measured, after it had its turn."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write("go\n")
            self.process.stdin.close()
        except BrokenPipeError:
            pass
        lines = [line for line in self.process.stdout if line.startswith("{")]
        code = self.process.wait()
        self.timer.cancel()
        if lines:
            found: dict[str, Any] = json.loads(lines[-1])
            return found
        return {
            "way": self.way,
            "stopped": "its time was over" if code < 0 else f"it failed with status {code}",
        }


def run_all(asked: argparse.Namespace, arguments: Sequence[str], save: Callable[[Any], None]) -> list[Any]:
    """The ways one after the other; `--side-by-side`: prepared all at once and measured in turns."""
    rows: list[dict[str, Any]] = []
    waiting = [Child(way, arguments, asked.limit) for way in asked.ways] if asked.side_by_side else []
    for child in waiting:
        child.wait_until_ready()
    for i, way in enumerate(asked.ways):
        child = waiting[i] if waiting else Child(way, arguments, asked.limit)
        if not waiting:
            child.wait_until_ready()
        rows.append(child.result())
        save(rows)
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as Markdown, with ratios to the first row that has a speed."""
    base = next((row for row in rows if row.get("questions_per_s")), None)
    names = [
        ("way", "way"),
        ("tokens/s", "tokens_per_s"),
        ("questions/s", "questions_per_s"),
        ("ms a step", "ms_per_step"),
        ("tokens a step", "tokens_per_step"),
        ("allocated MiB", "allocated_mib"),
        ("reserved MiB", "reserved_mib"),
        ("planned MiB", "planned_mib"),
        ("loss before", "first_loss"),
    ]
    lines = ["| " + " | ".join([*(title for title, _ in names), "tokens/s x", "questions/s x"]) + " |"]
    lines.append("|---|" + "---:|" * (len(names) + 1))
    for row in rows:
        cells = [_cell(row.get(name)) for _, name in names]
        for name in ("tokens_per_s", "questions_per_s"):
            ratio = base and row.get(name) and row[name] / base[name]
            cells.append(f"{ratio:.1f}" if ratio else "")
        lines.append("| " + " | ".join(cells) + " |" + (f" {row['stopped']}" if row.get("stopped") else ""))
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float) and value < 100:
        return f"{value:.4g}"
    return f"{value:,.0f}" if isinstance(value, int | float) else str(value)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is asked for and print the table."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("examples", type=Path, nargs="?")
    parser.add_argument("--model", default="Qwen2.5-Coder-1.5B-Instruct")
    parser.add_argument("--ways", nargs="+", default=WAYS)
    parser.add_argument("--seconds", type=float, default=20.0, help="of timed steps, each way")
    parser.add_argument("--memory-gib", type=float, default=5.6, help="of the card that ours is held to")
    parser.add_argument("--weights", type=Path, help="where the random weights are kept")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds until a way is given up")
    parser.add_argument(
        "--side-by-side", action="store_true", help="prepare all ways at once: needs a large card"
    )
    parser.add_argument("--profile", action="store_true", help="where the time goes, of our ways")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--turns", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args(given)
    asked.pad_id, asked.end_id = 0, 1
    if not torch.cuda.is_available():
        asked.model = "tiny"
    if asked.child:
        run_child(asked.child, read_examples(asked), asked)
        return
    device = (
        torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU here: a tiny model on the CPU"
    )
    print(device + ("" if torch.cuda.is_available() else "; its times compare with nothing"), file=sys.stderr)
    with tempfile.TemporaryDirectory() as temporary:
        folder = save_random_model(row_of(asked.model), asked.weights or Path(temporary) / "model")
        handed_on = [*given, "--weights", str(folder), *(["--turns"] if asked.side_by_side else [])]

        def save(rows: list[Any]) -> None:
            if asked.json:
                asked.json.write_text(json.dumps({"device": device, "rows": rows}, indent=1) + "\n")

        rows = run_all(asked, handed_on, save)
    print(f"{device}; {asked.model}\n\n{table(rows)}")


def read_examples(asked: argparse.Namespace) -> list[Example]:
    """Those of the file, or made up; in the vocabulary of the model, with `asked.pad_id` and `end_id` as they go."""
    if asked.examples is None:
        return made_up_examples(600)
    examples, facts = load_examples(asked.examples), load_facts(asked.examples)
    if max(facts["pad_id"], facts["end_id"]) >= row_of(asked.model).vocab:
        return in_vocabulary(examples, row_of(asked.model).vocab)
    asked.pad_id, asked.end_id = facts["pad_id"], facts["end_id"]
    return examples


if __name__ == "__main__":
    main()
