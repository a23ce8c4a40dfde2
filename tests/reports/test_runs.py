"""Finding and reading runs: labels, order, broken files."""

import json
from pathlib import Path

import pytest

from groundql.errors import DataError
from groundql.records import Completion, Prompt, write_jsonl
from groundql.reports.runs import read_judged_runs, read_training_logs
from tests.reports.verdicts import climbed


def _judge(folder: Path) -> Path:
    write_jsonl(folder / "verdicts.jsonl", [climbed(1)])
    return folder


def test_runs_below_a_folder_are_found_and_the_baseline_comes_first(tmp_path):
    for label in ("tuned", "untuned"):
        _judge(tmp_path / "run" / "judged" / label)
    assert [run.label for run in read_judged_runs([tmp_path / "run"])] == ["untuned", "tuned"]


def test_labels_grow_until_they_differ_and_leave_out_judged(tmp_path):
    for name in ("x", "y"):
        _judge(tmp_path / name / "judged" / "tuned")
    labels = [run.label for run in read_judged_runs([tmp_path / "y", tmp_path / "x"])]
    assert labels == ["y/tuned", "x/tuned"]


def test_a_folder_given_twice_is_one_run(tmp_path):
    _judge(tmp_path / "a")
    assert len(read_judged_runs([tmp_path, tmp_path / "a", tmp_path / "a" / "verdicts.jsonl"])) == 1


def test_prompts_and_predictions_beside_the_verdicts_are_read(tmp_path):
    _judge(tmp_path)
    write_jsonl(
        tmp_path / "prompts.jsonl",
        [Prompt(question_id="1", db_id="shop", prefix="p", suffix="s", n_tokens=2)],
    )
    write_jsonl(
        tmp_path / "predictions.jsonl", [Completion(question_id="1", db_id="shop", text="t", sql=None)]
    )
    (run,) = read_judged_runs([tmp_path])
    assert (run.prompts["1"].prefix, run.completions["1"].text) == ("p", "t")


@pytest.mark.parametrize(
    ("text", "why"),
    [("", "holds no verdict"), ("{}\n", "line 1"), (climbed(1).model_dump_json() + "\n{\n", "line 2")],
)
def test_broken_verdicts_are_named_with_their_line(tmp_path, text, why):
    (tmp_path / "verdicts.jsonl").write_text(text)
    with pytest.raises(DataError, match=why):
        read_judged_runs([tmp_path])


def test_a_doubled_question_is_refused(tmp_path):
    write_jsonl(tmp_path / "verdicts.jsonl", [climbed(1), climbed(1)])
    with pytest.raises(DataError, match="two verdicts for question 1"):
        read_judged_runs([tmp_path])


def test_a_folder_without_verdicts_names_the_next_step(tmp_path):
    with pytest.raises(DataError, match="groundql judge"):
        read_judged_runs([tmp_path])
    with pytest.raises(DataError, match="is not a folder"):
        read_judged_runs([tmp_path / "absent"])


def test_a_last_log_line_that_a_killed_run_left_half_written_is_passed_over(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"step": 10, "loss": 2.0}\n{"step": 20, "lo')
    (log,) = read_training_logs([tmp_path])
    assert log.lines == ({"step": 10, "loss": 2.0},)


@pytest.mark.parametrize("text", ['{"step": \n{"step": 20}\n', "[]\n"])
def test_a_broken_log_line_before_the_last_is_named(tmp_path, text):
    (tmp_path / "log.jsonl").write_text(text)
    with pytest.raises(DataError, match="line 1"):
        read_training_logs([tmp_path])


def test_a_loss_that_is_no_number_becomes_nothing(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"step": 10, "loss": NaN}\n')
    assert read_training_logs([tmp_path])[0].lines == ({"step": 10, "loss": None},)


def test_facts_of_a_run_folder_are_read_by_name(tmp_path):
    (tmp_path / "plan.json").write_text(json.dumps({"peak_mib": 5210}))
    (log,) = read_training_logs([tmp_path])
    assert log.facts == {"plan": {"peak_mib": 5210}}
