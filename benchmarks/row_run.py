"""One row of an ablation: trained as `groundql train` would, asked, and noted as JSON. Needs torch; `ablations.py` runs many."""

import contextlib
import gc
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from peft import set_peft_model_state_dict
from safetensors.torch import load_file

from benchmarks.encoded import Encoder
from benchmarks.more_examples import More, own_examples, twice
from benchmarks.row_files import compact
from groundql import tuning
from groundql.config import Config, GenerationSettings, ModelSettings, PromptSettings, load_config
from groundql.encoding import Encoded
from groundql.generating import Writer, make_prompts, read_schemas
from groundql.models.chat import turns_of
from groundql.models.load import LoadedModel, best_device, load_base, load_tokenizer
from groundql.models.merge import merge_dense
from groundql.models.source import find_base
from groundql.prompts.render import prompt_fingerprint
from groundql.questions.load import load_data
from groundql.records import DataSet
from groundql.selecting import Asked, _write, complete
from groundql.training import exact
from groundql.training.examples import Example
from groundql.training.run_folder import versions

Row = dict[str, Any]
MAX_LOG_LINES = 400


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
        self.more: More | None = None  # changes the examples of the next training
        self.trained_on: list[Example] = []
        tuning.encode_labels = self._encode
        tuning._load_writer = self._writer

    def _encode(self, data: DataSet, *arguments: Any, **named: Any) -> Encoded:
        """`encode_labels` of the training's own call, the first, with what `more` adds; others as they are."""
        encoded = self.encoder(data, *arguments, **named)
        if self.more is None:
            return encoded
        more, self.more = self.more, None
        self.trained_on = more(data, encoded.examples)
        return replace(encoded, examples=self.trained_on)

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
            self._asked[key] = self.prompts_of(data, prompt)
        return self._asked[key]

    def prompts_of(self, data: DataSet, prompt: PromptSettings) -> Asked:
        """The questions of `data` as prompts; those that do not fit are left out, and said."""
        schemas = read_schemas(data, prompt.n_examples)
        # Counting tokens through a writer without a model: it needs the tokenizer alone.
        loaded = LoadedModel(model=None, tokenizer=self.tokenizer, dtype=torch.float32, device=self.device)
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
            print(f"{data.spec}: {len(too_long)} prompts are too long", flush=True)
        return Asked(prompts=prompts, schemas=schemas, databases=data.databases, dialect=prompt.dialect)


def run_row(bench: Bench, row: Row, section: Row, folder: Path, keep: Callable[[Row], None]) -> Row:
    """Train and decode as one row says. Everything worth keeping, as JSON; `keep` is told of it as it grows."""
    started = time.monotonic()
    own = overrides_of(row, section, bench.model)
    config = load_config(row.get("config", section["config"]), own)
    found: Row = {
        "name": row["name"],
        "model": row.get("model", section["model"]),
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
    if row.get("untuned"):
        plain = ModelSettings(name=bench.model, quantization="none")
        models = {"": bench.base(plain)}
    else:
        if reject := row.get("reject"):
            bench.more = resampled(bench, config, row, reject, folder, found)
        elif name := row.get("twice"):
            bench.more = twice(name)
        models = train(bench, config, row, folder, found)
    found["prompt_fingerprint"] = prompt_fingerprint(config.prompt, bench.turns)
    keep(found)
    bench.share_card()
    for way in row.get("ways", section["ways"]):  # the costly last: every set is there before
        dense = models[section["way"][way].get("checkpoint", "")]
        loaded = LoadedModel(model=dense, tokenizer=bench.tokenizer, dtype=dense.dtype, device=bench.device)
        for name in row.get("ask", section["ask"]):
            asked_of = section["asked"][name]
            if way in asked_of.get("without", []):
                continue
            # another prompt in use than in training
            use = [*row.get("use", []), *asked_of.get("use", [])]
            prompt = load_config(row.get("config", section["config"]), [*own, *use]).prompt
            asked = bench.asked(asked_of["data"], prompt, asked_of.get("limit"))
            decode(bench, loaded, asked, (name, way), section, config, found)
            found["data"][name] = asked_of
            keep(found)
    found["seconds"]["row"] = round(time.monotonic() - started, 2)
    found["complete"] = True
    keep(found)
    return found


def overrides_of(row: Row, section: Row, model: str) -> list[str]:
    """What is set over the row's config, the model first."""
    base = list(section.get("set", [])) if row.get("on_base", True) else []
    return [f"model.name={model}", *base, *row.get("set", [])]


def train(bench: Bench, config: Config, row: Row, folder: Path, found: Row) -> dict[str, Any]:
    """The model with the row's adapter, dense, under ""; with `last_too` the last checkpoint's too, under "last".

    The training is noted in `found`.
    """
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
    models = {"": merge_dense(bench.tuned)}
    if row.get("last_too"):
        last = max((folder / "checkpoints").glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))
        set_peft_model_state_dict(bench.tuned, load_file(last / "adapter_model.safetensors"))
        models["last"] = merge_dense(bench.tuned)
    bench.drop()
    found["seconds"]["merge"] = round(time.monotonic() - started, 2)
    return models


def resampled(bench: Bench, config: Config, row: Row, reject: Row, folder: Path, found: Row) -> More:
    """Train once, let that model answer its training questions of `reject["data"]`; what adds its right answers.

    The counts are noted in `found["rejection"]`, the first training in `found["first_training"]`.
    """
    first = folder.with_name(f"{folder.name}-first")
    bench.more = lambda _, examples: examples
    dense = train(bench, config, {"name": row["name"]}, first, found)[""]
    shutil.rmtree(first, ignore_errors=True)
    found["first_training"] = found["training"]
    started = time.monotonic()
    examples = list(bench.trained_on)
    of_name = {e.question_id for e in examples if e.question_id.startswith(f"{reject['data']}/")}
    data = load_data(config.data.train)
    asked_of = tuple(q for q in data.questions if q.question_id in of_name)[: reject.get("limit")]
    data = data.model_copy(update={"questions": asked_of})
    asked = bench.prompts_of(data, config.prompt)
    loaded = LoadedModel(model=dense, tokenizer=bench.tokenizer, dtype=dense.dtype, device=bench.device)
    settings = GenerationSettings(
        max_new_tokens=config.generation.max_new_tokens,
        samples=reject["samples"],
        temperature=reject["temperature"],
    )
    texts = _write(dense, loaded, bench.turns, asked, settings)  # `complete` would choose one of each
    samples = [[some[i].completion for some in texts] for i in range(settings.samples)]
    found["seconds"]["sampling"] = round(time.monotonic() - started, 2)
    started = time.monotonic()
    n_workers = max(2, len(os.sched_getaffinity(0)) // bench.n_workers)
    more, found["rejection"] = own_examples(
        data, samples, examples, prompt=config.prompt, tokenizer=bench.tokenizer, turns=bench.turns,
        limit=reject["at_most"], n_workers=n_workers,
    )  # fmt: skip
    found["seconds"]["judging"] = round(time.monotonic() - started, 2)
    del dense, loaded
    bench.tidy()
    return lambda _, again: [*again, *more]


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
    update = {key: value for key, value in section["way"][way].items() if key != "checkpoint"}
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
    model = row.get("model", section["model"])
    if row.get("untuned"):
        return f"groundql generate {model}"
    shown = [f"--set '{one}'" for one in (f"model.name={model}", *overrides)]
    return " ".join(["groundql train", row.get("config", section["config"]), *shown])


def device_name() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
