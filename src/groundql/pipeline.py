"""The whole path for a data set: the stages in order, JSONL between them."""

from collections.abc import Callable, Sequence
from pathlib import Path

from groundql.prompts.extract import extract_sql
from groundql.records import Completion, DataSet, Verdict
from groundql.verdicts.judge import Case, judge_all
from groundql.verdicts.predictions import Predictions, match_completions, read_predictions


def load_predictions(path: Path, data: DataSet) -> Predictions:
    """The predictions of a file in any of the three formats, with the SQL extracted from each."""
    return read_predictions(path, data, extract_sql)


def judge_completions(
    data: DataSet,
    completions: Sequence[Completion],
    *,
    is_verbatim: bool = False,
    deadline_s: float = 30.0,
    max_rows: int = 100_000,
    n_workers: int = 2,
    ladder_only: bool = False,
    on_verdict: Callable[[Verdict], None] | None = None,
) -> list[Verdict]:
    """One verdict per question of `data`, in its order; the first of doubled completions counts, extra ones do not.

    `is_verbatim`: each `text` is what the official script would run, and `ex_bird` runs it so; else that is the
    extracted SQL, or the text where nothing was extracted. `deadline_s` and `max_rows` hold for each query.
    """
    by_id = match_completions(data, list(completions)).by_id
    cases = []
    for question in data.questions:
        completion = by_id.get(question.question_id)
        official = None
        if completion is not None:
            official = completion.text if is_verbatim else completion.sql or completion.text
        cases.append(
            Case(
                question=question,
                completion=completion,
                files=data.databases[question.db_id],
                official_sql=official,
            )
        )
    return judge_all(
        cases,
        deadline_s=deadline_s,
        max_rows=max_rows,
        n_workers=n_workers,
        ladder_only=ladder_only,
        on_verdict=on_verdict,
    )
