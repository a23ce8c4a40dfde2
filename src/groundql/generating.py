"""From a data set and a model to completions: prompts, decoding, extraction. JSONL in the end."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from groundql.config import GenerationSettings, ModelSettings, PromptSettings
from groundql.databases.schema import read_schema
from groundql.databases.values import Matches, nearest_values, value_source
from groundql.errors import AskedWrongly, PromptTooLong
from groundql.models.chat import encode_part, turns_of
from groundql.models.exported import Exported, read_exported
from groundql.models.source import find_base, is_run
from groundql.prompts.budget import fit_prompt
from groundql.prompts.render import prompt_fingerprint
from groundql.records import Completion, DatabaseFiles, DataSet, Prompt, Question, Schema, Turns
from groundql.selecting import Asked, complete

if TYPE_CHECKING:
    from groundql.decoding.vllm_engine import VllmModel
    from groundql.models.load import LoadedModel
    from groundql.training.run_folder import RunInfo

ROOM_FOR_REPAIR = 512  # tokens by which a failed query and the engine's message lengthen a prompt


@dataclass(frozen=True, kw_only=True)
class Writer:
    """A loaded model with what it needs to be asked: marks and prompt settings."""

    loaded: "LoadedModel | VllmModel"
    turns: Turns
    prompt: PromptSettings

    @property
    def count_tokens(self) -> Callable[[str], int]:
        """Tokens of a piece of a prompt; repeated pieces are counted once."""
        tokenizer, turns = self.loaded.tokenizer, self.turns
        return lru_cache(maxsize=4096)(lambda text: len(encode_part(tokenizer, text, turns)))


def load_writer(
    name: str,
    *,
    quantization: str | None = None,
    prompt: PromptSettings | None = None,
    merge: bool | None = None,
    generation: GenerationSettings | None = None,
) -> Writer:
    """The model called `name`: a run folder with its adapter and prompt, what `groundql export` made of one, or a base.

    A run's base is held as it was in training; a base model of its own is held dense unless `quantization` says.
    `merge`: adapter and 4-bit weights become plain 16-bit ones, which take more memory and are faster; None: on a GPU.
    `generation` names the engine; with vLLM the base is in 16 bits and the adapter beside it.

    Raises:
        ModelMissing: nothing of that name, or no weights there.
        AskedWrongly: the adapter was trained with a prompt that this version does not render.
        DependencyMissing: vLLM is asked for and not installed.
    """
    from groundql.models.load import (
        LoadedModel,
        best_device,
        load_adapter,
        load_base,
        load_tokenizer,
        weights_place,
    )
    from groundql.training.run_folder import read_run, read_settings

    device = best_device()
    run_dir = Path(name).expanduser()
    run = read_run(run_dir) if is_run(name) else None
    source = find_base(run.base_model if run else name)
    trained = run or read_exported(source)
    settings = read_settings(run_dir).model if run else ModelSettings(name=source.name, quantization="none")
    if quantization:
        settings = ModelSettings.model_validate({**settings.model_dump(), "quantization": quantization})
    tokenizer = load_tokenizer(source)
    turns = turns_of(tokenizer)
    if trained:
        _check_prompt(name, trained, turns)
    prompt = trained.prompt if trained else prompt or PromptSettings()
    if generation and generation.engine == "vllm":
        from groundql.decoding.vllm_engine import load_vllm

        longest = prompt.max_tokens + ROOM_FOR_REPAIR
        adapter_dir = run_dir / "adapter" if run else None
        inside = load_vllm(
            weights_place(source), tokenizer, adapter_dir, settings=generation, prompt_tokens=longest
        )
        return Writer(loaded=inside, turns=turns, prompt=prompt)
    model = load_base(source, settings, device=device)
    if run:
        model = load_adapter(model, run_dir / "adapter")
    if (device.type == "cuda" if merge is None else merge) and (run or settings.quantization != "none"):
        from groundql.models.merge import merge_dense

        model = merge_dense(model)
    loaded = LoadedModel(model=model, tokenizer=tokenizer, dtype=model.dtype, device=device)
    return Writer(loaded=loaded, turns=turns, prompt=prompt)


def _check_prompt(name: str, trained: "RunInfo | Exported", turns: Turns) -> None:
    """The prompt is rendered as it was in training; else AskedWrongly."""
    rendered = prompt_fingerprint(trained.prompt, turns)
    if trained.prompt_fingerprint != rendered:
        raise AskedWrongly(
            f"{name} was trained with prompt {trained.prompt_fingerprint}, this version renders "
            f"{rendered}: use the version that trained it ({trained.versions.get('groundql')})"
        )


def read_schemas(data: DataSet, n_examples: int) -> dict[str, Schema]:
    """The schema of every database that a question of `data` is asked of."""
    wanted = dict.fromkeys(question.db_id for question in data.questions)
    return {db_id: read_schema(data.databases[db_id], n_examples=n_examples) for db_id in wanted}


def make_prompts(
    questions: Sequence[Question],
    schemas: dict[str, Schema],
    *,
    settings: PromptSettings,
    turns: Turns,
    count_tokens: Callable[[str], int],
    databases: Mapping[str, DatabaseFiles] | None = None,
) -> tuple[list[Prompt], dict[str, str]]:
    """A prompt for each question that fits, and by question id the reason for each that does not.

    `databases` is where values are looked up if the settings ask for them; without it the prompts have none.
    """
    fit = partial(fit_prompt, settings=settings, turns=turns, count_tokens=count_tokens)
    prompts, too_long = [], {}
    for question in questions:
        schema = schemas[question.db_id]
        files = databases.get(question.db_id) if databases else None
        try:
            prompts.append(fit(question, schema, values=find_values(question, schema, files, settings)))
        except PromptTooLong as error:
            too_long[question.question_id] = str(error)
    return prompts, too_long


def find_values(
    question: Question, schema: Schema, files: DatabaseFiles | None, settings: PromptSettings
) -> Matches:
    """Values of real rows that the question or its evidence mentions, as many as the settings allow."""
    source = value_source(files) if files and settings.values and settings.schema_ else None
    if source is None:
        return {}
    text = f"{question.text} {question.evidence if settings.evidence else ''}"
    return nearest_values(text, schema, source, settings.values)


def ask_all(writer: Writer, data: DataSet) -> tuple[Asked, dict[str, str]]:
    """The questions of `data` as prompts that fit, with their schemas; and why the others do not fit, by question id."""
    schemas = read_schemas(data, writer.prompt.n_examples)
    prompts, too_long = make_prompts(
        data.questions,
        schemas,
        settings=writer.prompt,
        turns=writer.turns,
        count_tokens=writer.count_tokens,
        databases=data.databases,
    )
    asked = Asked(prompts=prompts, schemas=schemas, databases=data.databases, dialect=writer.prompt.dialect)
    return asked, too_long


def write_completions(
    model: Any,
    writer: Writer,
    data: DataSet,
    *,
    settings: GenerationSettings,
    on_progress: Callable[[int], None] | None = None,
) -> tuple[list[Prompt], list[Completion]]:
    """Prompts and completions for every question of `data`, in its order.

    A question whose prompt does not fit gets an empty completion that says so in `shrunk`.
    """
    check_settings(settings, data)
    asked, too_long = ask_all(writer, data)
    completions = complete(
        model, writer.loaded, writer.turns, asked, settings=settings, on_progress=on_progress
    )
    by_id = {completion.question_id: completion for completion in completions}
    return list(asked.prompts), [
        _too_long(question) if question.question_id in too_long else by_id[question.question_id]
        for question in data.questions
    ]


def check_settings(settings: GenerationSettings, data: DataSet) -> None:
    """Raise AskedWrongly for settings that make no sense together, or not on these databases."""
    if settings.samples > 1 and not settings.temperature:
        raise AskedWrongly("several samples need a temperature above 0: without one they are all the same")
    ours = [name for name in ("kv_tokens", "processes") if getattr(settings, name) is not None]
    if settings.engine == "vllm" and ours:
        raise AskedWrongly(f"{ours[0]} is a setting of the own engine; vLLM has none like it")
    others = [files.db_id for files in data.databases.values() if files.dialect != "sqlite"]
    if settings.engine == "vllm" and settings.decoding == "grounded" and others:
        raise AskedWrongly(
            f"vLLM's queries are bound to SQLite's rules, and {others[0]} is not SQLite; leave out --engine vllm"
        )


def _too_long(question: Question) -> Completion:
    return Completion(
        question_id=question.question_id, db_id=question.db_id, text="", sql=None, shrunk=("too long",)
    )
