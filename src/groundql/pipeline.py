"""The whole path for a data set: the stages in order, JSONL between them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from groundql.prompts.extract import extract_sql
from groundql.records import Completion, DataSet, Verdict
from groundql.verdicts.cases import Case, Judging
from groundql.verdicts.judge import judge_all
from groundql.verdicts.predictions import Predictions, first_by_id, read_predictions


def load_predictions(path: Path, data: DataSet) -> Predictions:
    """The predictions of a file in any of the three formats, with the SQL extracted from each."""
    return read_predictions(path, data, extract_sql)


def judge_completions(
    data: DataSet,
    completions: Sequence[Completion],
    settings: Judging | None = None,
    *,
    is_verbatim: bool = False,
    known: Sequence[Verdict] = (),
    deadline_s: float | None = None,
    max_rows: int | None = None,
    on_verdict: Callable[[Verdict], None] | None = None,
) -> list[Verdict]:
    """One verdict per question of `data`, in its order; the first of doubled completions counts, extra ones do not.

    `is_verbatim`: each `text` is what the official script would run, and `ex_bird` runs it so; else that is the
    extracted SQL, or the text where nothing was extracted. `known` verdicts, of a run that was cut short, are taken
    as they are; `on_verdict` is told of the others. `deadline_s` and `max_rows`, where given, go before `settings`.
    """
    by_id = first_by_id(completions)
    verdicts = {verdict.question_id: verdict for verdict in known}
    cases = []
    databases = data.databases
    for question in data.questions:
        if verdicts and question.question_id in verdicts:
            continue
        completion = by_id.get(question.question_id)
        official = None
        if completion is not None:
            official = completion.text if is_verbatim else completion.sql or completion.text
        files = databases[question.db_id]
        cases.append(Case(question, completion, files, official))
    settings = settings or Judging()
    settings = replace(
        settings, deadline_s=deadline_s or settings.deadline_s, max_rows=max_rows or settings.max_rows
    )
    judged = judge_all(cases, settings, on_verdict)
    if not known:
        return judged
    for verdict in judged:
        verdicts[verdict.question_id] = verdict
    return [verdicts[question.question_id] for question in data.questions]
