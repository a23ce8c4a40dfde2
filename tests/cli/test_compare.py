"""`groundql compare` as a user calls it."""

import json
import sys
from pathlib import Path

import pytest

from groundql.cli import main
from groundql.records import write_jsonl
from tests.reports.verdicts import climbed


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int | str | None:
    monkeypatch.setattr(sys, "argv", ["groundql", "compare", *map(str, arguments)])
    with pytest.raises(SystemExit) as left:
        main()
    return left.value.code


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    for label, reached in {"a": ("ran", "ran", "ex_strict"), "b": ("ex_strict", "ran", "ran")}.items():
        write_jsonl(
            tmp_path / label / "verdicts.jsonl", [climbed(i, up_to) for i, up_to in enumerate(reached)]
        )
    return tmp_path / "a", tmp_path / "b"


def test_the_table_goes_to_stdout(runs, monkeypatch, capsys):
    assert _run(monkeypatch, *runs) == 0
    out, err = capsys.readouterr()
    assert "3 in both, 1 database\n" in out
    assert "gained           1 (0) on ex_strict" in out
    assert "lost             1 (2) on ex_strict" in out
    assert err == ""


def test_json_is_one_object_and_takes_the_files_themselves(runs, monkeypatch, capsys):
    assert _run(monkeypatch, runs[0] / "verdicts.jsonl", runs[1] / "verdicts.jsonl", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rungs"]["ex_strict"]["gained"] == ["0"]
    assert found["a"] == str(runs[0] / "verdicts.jsonl")


@pytest.mark.parametrize(
    ("name", "why"), [("absent", "is not there"), (".", "holds no verdicts.jsonl; `groundql judge")]
)
def test_what_is_not_there_is_one_sentence_and_status_2(name, why, runs, monkeypatch, capsys):
    assert _run(monkeypatch, runs[0], runs[0].parent / name) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert why in err
    assert err.count("\n") == 1
