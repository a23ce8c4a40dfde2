"""`groundql judge`: predictions in, a verdict for every question out."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from groundql.cli import app
from groundql.cli.progress import progress, say
from groundql.errors import SettingError
from groundql.records import write_jsonl, write_text

N_IDS_SHOWN = 8


@app.command()
def judge(
    predictions: Annotated[
        Path,
        typer.Argument(
            metavar="PREDICTIONS", help="Our JSONL, BIRD's predict_*.json, or Spider's lines of SQL."
        ),
    ],
    data: Annotated[
        str, typer.Option(metavar="DATA", help="pocket, bird:DIR#dev, spider:DIR#dev, jsonl:FILE ...")
    ],
    out: Annotated[Path | None, typer.Option(help="Folder for verdicts.jsonl and tally.json.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the tally as one JSON object.")] = False,
    deadline_s: Annotated[float, typer.Option(help="Seconds that each query may take.")] = 30.0,
    max_rows: Annotated[int, typer.Option(help="Rows beyond which a result is too large.")] = 100_000,
    workers: Annotated[int, typer.Option(help="Processes that run queries.")] = 2,
) -> None:
    """Judge predicted SQL: extracted, parsed, read-only, grounded, ran, and equal to the gold's rows."""
    from groundql.pipeline import judge_completions, load_predictions
    from groundql.questions.load import load_data
    from groundql.reports.tally import rung_table, tally
    from groundql.verdicts.predictions import match_completions

    if deadline_s <= 0 or max_rows < 1 or workers < 1:
        raise SettingError("--deadline-s, --max-rows and --workers must be above 0")
    questions = load_data(data)
    given = load_predictions(predictions, questions)
    matched = match_completions(questions, given.completions)
    n = len(questions.questions)
    say(
        f"{predictions}: {len(given.completions)} predictions, format {given.format}; {questions.spec}: {n} questions"
    )
    for note in given.notes:
        say(f"note: {note}")
    misfits = {
        "missing": matched.missing,
        "extra": matched.extra,
        "doubled": matched.doubled,
        "other_database": matched.other_database,
    }
    for what, ids in misfits.items():
        if ids:
            say(f"{what.replace('_', ' ')}: {_listed(ids)}")
    done = 0
    with progress("judge", n) as advance:

        def count(_: Any) -> None:
            nonlocal done
            done += 1
            advance(done)

        verdicts = judge_completions(
            questions,
            given.completions,
            is_verbatim=given.is_verbatim,
            deadline_s=deadline_s,
            max_rows=max_rows,
            n_workers=workers,
            on_verdict=count,
        )
    tallied = tally(verdicts)
    found = {
        **tallied,
        "data": questions.spec,
        "predictions": {"format": given.format, **{what: list(ids) for what, ids in misfits.items()}},
    }
    if out is not None:
        write_jsonl(out / "verdicts.jsonl", verdicts)
        write_text(out / "tally.json", json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    if as_json:
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        typer.echo(rung_table(tallied), nl=False)
        if out is not None:
            typer.echo(f"verdicts   {out / 'verdicts.jsonl'}")


def _listed(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - N_IDS_SHOWN} more" if len(ids) > N_IDS_SHOWN else ""
    return f"{len(ids)} ({', '.join(ids[:N_IDS_SHOWN])}{more})"
