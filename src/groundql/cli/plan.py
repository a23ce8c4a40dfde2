"""`groundql plan`: peak memory and time of a training, before any weight is loaded."""

import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import typer

from groundql.cli import app
from groundql.cli.progress import say
from groundql.config import Config, load_config
from groundql.errors import AskedWrongly, DataError, ModelMissing, NotInDialect
from groundql.models.fitting import check_fits, find_change, with_pack
from groundql.models.memory import Plan, plan_of
from groundql.models.shape import read_shape
from groundql.models.source import ModelSource, find_base
from groundql.models.workload import QuestionLengths
from groundql.records import Prompt, Question, Turns

# Characters a token, SmolLM2's tokenizer on BIRD and Spider train and pocket: schemas 2.5 to 2.7, SQL 2.5 to 2.9,
# questions with their marks 3.9 to 5.0. A single schema may lie a quarter off; a larger vocabulary has fewer tokens.
SCHEMA_CHARACTERS, SQL_CHARACTERS, QUESTION_CHARACTERS = 2.6, 2.6, 4.2
# BIRD train (filtered), names only, in tokens: mean schema, question and SQL; questions a database.
BIRD_TOKENS, BIRD_QUESTIONS, BIRD_DATABASES, BIRD_LONGEST_SQL = (655, 50, 52), 96, 69, 296
WITHOUT_SCHEMA_TOKENS, LONGEST_QUESTION_TOKENS = (
    20,
    300,
)  # the instruction alone; a question with much evidence

LengthsFrom = Literal["tokenizer", "characters", "assumed"]


class Lengths(NamedTuple):
    """The questions of a training as lengths, and where these come from."""

    questions: list[QuestionLengths]
    source: LengthsFrom
    note: str


@app.command()
def plan(
    config: Annotated[str, typer.Argument(help="A .toml file, or the name of a shipped config.")],
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Override a setting: key=value. Repeatable.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as one JSON object.")] = False,
) -> None:
    """Predict the peak memory and the time of a training; refuse what does not fit memory_gib, with the way out."""
    settings = load_config(config, set_ or [])
    source = _find_model(settings.model.name)
    row = read_shape(source)
    lengths = read_lengths(settings, source)
    settings = with_pack(settings, row, lengths.questions)
    found = plan_of(settings, row, lengths.questions, lengths_from=lengths.source)
    if as_json:
        change = find_change(settings, row, lengths.questions) if found.fits is False else None
        facts = found.model_dump(mode="json") | {
            "total_mib": found.total_mib,
            "fits": found.fits,
            "change": list(change.settings) if change else [],
        }
        typer.echo(json.dumps(facts, indent=2))
    else:
        _print_plan(found, settings, lengths)
    check_fits(found, settings, row, lengths.questions)


def _find_model(name: str) -> ModelSource:
    """The model called `name`; a folder needs its config.json alone, no weights."""
    folder = Path(name).expanduser()
    if (folder / "config.json").is_file():
        return ModelSource(name=name, folder=folder)
    return find_base(name)


def read_lengths(config: Config, source: ModelSource) -> Lengths:
    """Lengths of the training questions: of the model's tokenizer where it is at hand, else from characters.

    Where the data are not there, questions like BIRD's stand in, with one as long as the prompt may be.

    Raises:
        AskedWrongly: no question is left, or one is longer than a pack.
    """
    try:
        questions = _training_questions(config)
    except DataError as error:
        return _assumed(config, str(error))
    tokenizer = _find_tokenizer(source)
    lengths = _by_tokenizer(config, questions, tokenizer) if tokenizer else _by_characters(config, questions)
    found = lengths.questions
    if not found:
        raise AskedWrongly(f"{config.data.train}: no question with a gold fits prompt.max_tokens")
    longest = max(question.n_tokens for question in found)
    fixed = config.training.packing == "shared" and config.training.pack_tokens != "auto"
    if fixed and longest > config.training.budget_tokens:
        message = (
            f"the longest question has {longest} tokens: raise training.pack_tokens "
            f"(now {config.training.pack_tokens}) or lower prompt.max_tokens"
        )
        if lengths.source == "tokenizer":
            raise AskedWrongly(message)
        say(f"note: by the estimate {message}")
    return lengths


