"""groundql init: a project folder from a database, with drafted questions and a config ready to train."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from groundql.cli import app
from groundql.cli.options import DatabaseArgument, SeedOption
from groundql.cli.progress import progress, say
from groundql.models.catalog import DEFAULT_MODEL

if TYPE_CHECKING:
    from groundql.projects import Made

N_FAULTS_SHOWN = 5


@app.command()
def init(
    database: DatabaseArgument,
    out: Annotated[Path, typer.Option(help="The project folder: new, or empty.")],
    questions: Annotated[
        Path | None,
        typer.Option(help="Questions of your own with SQL (.jsonl, .json, .csv): the test part first."),
    ] = None,
    base: Annotated[
        str, typer.Option(help="The model that config.toml names: catalog name, hub id, folder or .gguf.")
    ] = DEFAULT_MODEL,
    model: Annotated[
        str | None,
        typer.Option(help="A local model that writes each training question once more in its words."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many drafted queries.")] = 400,
    own_test: Annotated[
        int,
        typer.Option(min=1, help="So many of your own questions are the test; further ones are trained on."),
    ] = 100,
    seed: SeedOption = 7,
) -> None:
    """Read a database, draft questions from it, run their SQL read-only, and write a project to train and judge on."""
    from groundql.databases.place import shown_place
    from groundql.projects import make_project

    rephrase = None
    if model:
        from groundql.cli.generate import require_torch

        require_torch("init --model")
        from groundql.projects.rephrasing import rephraser

        rephrase = rephraser(model, say)
    say(f"init: reads {shown_place(database)}, drafts questions and runs their SQL, read-only")
    with progress("run golds", 1) as advance:

        def on_progress(done: int, total: int) -> None:
            advance.set_total(total)
            advance(done)

        made = make_project(
            database,
            out,
            base=base,
            questions=questions,
            limit=limit,
            n_test=own_test,
            seed=seed,
            rephrase=rephrase,
            on_progress=on_progress,
        )
    _show(made)


def _show(made: "Made") -> None:
    """What the project holds and what comes next on stdout; on stderr what cannot be used."""
    for fault in made.faults[:N_FAULTS_SHOWN]:
        say(f"not used: {fault}")
    if len(made.faults) > N_FAULTS_SHOWN:
        say(f"not used: {len(made.faults) - N_FAULTS_SHOWN} more of your questions, for such reasons")
    print(f"tables     {made.n_tables}")
    for (split, source), n in sorted(made.n_of.items()):
        print(f"{split:10} {n}   {source}")
    for reason, n in made.left_out.most_common():
        if n:
            print(f"left out   {n}   {reason}")
    print(
        f"project    {made.folder}   read its README.md: it says what drafted questions can and cannot show"
    )
    if not any(split == "train" for split, _ in made.n_of):
        say("nothing is left to train on: add lines with `split` train, or a table with more rows")
        return
    print(f"next       groundql train {made.folder / 'config.toml'} --out {made.folder / 'run'}")
