"""The command as a whole: help, versions, exit statuses."""

import importlib.metadata
from pathlib import Path

import pytest
import typer

import groundql.cli.verbs  # noqa: F401  registers them
from groundql.cli import app
from tests.command import groundql as run

COMMANDS = typer.main.get_command(app).commands


def test_every_verb_has_its_file_and_every_file_its_verb():
    files = {path.stem for path in Path(groundql.cli.__file__).parent.glob("*.py")}
    assert set(COMMANDS) == files - {"__init__", "verbs", "options", "progress", "answers", "session"}


@pytest.mark.parametrize("verb", COMMANDS)
def test_every_verb_and_every_option_has_help_text(verb):
    assert COMMANDS[verb].help
    assert [
        option.name for option in COMMANDS[verb].params if not (option.help or option.name == "help")
    ] == []
    ended = run(verb, "--help")
    assert ended.status == 0
    assert verb in ended.stdout


def test_help_lists_every_verb():
    for flag in ("--help", "-h"):
        assert all(verb in run(flag).stdout for verb in COMMANDS)


def test_the_version_is_the_packages():
    assert run("--version").stdout == f"groundql {importlib.metadata.version('groundql')}\n"


@pytest.mark.parametrize("arguments", [["nosuch"], ["sample"], ["judge", "x", "--nosuch"], ["compare", "a"]])
def test_a_command_that_is_none_ends_with_2(arguments):
    ended = run(*arguments)
    assert ended.status == 2
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["judge", "{tmp}/none.jsonl", "--data", "pocket#dev"], "none.jsonl is not there"),
        (["judge", "{tmp}/none.jsonl", "--data", "pokcet"], "'pokcet' is not a data format; did you mean"),
        (["explore", "jsonl:{tmp}/bad.jsonl", "--model", "none"], "bad.jsonl, line 2"),
        (
            ["sample", "jsonl:{tmp}/bad.jsonl", "--fraction", "0.5", "--out", "{tmp}/o.jsonl"],
            "bad.jsonl, line 2",
        ),
        (["compare", "{tmp}", "{tmp}"], "holds no verdicts.jsonl"),
    ],
)
def test_asked_wrongly_is_one_sentence_and_status_2(tmp_path, arguments, message):
    (tmp_path / "bad.jsonl").write_text('{"question": "?", "db_id": "d", "database": "d.sql"}\n{"question"\n')
    (tmp_path / "d.sql").write_text("CREATE TABLE t (a);")
    ended = run(*(text.format(tmp=tmp_path) for text in arguments))
    assert ended.status == 2
    assert [line for line in ended.stderr.splitlines() if line.startswith("error: ")] == [
        ended.stderr.splitlines()[-1]
    ]
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""


def test_a_place_that_cannot_be_written_is_one_sentence_and_status_1(tmp_path):
    (tmp_path / "file").touch()
    ended = run("sample", "pocket#dev", "--fraction", "0.5", "--out", tmp_path / "file" / "few.jsonl")
    assert ended.status == 1
    assert ended.stderr.startswith(f"error: {tmp_path / 'file'}")
    assert ended.stderr.count("\n") == 1
