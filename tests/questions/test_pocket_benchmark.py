"""The shipped benchmark as it is loaded: its size, its splits, and golds that run."""

import json
from collections import Counter
from pathlib import Path

import pytest

from groundql.databases.executor import Job, run_many
from groundql.databases.files import sqlite_file
from groundql.errors import DatabaseMissing, DataError
from groundql.questions.load import load_data
from groundql.questions.pocket import POCKET_DIR, SPLITS, load_pocket


def test_there_are_at_least_ten_databases_and_six_hundred_questions() -> None:
    data = load_data("pocket")
    assert len(data.databases) >= 10
    assert len(data.questions) >= 600
    assert {question.difficulty for question in data.questions} == {"simple", "moderate", "challenging"}
    assert all(question.gold_sql for question in data.questions)


def test_no_database_and_no_question_is_in_two_splits() -> None:
    parts = [load_data(f"pocket#{split}") for split in SPLITS]
    whole = load_data("pocket")
    assert sorted(db_id for part in parts for db_id in part.databases) == sorted(whole.databases)
    texts = [{question.text for question in part.questions} for part in parts]
    assert len(set.union(*texts)) == sum(map(len, texts))
    assert sorted(q.question_id for part in parts for q in part.questions) == sorted(
        q.question_id for q in whole.questions
    )


def test_ids_are_unique_and_the_same_in_split_and_whole() -> None:
    whole = {question.question_id: question for question in load_data("pocket").questions}
    assert len(whole) == len(load_data("pocket").questions)
    assert all(whole[question.question_id] == question for question in load_data("pocket#dev").questions)


def test_every_gold_runs_and_returns_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    data = load_data("pocket")
    jobs = [
        Job(sqlite_file(data.databases[q.db_id]), q.gold_sql or "", deadline_s=10) for q in data.questions
    ]
    outcomes = run_many(jobs, n_workers=2)
    without = [q.question_id for q, found in zip(data.questions, outcomes, strict=True) if not found.rows]
    assert Counter(outcome.status for outcome in outcomes) == {"ok": len(jobs)}
    assert without == []


def test_a_database_without_its_sql_text_is_named(tmp_path: Path) -> None:
    one = sorted(POCKET_DIR.glob("*.json"))[0]
    (tmp_path / one.name).write_text(one.read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(DatabaseMissing, match=rf"{one.stem}.sql is not there; install GroundQL again"):
        load_pocket("pocket", folder=tmp_path)


def test_a_broken_file_is_named_with_what_is_wrong(tmp_path: Path) -> None:
    content = {"db_id": "zoo", "split": "trian", "domain": "", "questions": []}
    (tmp_path / "zoo.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"zoo.json: split: Input should be 'train', 'dev' or 'test'"):
        load_pocket("pocket", folder=tmp_path)
