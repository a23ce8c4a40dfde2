"""Which recipe suits the demo: SmolLM2-135M on pocket, every recipe at the same cost on a CPU, many at a time on a GPU.

    python -m benchmarks.pocket_search RECIPES.toml OUT.json MODEL [--seconds S] [--workers N] [--seeds 1 2] [NAME | NAME@SEED ...]

Trained on pocket's training databases but three; scored on these three and on the dev databases. The test databases are
not read. A recipe stops, its rate at 0, when its products have cost what the demo's minutes allow (`cost_of`): so one that
spends less on each question sees more of them.

Besides settings (`set`) a recipe may have: `max_answer` (questions whose SQL has at most so many tokens), `n_questions`,
`upper` (adapters in the last so many layers only), `types = false` (no column types in the prompt), `plus` (the rate of
LoRA's B over that of A), `curriculum` (short SQL first), `budget` (times the usual cost).
"""

import argparse
import contextlib
import json
import math
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.ablations import Bench, curriculum, device_name
from groundql import tuning
from groundql.config import Config, LoraSettings, load_config
from groundql.encoding import Encoded, encode_labels
from groundql.generating import Writer, write_completions
from groundql.models.load import LoadedModel
from groundql.models.merge import merge_dense
from groundql.pipeline import judge_completions
from groundql.prompts import render
from groundql.questions.load import load_data
from groundql.records import DataSet
from groundql.training import trainer
from groundql.training.examples import Example
from groundql.training.packs import IGNORE, Pack, make_packs
from groundql.verdicts.cases import Judging

Recipe = dict[str, Any]
N_HELD = 3
N_LAYERS, WIDTH, FFN, KV_WIDTH, VOCABULARY = 30, 576, 1536, 192, 49_152  # SmolLM2-135M
MLP, ATTENTION = 3 * WIDTH * FFN, 2 * WIDTH * WIDTH + 2 * WIDTH * KV_WIDTH
SIZES = {  # in + out of each linear: what an adapter of rank 1 holds
    "q_proj": 2 * WIDTH,
    "k_proj": WIDTH + KV_WIDTH,
    "v_proj": WIDTH + KV_WIDTH,
    "o_proj": 2 * WIDTH,
    "gate_proj": WIDTH + FFN,
    "up_proj": WIDTH + FFN,
    "down_proj": WIDTH + FFN,
}
BUDGET = (
    40e12  # operations in 6.5 minutes on two cores: 68,410 tokens of the demo of 2026-11-25 at 585 MFLOP each
)


@dataclass(frozen=True)
class Cost:
    """Operations of one epoch, and its size."""

    operations: float
    n_tokens: int
    n_steps: int
    n_questions: int


def cost_of(packs: Sequence[Pack], lora: LoraSettings, upper: int | None) -> Cost:
    """Floating-point operations of one pass over `packs` on a CPU, by count (docs/log.md, the fused step on a CPU)."""
    n_trained = min(upper or N_LAYERS, N_LAYERS)
    targets = SIZES if lora.targets == "all-linear" else {name: SIZES[name] for name in lora.targets}
    adapter = sum(targets.values()) * lora.rank
    total = 0.0
    for pack in packs:
        n, n_labels = len(pack), sum(label != IGNORE for label in pack.labels)
        pairs = sum(position + 1 for position in pack.positions)
        total += 2 * (MLP + ATTENTION) * n * (N_LAYERS + n_trained)  # forward, and the stream's gradient
        total += 4 * adapter * n * n_trained  # the adapters' gradients
        total += 2 * (MLP + ATTENTION) * lora.rank * 2 * n_trained  # merging, forward and back
        total += 4 * VOCABULARY * WIDTH * n_labels
        total += 4 * WIDTH * pairs * (N_LAYERS + 2.5 * n_trained)
    return Cost(total, sum(map(len, packs)), len(packs), sum(p.n_questions for p in packs))