def _training_questions(config: Config) -> list[tuple[Question, Any]]:
    """The sampled questions that have a gold, each with its schema; those that preflight drops are still in."""
    from groundql.generating import read_schemas
    from groundql.questions.load import load_data
    from groundql.questions.sample import stratified_sample

    data = load_data(config.data.train)
    questions: Sequence[Question] = data.questions
    if config.data.fraction < 1:
        questions = stratified_sample(
            questions, config.data.fraction, by=config.data.stratify_by, seed=config.training.seed
        )
    asked = tuple(question for question in questions if question.gold_sql)
    schemas = read_schemas(data.model_copy(update={"questions": asked}), config.prompt.n_examples)
    return [(question, schemas[question.db_id]) for question in asked]


def _find_tokenizer(source: ModelSource) -> Any:
    """The model's tokenizer; None where it, or what reads it, is not installed."""
    if not all(find_spec(package) for package in ("torch", "transformers", "peft", "bitsandbytes")):
        return None
    from groundql.models.load import load_tokenizer

    try:
        return load_tokenizer(source)
    except ModelMissing:
        return None


def _by_tokenizer(config: Config, asked: list[tuple[Question, Any]], tokenizer: Any) -> Lengths:
    from groundql.models.chat import turns_of

    @lru_cache(maxsize=4096)
    def count(text: str) -> int:
        return len(tokenizer(text, add_special_tokens=False)["input_ids"])

    return _measured(
        config, asked, turns_of(tokenizer), (count, count, count), "tokenizer", "the tokenizer's"
    )


def _by_characters(config: Config, asked: list[tuple[Question, Any]]) -> Lengths:
    from groundql.models.chat import PLAIN

    def counter(characters: float) -> Callable[[str], int]:
        return lambda text: round(len(text) / characters)

    counters = (counter(SCHEMA_CHARACTERS), counter(QUESTION_CHARACTERS), counter(SQL_CHARACTERS))
    note = f"an estimate: {SCHEMA_CHARACTERS} characters a token in schemas and SQL, {QUESTION_CHARACTERS} in questions"
    return _measured(config, asked, Turns(**PLAIN, end="<end>"), counters, "characters", note)


def _measured(
    config: Config,
    asked: list[tuple[Question, Any]],
    turns: Turns,
    counters: tuple[Callable[[str], int], Callable[[str], int], Callable[[str], int]],
    source: LengthsFrom,
    note: str,
) -> Lengths:
    """Lengths by counters of the schema's part, the question's part, and the SQL."""
    from groundql.generating import make_prompts
    from groundql.prompts.dialect import in_dialect

    in_schema, in_question, in_sql = counters
    prompts, too_long = make_prompts(
        [question for question, _ in asked],
        {question.db_id: schema for question, schema in asked},
        settings=config.prompt,
        turns=turns,
        count_tokens=in_schema,
    )
    labels = {}
    for question, schema in asked:
        gold = question.gold_sql or ""
        try:
            labels[question.question_id] = in_dialect(gold, schema, config.prompt.dialect)
        except NotInDialect:
            labels[question.question_id] = gold  # training leaves it out

    def lengths_of(prompt: Prompt) -> QuestionLengths:
        n_answer = in_sql(labels[prompt.question_id]) + 1  # and the end token
        return QuestionLengths(prompt.prefix, in_schema(prompt.prefix), in_question(prompt.suffix), n_answer)

    if too_long:
        note += f"; {len(too_long)} left out: longer than prompt.max_tokens"
    lengths = [lengths_of(prompt) for prompt in prompts]
    if longest := config.data.max_sql_tokens:
        lengths = [one for one in lengths if one.n_answer <= longest] or lengths
        note += f"; SQL of at most {longest} tokens"
    return Lengths(lengths, source, note)


