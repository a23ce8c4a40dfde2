"""What grounded decoding costs the host: everything but the model, whose steps are scripted and take a fixed time.

    python benchmarks/decoding_host.py TOKENIZER --data DATA [--batch-size N] [--processes N] [--step-ms MS]

The script of a question is its gold query: at each step the stand-in for the GPU proposes the gold's next token first, and
in `--refused` of 1,000 steps a random one before it, as a tuned model does. Like a GPU it takes its steps one after the
other, beside the host, each in `--step-ms`. So the seconds beyond `steps * step-ms` are the host's: tokenising,
compiling schemas, starting processes, checking tokens and waiting for the checks.
"""

import argparse
import contextlib
import cProfile
import json
import pstats
import random
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from transformers import AutoTokenizer

from groundql.config import GenerationSettings, PromptSettings
from groundql.decoding import batch
from groundql.decoding.constraint import Vocabulary
from groundql.decoding.engine import decode, ends_of, gpu_capacity
from groundql.decoding.grounded_crew import grounded_crew, vocabulary_of
from groundql.errors import GroundqlError
from groundql.generating import Writer, ask_all
from groundql.models.chat import turns_of
from groundql.prompts.dialect import canonical_sql
from groundql.questions.load import load_data
from groundql.records import DataSet, Turns
from groundql.selecting import Asked

N_LOGITS = 151_936


class Device:
    """A stand-in for a GPU: steps in a queue, each taking the same time."""

    def __init__(self, scripts: list[list[int]], step_s: float, refused: float) -> None:
        self.scripts = scripts
        self.step_s = step_s
        self.refused = refused
        self.free_at = 0.0
        self.n_steps = self.n_rows = self.n_shapes = 0
        self.idle_s = 0.0

    def enqueue(self) -> float:
        """Start a step; when it will be done."""
        now = time.perf_counter()
        self.idle_s += max(0.0, now - self.free_at) if self.n_steps else 0.0
        self.free_at = max(now, self.free_at) + self.step_s
        self.n_steps += 1
        return self.free_at

    def proposed(self, place: int, n: int, n_best: int) -> np.ndarray:
        """(2 * n_best) int32: what `Slots.best` holds for a row that has written `n` tokens."""
        script = self.scripts[place]
        ids = np.arange(1000, 1000 + n_best, dtype=np.int32)
        ids[0] = script[min(n, len(script) - 1)]
        if n_best > 1 and random.Random(place * 1009 + n).random() < self.refused:
            ids[1], ids[0] = ids[0], random.Random(place * 1009 + n + 1).randrange(50_000)
        masses = np.full(n_best, -12, np.float32)
        masses[0] = -0.05
        return np.concatenate([ids, masses.view(np.int32)])


class ScriptedSlots:
    """In the place of `Slots`."""

    device: Device

    def __init__(self, model: Any, shape: Any, choosing: Any, layers: Any) -> None:
        self.shape, self._choosing = shape, choosing
        self.n_vocab = model.config.vocab_size
        self.rows: list[int] = [-1] * shape.n_slots
        self.n_ids = [0] * shape.n_slots
        self.kept: dict[tuple[int, int], np.ndarray] = {}
        self.device.n_shapes += 1

    def set_prefix(self, group: int, states: Any) -> None: ...

    def place(self, slots: Any, rows: Any, suffixes: Any) -> None:
        for slot, row in zip(slots, rows, strict=True):
            self.rows[slot], self.n_ids[slot] = row.place, 0

    def put_back(self, slots: Any, tokens: Any, n_ids: Any) -> None:
        for slot, n in zip(slots, n_ids, strict=True):
            self.n_ids[slot] = n

    def step(self) -> np.ndarray:
        best = np.zeros((len(self.rows), 2 * self._choosing.n_best), np.int32)
        for slot, (place, n) in enumerate(zip(self.rows, self.n_ids, strict=True)):
            if place >= 0:
                if (place, n) not in self.kept:
                    self.kept[place, n] = self.device.proposed(place, n, self._choosing.n_best)
                best[slot] = self.kept[place, n]
                self.n_ids[slot] = n + 1
        return best

    def whole_rows(self, slots: Any) -> torch.Tensor:
        scores = torch.full((2, len(slots), self.n_vocab), -20.0)
        for i, slot in enumerate(slots):
            script = self.device.scripts[self.rows[slot]]
            scores[:, i, script[min(self.n_ids[slot] - 1, len(script) - 1)]] = -0.05
        return scores

    def move(self, olds: Any, news: Any) -> None:
        for old, new in zip(olds, news, strict=True):
            self.rows[new], self.n_ids[new] = self.rows[old], self.n_ids[old]

    def moved(self, shape: Any, groups: Any, slots: dict[int, int]) -> "ScriptedSlots":
        other = ScriptedSlots(
            SimpleNamespace(config=SimpleNamespace(vocab_size=self.n_vocab)), shape, self._choosing, None
        )
        for old, new in slots.items():
            other.rows[new], other.n_ids[new] = self.rows[old], self.n_ids[old]
        return other


