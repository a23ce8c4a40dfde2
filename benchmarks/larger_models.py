"""The paper's models and larger ones on the results page: what random weights in their shape took, and the commands for real ones."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.stored_results import ROOT, Row, table
from groundql.models.catalog import CATALOG

RESULTS = ROOT / "benchmarks" / "results"
MODELS = ("Qwen2.5-Coder-1.5B-Instruct", "Falcon3-1B-Base", "StarCoder2-3B", "Qwen2.5-Coder-3B-Instruct")
TRAIN_SPEED = (  # of benchmarks/train_speed.py: 1.5B, one process computing at a time
    "2026-11-25-h100-train-speed",
    "2026-11-25-h100-train-speed-small-pieces",
)
ONE_AT_A_TIME = "2026-11-25-h100-large-models"  # of benchmarks/plan_grid.py, and the next
EIGHT_AT_ONCE = "2026-11-25-h100-plan-grid"  # its times compare with nothing


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A run of a model whose weights the user has: its name, the model, and the config with its overrides."""

    run: str
    model: str  # the catalog's name
    words: str
    config: str

    def commands(self) -> list[str]:
        """To train, and to answer and judge each evaluation set, as a user types them in a folder that holds `data/`."""
        judged = [
            command.format(run=self.run, data=data, name=name)
            for name, data in EVALUATED.items()
            for command in (GENERATE, JUDGE)
        ]
        return [TRAIN.format(run=self.run, config=self.config), *judged]