def held_databases() -> tuple[str, ...]:
    """Three of pocket's training databases, drawn from a fixed seed."""
    return tuple(random.Random(3).sample(sorted(load_data("pocket#train").databases), N_HELD))


def part(spec: str) -> DataSet:
    """`pocket#train` without the held databases, or `pocket#dev` with them."""
    held = set(held_databases())
    train = load_data("pocket#train")
    ours = spec == "pocket#train"
    questions = tuple(q for q in train.questions if (q.db_id in held) != ours)
    if ours:
        return train.model_copy(update={"questions": questions})
    dev = load_data("pocket#dev")
    return dev.model_copy(
        update={"questions": dev.questions + questions, "databases": {**train.databases, **dev.databases}}
    )


class Search(Bench):
    """A worker that trains and scores recipes."""

    def __init__(self, model: str, n_workers: int) -> None:
        super().__init__(model, Path("/nowhere"), n_workers)
        self.kept: dict[str, Encoded] = {}
        self.recipe: Recipe = {}
        self.cost: Cost | None = None
        self.epochs = 0.0
        self._train_adapter = tuning.train_adapter
        self._column_text = render._column_text
        self._lora_config = trainer.LoraConfig
        self._optimizer = trainer._optimizer
        tuning.load_data = part
        tuning.encode_labels = self.encode
        tuning.train_adapter = self.train_adapter

    def encode(self, data: DataSet, settings: Any, tokenizer: Any, turns: Any, **orders: int) -> Encoded:
        key = f"{data.spec} {len(data.questions)} {settings.model_dump_json()} {self.recipe.get('types', True)} {orders}"
        if key not in self.kept:
            self.kept[key] = encode_labels(data, settings, tokenizer, turns, **orders)
        encoded = self.kept[key]
        if data.spec != "pocket#train":
            return encoded
        chosen = [e for e in encoded.examples if len(e.answer) <= self.recipe.get("max_answer", 10_000)]
        if n := self.recipe.get("n_questions"):
            chosen = random.Random(1).sample(chosen, min(n, len(chosen)))
        return replace(encoded, examples=chosen)

    def train_adapter(
        self, model: Any, examples: Sequence[Example], dev: Any, *, config: Config, **named: Any
    ) -> Any:
        """Train for as many epochs as the budget pays."""
        settings = config.training
        packs = make_packs(
            examples, pack_tokens=settings.budget_tokens, group_size=settings.group_size, seed=settings.seed
        )
        self.cost = cost_of(packs, config.lora, self.recipe.get("upper"))
        self.epochs = BUDGET * self.recipe.get("budget", 1.0) / self.cost.operations
        config = tuning.with_settings(config, [("training.epochs", self.epochs)])
        return self._train_adapter(model, examples, dev, config=config, **named)

    @contextlib.contextmanager
    def changed(self, recipe: Recipe) -> Iterator[None]:
        """What no setting says."""
        self.recipe = recipe
        render._texts.clear()
        if not recipe.get("types", True):
            render._column_text = lambda column, is_key, points_to: self._column_text(
                column.model_copy(update={"type": ""}), is_key, points_to
            )
        if upper := recipe.get("upper"):
            layers = list(range(N_LAYERS - upper, N_LAYERS))
            trainer.LoraConfig = partial(lora_above, self._lora_config, layers)
        if plus := recipe.get("plus"):
            trainer._optimizer = partial(lora_plus, plus=plus, betas=tuple(recipe.get("betas", (0.9, 0.999))))
        elif "betas" in recipe:
            trainer._optimizer = partial(lora_plus, plus=1.0, betas=tuple(recipe["betas"]))
        try:
            with curriculum() if recipe.get("curriculum") else contextlib.nullcontext():
                yield
        finally:
            render._column_text = self._column_text
            render._texts.clear()
            trainer.LoraConfig, trainer._optimizer = self._lora_config, self._optimizer