class ScriptedStepper:
    """In the place of `Stepper`."""

    def __init__(self, slots: ScriptedSlots, *, use_graph: bool) -> None:
        self._slots = slots

    def step(self, n_own: int) -> "ScriptedFetched":
        best = self._slots.step()
        return ScriptedFetched(best, self._slots.device.enqueue())


class ScriptedFetched:
    """In the place of `Fetched`."""

    def __init__(self, found: Any, done_at: float = 0.0) -> None:
        self._found, self._done_at = found, done_at

    def is_ready(self) -> bool:
        return time.perf_counter() >= self._done_at

    def wait(self) -> Any:
        time.sleep(max(0.0, self._done_at - time.perf_counter()))
        return self._found.numpy() if isinstance(self._found, torch.Tensor) else self._found


class NoReader:
    """In the place of `Reader`: prompts cost nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def read(self, rows: Any, coming: Any) -> None: ...

    def prefix(self, prefix: Any) -> Any: ...

    def take(self, row: Any) -> Any: ...

    def forget(self, waiting: Any) -> None: ...


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tokenizer")
    parser.add_argument("--data", required=True)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--step-ms", type=float, default=5.0)
    parser.add_argument("--refused", type=float, default=5.0, help="of 1,000 first proposals")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--free", action="store_true")
    parser.add_argument("--profile", action="store_true")
    return parser.parse_args()


def scripts_of(data: DataSet, asked: Asked, tokenizer: Any, end: int) -> list[list[int]]:
    """For each prompt the tokens of its gold, canonical where it can be, and the end token."""
    golds = {question.question_id: question.gold_sql or "" for question in data.questions}
    scripts = []
    for prompt in asked.prompts:
        gold = golds[prompt.question_id]
        with contextlib.suppress(GroundqlError):
            gold = canonical_sql(gold, asked.schemas[prompt.db_id])
        scripts.append([*tokenizer(gold)["input_ids"], end])
    return scripts


def play(device: Device) -> Any:
    """Put the stand-ins in place; a model for them."""
    ScriptedSlots.device = device
    batch.Slots, batch.Stepper, batch.Fetched, batch.Reader = (
        ScriptedSlots,
        ScriptedStepper,
        ScriptedFetched,
        NoReader,
    )
    config = SimpleNamespace(vocab_size=N_LOGITS, _attn_implementation="sdpa")
    return SimpleNamespace(
        device=torch.device("cpu"), config=config, set_attn_implementation=lambda name: None
    )


def decode_all(
    model: Any,
    tokenizer: Any,
    turns: Turns,
    asked: Asked,
    vocabulary: Vocabulary,
    options: argparse.Namespace,
) -> list[Any]:
    """What is decoded for each prompt."""
    crew: Any = contextlib.nullcontext()
    if not options.free:
        schemas = [asked.schemas[prompt.db_id] for prompt in asked.prompts]
        crew = grounded_crew(vocabulary, schemas, samples=1, limit=256, n_processes=options.processes)
    with crew as chooser:
        decoded = decode(
            model,
            tokenizer,
            asked.prompts,
            turns,
            settings=GenerationSettings(max_new_tokens=256),
            crew=chooser,
            pace=batch.Pace.on(torch.device("cuda")),
            capacity=gpu_capacity(options.batch_size, 4_000_000),
        )
    return [one for (one,) in decoded]


def main() -> None:
    options = arguments()
    tokenizer = AutoTokenizer.from_pretrained(options.tokenizer, local_files_only=True)
    turns = turns_of(tokenizer)
    data = load_data(options.data)
    if options.limit:
        data = data.model_copy(update={"questions": data.questions[: options.limit]})
    writer = Writer(loaded=SimpleNamespace(tokenizer=tokenizer), turns=turns, prompt=PromptSettings())
    asked, _ = ask_all(writer, data)
    ends = ends_of(tokenizer, turns)
    scripts = scripts_of(data, asked, tokenizer, min(ends))
    vocabulary = vocabulary_of(tokenizer, ends, N_LOGITS)
    device = Device(scripts, options.step_ms / 1000, options.refused / 1000)
    model = play(device)
    profiler = cProfile.Profile()
    if options.profile:
        profiler.enable()
    started, cpu_s = time.perf_counter(), time.process_time()
    decoded = decode_all(model, tokenizer, turns, asked, vocabulary, options)
    seconds, cpu_s = time.perf_counter() - started, time.process_time() - cpu_s
    if options.profile:
        profiler.disable()
        pstats.Stats(profiler, stream=sys.stderr).sort_stats("tottime").print_stats(30)
    same = sum(list(one.ids) == script[:-1] for one, script in zip(decoded, scripts, strict=True))
    facts = {
        "data": Path(options.data).name,
        "way": "free" if options.free else f"grounded, {options.processes} processes",
        "seconds": round(seconds, 2),
        "new_tokens": sum(len(one.ids) for one in decoded),
        "steps": device.n_steps,
        "of_device_s": round(device.n_steps * device.step_s, 2),
        "device_idle_s": round(device.idle_s, 2),
        "before_and_after_s": round(seconds - device.idle_s - device.n_steps * device.step_s, 2),
        "host_cpu_s": round(cpu_s, 2),
        "shapes": device.n_shapes,
        "as_scripted": same,
        "abstained": sum(one.status == "abstained" for one in decoded),
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
