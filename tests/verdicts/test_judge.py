"""Whole runs: hanging predictions, equal queries, real data."""

import random
import sqlite3

import pytest

from groundql.pipeline import judge_completions
from groundql.questions.load import load_data
from groundql.records import Completion, DatabaseFiles, DataSet
from groundql.verdicts import judge
from groundql.verdicts.opened import OpenDatabase
from tests.verdicts.conftest import BOOKSHOP, GOLD, completion, data_of
from tests.verdicts.query_maker import Maker, fill, rewritten

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT {0} UNION ALL SELECT i + 1 FROM n) SELECT COUNT(*) FROM n"
ALL_RUNGS = ("extracted", "sqlglot_accepts", "parsed", "read_only", "grounded", "ran", "ex_bird", "ex_strict")


def test_six_endless_predictions_before_ten_right_ones_leave_ten_right():
    answers = [ENDLESS.format(n) for n in range(6)] + [GOLD] * 10
    verdicts = judge_completions(
        data_of([GOLD] * 16),
        [completion(sql, str(n)) for n, sql in enumerate(answers)],
        judge.Judging(deadline_s=0.3),
    )
    assert [verdict.ex_strict for verdict in verdicts] == [False] * 6 + [True] * 10


def test_an_empty_second_statement_fails_the_official_rule_alone():
    """sqlite3.ProgrammingError: You can only execute one statement at a time (Python 3.11)."""
    answer = Completion(question_id="0", db_id="", text=GOLD + "; ;", sql=GOLD)
    (verdict,) = judge_completions(data_of([GOLD]), [answer], is_verbatim=True)
    assert verdict.ex_strict
    assert not verdict.ex_bird


def test_equal_queries_run_once_and_a_gold_once_for_all_runs(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    ran = []

    class Counting(judge.Executor):
        def run_each(self, jobs):
            return super().run_each(ran.append(job.sql) or job for job in jobs)

    monkeypatch.setattr(judge, "Executor", Counting)
    answers = [completion(sql, str(n)) for n, sql in enumerate([GOLD, "SELECT 1"] * 2)]
    first = judge_completions(data_of([GOLD] * 5), answers)
    assert sorted(ran) == ["SELECT 1", GOLD]
    assert judge_completions(data_of([GOLD] * 5), answers) == first
    assert sorted(ran) == ["SELECT 1", "SELECT 1", GOLD]


def official_ex(path: str, predicted: str, gold: str) -> bool:
    """BIRD's rule as its description has it: both are run, and their rows are equal as sets; an error is no match."""
    connection = sqlite3.connect(path)
    try:
        rows = [set(connection.execute(sql).fetchall()) for sql in (predicted, gold)]
    except sqlite3.Error:
        return False
    finally:
        connection.close()
    return rows[0] == rows[1]


def test_ex_bird_is_the_official_rule_on_random_pairs(tmp_path):
    """Queries of all kinds, some of which are equal, some differ, and some do not run."""
    path = tmp_path / "shop.sqlite"
    fill(3).execute("VACUUM INTO ?", (str(path),))
    files = DatabaseFiles(db_id="bookshop", sqlite_path=path)
    rng = random.Random(11)
    golds, answers = [], []
    while len(golds) < 150:
        gold = Maker(rng).query()
        kind = len(golds) % 3
        answer = rewritten(gold, rng) if kind == 0 else Maker(rng).query() if kind == 1 else gold.replace("book", "bok", 1)  # fmt: skip
        golds.append(gold)
        answers.append(Completion(question_id=str(len(answers)), db_id="", text=answer, sql=answer))
    verdicts = judge_completions(data_of(golds, files), answers, judge.Judging(ladder_only=True))
    expected = [official_ex(str(path), a.text, gold) for a, gold in zip(answers, golds, strict=True)]
    assert [bool(verdict.ex_bird) for verdict in verdicts] == expected
    assert 30 < sum(expected) < 120


def test_verdicts_come_in_the_order_of_the_questions_and_are_told_of_at_once():
    told = []
    data = data_of(["SELECT 0", "SELECT 1", None])
    verdicts = judge_completions(data, [completion("SELECT 1", "1")], on_verdict=told.append)
    assert [verdict.question_id for verdict in verdicts] == ["0", "1", "2"]
    assert sorted(verdict.question_id for verdict in told) == ["0", "1", "2"]


def gold_as_prediction(data: DataSet) -> list[Completion]:
    return [
        Completion(question_id=q.question_id, db_id=q.db_id, text=q.gold_sql, sql=q.gold_sql)
        for q in data.questions
    ]


def test_pocket_gold_against_itself_passes_every_rung():
    data = load_data("pocket")
    for verdict in judge_completions(data, gold_as_prediction(data)):
        assert all(getattr(verdict, rung) for rung in ALL_RUNGS), (verdict.question_id, verdict.error)
        assert not verdict.gold_fault


@pytest.mark.slow
def test_bird_dev_gold_against_itself_passes_every_rung(shared_data):
    data = load_data(f"bird:{shared_data}/bird/dev#dev")
    verdicts = judge_completions(data, gold_as_prediction(data))
    assert len(verdicts) == 1534
    for verdict in verdicts:
        assert all(getattr(verdict, rung) for rung in ALL_RUNGS), (verdict.question_id, verdict.error)


@pytest.mark.slow
@pytest.mark.parametrize(("split", "n", "n_faulty"), [("dev", 972, 0), ("train", 6638, 3)])
def test_spider_gold_against_itself_passes_every_rung_but_for_listed_faults(shared_data, split, n, n_faulty):
    data = load_data(f"spider:{shared_data}/spider#{split}")
    verdicts = judge_completions(data, gold_as_prediction(data))
    assert len(verdicts) == n
    failed = [verdict for verdict in verdicts if not all(getattr(verdict, rung) for rung in ALL_RUNGS)]
    assert all(
        "double quotes" in verdict.gold_fault or "does not run" in verdict.gold_fault for verdict in failed
    )
    assert sum("does not run" in verdict.gold_fault for verdict in failed) == n_faulty
    assert sum(not verdict.ex_bird for verdict in verdicts) == n_faulty


def test_the_file_says_what_its_empty_twin_says_of_names():
    """A query in double quotes is prepared on the file, which costs less than making the twin."""
    texts = [
        'SELECT "title" FROM "book"',
        'SELECT "titel" FROM book',
        'SELECT title FROM book WHERE title = "Emma"',
        'SELECT "x" FROM nowhere',
        'SELECT "title" FROM book; SELECT 1',
        'DELETE FROM "book"',
        'SELECT * FROM "sqlite_stat1"',
        'SELECT "title" FROM',
        '"',
        "",
    ]
    database, other = OpenDatabase(BOOKSHOP), OpenDatabase(BOOKSHOP)
    assert [database.refusal(sql) for sql in texts] == [other.twin.prepare(sql) for sql in texts]
    assert database.refusal(texts[0]) is None
    assert database.refusal(texts[1]) is not None


def test_the_first_of_doubled_completions_is_judged_and_a_foreign_one_is_not():
    answers = [completion(GOLD), completion("SELECT 1"), completion("SELECT 2", "9")]
    (verdict,) = judge_completions(data_of([GOLD]), answers, judge.Judging(n_workers=1, ladder_only=True))
    assert verdict.question_id == "0"
    assert verdict.ex_strict
