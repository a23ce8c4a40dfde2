"""A data set of one question on the bookshop, and a judge for single answers."""

from collections.abc import Callable
from pathlib import Path

import pytest

from groundql.pipeline import judge_completions
from groundql.prompts.extract import extract_sql
from groundql.records import Completion, DatabaseFiles, DataSet, Question, Verdict
from groundql.verdicts.judge import Judging

BOOKSHOP = DatabaseFiles(
    db_id="bookshop",
    sql_path=Path(__file__).resolve().parents[1] / "golden" / "bookshop.sql",
    sql_has_rows=True,
)
GOLD = "SELECT title FROM book WHERE price = 10"


def data_of(golds: list[str | None], files: DatabaseFiles = BOOKSHOP) -> DataSet:
    """A data set with one question per gold, numbered from 0."""
    questions = tuple(
        Question(question_id=str(n), db_id="bookshop", text=f"question {n}?", gold_sql=gold)
        for n, gold in enumerate(golds)
    )
    return DataSet(spec="test", name="test", split="", questions=questions, databases={"bookshop": files})


def completion(text: str, question_id: str = "0") -> Completion:
    """What a model wrote, with the SQL extracted."""
    return Completion(question_id=question_id, db_id="bookshop", text=text, sql=extract_sql(text))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def judged() -> Callable[..., Verdict]:
    """The verdict on one answer to the one question."""

    def judge(text: str, gold: str | None = GOLD, **settings) -> Verdict:
        (verdict,) = judge_completions(data_of([gold]), [completion(text)], Judging(n_workers=1, **settings))
        return verdict

    return judge
