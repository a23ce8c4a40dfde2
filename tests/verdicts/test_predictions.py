"""The three formats, and entries that are missing, extra, doubled or out of order."""

import json

import pytest

from groundql.errors import DataError
from groundql.pipeline import judge_completions, load_predictions
from groundql.verdicts.predictions import match_completions
from tests.verdicts.conftest import data_of

DATA = data_of(["SELECT 0", "SELECT 1", "SELECT 2"])


def read(tmp_path, text):
    path = tmp_path / "predictions"
    path.write_text(text, encoding="utf-8")
    return load_predictions(path, DATA)


def ids(predictions):
    return [completion.question_id for completion in predictions.completions]


def jsonl(*entries):
    return "\n".join(json.dumps(entry) for entry in entries)


def test_our_jsonl_takes_sql_or_text_and_numbers_as_ids(tmp_path):
    found = read(
        tmp_path, jsonl({"question_id": 0, "sql": "SELECT 0"}, {"question_id": "1", "text": "SQL: SELECT 1;"})
    )
    assert found.format == "jsonl"
    assert [(c.question_id, c.sql) for c in found.completions] == [("0", "SELECT 0"), ("1", "SELECT 1")]


def test_sql_that_is_prose_or_fenced_is_seen_through(tmp_path):
    found = read(
        tmp_path,
        jsonl(
            {"question_id": "0", "sql": "hello world"}, {"question_id": "1", "sql": "```sql\nSELECT 1\n```"}
        ),
    )
    assert [c.sql for c in found.completions] == [None, "SELECT 1"]


def test_sql_said_to_be_absent_stays_absent(tmp_path):
    found = read(tmp_path, jsonl({"question_id": "0", "text": "SELECT 0", "sql": None}))
    assert found.completions[0].sql is None


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"question_id": "0", "sqll": "SELECT 0"}', '"sql" or "text"'),
        ('{"question_id": "0", "sql": "SELECT 0", "gold": 1}', "gold is not a field"),
        ('{"question_id": "0", "sql": 7}', "are texts"),
        ('{"question_id": "0", "sql": ', "line 2"),
        ('{"sql": "SELECT 0"}', "question_id"),
    ],
)
def test_a_bad_line_is_named_with_its_number(tmp_path, line, words):
    with pytest.raises(DataError, match=words) as raised:
        read(tmp_path, '{"question_id": "9", "sql": "SELECT 0"}\n' + line)
    assert "line 2" in str(raised.value)


def test_bird_s_object_is_joined_by_key_not_by_order(tmp_path):
    entry = "SELECT {0}\t----- bird -----\tbookshop"
    found = read(tmp_path, json.dumps({"2": entry.format(2), "0": entry.format(0), "1": "SELECT 1"}))
    assert found.format == "bird"
    assert found.is_verbatim
    assert "not in order" in found.notes[0]
    verdicts = judge_completions(DATA, found.completions, is_verbatim=True)
    assert [verdict.ex_strict for verdict in verdicts] == [True, True, True]


def test_bird_s_entry_that_is_no_text_runs_as_a_blank(tmp_path):
    found = read(tmp_path, '{"0": 0, "1": null, "2": "SELECT 2"}')
    verdicts = judge_completions(DATA, found.completions, is_verbatim=True)
    assert [verdict.extracted for verdict in verdicts] == [False, False, True]
    assert [verdict.ex_bird for verdict in verdicts] == [False, False, True]


def test_a_missing_entry_shifts_nothing_and_is_named(tmp_path):
    found = read(tmp_path, json.dumps({"0": "SELECT 0", "2": "SELECT 2"}))
    assert match_completions(DATA, found.completions).missing == ("1",)
    verdicts = judge_completions(DATA, found.completions)
    assert [verdict.ex_strict for verdict in verdicts] == [True, False, True]
    assert verdicts[1].error == "no prediction for this question"


def test_extra_and_doubled_entries_are_named_and_the_first_counts(tmp_path):
    found = read(
        tmp_path, '{"0": "SELECT 9", "0": "SELECT 0", "1": "SELECT 1", "2": "SELECT 2", "7": "SELECT 7"}'
    )
    matched = match_completions(DATA, found.completions)
    assert matched.doubled == ("0",)
    assert matched.extra == ("key 7",)
    assert [v.ex_strict for v in judge_completions(DATA, found.completions)] == [False, True, True]


def test_spider_s_lines_belong_to_the_question_of_their_number(tmp_path):
    found = read(tmp_path, "SELECT 0\tbookshop\n\nSELECT 2\r\n")
    assert found.format == "spider"
    assert ids(found) == ["0", "2"]
    assert "1 of its lines are blank" in found.notes[0]


def test_more_lines_than_questions_are_extra(tmp_path):
    found = read(tmp_path, "SELECT 0\nSELECT 1\nSELECT 2\nSELECT 3\n")
    assert match_completions(DATA, found.completions).extra == ("line 4",)


def test_another_database_is_reported(tmp_path):
    found = read(tmp_path, "SELECT 0\tlibrary\nSELECT 1\tbookshop\nSELECT 2\n")
    assert match_completions(DATA, found.completions).other_database == ("0",)


@pytest.mark.parametrize("text", ["", "  \n", "[1, 2]", "some,csv,file\n1,2,3\n", "{not json"])
def test_what_is_no_prediction_file_is_refused(tmp_path, text):
    with pytest.raises(DataError, match="predictions"):
        read(tmp_path, text)


def test_official_files_run_as_they_stand_for_ex_bird_alone(tmp_path):
    fenced = json.dumps({"0": "```sql\nSELECT 0\n```", "1": "SELECT 1", "2": "SELECT 2"})
    verdict = judge_completions(DATA, read(tmp_path, fenced).completions, is_verbatim=True)[0]
    assert verdict.ex_strict
    assert verdict.ex_bird is False  # the official script would run the fence
