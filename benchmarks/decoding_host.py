"""What grounded decoding costs the host: everything but the model, whose steps are scripted and take a fixed time.

    python benchmarks/decoding_host.py TOKENIZER --data DATA [--texts FREE [GROUNDED]] [--step-ms MS] ...

The script of a question is its gold query, or with `--texts` what a model wrote (completions of `decoding_speed.py --texts`):
at each step the stand-in for the GPU proposes the script's next token first, and in `--refused` of 1,000 steps a random one
before it. Where a grounded text was strained, the free text's token is proposed first. Like a GPU it takes its steps one
after the other, beside the host, each in `--step-ms`, with `--place-ns` more for each place of the cache that a slot looks
at, `--shape-ms` for a new shape, and `--pass-ms` for a pass over prompts. So the seconds beyond `of_device_s` are the
host's: tokenising, compiling schemas, starting processes, checking tokens and waiting for the checks. `live` tells how many
rows were alive, as a mean over each tenth of the steps.
"""

import argparse
import contextlib
import cProfile
import json
import pstats
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from transformers import AutoTokenizer

from groundql.config import GenerationSettings, PromptSettings
from groundql.decoding import batch
from groundql.decoding.constraint import Vocabulary
from groundql.decoding.engine import decode, ends_of, gpu_capacity
from groundql.decoding.grounded_crew import grounded_crew, vocabulary_of
from groundql.decoding.reader import Reader
from groundql.decoding.schedule import Shape
from groundql.errors import GroundqlError
from groundql.generating import Writer, ask_all
from groundql.models.chat import turns_of
from groundql.prompts.dialect import canonical_sql
from groundql.questions.load import load_data
from groundql.records import DataSet, Turns
from groundql.selecting import Asked

N_LOGITS = 151_936
N_NEW = 256


@dataclass
class Device:
    """A stand-in for a GPU: steps in a queue, their time by the batch's shape alone."""

    scripts: list[list[int]]  # what each row writes, by place
    wishes: list[dict[int, int]]  # of each row: tokens that it proposes before the script's, by their number
    step_s: float
    refused: float = 0.0  # share of steps with a random token before the script's
    place_s: float = 0.0  # for each place of each slot
    shape_s: float = 0.0  # for a new shape
    pass_s: float = 0.0  # for a pass over prompts
    free_at: float = 0.0
    device_s: float = 0.0
    idle_s: float = 0.0
    n_steps: int = 0
    passes: list[int] = field(default_factory=list)  # tokens of each
    shapes: list[tuple[int, int]] = field(default_factory=list)  # slots and places of each

    def __post_init__(self) -> None:
        of_token = Counter(token for script in self.scripts for token in script)
        self.common = np.resize(
            np.array([token for token, _ in of_token.most_common(33)], np.int32), 33
        )  # offered behind it

    def reshape(self, shape: Shape) -> None:
        """The steps from here on are of this shape."""
        self.shapes.append((shape.n_slots, shape.n_prefix + shape.n_own))
        self._busy(self.shape_s)

    def enqueue(self) -> float:
        """Start a step; when it will be done."""
        n_slots, n_places = self.shapes[-1]
        self._busy(self.step_s + self.place_s * n_slots * n_places)
        self.n_steps += 1
        return self.free_at

    def read(self, n_tokens: int) -> None:
        """Prompts are read: so many tokens in one pass, padding among them."""
        self.passes.append(n_tokens)
        self._busy(self.pass_s)

    def _busy(self, seconds: float) -> None:
        now = time.perf_counter()
        self.idle_s += max(0.0, now - self.free_at) if self.n_steps else 0.0
        self.free_at = max(now, self.free_at) + seconds
        self.device_s += seconds

    def proposed(self, place: int, n: int, n_best: int) -> np.ndarray:
        """(2 * n_best) int32: what `Slots.best` holds for a row that has written `n` tokens."""
        script = self.scripts[place]
        ids = self.common[:n_best].copy()
        ids[0] = script[min(n, len(script) - 1)]
        if n_best > 1 and n in self.wishes[place]:
            ids[1], ids[0] = ids[0], self.wishes[place][n]
        elif n_best > 1 and random.Random(place * 1009 + n).random() < self.refused:
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
        self.device.reshape(shape)

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


class ScriptedReader(Reader):
    """In the place of `Reader`: which prompts are read in which pass, without a model."""

    def _states(self, texts: Any, reading: Any, starts: Any) -> torch.Tensor:
        width = max(1, len(texts[-1]))
        ScriptedSlots.device.read(len(texts) * width)
        return torch.zeros(1, 2, len(texts), 1, width, 1)


