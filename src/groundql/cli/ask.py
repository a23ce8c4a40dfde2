"""groundql ask: one question on one SQLite file; prints the SQL and its rows."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from groundql.cli import app
from groundql.cli.generate import Decoding, require_torch
from groundql.cli.progress import say
from groundql.config import GenerationSettings
from groundql.errors import GroundqlError
from groundql.models.catalog import DEFAULT_MODEL
from groundql.records import Outcome


@app.command()
def ask(
    database: Annotated[Path, typer.Argument(help="A SQLite file. It is opened read-only.")],
    question: Annotated[str, typer.Argument(help="The question, in plain words.")],
    evidence: Annotated[
        str, typer.Option(help="What a person would have to know: a code, a formula, a term.")
    ] = "",
    model: Annotated[
        str, typer.Option(help="Run folder, catalog name, hub id, folder or .gguf.")
    ] = DEFAULT_MODEL,
    max_new_tokens: Annotated[int, typer.Option(help="Limit for the query.")] = 256,
    decoding: Annotated[
        Decoding, typer.Option(help="grounded: a query that binds to the schema, or none and why.")
    ] = Decoding.GROUNDED,
    deadline_s: Annotated[float, typer.Option(help="Seconds the query may run.")] = 30.0,
    json_: Annotated[bool, typer.Option("--json", help="One JSON object in place of the table.")] = False,
) -> None:
    """Ask a SQLite file a question: prints SQL and rows; exit status 1 where the SQL does not bind or run."""
    from groundql.answer import read_one

    read_one(database, 0)  # a wrong path is told before any weight is loaded
    require_torch("ask")
    from groundql.answer import answer_question
    from groundql.generating import load_writer

    if model == DEFAULT_MODEL:
        say(f"asking {model} untuned; --model RUN asks a tuned one")
    answer = answer_question(
        load_writer(model),
        database,
        question,
        evidence=evidence,
        settings=GenerationSettings(max_new_tokens=max_new_tokens, decoding=decoding.value),
        deadline_s=deadline_s,
    )
    if json_:
        print(answer.model_dump_json())
        if answer.reason:
            raise typer.Exit(1)
        return
    if answer.closed_at is not None:
        say("the model did not end this query by itself: its end was forced, and it may mean something else")
    if answer.sql:
        print(answer.sql)
    if answer.reason or answer.outcome is None:
        raise GroundqlError(answer.reason)
    _print_rows(answer.outcome)


def _print_rows(outcome: Outcome) -> None:
    console = Console()
    table = Table(*(Column(Text(name)) for name in outcome.columns))
    for row in outcome.rows:
        table.add_row(*(Text("NULL", style="dim") if cell is None else Text(str(cell)) for cell in row))
    console.print(table)
    print(
        f"{len(outcome.rows)} row{'' if len(outcome.rows) == 1 else 's'} in {outcome.elapsed_s * 1000:.0f} ms"
    )
