"""`groundql judge` from end to end."""

import json

import pytest
from typer.testing import CliRunner

from groundql.cli import app, verbs  # noqa: F401
from groundql.questions.load import load_data
from groundql.records import Verdict, read_jsonl

KEYS = ("extracted", "sqlglot_accepts", "parsed", "read_only", "grounded", "ran", "ex_bird", "ex_strict")


@pytest.fixture
def predictions(tmp_path):
    """Gold for all pocket dev questions but the first, which has prose, and the second, which has nothing."""
    data = load_data("pocket#dev")
    path = tmp_path / "predictions.jsonl"
    lines = [{"question_id": q.question_id, "text": q.gold_sql} for q in data.questions]
    lines[0]["text"] = "hello world"
    path.write_text("\n".join(json.dumps(line) for n, line in enumerate(lines) if n != 1))
    return path, data


def run(*arguments):
    return CliRunner().invoke(app, ["judge", *map(str, arguments)], catch_exceptions=False)


def test_json_counts_over_all_questions(predictions, tmp_path):
    path, data = predictions
    result = run(path, "--data", "pocket#dev", "--json", "--out", tmp_path / "out")
    found = json.loads(result.stdout)
    n = len(data.questions)
    assert found["n"] == n
    assert {key: found[key]["count"] for key in KEYS} == dict.fromkeys(KEYS, n - 2) | {
        "sqlglot_accepts": n - 1
    }
    assert found["predictions"]["missing"] == [data.questions[1].question_id]
    assert json.loads((tmp_path / "out" / "tally.json").read_text()) == found
    verdicts = read_jsonl(tmp_path / "out" / "verdicts.jsonl", Verdict)
    assert [verdict.question_id for verdict in verdicts] == [q.question_id for q in data.questions]


def test_the_table_shows_rungs_with_counts_and_names_what_is_missing(predictions):
    path, data = predictions
    result = run(path, "--data", "pocket#dev")
    n = len(data.questions)
    assert result.stdout.startswith("questions")
    assert any(line.split()[:2] == ["ex_strict", str(n - 2)] for line in result.stdout.splitlines())
    assert f"missing: 1 ({data.questions[1].question_id})" in result.stderr
    assert "format jsonl" in result.stderr
