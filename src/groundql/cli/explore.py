"""`groundql explore`: what a data set holds, as a page and as JSON."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from groundql.cli import app
from groundql.cli.progress import progress, say
from groundql.config import PromptSettings
from groundql.errors import DependencyMissing
from groundql.records import DataSet, Outcome, Question, Schema, write_text

if TYPE_CHECKING:
    from groundql.databases.binding import Twin
    from groundql.questions.explore import Exploration, GoldCheck, GoldFault, MeasureTexts, Spread

DEADLINE_S = 30.0  # per gold query; the default of BIRD's own script
N_FAULTS_PRINTED = 10


@app.command()
def explore(
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="pocket, bird:DIR#train, spider:DIR#dev, jsonl:FILE")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Where explore.html and explore.json go; default: explore-NAME-SPLIT."
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Count tokens of this model; `none`: characters. Default: the embedded model where it is installed.",
        ),
    ] = None,
    run: Annotated[
        bool,
        typer.Option(
            "--run/--no-run", help="Run the gold queries where there are rows, not only prepare them."
        ),
    ] = True,
) -> None:
    """Describe a data set: categories, SQL complexity, evidence, lengths, golds that do not bind or run."""
    from groundql.prompts.render import schema_text
    from groundql.questions.explore import explore as explore_data
    from groundql.questions.load import load_data
    from groundql.reports.explore_page import write_explore_page

    found = load_data(data, needs_schemas=False)
    tokenizer, measure = _measure(model)
    schemas = _read_schemas(found)
    facts = explore_data(
        found,
        schemas,
        {db_id: schema_text(schema, PromptSettings()) for db_id, schema in schemas.items()},
        measure=measure,
        tokenizer=tokenizer,
        golds=check_golds(found, schemas, run=run) if schemas else None,
    )
    out_dir = out or Path(f"explore-{found.name}-{found.split}")
    dumped = facts.model_dump(mode="json")
    write_text(
        out_dir / "explore.json", json.dumps(dumped, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    )
    write_explore_page(dumped, out_dir / "explore.html")
    _print_summary(facts)
    typer.echo(f"page        {out_dir / 'explore.html'}\nfacts       {out_dir / 'explore.json'}")


def check_golds(
    data: DataSet, schemas: Mapping[str, Schema], *, run: bool, deadline_s: float = DEADLINE_S
) -> "GoldCheck":
    """What SQLite says of every gold query: whether it binds and, where there are rows and `run`, whether it runs.

    A gold is taken as SQLite takes it by default, an unknown "name" in double quotes being a string; how many bind
    without that is counted apart.
    """
    from groundql.databases.files import has_rows, sqlite_file
    from groundql.questions.explore import GoldCheck

    asked = [question for question in data.questions if question.gold_sql and question.db_id in schemas]
    paths = {db_id: sqlite_file(files) for db_id, files in data.databases.items() if has_rows(files)}
    faults, n_bound_strictly = _bind(asked, schemas, paths)
    n_bound = len(asked) - len(faults)
    runnable = [question for question in asked if run and question.db_id in paths]
    n_ran = n_with_rows = 0
    for question, outcome in _run(runnable, paths, deadline_s):
        has_run = outcome.status in ("ok", "too_large")
        n_ran += has_run
        n_with_rows += bool(outcome.rows) or outcome.status == "too_large"
        if not has_run:
            fault = _fault(question, "run", outcome.error or outcome.status)
            faults.setdefault(question.question_id, fault)
    order = {question.question_id: place for place, question in enumerate(asked)}
    return GoldCheck(
        n_gold=len(asked),
        n_bound=n_bound,
        n_bound_strictly=n_bound_strictly,
        n_run=len(runnable),
        n_ran=n_ran,
        n_with_rows=n_with_rows,
        deadline_s=deadline_s if runnable else None,
        faults=tuple(sorted(faults.values(), key=lambda fault: order[fault.question_id])),
    )


def _bind(
    asked: Sequence[Question], schemas: Mapping[str, Schema], paths: Mapping[str, Path]
) -> tuple[dict[str, "GoldFault"], int]:
    """Faults by question id, and how many golds bind with double-quoted strings off."""
    from groundql.databases.binding import prepare

    faults = {}
    n_strictly = 0
    for question in asked:
        db_id, sql = question.db_id, question.gold_sql or ""
        if prepare(paths.get(db_id) or schemas[db_id], sql) is None:
            n_strictly += 1
        elif (error := _lenient_twin(schemas[db_id]).prepare(sql)) is not None:
            faults[question.question_id] = _fault(question, "bind", error)
    return faults, n_strictly


@cache
def _lenient_twin(schema: Schema) -> "Twin":
    """An empty copy of the database on which an unknown "name" is a string."""
    from groundql.databases.binding import twin_from_ddl
    from groundql.databases.schema import schema_ddl

    return twin_from_ddl(schema_ddl(schema), quoted_strings=True)


def _run(
    runnable: Sequence[Question], paths: Mapping[str, Path], deadline_s: float
) -> Iterator[tuple[Question, Outcome]]:
    from groundql.databases.executor import Executor, Job

    if not runnable:
        return
    jobs = (
        Job(paths[q.db_id], q.gold_sql or "", deadline_s=deadline_s, quoted_strings=True) for q in runnable
    )
    with progress("gold queries", len(runnable)) as advance, Executor(os.cpu_count() or 1) as executor:
        for n_done, (place, outcome) in enumerate(executor.run_each(jobs), start=1):
            advance(n_done)
            yield runnable[place], outcome


def _fault(question: Question, stage: Literal["bind", "run"], error: str) -> "GoldFault":
    from groundql.questions.explore import GoldFault

    return GoldFault(
        question_id=question.question_id,
        db_id=question.db_id,
        stage=stage,
        error=error,
        sql=question.gold_sql or "",
    )


def _read_schemas(data: DataSet) -> dict[str, Schema]:
    """Schemas by db_id; {} for the hub set, which comes without any."""
    from groundql.databases.schema import read_schema
    from groundql.questions.layout import has_schema

    return {db_id: read_schema(files) for db_id, files in data.databases.items() if has_schema(files)}


def _measure(model: str | None) -> tuple[str, "MeasureTexts"]:
    """The tokenizer's name ("" for characters) and what counts its tokens.

    A model that is asked for is used or refused; "none" asks for characters. Without one the embedded model's
    tokenizer counts where it is installed, and characters are counted elsewhere, which is said.
    """
    from groundql.models.catalog import DEFAULT_MODEL
    from groundql.models.source import find_base
    from groundql.questions.explore import count_characters

    if model == "none":
        return "", count_characters
    is_installed = all(find_spec(package) for package in ("torch", "transformers", "gguf"))
    if model and not is_installed:
        raise DependencyMissing(
            'counting tokens needs torch and transformers: pip install "groundql[train]"; '
            "--model none counts characters"
        )
    if not is_installed or not (model or find_base(DEFAULT_MODEL).gguf_path):
        say(f"lengths in characters: {DEFAULT_MODEL} is not installed; --model MODEL counts tokens")
        return "", count_characters
    from groundql.models.load import load_tokenizer

    name = model or DEFAULT_MODEL
    tokenizer = load_tokenizer(find_base(name))

    def count_tokens(texts: Sequence[str]) -> list[int]:
        encoded = tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False, verbose=False)
        return [len(ids) for ids in encoded["input_ids"]]

    return name, count_tokens


def _print_summary(facts: "Exploration") -> None:
    """The main figures, one a line."""
    n = facts.n_questions
    typer.echo(f"questions   {n:,} on {facts.n_databases} databases   {facts.name} {facts.split}")
    typer.echo(
        f"evidence    {facts.n_with_evidence:,} with evidence   {_quartet(facts.evidence_characters, 'characters')}"
    )
    for label, counts in (("difficulty", facts.by_difficulty), ("shape", facts.by_shape)):
        if any(counts):
            typer.echo(
                f"{label:<12}" + ", ".join(f"{name or '(none)'} {count:,}" for name, count in counts.items())
            )
    lengths = facts.lengths
    whose = f"{lengths.unit} of {lengths.tokenizer}" if lengths.tokenizer else lengths.unit
    for label, spread in (("question", lengths.question), ("SQL", lengths.sql), ("schema", lengths.schema_)):
        if spread:
            typer.echo(f"{label:<12}{_quartet(spread, whose)}")
    golds = facts.golds
    if golds is None:
        typer.echo("golds       not checked: no schemas")
        return
    ran = (
        f", {golds.n_ran:,} of {golds.n_run:,} ran, {golds.n_with_rows:,} returned rows"
        if golds.n_run
        else ", none run"
    )
    typer.echo(f"golds       {golds.n_bound:,} of {golds.n_gold:,} bind{ran}")
    if facts.rows.get("synthetic"):
        typer.echo("rows        synthetic: results on them are not the data set's own figures")
    for fault in golds.faults[:N_FAULTS_PRINTED]:
        typer.echo(f"  {fault.question_id}, {fault.db_id}: does not {fault.stage}: {fault.error}")
    if len(golds.faults) > N_FAULTS_PRINTED:
        typer.echo(f"  and {len(golds.faults) - N_FAULTS_PRINTED:,} more on the page")


def _quartet(spread: "Spread | None", unit: str) -> str:
    if spread is None:
        return "none"
    return f"median {spread.median:,}, 95 % {spread.p95:,}, largest {spread.largest:,} {unit}"
