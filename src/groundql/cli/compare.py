"""`groundql compare`: two runs on the same questions."""

import json
from pathlib import Path
from typing import Annotated

import typer

from groundql.cli import app
from groundql.errors import DataError
from groundql.records import Verdict, read_jsonl


@app.command()
def compare(
    verdicts_a: Annotated[
        Path, typer.Argument(metavar="VERDICTS_A", help="A verdicts.jsonl, or the folder that holds it.")
    ],
    verdicts_b: Annotated[
        Path, typer.Argument(metavar="VERDICTS_B", help="The run that is compared with it.")
    ],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object, with the ids gained and lost.")
    ] = False,
) -> None:
    """Compare two runs question by question: rates, paired difference, McNemar's exact test, gained and lost."""
    from groundql.reports.comparison import compare as compare_verdicts
    from groundql.reports.comparison import comparison_table

    path_a, path_b = _verdicts_path(verdicts_a), _verdicts_path(verdicts_b)
    found = compare_verdicts(read_jsonl(path_a, Verdict), read_jsonl(path_b, Verdict))
    if as_json:
        typer.echo(json.dumps({"a": str(path_a), "b": str(path_b), **found}, indent=2, ensure_ascii=False))
    else:
        typer.echo(f"A  {path_a}\nB  {path_b}\n{comparison_table(found)}", nl=False)


def _verdicts_path(path: Path) -> Path:
    """The file itself, or `verdicts.jsonl` in the folder; DataError where there is neither."""
    if not path.is_dir():
        return path
    inside = path / "verdicts.jsonl"
    if not inside.is_file():
        raise DataError(
            f"{path} holds no verdicts.jsonl; `groundql judge PREDICTIONS --data DATA --out {path}` makes one"
        )
    return inside
