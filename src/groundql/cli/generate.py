"""groundql generate: a model's SQL for every question of a data set, as predictions.jsonl."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from groundql.cli import app
from groundql.cli.options import Decoding, MaxNewTokensOption, SeedOption
from groundql.cli.progress import progress, say
from groundql.config import GenerationSettings
from groundql.errors import DependencyMissing
from groundql.questions.load import load_data
from groundql.records import Completion, DataSet, write_jsonl


class Engine(StrEnum):
    """What writes."""

    OWN = "own"
    VLLM = "vllm"


class Unfinished(StrEnum):
    """What becomes of a grounded query that does not end by itself."""

    CLOSE = "close"
    ABSTAIN = "abstain"


EngineOption = Annotated[
    Engine, typer.Option(help="vllm: grammar and gate without the scope tracker; needs groundql[vllm].")
]
UnfinishedOption = Annotated[
    Unfinished,
    typer.Option(help="A grounded query that does not end by itself: closed, and marked; or none."),
]


@app.command()
def generate(
    model: Annotated[
        str, typer.Argument(help="Run folder, catalog name, hub id, model folder or .gguf file.")
    ],
    data: Annotated[str, typer.Option(help="DATA, such as pocket#test or bird:DIR#dev.")],
    out: Annotated[
        Path, typer.Option(help="Where predictions.jsonl goes; prompts.jsonl is written beside it.")
    ],
    max_new_tokens: MaxNewTokensOption = 256,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Texts decoded together; as suits the machine where not given.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many questions.")] = None,
    decoding: Annotated[
        Decoding, typer.Option(help="grounded: no query that does not bind to the schema is ever written.")
    ] = Decoding.FREE,
    unfinished: UnfinishedOption = Unfinished.CLOSE,
    engine: EngineOption = Engine.OWN,
    samples: Annotated[
        int, typer.Option(min=1, help="Texts a question; the result that most agree on is taken.")
    ] = 1,
    temperature: Annotated[
        float, typer.Option(min=0, help="0 takes the best token each time; above, tokens are drawn.")
    ] = 0.0,
    seed: SeedOption = 7,
    repair: Annotated[
        bool, typer.Option(help="Once more, with the engine's message, where a query does not run.")
    ] = False,
    kv_tokens: Annotated[
        int | None,
        typer.Option(min=1, help="Tokens in the cache at once; what fits the machine where not given."),
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(min=0, help="That check the constraint; as suits the machine where not given."),
    ] = None,
    merge: Annotated[
        bool | None,
        typer.Option(help="Adapter and 4-bit weights as 16-bit ones: faster, larger. On a GPU by default."),
    ] = None,
) -> None:
    """Write a model's SQL for every question of DATA; the same each time."""
    questions = load_data(data)
    if limit is not None:
        questions = questions.model_copy(update={"questions": questions.questions[:limit]})
    require_torch("generate")
    settings = GenerationSettings(
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        kv_tokens=kv_tokens,
        decoding=decoding.value,
        unfinished=unfinished.value,
        engine=engine.value,
        samples=samples,
        temperature=temperature,
        seed=seed,
        repair=repair,
        processes=processes,
    )
    _write(model, questions, out, settings, merge=merge)


def _write(
    model: str, questions: DataSet, out: Path, settings: GenerationSettings, *, merge: bool | None
) -> None:
    """Prompts and predictions into their files, and how the texts ended on stdout."""
    from groundql.generating import check_settings, load_writer, write_completions

    check_settings(settings, questions)
    writer = load_writer(model, merge=merge, generation=settings)
    n, n_databases = len(questions.questions), len(questions.databases)
    say(f"{model} on {questions.spec}: {n} questions, {n_databases} databases")
    with progress("generate", n) as advance:
        prompts, completions = write_completions(
            writer.loaded.model, writer, questions, settings=settings, on_progress=advance
        )
    write_jsonl(out.parent / "prompts.jsonl", prompts)
    write_jsonl(out, completions)
    _print_counts(completions, settings)
    print(f"predictions  {out}")


def _print_counts(completions: Sequence[Completion], settings: GenerationSettings) -> None:
    """How the texts ended, a line each."""
    n_shrunk = sum(bool(c.shrunk) for c in completions)
    n_cut = sum(not c.stopped for c in completions)
    print(f"questions    {len(completions)}")
    print(f"with SQL     {sum(c.sql is not None for c in completions)}")
    if settings.decoding == "grounded":
        n_abstained = sum(c.status == "abstained" for c in completions)
        n_closed = sum(c.closed_at is not None for c in completions)
        print(f"abstained    {n_abstained}   no query was found that binds")
        print(f"closed       {n_closed}   did not end by themselves")
    print(f"at the limit {n_cut}   of {settings.max_new_tokens} new tokens")
    print(f"shrunk       {n_shrunk}   prompts that left something out to fit")


def require_torch(verb: str, *more: str) -> None:
    """Say how to get torch where it is missing, or one of `more` packages of the extra `train`.

    Raises:
        DependencyMissing: torch, transformers, peft or one of `more` is not installed.
    """
    import importlib.util

    needed = ("torch", "transformers", "peft", *more)
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise DependencyMissing(
            f"groundql {verb} needs {', '.join(missing)}: pip install torch, then pip install 'groundql[train]'"
        )