TRAIN = "groundql train {config} --out runs/{run}"
GENERATE = (
    "groundql generate runs/{run} --data {data} --decoding grounded --out runs/{run}/{name}/predictions.jsonl"
)
JUDGE = "groundql judge runs/{run}/{name}/predictions.jsonl --data {data} --out runs/{run}/{name}/judged"
EVALUATED = {"bird-dev": "bird:data/bird/dev#dev", "spider-dev": "spider:data/spider#dev"}
_BIRD = "--set data.train=bird:data/bird/train#train"
_BIRD_AND_SPIDER = f"{_BIRD} --set data.dev=spider:data/spider#train"
RECIPES = (
    Recipe(
        run="paper-1.5b",
        model="Qwen2.5-Coder-1.5B-Instruct",
        words="the paper's recipe",
        config=f"paper-qwen2.5-coder-1.5b {_BIRD}",
    ),
    Recipe(
        run="paper-falcon3",
        model="Falcon3-1B-Base",
        words="the paper's recipe",
        config=f"paper-falcon3-1b {_BIRD}",
    ),
    Recipe(
        run="paper-starcoder2",
        model="StarCoder2-3B",
        words="the paper's recipe, on the model that it names as future work",
        config=f"paper-starcoder2-3b {_BIRD}",
    ),
    Recipe(
        run="recommended-1.5b",
        model="Qwen2.5-Coder-1.5B-Instruct",
        words="ours",
        config=f"recommended {_BIRD_AND_SPIDER}",
    ),
    Recipe(
        run="recommended-3b",
        model="Qwen2.5-Coder-3B-Instruct",
        words="ours",
        config=f"recommended --set model.name=Qwen2.5-Coder-3B-Instruct {_BIRD_AND_SPIDER}",
    ),
)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One training of random weights on the card; times are None where others shared it."""

    model: str
    pack_tokens: int
    is_graph: bool
    card_gib: float | None  # None: the file does not say
    keeps: tuple[int, int, int]  # layers that keep attention, layers that keep all, tokens a piece of the FFN
    reserved_mib: int | None  # None: out of memory
    planned_mib: int
    ms_a_step: float | None
    n_steps: int | None
    tokens_a_second: float | None
    file: str

    def cells(self) -> list[str]:
        return [
            f"{self.model}, random weights",
            f"{self.pack_tokens:,}",
            "graph" if self.is_graph else "no graph",
            "{}, {}".format(*self.keeps),
            f"{self.keeps[2]:,}",
            f"{self.card_gib:g}" if self.card_gib else "-",
            f"{self.reserved_mib:,}" if self.reserved_mib else "out of memory",
            f"{self.planned_mib:,}",
            f"{self.ms_a_step:.0f} ({self.n_steps})" if self.ms_a_step else "-",
            f"{self.tokens_a_second:,.0f}" if self.tokens_a_second else "-",
            f"`{self.file.removeprefix('2026-11-25-')}`",
        ]


def rows_of(file: str) -> list[Row]:
    found: list[Row] = json.loads((RESULTS / f"{file}.json").read_text(encoding="utf-8"))["rows"]
    return found


def measured() -> list[Measured]:
    """Every stored training of one of `MODELS` by our trainer, a model after the other, small packs first."""
    found = [*_by_speed(), *_by_plan(ONE_AT_A_TIME), *_by_plan(EIGHT_AT_ONCE)]
    return sorted(
        found,
        key=lambda one: (MODELS.index(one.model), one.pack_tokens, one.is_graph, one.file, one.keeps),
    )


def _by_speed() -> Iterator[Measured]:
    for file in TRAIN_SPEED:
        for row in rows_of(file):
            ours, _, way = row["way"].partition(":")  # ours:TOKENS[:graph][:KEPT]
            if ours != "ours":
                continue
            tokens, *further = way.split(":")
            yield Measured(
                model=row["model"],
                pack_tokens=int(tokens),
                is_graph="graph" in further,
                card_gib=None,
                keeps=tuple(row["keeps"]),
                reserved_mib=row["reserved_mib"],
                planned_mib=row["planned_mib"],
                ms_a_step=row["ms_per_step"],
                n_steps=row["steps"],
                tokens_a_second=row["tokens_per_s"],
                file=file,
            )


def _by_plan(file: str) -> Iterator[Measured]:
    for row in rows_of(file):
        if row["model"] not in MODELS:
            continue
        is_timed = "tokens_per_s" in row
        yield Measured(
            model=row["model"],
            pack_tokens=row["pack_tokens"],
            is_graph=row["graph"],
            card_gib=row["memory_gib"],
            keeps=tuple(row["keeps"]),
            reserved_mib=None
            if "stopped" in row
            else max(row["reserved_mib"], row["reserved_with_start_mib"]),
            planned_mib=row["planned_mib"],
            ms_a_step=row["ms_per_step"] if is_timed else None,
            n_steps=row["timed_steps"] if is_timed else None,
            tokens_a_second=row.get("tokens_per_s"),
            file=file,
        )


def larger_section() -> str:
    """Heading, table and commands; says what the weights were, and that no score of these models is known."""
    head = ["model", "tokens a pack", "passes", "layers that keep attention, all", "tokens a piece of the FFN", "GiB of the card", "MiB reserved", "MiB planned",
            "ms a step (steps timed)", "tokens/s", "stored in"]  # fmt: skip
    return "\n".join(
        [
            "## The paper's models and larger ones: memory and speed, random weights\n",
            "**The weights of these models were not at hand. Each row is a training of random weights in the model's exact shape: it tells what memory "
            "and time the model takes, and nothing of what it would get right. No accuracy of these models was measured here; every score measured for this page "
            "is of Qwen2.5-Coder-0.5B-Instruct or SmolLM2-135M-Instruct with their real weights.**\n",
            "One NVIDIA H100, NF4, rank 32 on every linear, 8-bit AdamW, packs of real questions of BIRD and Spider train; not the paper's padded "
            "pairs, and not its card. The allocator is held to the card's GiB less 450 MiB for the context; the rows that name no card were held to 5.6. MiB reserved is the most that torch "
            "reserved; where the plan chose what layers keep, with the start in it, before a graph is captured. Without a time: eight processes shared the card, so memory alone was measured. What the plan says now "
            "keeps 3 % free, since 3B ran out (`h100-plan-grid`). "
            "More, and the stock stack beside ours: [performance.md](performance.md). Files: `benchmarks/results/2026-11-25-NAME.json`.\n",
            table(head, [one.cells() for one in measured()]),
            "### Commands for those who have the weights\n",
            "None of these was run on real weights. What was run, by `tests/test_larger_models.py`, are these very lines with a tiny model of the same "
            "architecture in the model's place and a handful of questions in BIRD's and Spider's layout: that shows that the commands work, and says "
            "nothing of scores either. A name is fetched from the Hugging Face hub; `--set model.name=FOLDER` takes a folder of weights. `data/` holds "
            "BIRD's `train` and `dev` folders under `bird/`, and Spider's under `spider/`. Does it fit? `groundql plan` takes what `train` takes, without "
            "`--out`. Compare with what is above only what was asked the same questions on the same rows.\n",
            *(_shown(recipe) for recipe in RECIPES),
        ]
    )


def _shown(recipe: Recipe) -> str:
    billions = CATALOG[recipe.model].n_parameters() / 1e9
    lines = "\n".join(recipe.commands())
    return f"{recipe.model} ({billions:.2f} B parameters), {recipe.words}:\n\n```bash\n{lines}\n```\n"
