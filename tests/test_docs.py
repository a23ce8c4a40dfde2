"""README and the command cannot drift apart."""

import re
import shlex
from pathlib import Path

import pytest
import typer.main

from groundql.cli import app, verbs  # noqa: F401  registers the verbs
from groundql.config import load_config
from groundql.errors import GroundqlError
from groundql.questions.load import split_spec

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMAND = typer.main.get_command(app)
SHOWN = [line.removeprefix("$ ") for line in README.splitlines() if line.startswith("$ groundql ")]


def test_every_verb_has_help_and_stands_in_the_readme():
    for name, verb in COMMAND.commands.items():
        assert verb.help, name
        assert f"groundql {name}" in README, name


@pytest.mark.parametrize("line", SHOWN)
def test_every_command_in_the_readme_is_one_that_the_command_line_takes(line):
    _, verb, *arguments = shlex.split(re.split(r"\s+# ", line)[0])  # a bare # is part of DATA
    COMMAND.commands[verb].make_context(verb, arguments)  # raises on an unknown option or a missing argument
    for argument in arguments:
        if re.match(r"(bird|spider|pocket|jsonl)[:#]", argument):
            split_spec(argument)


def test_every_config_that_the_readme_names_is_shipped():
    names = re.findall(r"`((?:paper|pocket|recommended)[\w.-]*)`", README)
    assert len(names) >= 5
    for name in names:
        try:
            load_config(name)
        except GroundqlError as error:
            pytest.fail(f"{name}: {error}")


def test_the_two_commands_of_the_readme_are_targets_of_the_makefile():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in ("demo", "test"):
        assert f"make {target}" in README
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_the_picture_of_the_structure_has_every_part_and_no_other():
    source = ROOT / "src" / "groundql"
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    modules = {path.name for path in source.rglob("*.py")}
    tests = {path.name for path in (ROOT / "tests").rglob("*.py")}
    named = set(re.findall(r"\w+\.py\b", text))
    assert named <= modules | tests
    parts = {path.name for path in source.glob("*.py")} | {
        path.parent.name + "/" for path in source.glob("*/__init__.py")
    }
    for part in parts - {"__init__.py", "__main__.py"}:
        assert f"── {part}" in text, part
