"""`groundql sample` as a user meets it."""

import sys
from pathlib import Path

import pytest

from groundql.cli import main
from groundql.questions.load import load_data
from groundql.questions.sample import distance


def run(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["groundql", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_a_sample_is_written_whole_and_read_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "part.jsonl"
    arguments = [
        "sample",
        "pocket",
        "--fraction",
        "0.45",
        "--by",
        "evidence,difficulty",
        "--seed",
        "7",
        "--out",
        str(out),
    ]
    assert run(arguments, monkeypatch) == 0
    whole, part = load_data("pocket"), load_data(f"jsonl:{out}")
    assert len(part.questions) == int(0.45 * len(whole.questions) + 0.5)
    assert set(part.questions) <= set(whole.questions)
    assert part.databases == {db_id: whole.databases[db_id] for db_id in part.databases}
    found = distance(part.questions, whole.questions, "evidence")
    printed = capsys.readouterr().out
    assert f"questions   {len(part.questions)} of {len(whole.questions)}   45." in printed
    assert (
        f"evidence    total variation {found.total_variation:.4f} over {found.n_strata} strata, Kolmogorov"
        in printed
    )
    assert "database    total variation" in printed
    assert printed.count("(left to chance)") == 2


def test_splits_share_no_database_and_lose_no_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["sample", "pocket", "--split-databases", "0.6,0.2,0.2", "--out", str(tmp_path / "p.jsonl")]
    assert run(arguments, monkeypatch) == 0
    parts = [load_data(f"jsonl:{tmp_path}/p.{name}.jsonl") for name in ("train", "dev", "test")]
    whole = load_data("pocket")
    assert sum(len(part.questions) for part in parts) == len(whole.questions)
    assert sorted(db_id for part in parts for db_id in part.databases) == sorted(whole.databases)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "say how much to keep: --fraction 0.45"),
        (["--fraction", "1.5"], "fraction must lie above 0 and up to 1"),
        (["--fraction", "0.5", "--by", "evidnce"], "did you mean evidence?"),
        (["--split-databases", "0.8"], "takes two shares (train, dev) or three"),
        (["--split-databases", "most,some"], "takes numbers such as 0.8,0.1,0.1"),
        (["--split-databases", "0.8,0.1"], "add up to 1"),
    ],
)
def test_a_wrong_option_is_one_sentence_and_writes_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    assert run(["sample", "pocket", *options, "--out", str(tmp_path / "p.jsonl")], monkeypatch) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_sample_of_bird_train_keeps_its_schemas_and_its_evidence(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, out = f"bird:{shared_data}/bird/train#train", tmp_path / "part.jsonl"
    assert run(["sample", spec, "--fraction", "0.45", "--out", str(out)], monkeypatch) == 0
    whole, part = load_data(spec), load_data(f"jsonl:{out}")
    found = distance(part.questions, whole.questions, "evidence")
    assert len(part.questions) == 2550
    assert found.total_variation < 0.002  # 11 strata, each at most one question off: 11 / 2 / 2550
    assert all(files.sql_path and files.tables_path for files in part.databases.values())
