"""Rows of an ablation: each trains as `groundql train` would with some settings changed, and decodes questions it never saw.

    python -m benchmarks.ablations ROWS.toml SECTION OUT --model MODEL --encoded DIR [--seconds S] [--workers N] [NAME ...]

SECTION may be several, `final,choice`: rows of the second fill the time that is left after those of the first.
Rows are taken in the order of the file while their cost still fits the time, N at once. Each row is a process of its own, so
that it has the memory a first training has, and goes through the project's own training and decoding; what is spared is
encoding the questions again for each. What is there of all rows is in `OUT/rows-SECTION.tar.xz` after each training and
each data set decoded, so a run that is cut loses little; a row with `complete` false was cut. A row with `keep` leaves its
run folder at `SCRATCH/SECTION/run-NAME` and its adapter, in 16 bits, as `OUT/NAME.tar.00`, `.01`, ... Verdicts are made elsewhere
(`benchmarks/judge_rows.py`), from the SQL kept here.

Where several rows share a card, their seconds compare with nothing; the number of workers stands in each row.
"""

import argparse
import contextlib
import gc
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.encoded import Encoder
from benchmarks.row_files import bundle, compact, save_adapter, sections, start_over
from groundql import tuning
from groundql.config import Config, GenerationSettings, ModelSettings, PromptSettings, load_config
from groundql.generating import Writer, make_prompts, read_schemas
from groundql.models.chat import turns_of
from groundql.models.load import LoadedModel, best_device, load_base, load_tokenizer
from groundql.models.merge import merge_dense
from groundql.models.source import find_base
from groundql.prompts.render import prompt_fingerprint
from groundql.questions.load import load_data
from groundql.selecting import Asked, complete
from groundql.training import exact
from groundql.training.run_folder import versions

Row = dict[str, Any]
MAX_LOG_LINES = 400
LATE_S = 10  # after the time is up a row may go on so long


class Bench:
    """What rows are run with: base model, encoded questions, prompts."""

    def __init__(self, model: str, encoded: Path, n_workers: int) -> None:
        self.model, self.n_workers = model, n_workers
        self.device = best_device()
        self.tokenizer = load_tokenizer(find_base(model))
        self.turns = turns_of(self.tokenizer)
        self.encoder = Encoder(encoded)
        self._base: tuple[str, Any] | None = None  # settings as text, and the model without an adapter
        self._asked: dict[tuple[str, str, int | None], Asked] = {}
        self.tuned: Any = None  # the PEFT model of the row at hand
        add_lora = tuning.add_lora

        def remember(*arguments: Any, **named: Any) -> Any:
            self.tuned = add_lora(*arguments, **named)
            return self.tuned

        tuning.add_lora = remember
        tuning.encode_labels = self.encoder
        tuning._load_writer = self._writer

    def base(self, settings: ModelSettings) -> Any:
        """The base model as these settings hold it; only one is kept."""
        name = settings.model_dump_json()
        if self._base is None or self._base[0] != name:
            self.drop()
            self._base = name, load_base(find_base(settings.name), settings, device=self.device)
        return self._base[1]

    def drop(self) -> None:
        """Forget the base model, so that the next row reads it from its file."""
        self._base = self.tuned = None
        self.tidy()

    def share_card(self) -> None:
        """Let this process use its share of the card: training was held to the one that its config names."""
        if torch.cuda.is_available():
            torch.cuda.set_per_process_memory_fraction(0.9 / self.n_workers)

    def tidy(self) -> None:
        """Give back what nothing holds."""
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _writer(self, config: Config, turns: Any) -> Writer:
        model = self.base(config.model)
        loaded = LoadedModel(model=model, tokenizer=self.tokenizer, dtype=model.dtype, device=self.device)
        return Writer(loaded=loaded, turns=turns, prompt=config.prompt)

    def asked(self, spec: str, prompt: PromptSettings, limit: int | None) -> Asked:
        """The prompts of a data set, rendered once for each prompt setting."""
        key = spec, prompt.model_dump_json(), limit
        if key not in self._asked:
            data = load_data(spec)
            if limit:
                data = data.model_copy(update={"questions": tuning.spread(data.questions, limit)})
            schemas = read_schemas(data, prompt.n_examples)
            # Counting tokens through a writer without a model: it needs the tokenizer alone.
            loaded = LoadedModel(
                model=None, tokenizer=self.tokenizer, dtype=torch.float32, device=self.device
            )
            counter = Writer(loaded=loaded, turns=self.turns, prompt=prompt).count_tokens
            prompts, too_long = make_prompts(
                data.questions,
                schemas,
                settings=prompt,
                turns=self.turns,
                count_tokens=counter,
                databases=data.databases,
            )
            if too_long:
                print(f"{spec}: {len(too_long)} prompts are too long", flush=True)
            self._asked[key] = Asked(
                prompts=prompts, schemas=schemas, databases=data.databases, dialect=prompt.dialect
            )
        return self._asked[key]


