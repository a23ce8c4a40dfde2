"""`groundql report` as a user calls it."""

import sys
from pathlib import Path

import pytest

from groundql.cli import main
from groundql.records import write_jsonl
from tests.reports.verdicts import climbed


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int | str | None:
    monkeypatch.setattr(sys, "argv", ["groundql", "report", *map(str, arguments)])
    with pytest.raises(SystemExit) as left:
        main()
    return left.value.code


def test_the_page_lies_in_the_run_and_stdout_names_it(tmp_path: Path, monkeypatch, capsys):
    write_jsonl(tmp_path / "judged" / "tuned" / "verdicts.jsonl", [climbed(1)])
    assert _run(monkeypatch, tmp_path) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'report' / 'report.html'}\n"
    assert (tmp_path / "report" / "report.html").is_file()


def test_a_second_report_replaces_the_first(tmp_path: Path, monkeypatch):
    write_jsonl(tmp_path / "verdicts.jsonl", [climbed(1)])
    assert _run(monkeypatch, tmp_path, "--out", tmp_path / "out") == 0
    before = (tmp_path / "out" / "report.html").read_bytes()
    assert _run(monkeypatch, tmp_path, "--out", tmp_path / "out") == 0
    assert (tmp_path / "out" / "report.html").read_bytes() == before


@pytest.mark.parametrize(
    ("name", "why"), [("absent", "is not a folder"), ("empty", "holds no verdicts.jsonl")]
)
def test_a_folder_without_verdicts_is_one_sentence_and_status_2(
    name, why, tmp_path: Path, monkeypatch, capsys
):
    (tmp_path / "empty").mkdir()
    assert _run(monkeypatch, tmp_path / name) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert why in err
    assert err.count("\n") == 1