def lora_above(make: Any, layers: list[int], **settings: Any) -> Any:
    """PEFT's config for these layers alone; it wants targets by name for that."""
    if settings["target_modules"] == "all-linear":
        settings["target_modules"] = list(SIZES)
    return make(layers_to_transform=layers, **settings)


def lora_plus(
    model: Any, config: Config, *, plus: float, betas: tuple[float, float]
) -> torch.optim.Optimizer:
    """AdamW whose rate for B is `plus` times that for A."""
    rate = config.training.learning_rate
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    groups = [
        {"params": [p for name, p in named if "lora_B" not in name], "lr": rate},
        {"params": [p for name, p in named if "lora_B" in name], "lr": rate * plus},
    ]
    return torch.optim.AdamW(
        groups, lr=rate, betas=betas, weight_decay=config.training.weight_decay, fused=True
    )


def run_recipe(
    search: Search, recipe: Recipe, base: list[str], seed: int, ways: Sequence[str], folder: Path
) -> Recipe:
    """Train and score one recipe with one seed."""
    overrides = [
        f"model.name={search.model}",
        "data.dev=pocket#dev",
        "training.max_minutes=60",
        f"training.seed={seed}",
        *base,
        *recipe.get("set", []),
    ]
    config = load_config("pocket-smollm2", [*overrides, "data.dev_limit=1000", "data.test=pocket#dev"])
    config = config.model_copy(update={"data": config.data.model_copy(update={"test": None})})
    started = time.monotonic()
    with search.changed(recipe):
        tuning.tune(config, folder, say=lambda _: None)
        log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        search.tuned.label_loss_through = None  # and with it the graph
        search.tidy()
        dense = merge_dense(search.tuned)
        search._base = (search._base[0], search.tuned.unload()) if search._base else None
        search.tuned = None
        search.tidy()
        shutil.rmtree(folder, ignore_errors=True)
        loaded = LoadedModel(model=dense, tokenizer=search.tokenizer, dtype=dense.dtype, device=search.device)
        writer = Writer(loaded=loaded, turns=search.turns, prompt=config.prompt)
        data = part("pocket#dev")
        scores: Recipe = {}
        trained_s = time.monotonic() - started
        for way in ways:
            settings = config.generation.model_copy(update={"decoding": way, "processes": 1})
            _, completions = write_completions(dense, writer, data, settings=settings)
            verdicts = judge_completions(data, completions, Judging(ladder_only=True, n_workers=1))
            scores[way] = score(verdicts, completions)
    assert search.cost is not None
    return {
        "name": recipe["name"],
        "seed": seed,
        "recipe": recipe,
        "config_fingerprint": config.fingerprint(),
        "epochs": round(search.epochs, 3),
        "tokens": round(search.cost.n_tokens * search.epochs),
        "steps": math.ceil(search.cost.n_steps * search.epochs),
        "asked": round(search.cost.n_questions * search.epochs),
        "mflop_a_token": round(search.cost.operations / search.cost.n_tokens / 1e6),
        "loss": [round(e["loss"], 3) for e in log if e.get("loss") is not None][-1:],
        "dev_loss": [round(e["eval_loss"], 4) for e in log if "eval_loss" in e][-1:],
        "scores": scores,
        "seconds": [round(trained_s, 1), round(time.monotonic() - started, 1)],
    }


def score(verdicts: Sequence[Any], completions: Sequence[Any]) -> Recipe:
    """Counts on dev's databases and on the held ones, and which questions were right."""
    dev = {q.db_id for q in load_data("pocket#dev").questions}
    return {
        "n": [sum(v.db_id in dev for v in verdicts), sum(v.db_id not in dev for v in verdicts)],
        **{
            name: [
                sum(getattr(v, name) is True for v in verdicts if v.db_id in dev),
                sum(getattr(v, name) is True for v in verdicts if v.db_id not in dev),
            ]
            for name in ("parsed", "grounded", "ran", "ex_strict")
        },
        "new_tokens": sum(c.n_new_tokens for c in completions),
        "right": [v.question_id for v in verdicts if v.ex_strict is True],
    }


