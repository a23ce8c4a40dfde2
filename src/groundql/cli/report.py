"""`groundql report`: one page of judged runs."""

from pathlib import Path
from typing import Annotated

import typer

from groundql.cli import app


@app.command()
def report(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...", help="Folders with verdicts.jsonl in or below them; the first is the baseline."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="DIR", help="Where the report goes; default: `report` in the first RUN."
        ),
    ] = None,
) -> None:
    """Write a page in which every judged question can be opened, and the same facts as Markdown and JSON."""
    from groundql.reports.page import write_report

    first = runs[0] if runs[0].is_dir() else runs[0].parent
    typer.echo(write_report(runs, out or first / "report"))