def run_row(bench: Bench, row: Row, section: Row, folder: Path, keep: Callable[[Row], None]) -> Row:
    """Train and decode as one row says. Everything worth keeping, as JSON; `keep` is told of it as it grows."""
    started = time.monotonic()
    base = list(section.get("set", [])) if row.get("on_base", True) else []
    own = [f"model.name={bench.model}", *base, *row.get("set", [])]
    config = load_config(row.get("config", section["config"]), own)
    found: Row = {
        "name": row["name"],
        "table": row.get("table", ""),
        "label": row.get("label", row["name"]),
        "command": command_of(row, section, config, own[1:]),
        "settings": config.model_dump(mode="json", by_alias=True),
        "config_fingerprint": config.fingerprint(),
        "workers": bench.n_workers,
        "device": device_name(),
        "versions": versions(),
        "complete": False,
        "seconds": {},
        "predictions": {},
        "data": {},
    }
    prompt = config.prompt
    if row.get("untuned"):
        plain = ModelSettings(name=bench.model, quantization="none")
        dense = bench.base(plain)
    else:
        dense = train(bench, config, row, folder, found)
    if use := row.get("use"):  # another prompt in use than in training
        prompt = load_config(row.get("config", section["config"]), [*own, *use]).prompt
    found["prompt_fingerprint"] = prompt_fingerprint(prompt, bench.turns)
    keep(found)
    bench.share_card()
    loaded = LoadedModel(model=dense, tokenizer=bench.tokenizer, dtype=dense.dtype, device=bench.device)
    for way in row.get("ways", section["ways"]):  # the costly last: every set is there before
        for name in row.get("ask", section["ask"]):
            asked_of = section["asked"][name]
            if way in asked_of.get("without", []):
                continue
            asked = bench.asked(asked_of["data"], prompt, asked_of.get("limit"))
            decode(bench, loaded, asked, (name, way), section, config, found)
            found["data"][name] = asked_of
            keep(found)
    found["seconds"]["row"] = round(time.monotonic() - started, 2)
    found["complete"] = True
    keep(found)
    return found


def train(bench: Bench, config: Config, row: Row, folder: Path, found: Row) -> Any:
    """The model with the row's adapter, dense; its training is noted in `found`."""
    times: list[float] = []
    said: list[str] = []
    with curriculum() if row.get("curriculum") else contextlib.nullcontext():
        info = tuning.tune(
            config,
            folder,
            say=said.append,
            on_step=lambda step, n, loss: times.append(time.monotonic()) if loss is None else None,
        )
    found["said"] = said
    found["training"] = info.results
    found["counts"] = info.counts
    found["data_fingerprints"] = info.data_fingerprints
    log = (folder / "log.jsonl").read_text().splitlines() if (folder / "log.jsonl").is_file() else []
    found["log"] = [json.loads(line) for line in log[:MAX_LOG_LINES]]
    found["seconds"]["train"] = info.results["elapsed_s"]
    if len(times) > 20:  # whole steps, the graph's capture left out
        found["seconds"]["step"] = round((times[-1] - times[9]) / (len(times) - 10), 4)
        found["seconds"]["first_10_steps"] = round(times[9] - times[0], 2)
    started = time.monotonic()
    bench.tuned.label_loss_through = None  # and with it the graph, which holds a training's memory
    bench.tidy()
    bench.share_card()
    dense = merge_dense(bench.tuned)
    bench.drop()
    found["seconds"]["merge"] = round(time.monotonic() - started, 2)
    return dense