def jobs_of(
    recipes: Sequence[Recipe], names: Sequence[str], seeds: Sequence[int]
) -> list[tuple[Recipe, int]]:
    """Recipes with seeds, in the order asked for: `NAME@SEED` once, `NAME` with every seed; all recipes without names."""
    by_name = {recipe["name"]: recipe for recipe in recipes}
    jobs = []
    for name in names or by_name:
        name, _, seed = name.partition("@")
        jobs += [(by_name[name], one) for one in ([int(seed)] if seed else seeds)]
    return jobs


def work(options: argparse.Namespace) -> None:
    """Take recipes until none is left or the time is up."""
    file = tomllib.loads(options.recipes.read_text())
    search = Search(options.model, options.workers)
    place = Path(options.scratch)
    longest = 0.0
    for recipe, seed in jobs_of(file["recipe"], options.names, options.seeds):
        if time.time() + 1.2 * longest > options.started + options.seconds:
            return
        name = f"{recipe['name']}-{seed}".replace("/", "_").replace(" ", "_")
        try:
            os.close(os.open(place / f"claim-{name}", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            continue
        started = time.monotonic()
        try:
            found = run_recipe(search, recipe, file.get("set", []), seed, options.ways, place / f"run-{name}")
        except Exception:  # that recipe is lost, not the rest
            print(f"{name}: {traceback.format_exc()}", flush=True)
            search.drop()
            continue
        longest = max(longest if longest else 0.0, min(time.monotonic() - started, 40.0))
        (place / f"found-{name}.json").write_text(json.dumps(found))
        search.tidy()


def table(found: Sequence[Recipe]) -> str:
    """A line a run, the best first."""

    def right(one: Recipe) -> int:
        return sum(next(iter(one["scores"].values()))["ex_strict"])

    lines = [
        f"{'recipe':26} seed right dev+held grounded  n   loss  dev loss tokens steps questions epochs MFLOP s"
    ]
    for one in sorted(found, key=lambda o: -right(o)):
        for way, scores in one["scores"].items():
            dev, held = scores["ex_strict"]
            lines.append(
                f"{one['name']:26} {one['seed']:3} {dev + held:5} {dev:3}+{held:<3} {sum(scores['grounded']):6} {sum(scores['n']):5} "
                f"{(one['loss'] or [0])[0]:6.3f} {(one['dev_loss'] or [0])[0]:7.4f} {one['tokens']:7} {one['steps']:5} {one['asked']:6} "
                f"{one['epochs']:6.2f} {one['mflop_a_token']:5} {one['seconds'][1]:5.0f} {way}"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipes", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("model")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--seconds", type=float, default=110)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--ways", nargs="+", default=["free"])
    parser.add_argument("--scratch", default=str(Path(tempfile.gettempdir()) / "pocket-search"))
    parser.add_argument("--worker", type=int)
    parser.add_argument("--started", type=float, default=time.time())
    options = parser.parse_args()
    if options.worker is not None:
        work(options)
        return
    place = Path(options.scratch)
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    again = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "benchmarks.pocket_search",
        *sys.argv[1:],
        "--started",
        str(options.started),
    ]
    workers = [subprocess.Popen([*again, "--worker", str(i)]) for i in range(options.workers)]
    for worker in workers:
        worker.wait()
    found = [json.loads(path.read_text()) for path in sorted(place.glob("found-*.json"))]
    facts = {
        "command": " ".join(sys.argv),
        "device": device_name(),
        "held": held_databases(),
        "workers": options.workers,
    }
    options.out.write_text(json.dumps(facts | {"runs": found}, indent=1) + "\n")
    print(table(found))


if __name__ == "__main__":
    main()
