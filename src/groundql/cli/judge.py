"""`groundql judge`: predictions in, a verdict for every question out."""

import contextlib
import json
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from groundql.cli import app
from groundql.cli.progress import progress, say
from groundql.errors import SettingError
from groundql.records import DataSet, Verdict, write_jsonl, write_text

N_IDS_SHOWN = 8


# Longer than our limit: half of it is the options with their help, which Typer reads from the signature.
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
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for verdicts.jsonl and tally.json; a killed run resumes there."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the tally as one JSON object.")] = False,
    deadline_s: Annotated[float, typer.Option(help="Seconds that each query may take.")] = 30.0,
    max_rows: Annotated[int, typer.Option(help="Rows beyond which a result is too large.")] = 100_000,
    workers: Annotated[int, typer.Option(help="Processes that run queries.")] = 2,
    timings: Annotated[
        int, typer.Option(help="Rounds that time right predictions for VES; papers use 100.")
    ] = 10,
    instances: Annotated[int, typer.Option(help="Changed copies of each database that `robust` asks.")] = 3,
    seed: Annotated[int, typer.Option(help="Of the changed copies.")] = 7,
    ladder_only: Annotated[bool, typer.Option("--ladder-only", help="Only the rungs: fastest.")] = False,
) -> None:
    """Judge predicted SQL: extracted, parsed, read-only, grounded, ran, and equal to the gold's rows."""
    from groundql.pipeline import judge_completions, load_predictions
    from groundql.questions.load import load_data
    from groundql.reports.tally import rung_table, tally
    from groundql.reports.trust import trust_lines
    from groundql.verdicts.cases import Judging
    from groundql.verdicts.predictions import match_completions
    from groundql.verdicts.resume import Partial, run_fingerprint

    if deadline_s <= 0 or max_rows < 1 or workers < 1 or timings < 0 or instances < 0:
        raise SettingError(
            "--deadline-s, --max-rows and --workers must be above 0, --timings and --instances not below"
        )
    questions = load_data(data)
    settings = Judging(
        deadline_s=deadline_s,
        max_rows=max_rows,
        n_workers=workers,
        ladder_only=ladder_only,
        n_timings=0 if ladder_only else timings,
        n_instances=0 if ladder_only else instances,
        seed=seed,
        spider=questions.name == "spider" and not ladder_only,
    )
    given = load_predictions(predictions, questions)
    matched = match_completions(questions, given.completions)
    misfits = {what: getattr(matched, what) for what in ("missing", "extra", "doubled", "other_database")}
    _say_what_is_given(predictions, len(given.completions), given.format, given.notes, misfits, questions)
    with contextlib.ExitStack() as stack:
        partial = None
        if out is not None:
            partial = stack.enter_context(
                Partial(out, run_fingerprint(questions, given.completions, settings))
            )
        known = partial.known if partial else []
        if known:
            say(f"resumed: {len(known)} verdicts of a run that was cut short stand in {out}")
        done = len(known)
        advance = stack.enter_context(progress("judge", len(questions.questions)))

        def keep(verdict: Verdict) -> None:
            nonlocal done
            done += 1
            advance(done)
            if partial:
                partial.add(verdict)

        verdicts = judge_completions(
            questions,
            given.completions,
            settings,
            is_verbatim=given.is_verbatim,
            known=known,
            on_verdict=keep,
        )
    tallied = tally(verdicts)
    found = {
        **tallied,
        "data": questions.spec,
        "predictions": {"format": given.format, **{what: list(ids) for what, ids in misfits.items()}},
    }
    trust = trust_lines(verdicts, questions.n_drafted) if questions.n_drafted is not None else []
    if trust:
        found["trust"] = trust
    if out is not None and partial is not None:
        write_jsonl(out / "verdicts.jsonl", verdicts)
        write_text(out / "tally.json", json.dumps(found, indent=2, ensure_ascii=False) + "\n")
        partial.remove()
    if as_json:
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    typer.echo(rung_table(tallied), nl=False)
    if trust:
        typer.echo("\nhow far to trust this\n" + "\n".join(textwrap.fill(line, 100) for line in trust) + "\n")
    if out is not None:
        typer.echo(f"verdicts   {out / 'verdicts.jsonl'}")


def _say_what_is_given(
    path: Path,
    n_completions: int,
    file_format: str,
    notes: Sequence[str],
    misfits: dict[str, tuple[str, ...]],
    questions: DataSet,
) -> None:
    """First lines on stderr: what will be judged, and which predictions do not fit a question."""
    n = len(questions.questions)
    say(f"{path}: {n_completions} predictions, format {file_format}; {questions.spec}: {n} questions")
    for note in notes:
        say(f"note: {note}")
    for what, ids in misfits.items():
        if ids:
            say(f"{what.replace('_', ' ')}: {_listed(ids)}")


def _listed(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - N_IDS_SHOWN} more" if len(ids) > N_IDS_SHOWN else ""
    return f"{len(ids)} ({', '.join(ids[:N_IDS_SHOWN])}{more})"
