"""`groundql explore` as a user meets it, and on BIRD and Spider."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from groundql.cli import main


def run(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["groundql", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def explored(spec: str, out: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> dict[str, Any]:
    assert run(["explore", spec, "--out", str(out), "--model", "none", *options], monkeypatch) == 0
    assert (out / "explore.html").read_text(encoding="utf-8").endswith("</html>")
    return dict(json.loads((out / "explore.json").read_text(encoding="utf-8")))


def test_pocket_dev_gives_a_page_and_facts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    facts = explored("pocket#dev", tmp_path / "out", monkeypatch)
    captured = capsys.readouterr()
    n = facts["n_questions"]
    assert (facts["golds"]["n_bound"], facts["golds"]["n_with_rows"], facts["golds"]["faults"]) == (n, n, [])
    assert facts["lengths"]["unit"] == "characters"
    assert f"golds       {n} of {n} bind, {n} of {n} ran, {n} returned rows" in captured.out
    assert f"page        {tmp_path / 'out' / 'explore.html'}" in captured.out


def test_faulty_golds_are_listed_and_double_quoted_strings_are_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "shop.sql").write_text("CREATE TABLE shop (name TEXT); INSERT INTO shop VALUES ('Corner');")
    golds = [
        "SELECT name FROM shop",
        'SELECT name FROM shop WHERE name = "Corner"',
        "SELECT nme FROM shop",
        "SELECT abs(-9223372036854775808) FROM shop",
        "SELECT name FROM shop WHERE name = 'x'",
    ]
    lines = [{"question": "?", "db_id": "shop", "database": "shop.sql", "sql": sql} for sql in golds]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    check = explored(f"jsonl:{tmp_path / 'own.jsonl'}", tmp_path / "out", monkeypatch)["golds"]
    assert (check["n_gold"], check["n_bound"], check["n_bound_strictly"]) == (5, 4, 3)
    assert (check["n_run"], check["n_ran"], check["n_with_rows"]) == (5, 3, 2)
    faults = [(fault["question_id"], fault["stage"], fault["error"]) for fault in check["faults"]]
    assert faults == [("2", "bind", "no such column: nme"), ("3", "run", "integer overflow")]
    assert "2, shop: does not bind: no such column: nme" in capsys.readouterr().out


def test_without_rows_golds_are_prepared_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "shop.sql").write_text("CREATE TABLE shop (name TEXT);")
    line = {"question": "?", "db_id": "shop", "database": "shop.sql", "sql": "SELECT name FROM shop"}
    (tmp_path / "own.jsonl").write_text(json.dumps(line))
    check = explored(f"jsonl:{tmp_path / 'own.jsonl'}", tmp_path / "out", monkeypatch)["golds"]
    assert (check["n_bound"], check["n_run"]) == (1, 0)
    assert "golds       1 of 1 bind, none run" in capsys.readouterr().out
    page = (tmp_path / "out" / "explore.html").read_text(encoding="utf-8")
    assert "Gold queries that were prepared but not run: 1" in page


def test_a_missing_data_set_is_asked_wrongly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["explore", f"bird:{tmp_path}/nowhere#dev"], monkeypatch) == 2
    assert "nowhere is not there" in capsys.readouterr().err


# n_gold, bind, bind with double-quoted strings off, ran, returned rows: ../shared/data/README.md.
SHARED_SETS = [
    ("bird:{}/bird/train#train", 5667, 5667, 5667, 0, 0),
    ("bird:{}/bird/dev#dev", 1534, 1534, 1534, 1534, 1475),
    ("bird:{}/bird/dev#mini_dev", 500, 500, None, 500, 471),
    ("bird:{}/bird/real_rows/real_rows.json", 213, 213, None, 213, 213),
    ("spider:{}/spider#train", 6638, 6635, None, 6635, 6407),
    ("spider:{}/spider#dev", 972, 972, None, 972, 923),
    ("spider:{}/spider#realistic", 476, 476, None, 476, 444),
]


@pytest.mark.slow
@pytest.mark.parametrize(("spec", "n_gold", "n_bound", "n_strictly", "n_ran", "n_with_rows"), SHARED_SETS)
def test_the_shared_sets_have_the_golds_of_their_readme(
    shared_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spec: str,
    n_gold: int,
    n_bound: int,
    n_strictly: int | None,
    n_ran: int,
    n_with_rows: int,
) -> None:
    check = explored(spec.format(shared_data), tmp_path, monkeypatch)["golds"]
    assert (check["n_gold"], check["n_bound"]) == (n_gold, n_bound)
    assert (check["n_ran"], check["n_with_rows"]) == (n_ran, n_with_rows)
    if n_strictly is not None:
        assert check["n_bound_strictly"] == n_strictly
    assert len(check["faults"]) == n_gold - n_bound


@pytest.mark.slow
def test_spiders_three_faulty_golds_are_named(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = explored(f"spider:{shared_data}/spider#train", tmp_path, monkeypatch, "--no-run")["golds"]
    assert [fault["question_id"] for fault in check["faults"]] == ["2873", "4151", "4152"]