@contextlib.contextmanager
def in_place_of_a_model(device: Device) -> Iterator[list[int]]:
    """Batches run on `device`; the list has the rows that were alive, step by step."""
    live: list[int] = []
    real = batch._Started

    def started(number: int, rows: Any, *rest: Any) -> Any:
        live.append(len(rows))
        return real(number, rows, *rest)

    ScriptedSlots.device = device
    stand_ins: dict[str, Any] = {
        "Slots": ScriptedSlots,
        "Stepper": ScriptedStepper,
        "Fetched": ScriptedFetched,
    }
    with patch.multiple(batch, **stand_ins, Reader=ScriptedReader, _Started=started):
        yield live


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tokenizer")
    parser.add_argument("--data", required=True)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--texts", nargs="+", default=[], help="completions: free ones, and grounded ones")
    parser.add_argument("--step-ms", type=float, default=5.0)
    parser.add_argument("--place-ns", type=float, default=0.0)
    parser.add_argument("--shape-ms", type=float, default=0.0)
    parser.add_argument("--pass-ms", type=float, default=0.0)
    parser.add_argument("--refused", type=float, default=5.0, help="of 1,000 first proposals")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--free", action="store_true")
    parser.add_argument("--profile", action="store_true")
    return parser.parse_args()


def scripts_of(
    data: DataSet, asked: Asked, tokenizer: Any, end: int, options: argparse.Namespace
) -> tuple[list[list[int]], list[dict[int, int]]]:
    """For each prompt the tokens that its row writes, and those that it proposes before them, by their number."""
    texts = {}
    for question in data.questions:
        text = question.gold_sql or ""
        with contextlib.suppress(GroundqlError):
            text = canonical_sql(text, asked.schemas[question.db_id])
        texts[question.question_id] = [text]
    strained = {}
    ways = [[json.loads(line) for line in Path(path).read_text().splitlines()] for path in options.texts]
    for ones in zip(*ways, strict=True):
        texts[ones[0]["question_id"]] = [one["text"] for one in ones]
        strain = ones[-1]["strain"]
        if strain and strain["total"] > 0 and not ones[-1]["n_backtracks"]:
            strained[ones[0]["question_id"]] = strain["at"]
    scripts, wishes = [], []
    for prompt in asked.prompts:
        ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts[prompt.question_id]]
        scripts.append([*ids[0 if options.free else -1], end][:N_NEW])
        at = strained.get(prompt.question_id)
        wishes.append({} if at is None or at >= len(ids[0]) else {at: ids[0][at]})
    return scripts, wishes


def decode_all(
    tokenizer: Any, turns: Turns, asked: Asked, vocabulary: Vocabulary, options: argparse.Namespace
) -> list[Any]:
    """What is decoded for each prompt."""
    config = SimpleNamespace(vocab_size=N_LOGITS, _attn_implementation="sdpa")
    crew: Any = contextlib.nullcontext()
    if not options.free:
        schemas = [asked.schemas[prompt.db_id] for prompt in asked.prompts]
        crew = grounded_crew(vocabulary, schemas, samples=1, limit=N_NEW, n_processes=options.processes)
    with crew as chooser:
        decoded = decode(
            SimpleNamespace(device=torch.device("cpu"), config=config, set_attn_implementation=id),
            tokenizer,
            asked.prompts,
            turns,
            settings=GenerationSettings(max_new_tokens=N_NEW),
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
    scripts, wishes = scripts_of(data, asked, tokenizer, min(ends), options)
    vocabulary = vocabulary_of(tokenizer, ends, N_LOGITS)
    device = Device(
        scripts,
        wishes,
        options.step_ms / 1000,
        options.refused / 1000,
        options.place_ns / 1e9,
        options.shape_ms / 1000,
        options.pass_ms / 1000,
    )
    profiler = cProfile.Profile()
    started, cpu_s = time.perf_counter(), time.process_time()
    with in_place_of_a_model(device) as live, profiler if options.profile else contextlib.nullcontext():
        decoded = decode_all(tokenizer, turns, asked, vocabulary, options)
    seconds, cpu_s = time.perf_counter() - started, time.process_time() - cpu_s
    if options.profile:
        pstats.Stats(profiler, stream=sys.stderr).sort_stats("tottime").print_stats(30)
    same = sum(list(one.ids) == script[:-1] for one, script in zip(decoded, scripts, strict=True))
    facts = {
        "data": Path(options.data).name,
        "way": "free" if options.free else f"grounded, {options.processes} processes",
        "seconds": round(seconds, 2),
        "new_tokens": sum(len(one.ids) for one in decoded),
        "steps": device.n_steps,
        "of_device_s": round(device.device_s, 2),
        "device_idle_s": round(device.idle_s, 2),
        "before_and_after_s": round(seconds - device.idle_s - device.device_s, 2),
        "host_cpu_s": round(cpu_s, 2),
        "passes": len(device.passes),
        "tokens_read": sum(device.passes),
        "shapes": device.shapes,
        "live": [round(float(tenth.mean())) for tenth in np.array_split(live, 10) if len(tenth)],
        "steps_under_16": sum(n < 16 for n in live),
        "as_scripted": same,
        "abstained": sum(one.status == "abstained" for one in decoded),
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
