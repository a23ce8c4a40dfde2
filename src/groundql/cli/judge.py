"""`groundql judge`: predictions in, a verdict for every question out."""

import contextlib
import json
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from groundql.cli import app
from groundql.cli.progress import progress, say
from groundql.errors import SettingError
from groundql.records import DataSet, Verdict, write_jsonl, write_text

if TYPE_CHECKING:
    from groundql.verdicts.cases import Judging
    from groundql.verdicts.predictions import Predictions
    from groundql.verdicts.resume import Partial

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
    from groundql.pipeline import load_predictions
    from groundql.questions.load import load_data
    from groundql.verdicts.cases import Judging
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
    misfits = _misfits(questions, given)
    _say_what_is_given(predictions, given, misfits, questions)
    partial = Partial(out, run_fingerprint(questions, given.completions, settings)) if out else None
    with partial or contextlib.nullcontext():
        verdicts = _judge_the_rest(questions, given, settings, partial)
    found = _tally(questions, given, misfits, verdicts)
    if out and partial:
        write_jsonl(out / "verdicts.jsonl", verdicts)
        write_text(out / "tally.json", _json(found))
        partial.remove()
    typer.echo(_json(found) if as_json else _table(found, out), nl=False)


def _misfits(questions: DataSet, given: "Predictions") -> dict[str, tuple[str, ...]]:
    """By what is wrong, the ids of predictions that do not fit a question, and of questions without one."""
    from groundql.verdicts.predictions import match_completions

    matched = match_completions(questions, given.completions)
    return {what: getattr(matched, what) for what in ("missing", "extra", "doubled", "other_database")}


def _judge_the_rest(
    questions: DataSet, given: "Predictions", settings: "Judging", partial: "Partial | None"
) -> list[Verdict]:
    """A verdict for each question: those that `partial` knows as they are, the others kept there as they come."""
    from groundql.pipeline import judge_completions

    known = partial.known if partial else []
    if partial and known:
        say(f"resumed: {len(known)} verdicts of a run that was cut short stand in {partial.path.parent}")
    done = len(known)
    with progress("judge", len(questions.questions)) as advance:

        def keep(verdict: Verdict) -> None:
            nonlocal done
            done += 1
            advance(done)
            if partial:
                partial.add(verdict)

        return judge_completions(
            questions,
            given.completions,
            settings,
            is_verbatim=given.is_verbatim,
            known=known,
            on_verdict=keep,
        )


def _tally(
    questions: DataSet,
    given: "Predictions",
    misfits: dict[str, tuple[str, ...]],
    verdicts: Sequence[Verdict],
) -> dict[str, Any]:
    """What `tally.json` holds."""
    from groundql.reports.tally import tally
    from groundql.reports.trust import trust_lines

    found = {
        **tally(verdicts),
        "data": questions.spec,
        "predictions": {"format": given.format, **{what: list(ids) for what, ids in misfits.items()}},
    }
    trust = trust_lines(verdicts, questions.n_drafted) if questions.n_drafted is not None else []
    return {**found, "trust": trust} if trust else found


def _json(found: dict[str, Any]) -> str:
    return json.dumps(found, indent=2, ensure_ascii=False) + "\n"


def _table(found: dict[str, Any], out: Path | None) -> str:
    """What is printed for people."""
    from groundql.reports.tally import rung_table

    text = rung_table(found)
    if "trust" in found:
        lines = [textwrap.fill(line, 100) for line in found["trust"]]
        text += "\nhow far to trust this\n" + "\n".join(lines) + "\n\n"
    return text + (f"verdicts   {out / 'verdicts.jsonl'}\n" if out else "")


def _say_what_is_given(
    path: Path, given: "Predictions", misfits: dict[str, tuple[str, ...]], questions: DataSet
) -> None:
    """First lines on stderr: what will be judged, and which predictions do not fit a question."""
    n = len(questions.questions)
    say(
        f"{path}: {len(given.completions)} predictions, format {given.format}; {questions.spec}: {n} questions"
    )
    for note in given.notes:
        say(f"note: {note}")
    for what, ids in misfits.items():
        if ids:
            say(f"{what.replace('_', ' ')}: {_listed(ids)}")


def _listed(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - N_IDS_SHOWN} more" if len(ids) > N_IDS_SHOWN else ""
    return f"{len(ids)} ({', '.join(ids[:N_IDS_SHOWN])}{more})"