def _assumed(config: Config, reason: str) -> Lengths:
    """Questions like BIRD's, and one as long as the settings allow."""
    schema, question, sql = BIRD_TOKENS
    room = config.prompt.max_tokens
    if not config.prompt.schema_:
        schema, room = WITHOUT_SCHEMA_TOKENS, min(room, WITHOUT_SCHEMA_TOKENS + LONGEST_QUESTION_TOKENS)
    if config.training.packing == "shared" and config.training.pack_tokens != "auto":
        room = min(room, config.training.budget_tokens - BIRD_LONGEST_SQL)
    longest = QuestionLengths("longest", max(1, room - question), question, BIRD_LONGEST_SQL)
    found = [
        QuestionLengths(database, min(schema, longest.n_prefix), question, sql)
        for database in range(BIRD_DATABASES)
        for _ in range(BIRD_QUESTIONS)
    ]
    say(f"note: {reason}: planned with lengths like those of BIRD train")
    return Lengths([*found, longest], "assumed", "assumed: like BIRD train, and one of the longest allowed")


def _print_plan(found: Plan, config: Config, lengths: Lengths) -> None:
    training, lora = config.training, config.lora
    batch = (
        f"packs of {training.budget_tokens:,} tokens" if training.packing == "shared" else "padded batches"
    )
    targets = lora.targets if isinstance(lora.targets, str) else " ".join(lora.targets)
    typer.echo(
        f"model       {found.model}   {config.model.quantization}, rank {lora.rank}, {targets}, {batch}, "
        f"batch {training.batch_size}, checkpointing {str(training.checkpointing).lower()}"
    )
    longest = max(question.n_tokens for question in lengths.questions)
    typer.echo(
        f"lengths     {len(lengths.questions):,} questions, longest {longest:,} tokens   {lengths.note}\n"
    )
    for part in found.parts:
        note = part.note if part.at_peak else f"{part.note}, not at the peak".removeprefix(", ")
        mib = f"{part.mib:10,.1f}" if part.at_peak else f"{f'({part.mib:,.1f})':>11}"
        typer.echo(f"{part.name:<22}{mib:<11} MiB   {note}".rstrip())
    typer.echo(f"{'peak':<22}{found.peak_mib:10,.1f}  MiB   of PyTorch's allocator, 16-bit card assumed")
    typer.echo(
        f"{'CUDA context':<22}{found.context_mib:10,.1f}  MiB   assumed; differs between cards and drivers"
    )
    verdict = "no card named: set memory_gib"
    if found.card_mib is not None:
        verdict = f"of {found.card_mib:,.0f}: {'fits' if found.fits else 'does not fit'}"
    typer.echo(f"{'total':<22}{found.total_mib:10,.1f}  MiB   {verdict}\n")
    _print_time(found, training.epochs)
    if training.max_minutes is not None:
        typer.echo(f"  training.max_minutes stops it after {training.max_minutes:g} minutes of optimisation")


def _print_time(found: Plan, epochs: float) -> None:
    n_tokens = found.epoch_tokens * epochs
    if found.lengths_from == "assumed":
        typer.echo("time        not known without the data; tokens a second:")
    else:
        typer.echo(
            f"training    {epochs:g} {'epoch' if epochs == 1 else 'epochs'} of {found.epoch_tokens:,} tokens in {found.n_passes:,} passes; "
            f"{found.n_steps:,} steps, {found.n_operations:.2g} operations"
        )
    for duration in found.durations:
        if found.lengths_from == "assumed":
            rates = sorted(n_tokens / seconds for seconds in duration.estimate_s)
            estimate = _span(*(f"{rate:,.0f}" for rate in rates))
            bound = f"at most {n_tokens / duration.bound_s:,.0f}" if duration.bound_s else ""
        else:
            estimate = _span(*map(_time, duration.estimate_s))
            bound = f"at least {_time(duration.bound_s)}" if duration.bound_s else ""
        told = ", ".join(filter(None, (f"{estimate} estimated", bound)))
        typer.echo(f"  {duration.machine:<18}{told}   (from {duration.source})")


def _span(least: str, most: str) -> str:
    return least if least == most else f"{least} to {most}"


def _time(seconds: float) -> str:
    """A duration as people say it.

    >>> _time(0.42), _time(42), _time(200), _time(30000)
    ('0.4 s', '42 s', '3 min', '8.3 h')
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
