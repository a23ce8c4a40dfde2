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
import contextlib
import json
import random
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

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


class Way(NamedTuple):
    """A way that is loaded: what measures it, and what tells where a step's time goes."""

    measure: Callable[[], dict[str, Any]]
    profile: Callable[[], dict[str, Any]] | None


def prepare_stock(way: str, folder: Path, examples: Sequence[Example], asked: Any) -> Way:
    """The stock stack, loaded."""
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

    return Way(measure, None)


def prepare_ours(way: str, folder: Path, examples: Sequence[Example], asked: Any) -> Way:
    """Our step, loaded, compiled, and captured where it is a graph."""
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
        return {
            "recipe": f"ours, packs of {int(tokens):,} tokens" + (", one CUDA graph" if graph else ""),
            "keeps": list(keeps),
            "planned_mib": fused_step.planned_mib(config, row, packs, keeps),
            "first_loss": first_loss,
            **fused_step.measure(model, packs, batches, optimizer, asked.seconds),
        }

    return Way(measure, lambda: fused_step.profile(model, batches[0], optimizer))


def same_examples(examples: Sequence[Example]) -> list[Example]:
    """The few on which every way says its loss before training: all should say the same."""
    return random.Random(0).sample([e for e in examples if e.n_tokens <= 2048], 8)


def run_child(way: str, examples: Sequence[Example], asked: argparse.Namespace) -> None:
    """In its own process: prepare, and at each line of stdin measure, then profile; a JSON object a line."""
    grow_segments()
    facts: dict[str, Any] = {"way": way, "model": asked.model}
    try:
        prepare = prepare_ours if way.startswith("ours") else prepare_stock
        loaded = prepare(way, asked.weights, examples, asked)
        print(READY, flush=True)
        sys.stdin.readline()
        facts |= loaded.measure()
    except torch.OutOfMemoryError as error:
        facts["stopped"] = f"out of memory: {str(error).split('.')[0]}"
    print(json.dumps(facts), flush=True)
    if "stopped" not in facts and loaded.profile is not None and sys.stdin.readline():
        print(json.dumps(loaded.profile()), flush=True)


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
        self.timer.daemon = True  # an error of ours ends at once
        self.timer.start()

    def wait_until_ready(self) -> None:
        """Returns when it is prepared, or has ended."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.strip() == READY:
                return

    def result(self) -> dict[str, Any]:
        """What it measures in its turn."""
        found = self._next()
        return found or {"way": self.way, "stopped": f"it failed or its time was over, {self._status()}"}

    def profile(self) -> dict[str, Any] | None:
        """Where its time goes; None where it does not say."""
        return self._next()

    def end(self) -> None:
        """Nothing more is asked of it."""
        self._status()

    def _next(self) -> dict[str, Any] | None:
        """The object that it prints when it is told to go on; None where it has ended."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write("go\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return None
        ours = (line for line in self.process.stdout if line.startswith('{"'))  # transformers prints {'...
        line = next(ours, None)
        found: dict[str, Any] | None = json.loads(line) if line else None
        return found

    def _status(self) -> str:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        code = self.process.wait()
        self.timer.cancel()
        return f"status {code}"


def run_all(asked: argparse.Namespace, arguments: Sequence[str], save: Callable[[Any], None]) -> list[Any]:
    """The ways one after the other; `--side-by-side`: prepared all at once, measured in turns, and then profiled."""
    if asked.side_by_side:
        children = [Child(way, arguments, asked.limit) for way in asked.ways]
        for child in children:
            child.wait_until_ready()
        rows = _in_turns(children, asked, save, [])
    else:
        rows = []
        for way in asked.ways:
            child = Child(way, arguments, asked.limit)
            child.wait_until_ready()
            rows = _in_turns([child], asked, save, rows)
    return rows


def _in_turns(
    children: Sequence[Child], asked: argparse.Namespace, save: Callable[[Any], None], before: list[Any]
) -> list[Any]:
    """All measured and saved before any is profiled: a profile takes longer than what it tells of."""
    rows = list(before)
    for child in children:
        rows.append(child.result())
        save(rows)
    for child, row in zip(children, rows[len(before) :], strict=True):
        if asked.profile and "stopped" not in row and (found := child.profile()):
            row["profile"] = found
            save(rows)
        child.end()
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
        handed_on = [*given, "--weights", str(folder)]

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
