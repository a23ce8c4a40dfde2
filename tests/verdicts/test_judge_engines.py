"""Judging on engines beside SQLite, from a JSONL file that names the database by its URL."""

import json
import shutil

import pytest

from groundql.errors import DatabaseMissing
from groundql.pipeline import judge_completions
from groundql.questions.load import load_data
from groundql.records import Completion, DataSet, Verdict
from groundql.verdicts.judge import Judging
from groundql.verdicts.resume import run_fingerprint
from tests.command import groundql

duckdb = pytest.importorskip("duckdb", reason="DuckDB is not installed: pip install 'groundql[duckdb]'")

GOLD = "SELECT title FROM book WHERE price > 5 ORDER BY title"
# what is predicted: the rungs grounded, ran, ex_bird, ex_strict
PREDICTED = {
    GOLD: (True, True, True, True),
    "FROM book SELECT title WHERE price > 5 ORDER BY ALL": (True, True, True, True),  # DuckDB's own grammar
    "SELECT title FROM book ORDER BY title DESC": (True, True, True, False),
    "SELECT title FROM book WHERE day >= DATE '2000-01-01'": (True, True, False, False),
    "SELECT titel FROM book": (False, False, False, False),
    "DELETE FROM book": (False, False, False, False),
    "SELECT title FROM book; SELECT 1": (False, False, False, False),
    "SELECT * FROM read_text('/etc/hostname')": (False, False, False, False),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    tmp_path = tmp_path_factory.mktemp("shop")
    connection = duckdb.connect(str(tmp_path / "shop.duckdb"))
    connection.execute("CREATE TABLE book (title VARCHAR, price DECIMAL(8, 2), day DATE)")
    connection.execute("INSERT INTO book VALUES ('Tides', 12.5, '1999-12-31'), ('Sand', 8, '2001-01-01')")
    connection.execute("CREATE TABLE author (name VARCHAR)")
    connection.close()
    lines = [
        {"question": "Which?", "db_id": "shop", "sql": GOLD, "database": "duckdb:shop.duckdb"}
        for _ in PREDICTED
    ]
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return load_data(f"jsonl:{tmp_path / 'q.jsonl'}")


def completions(data: DataSet) -> list[Completion]:
    return [
        Completion(question_id=question.question_id, db_id="shop", text=sql, sql=sql)
        for question, sql in zip(data.questions, PREDICTED, strict=True)
    ]


def rungs(verdict: Verdict) -> tuple[bool | None, ...]:
    return verdict.grounded, verdict.ran, verdict.ex_bird, verdict.ex_strict


def test_predictions_are_judged_by_the_engine_that_the_data_names(data):
    verdicts = judge_completions(data, completions(data), Judging(n_workers=1))
    assert {v.predicted_sql: rungs(v) for v in verdicts} == PREDICTED
    assert [v.gold_fault for v in verdicts] == [""] * len(verdicts)
    by_sql = {v.predicted_sql: v for v in verdicts}
    assert 'Referenced column "titel" not found' in by_sql["SELECT titel FROM book"].error
    assert "more than one" in by_sql["SELECT title FROM book; SELECT 1"].error or "2 statements" in by_sql["SELECT title FROM book; SELECT 1"].error  # fmt: skip
    assert by_sql["SELECT titel FROM book"].parsed
    assert not by_sql["DELETE FROM book"].parsed


def test_what_only_sqlite_can_decide_stays_open(data):
    settings = Judging(n_workers=1, n_timings=3, spider=True)
    verdict = judge_completions(data, completions(data), settings)[0]
    assert verdict.ex_relaxed is True
    assert verdict.soft_f1 == 1
    for name in ("robust", "ves", "r_ves", "step_ratio", "ast_relaxed", "spider_exec"):
        assert getattr(verdict, name) is None, name


def judged(data: DataSet, sql: str, **settings) -> Verdict:
    question = data.questions[0]
    answer = Completion(question_id=question.question_id, db_id="shop", text=sql, sql=sql)
    return judge_completions(data, [answer], Judging(n_workers=1, **settings))[0]


FOUND = {
    "SELECT title FROM books": ("invented table: books",),
    "SELECT titel FROM book": ("invented column: titel",),
    "SELECT b.title FROM book": ("invented alias: b.title",),
    "SELECT name FROM book": ("misplaced column: name",),
    "SELECT book.name FROM book": ("misplaced column: book.name",),
    "SELECT STRFTIMEX(day) FROM book": ("invented function: STRFTIMEX",),
    "SELECT coalesce(title, upper(title)), CAST(price AS INTEGER) FROM book WHERE day < current_date": (),
    "SELECT title FROM book WHERE title = 'Dune'": ("foreign value: book.title = 'Dune'",),
    "SELECT title FROM book WHERE title = 'tides' OR price = 8": (),
    "SELECT title FROM book JOIN author ON title = name": ("join along no key: book.title = author.name",),
}  # fmt: skip


def test_names_and_doubts_are_found_by_duckdb_s_word(data):
    questions = [data.questions[0].model_copy(update={"question_id": str(n)}) for n in range(len(FOUND))]
    answers = [Completion(question_id=str(n), db_id="shop", text=sql, sql=sql) for n, sql in enumerate(FOUND)]
    asked = data.model_copy(update={"questions": tuple(questions)})
    verdicts = judge_completions(asked, answers, Judging(n_workers=1))
    assert {verdict.predicted_sql: verdict.findings for verdict in verdicts} == FOUND


def test_links_are_read_from_the_tree_where_the_engine_does_not_tell(data):
    """Gold reads title and price; the prediction title and day: half of each."""
    verdict = judged(data, "SELECT b.title FROM book AS b WHERE day > DATE '2000-01-01'")
    assert (verdict.link_precision, verdict.link_recall, verdict.link_f1) == (0.5, 0.5, 0.5)


def test_another_case_and_layout_is_certified_and_another_text_is_not(data):
    assert judged(data, "select Title\nfrom BOOK where price>5 order by title").ast_equal
    assert judged(data, GOLD.replace("5", "5.0")).ast_equal is False
    assert judged(data, GOLD.replace("5", "5.0")).ast_similarity > 0.8


@pytest.mark.slow
def test_luck_on_these_rows_falls_on_changed_copies_of_a_duckdb_file(data):
    lucky = (
        "SELECT title FROM book WHERE price > 5 AND day < DATE '2030-01-01' OR title = 'Sand' ORDER BY title"
    )
    copied = "SELECT * FROM (VALUES ('Sand'), ('Tides')) AS t(title) ORDER BY title"
    assert judged(data, lucky).ex_strict
    assert judged(data, copied).ex_strict
    assert judged(data, copied, n_instances=3).robust is False
    assert judged(data, GOLD, n_instances=3).robust is True
    assert judged(data, GOLD.replace("price > 5", "NOT price <= 5"), n_instances=3).robust is True


def test_the_command_judges_and_says_so(data, tmp_path):
    lines = "\n".join(completion.model_dump_json() for completion in completions(data))
    (tmp_path / "predictions.jsonl").write_text(lines)
    done = groundql("judge", tmp_path / "predictions.jsonl", "--data", data.spec, "--json")
    assert done.status == 0, done.stderr
    tallied = json.loads(done.stdout)
    assert tallied["ex_strict"]["count"] == 1  # a query that begins with FROM is not extracted from an answer
    assert tallied["ex_bird"]["count"] == 3
    assert done.stderr.count("nanobind") == 0


def test_a_sample_of_such_data_reads_back(data, tmp_path):
    done = groundql("sample", data.spec, "--fraction", "0.5", "--out", tmp_path / "elsewhere" / "few.jsonl")
    assert done.status == 0, done.stderr
    again = load_data(f"jsonl:{tmp_path / 'elsewhere' / 'few.jsonl'}")
    assert again.databases == data.databases


def test_a_changed_file_is_another_run(data, tmp_path):
    copy = tmp_path / "shop.duckdb"
    files = data.databases["shop"]
    shutil.copy(files.url.removeprefix("duckdb:"), copy)
    moved = data.model_copy(
        update={"databases": {"shop": files.model_copy(update={"url": f"duckdb:{copy}"})}}
    )
    first = run_fingerprint(moved, [], Judging())
    assert run_fingerprint(moved, [], Judging()) == first
    connection = duckdb.connect(str(copy))
    connection.execute("DELETE FROM book")
    connection.close()
    assert run_fingerprint(moved, [], Judging()) != first


def test_a_file_that_is_not_there_is_named_with_its_line(tmp_path):
    line = {"question": "?", "db_id": "x", "sql": "SELECT 1", "database": "duckdb:no.duckdb"}
    (tmp_path / "q.jsonl").write_text(json.dumps(line))
    with pytest.raises(DatabaseMissing, match=r"no\.duckdb is not there"):
        load_data(f"jsonl:{tmp_path / 'q.jsonl'}")
