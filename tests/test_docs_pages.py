"""The commands of the pages beside the quickstart and your own database run, with a tiny model under the names of the pages."""

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest

from tests.command import groundql
from tests.small_data import write_config
from tests.test_docs_commands import PAGES, commands, prepare
from tests.tiny import save_tiny

duckdb = pytest.importorskip("duckdb", reason="DuckDB is not installed: pip install 'groundql[duckdb]'")

pytestmark = pytest.mark.slow
TESTED_ELSEWHERE = (
    "quickstart.md",
    "own-database.md",
    "session.md",
    "results.md",
)  # as they stand; the third was recorded
# Names that stand for something, data that is not shipped, and what follows from a command on such data
LEFT_OUT = (
    "FOLDER",
    "DIR",
    "A/verdicts.jsonl",
    "data/bird",
    "data/spider",
    "sample.jsonl",
    "runs/mine/judged",
)
TINY = [
    f"--set={setting}"
    for setting in ("model.name=models/mine", "model.quantization=none", "model.compute_dtype=float32", "lora.rank=4", "prompt.max_tokens=1500",
                    "training.pack_tokens=1600", "training.epochs=1", "data.dev_limit=2", "memory_gib=8", "training.max_minutes=0.1", "generation.max_new_tokens=8")
]  # fmt: skip
SHORT = {
    "train": TINY,
    "generate": ["--limit", "3", "--max-new-tokens", "8"],
    "ask": ["--max-new-tokens", "8"],
    "judge": ["--workers", "1"],
}
HERE = [
    (page.name, arguments)
    for page in PAGES
    if page.name not in TESTED_ELSEWHERE
    for arguments in commands(page)
    if arguments[0] != "demo"  # which has tests of its own
    if not any(word in argument for argument in arguments for word in LEFT_OUT)
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What the pages suppose: databases, questions, runs, judged predictions and weights."""
    folder = tmp_path_factory.mktemp("docs")
    prepare(folder)
    with duckdb.connect(str(folder / "shop.duckdb")) as connection:
        connection.execute("CREATE TABLE book (id INTEGER PRIMARY KEY, title VARCHAR, pages INTEGER)")
        connection.execute("INSERT INTO book SELECT i, 'Book ' || i, 10 * i FROM range(1, 9) t(i)")
    shutil.copy(folder / "shop.duckdb", folder / "sales.duckdb")
    (folder / "keys.txt").write_text("a-key-of-this-test-only\n")
    asked = ("customer", "purchase")
    lines = [{"question": f"How many rows has {table}?", "db_id": "shop", "sql": f"SELECT COUNT(*) FROM {table}", "database": "shop.sqlite"} for table in asked]  # fmt: skip
    (folder / "mine.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    save_tiny(folder / "models" / "mine", "qwen2")
    config = write_config(folder, folder / "models" / "mine", epochs=1)
    for name in ("first", "mine", "demo"):
        ended = groundql("train", config, "--out", folder / "runs" / name)
        assert ended.status == 0, ended.stderr
    for name in ("untuned", "first"):
        predictions = folder / "judged" / name / "predictions.jsonl"
        data = f"jsonl:{folder / 'mine.jsonl'}"
        groundql("generate", folder / "models" / "mine", "--data", data, "--max-new-tokens", 8, "--out", predictions)  # fmt: skip
        assert groundql("judge", predictions, "--data", data, "--out", predictions.parent).status == 0
    shutil.copytree(folder / "judged" / "first", folder / "runs" / "mine" / "judged")
    return folder


@pytest.mark.parametrize("page", sorted({page for page, _ in HERE}))
def test_the_commands_of_a_page_run(folder, page, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    for name, arguments in HERE:
        if name != page:
            continue
        if arguments[0] in ("serve", "mcp"):
            assert starts_and_stops(arguments) == 0, arguments
            continue
        for out in ("shop", "first-merged", "first-gguf", "first-q8", "again-gguf", "mine-gguf"):
            shutil.rmtree(folder / out, ignore_errors=True)
        if "--resume" in arguments:  # as a run that was killed leaves its folder
            shutil.rmtree(folder / "runs" / "first" / "adapter")
        if "--out" in arguments and arguments[0] == "train":
            arguments = [*arguments[:-1], "runs/another"]  # the pages name one that is there already
            shutil.rmtree(folder / "runs" / "another", ignore_errors=True)
        ended = groundql(*arguments, *(SHORT.get(arguments[0], []) if "--resume" not in arguments else []))
        may_abstain = arguments[0] == "ask" and ended.status == 1
        assert ended.status == 0 or may_abstain, (arguments, ended.stderr[-800:])
        assert "Traceback" not in ended.stderr


def starts_and_stops(arguments: list[str]) -> int:
    """The exit status of a server that is told to stop as soon as it says what it serves; an MCP client that is gone ends its."""
    more = ["--port", "0"] if arguments[0] == "serve" else []
    command = [sys.executable, "-m", "groundql", *arguments, *more]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=os.environ) as process:  # fmt: skip
        try:
            if arguments[0] == "serve":
                assert any(" serves " in line for line in process.stderr)
                process.send_signal(signal.SIGTERM)
            return process.wait(60)
        finally:
            process.kill()


def test_every_page_with_commands_is_run_somewhere():
    named = {page.name for page in PAGES if commands(page)}
    assert named == {page for page, _ in HERE} | set(TESTED_ELSEWHERE)
    assert len(HERE) > 25
