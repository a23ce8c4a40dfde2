"""groundql ask: one question on a database, those of a pipe, or a session; prints the SQL, its rows and how sure it is."""

import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from groundql.cli import app
from groundql.cli.answers import print_answer
from groundql.cli.generate import require_torch
from groundql.cli.options import (
    DatabaseArgument,
    DeadlineOption,
    Decoding,
    DecodingOption,
    MaxNewTokensOption,
    ModelOption,
)
from groundql.cli.progress import say
from groundql.config import GenerationSettings
from groundql.errors import AskedWrongly
from groundql.models.catalog import DEFAULT_MODEL

if TYPE_CHECKING:
    from groundql.answer import Answer, Assistant
    from groundql.databases.open_database import OpenDatabase

VOTE_TEMPERATURE = 0.7  # of the texts that vote; without a vote the best token is taken each time


@app.command()
def ask(
    database: DatabaseArgument,
    question: Annotated[
        str | None,
        typer.Argument(help="The question, in plain words. Without one: a session, or the lines of a pipe."),
    ] = None,
    evidence: Annotated[
        str, typer.Option(help="What a person would have to know: a code, a formula, a term.")
    ] = "",
    model: ModelOption = DEFAULT_MODEL,
    max_new_tokens: MaxNewTokensOption = 256,
    decoding: DecodingOption = Decoding.GROUNDED,
    votes: Annotated[
        int,
        typer.Option(min=1, help="Texts a question: the result that most agree on is shown, and how many."),
    ] = 1,
    deadline_s: DeadlineOption = 30.0,
    max_rows: Annotated[int, typer.Option(min=1, help="Rows beyond which a result is refused.")] = 1000,
    json_: Annotated[bool, typer.Option("--json", help="One JSON object an answer, on one line.")] = False,
) -> None:
    """Ask a database: prints SQL and rows; exit status 1 where a question was not answered."""
    from groundql.databases.open_database import OpenDatabase

    if question is not None and not question.strip():
        raise AskedWrongly("the question is empty; without one, `groundql ask DATABASE` begins a session")
    opened = OpenDatabase(database)  # a wrong path is told before any weight is loaded
    require_torch("ask")
    from groundql.answer import Assistant

    if model == DEFAULT_MODEL:
        say(f"asking {model} untuned; --model RUN asks a tuned one")
    settings = GenerationSettings(
        max_new_tokens=max_new_tokens,
        decoding=decoding.value,
        samples=votes,
        temperature=VOTE_TEMPERATURE if votes > 1 else 0.0,
    )
    if question is None and json_ and sys.stdin.isatty():
        raise AskedWrongly("--json is for one question or for the lines of a pipe; a session prints tables")
    with Assistant.load(model, settings) as assistant, opened:
        if question is None and sys.stdin.isatty():
            from groundql.cli.session import run_session

            run_session(assistant, opened, evidence=evidence, deadline_s=deadline_s, max_rows=max_rows)
            return
        n_failed = 0
        for answer in _answers(
            assistant, opened, question, evidence, deadline_s=deadline_s, max_rows=max_rows
        ):
            n_failed += bool(answer.reason)
            if json_:
                print(answer.model_dump_json(), flush=True)
            else:
                if question is None:
                    print(f"? {answer.question}")
                print_answer(answer)
    if n_failed:
        raise typer.Exit(1)


def _answers(
    assistant: "Assistant",
    database: "OpenDatabase",
    question: str | None,
    evidence: str,
    *,
    deadline_s: float,
    max_rows: int,
) -> Iterator["Answer"]:
    """The answer to the question; without one to each line of stdin, where one that cannot be asked leaves those after it."""
    if question is not None:
        yield assistant.ask(database, question, evidence=evidence, deadline_s=deadline_s, max_rows=max_rows)
        return
    for text in _lines(sys.stdin):
        yield from assistant.ask_many([(database, text, evidence)], deadline_s=deadline_s, max_rows=max_rows)


def _lines(stream: Iterable[str]) -> Iterable[str]:
    """The lines of a pipe that hold anything."""
    return (line.strip() for line in stream if line.strip())