def decode(
    bench: Bench,
    loaded: LoadedModel,
    asked: Asked,
    what: tuple[str, str],
    section: Row,
    config: Config,
    found: Row,
) -> None:
    """Decode one data set in one way into `found`."""
    name, way = what
    update = dict(section["way"][way])
    if bench.device.type == "cuda":
        update["processes"] = max(2, len(os.sched_getaffinity(0)) // bench.n_workers - 1)
    settings = GenerationSettings.model_validate(
        {
            "max_new_tokens": config.generation.max_new_tokens,
            "batch_size": config.generation.batch_size,
            **update,
        }
    )
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    started = time.monotonic()
    completions = complete(loaded.model, loaded, bench.turns, asked, settings=settings)
    took = time.monotonic() - started
    bench.tidy()
    found["predictions"].setdefault(name, {})[way] = [compact(one) for one in completions]
    notes = {
        "seconds": round(took, 2),
        "new_tokens": sum(c.n_new_tokens for c in completions),
        "generation": settings.model_dump(mode="json"),
    }
    if torch.cuda.is_available():
        notes["peak_mib"] = round(torch.cuda.max_memory_reserved() / 2**20)
    found.setdefault("decoding", {}).setdefault(name, {})[way] = notes


@contextlib.contextmanager
def curriculum() -> Iterator[None]:
    """Packs with short SQL first, in every epoch."""
    init = exact.SeededOrder.__iter__
    sampler = exact.ExactTrainer._get_train_sampler

    def with_rows(self: Any, *arguments: Any, **named: Any) -> Any:
        order = sampler(self, *arguments, **named)
        rows = self.train_dataset.rows
        order.by_length = sorted(
            range(len(rows)), key=lambda i: sum(x != -100 for x in rows[i].labels) / rows[i].n_questions
        )
        return order

    exact.ExactTrainer._get_train_sampler = with_rows
    exact.SeededOrder.__iter__ = lambda self: iter(self.by_length)
    try:
        yield
    finally:
        exact.ExactTrainer._get_train_sampler, exact.SeededOrder.__iter__ = sampler, init


def command_of(row: Row, section: Row, config: Config, overrides: list[str]) -> str:
    """What a user would type for the same training."""
    if row.get("untuned"):
        return f"groundql generate {section['model']}"
    shown = [f"--set '{one}'" for one in (f"model.name={section['model']}", *overrides)]
    return " ".join(["groundql train", row.get("config", section["config"]), *shown])


def device_name() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"


def run_one(options: argparse.Namespace) -> None:
    """The row `options.row`, in this process."""
    section = sections(options.rows)[options.section]
    row = next(one for one in section["row"] if one["name"] == options.row)
    place = Path(options.scratch) / options.section
    rows_dir, folder = place / "rows", place / f"run-{row['name']}"

    def keep(found: Row) -> None:
        beside = rows_dir / f"{row['name']}.part"
        beside.write_text(json.dumps(found, separators=(",", ":")))
        beside.replace(rows_dir / f"{row['name']}.json")
        bundle(rows_dir, options.out / f"rows-{options.section}.tar.xz")
        if row.get("keep") and not found["predictions"] and folder.is_dir():
            save_adapter(folder, options.out, row["name"])

    started = time.monotonic()
    found = run_row(Bench(options.model, options.encoded, options.workers), row, section, folder, keep)
    if not row.get("keep"):
        shutil.rmtree(folder, ignore_errors=True)
    print(line_of(found, time.monotonic() - started), flush=True)


def run_all(options: argparse.Namespace) -> int:
    """Rows in processes of their own, `options.workers` at once, until none is left that fits the time; how many ran."""
    ends, left = time.time() + options.seconds, []
    for name in options.section.split(","):
        section = sections(options.rows)[name]
        done = start_over(Path(options.scratch) / name, options.go_on)
        for row in section["row"]:
            asked_for = not options.names or {row["name"], f"{name}/{row['name']}"} & set(options.names)
            if row["name"] not in done and asked_for:
                left.append({"cost": section["cost"], **row, "section": name})
    lock, n_taken = threading.Lock(), 0

    def take() -> Row | None:
        nonlocal n_taken
        with lock:
            for row in left:
                if time.time() + row["cost"] * options.slower <= ends:
                    left.remove(row)
                    n_taken += 1
                    return row
        return None

    def work() -> None:
        while row := take():
            command = [sys.executable, "-W", "ignore", "-m", "benchmarks.ablations", *sys.argv[1:]]
            child = subprocess.Popen([*command, "--one", row["section"], row["name"]])
            try:
                child.wait(max(1.0, ends + LATE_S - time.time()))
            except subprocess.TimeoutExpired:
                child.kill()
                print(f"{row['name']}: stopped by the clock", flush=True)

    threads = [threading.Thread(target=work) for _ in range(options.workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return n_taken


def line_of(found: Row, took_s: float) -> str:
    training = found.get("training", {})
    decoding = {
        f"{name}/{way}": notes["seconds"]
        for name, ways in found.get("decoding", {}).items()
        for way, notes in ways.items()
    }
    return (
        f"{found['name']:22} {took_s:6.1f} s train {training.get('elapsed_s', 0):6.1f} step {found['seconds'].get('step', 0):.3f}"
        f" peak {training.get('peak_mib', 0):6.0f} MiB decode {decoding}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rows", type=Path)
    parser.add_argument("section")
    parser.add_argument("out", type=Path)
    parser.add_argument("names", nargs="*", help="only these rows: NAME or SECTION/NAME")
    parser.add_argument("--model", required=True)
    parser.add_argument("--encoded", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=540)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--slower", type=float, default=1.0, help="rows' costs are multiplied by it")
    parser.add_argument("--scratch", default="/tmp/ablations")
    parser.add_argument(
        "--go-on", action="store_true", help="keep the rows of an earlier call on this machine"
    )
    parser.add_argument("--one", nargs=2, help="a row, by section and name, in this process")
    options = parser.parse_args()
    if options.one:
        options.section, options.row = options.one
        run_one(options)
        return
    options.out.mkdir(parents=True, exist_ok=True)
    started = time.time()
    n_taken = run_all(options)
    print(f"{n_taken} rows taken in {time.time() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
