"""A run folder says what it is, and never takes half a file for a whole one."""

import json

import pytest

from groundql.config import Config, PromptSettings
from groundql.errors import AskedWrongly, DataError
from groundql.training.run_folder import (
    RunInfo,
    append_log,
    check_free,
    cut_log,
    finish_run,
    last_checkpoint,
    n_dropped_steps,
    read_run,
    read_settings,
    start_run,
    versions,
)
from tests.prompts.shop import CHAT_TURNS

CONFIG = Config.model_validate(
    {"model": {"name": "m"}, "data": {"train": "pocket#train", "dev": "pocket#dev"}}
)
INFO = RunInfo(
    base_model="m",
    quantization="nf4",
    double_quantization=True,
    turns=CHAT_TURNS,
    prompt=PromptSettings(schema=False),
    prompt_fingerprint="p",
    config_fingerprint=CONFIG.fingerprint(),
    data_fingerprints={"train": "t", "dev": "d"},
    counts={"train_questions": 3},
    versions={},
)


@pytest.fixture
def run_dir(tmp_path):
    start_run(tmp_path / "run", CONFIG, INFO, resume=False)
    return tmp_path / "run"


def test_settings_and_facts_come_back_as_they_were_written(run_dir):
    assert read_settings(run_dir) == CONFIG
    assert read_run(run_dir) == INFO


def test_a_second_run_in_the_same_folder_is_refused_with_the_way_on(run_dir):
    for start in (check_free, lambda folder: start_run(folder, CONFIG, INFO, resume=False)):
        with pytest.raises(
            AskedWrongly, match=r"run already holds a run; `groundql train --resume .*run` goes on"
        ):
            start(run_dir)


def test_a_start_that_was_killed_between_its_two_files_leaves_the_folder_free(run_dir):
    (run_dir / "settings.json").unlink()
    start_run(run_dir, CONFIG, INFO, resume=False)
    assert read_settings(run_dir) == CONFIG


def test_a_run_resumes_with_the_same_settings_data_and_prompt(run_dir):
    start_run(run_dir, CONFIG, INFO, resume=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config_fingerprint": "x"}, "was started with other settings"),
        ({"data_fingerprints": {"train": "t", "dev": "x"}}, "was started with other data or another prompt"),
        ({"prompt_fingerprint": "x"}, "was started with other data or another prompt"),
    ],
)
def test_a_run_whose_settings_data_or_prompt_changed_does_not_resume(run_dir, change, message):
    with pytest.raises(AskedWrongly, match=message):
        start_run(run_dir, CONFIG, INFO.model_copy(update=change), resume=True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "run.json is not there"),
        ("{", "run.json: Invalid JSON"),
        ("{}", "run.json: base_model: Field required"),
    ],
)
def test_a_broken_run_file_is_named(run_dir, content, message):
    (run_dir / "run.json").unlink()
    if content is not None:
        (run_dir / "run.json").write_text(content)
    with pytest.raises(DataError, match=message):
        read_run(run_dir)


def test_the_log_is_cut_after_a_step_and_a_torn_line_is_dropped(run_dir):
    for step in (1, 2, 2, 3):
        append_log(run_dir, {"step": step, "loss": step / 2})
    with (run_dir / "log.jsonl").open("a") as file:
        file.write('{"step": 2, "lo')
    cut_log(run_dir, 2)
    assert [json.loads(line)["step"] for line in (run_dir / "log.jsonl").read_text().splitlines()] == [
        1,
        2,
        2,
    ]


def test_a_log_line_is_json_whatever_the_number(run_dir):
    append_log(run_dir, {"step": 1, "grad_norm": float("nan"), "loss": float("inf"), "dropped": "why"})

    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    line = json.loads((run_dir / "log.jsonl").read_text(), parse_constant=refuse)
    assert line == {"step": 1, "grad_norm": None, "loss": None, "dropped": "why"}


def test_dropped_steps_are_counted_from_the_log(run_dir):
    assert n_dropped_steps(run_dir) == 0
    append_log(run_dir, {"step": 1, "dropped": "the gradient is not finite"})
    append_log(run_dir, {"step": 1, "loss": 2.0})
    assert n_dropped_steps(run_dir) == 1


def test_the_last_checkpoint_is_the_newest_whole_one_by_number(run_dir):
    assert last_checkpoint(run_dir) is None
    for step, state in ((9, '{"a": 1}\n'), (10, '{"a": 1}'), (11, '{"a": '), (12, None)):
        folder = run_dir / "checkpoints" / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        if state is not None:
            (folder / "trainer_state.json").write_text(state)
    assert last_checkpoint(run_dir).name == "checkpoint-10"


def test_a_run_is_finished_once_its_adapter_has_moved_into_place(run_dir):
    (run_dir / "adapter").mkdir()
    (run_dir / "adapter" / "old").touch()
    (run_dir / ".adapter").mkdir()
    (run_dir / ".adapter" / "new").touch()
    finish_run(run_dir, run_dir / ".adapter")
    assert [path.name for path in (run_dir / "adapter").iterdir()] == ["new"]


def test_versions_name_what_a_result_depends_on():
    assert {"python", "groundql", "sqlglot", "apsw"} <= set(versions())
