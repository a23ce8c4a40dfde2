"""The commands that the results page gives for the 1.5B and 3B models work: as they stand, with a tiny twin in the model's place."""

import json
import re
import shlex
import sqlite3
from contextlib import closing

import pytest
import typer.main

from benchmarks import results_page
from benchmarks.larger_models import EVALUATED, RECIPES, RESULTS, larger_section, measured
from groundql.cli import app, plan, verbs  # noqa: F401  registers the verbs
from groundql.config import load_config
from groundql.models.catalog import CATALOG
from groundql.models.memory import plan_of
from groundql.models.shape import read_shape
from groundql.models.source import ModelSource
from tests.command import groundql
from tests.small_data import CLUB, DEV, SHOP, TRAIN
from tests.tiny import save_tiny

COMMANDS = typer.main.get_command(app).commands
LIBRARY = """
CREATE TABLE author (id INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE book (id INTEGER PRIMARY KEY, title TEXT, author INTEGER REFERENCES author(id), pages INTEGER);
INSERT INTO author VALUES (1, 'Lem'), (2, 'Le Guin');
INSERT INTO book VALUES (1, 'Solaris', 1, 204), (2, 'The Dispossessed', 2, 387);
"""
LIBRARY_QUESTIONS = (
    ("How many books are there?", "SELECT count(*) FROM book"),
    ("Who wrote Solaris?", "SELECT T2.name FROM book AS T1 JOIN author AS T2 ON T1.author = T2.id WHERE T1.title = 'Solaris'"),
    ("Which book is the longest?", "SELECT title FROM book ORDER BY pages DESC LIMIT 1"),
)  # fmt: skip
SHOWN = [command for recipe in RECIPES for command in recipe.commands()]


def arguments_of(command):
    """What follows `groundql`."""
    name, *arguments = shlex.split(command)
    assert name == "groundql"
    return arguments


def settings_of(recipe):
    """The config's name and the overrides of the command that trains."""
    verb, config, *rest = arguments_of(recipe.commands()[0])
    assert verb == "train"
    return config, [value for option, value in zip(rest[::2], rest[1::2], strict=True) if option == "--set"]


def write_database(path, sql):
    path.parent.mkdir(parents=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(sql)


def write_bird(folder, split, db_id, sql, questions):
    """A split in BIRD's layout: questions with evidence, databases, descriptions of columns."""
    databases = folder / f"{split}_databases"
    write_database(databases / db_id / f"{db_id}.sqlite", sql)
    described = databases / db_id / "database_description"
    described.mkdir()
    for table in re.findall(r"CREATE TABLE (\w+)", sql):
        (described / f"{table}.csv").write_text(
            "original_column_name,column_name,column_description,data_format,value_description\n"
            f"id,id,number of the {table},integer,\n"
        )
    entries = [
        {"question_id": i, "db_id": db_id, "question": text, "evidence": f"a {db_id}" * (i % 2), "SQL": gold}
        for i, (text, gold) in enumerate(questions)
    ]
    (folder / f"{split}.json").write_text(json.dumps(entries))


def write_spider(folder, splits):
    """Question files of (file, database, its SQL, questions) in Spider's layout."""
    for name, db_id, sql, questions in splits:
        write_database(folder / "database" / db_id / f"{db_id}.sqlite", sql)
        entries = [{"db_id": db_id, "question": text, "query": gold} for text, gold in questions]
        (folder / name).write_text(json.dumps(entries))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """`data/` as the commands suppose it, with a handful of questions."""
    folder = tmp_path_factory.mktemp("larger") / "data"
    write_bird(folder / "bird" / "train", "train", "shop", SHOP, TRAIN)
    write_bird(folder / "bird" / "dev", "dev", "club", CLUB, DEV)
    splits = ("train_spider.json", "library", LIBRARY, LIBRARY_QUESTIONS), ("dev.json", "club", CLUB, DEV)
    write_spider(folder / "spider", splits)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.run)
def test_the_shown_commands_train_answer_and_judge_with_a_tiny_twin(tmp_path, monkeypatch, data, recipe):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").symlink_to(data)
    architecture = CATALOG[recipe.model].architecture
    twin = save_tiny(tmp_path / "twin", architecture, chat="Instruct" in recipe.model)
    assert read_shape(ModelSource(name="twin", folder=twin)).architecture == architecture
    train, *others = map(arguments_of, recipe.commands())

    ended = groundql(*train, "--set", f"model.name={twin}")
    assert ended.status == 0, ended.stderr
    warnings = [line for line in ended.stderr.splitlines() if "warning" in line.lower()]
    assert all("training.learning_rate 2e-05 is" in line and "paper" in recipe.run for line in warnings)
    run_dir = tmp_path / "runs" / recipe.run
    assert (run_dir / "adapter" / "adapter_model.safetensors").is_file()
    assert json.loads((run_dir / "run.json").read_text())["base_model"] == str(twin)

    for arguments in others:
        ended = groundql(*arguments)
        assert ended.status == 0, (arguments, ended.stderr)
        assert "warning" not in ended.stderr.lower(), ended.stderr
    for name, spec in EVALUATED.items():
        folder = run_dir / name
        predictions = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
        assert len({line["question_id"] for line in predictions}) == len(predictions) == len(DEV)
        tally = json.loads((folder / "judged" / "tally.json").read_text())
        assert (tally["data"], tally["n"]) == (spec, len(DEV))
        verdicts = [
            json.loads(line) for line in (folder / "judged" / "verdicts.jsonl").read_text().splitlines()
        ]
        assert len(verdicts) == len(DEV)
        assert all(line["grounded"] for line in verdicts)  # random weights do so by the constraint alone


@pytest.mark.parametrize("command", SHOWN)
def test_a_shown_command_is_one_that_the_command_line_takes_and_stands_on_the_page(command):
    verb, *rest = arguments_of(command)
    COMMANDS[verb].make_context(verb, rest)  # raises on an unknown option or a missing argument
    assert f"\n{command}\n" in results_page.PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.run)
def test_a_shown_training_is_of_the_model_that_is_named_above_it(recipe):
    config = load_config(*settings_of(recipe))
    assert config.model.name == recipe.model in CATALOG
    assert (
        config.data.train == "bird:data/bird/train#train"
    )  # no evaluation set, though config and line may change
    assert config.data.dev in (None, "spider:data/spider#train")


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.run)
def test_a_shown_training_fits_the_paper_s_card_by_its_plan_and_every_catalog_model_has_one(
    tmp_path, monkeypatch, recipe
):
    monkeypatch.chdir(tmp_path)  # no data: lengths like BIRD's
    monkeypatch.setattr(plan, "_find_tokenizer", lambda source: None)
    name, overrides = settings_of(recipe)
    ended = groundql("plan", name, *(word for override in overrides for word in ("--set", override)))
    assert ended.status == 0, ended.stderr
    assert re.search(r"^total .* of 6,144: fits", ended.stdout, re.MULTILINE)
    config = load_config(name, overrides)
    lengths = plan.read_lengths(config, plan.find_base(recipe.model)).questions
    assert all(plan_of(config, row, lengths).peak_mib > 0 for row in CATALOG.values())


def test_every_row_of_the_table_says_that_its_weights_are_random_and_where_it_is_stored():
    section = larger_section()
    table = [line for line in section.splitlines() if line.startswith("| ")][2:]  # below head and rule
    assert len(table) == len(measured())
    for line in table:
        assert "random weights" in line
        stored_in = re.search(r"`([\w.-]+)` [|]$", line)[1]
        assert (RESULTS / f"2026-11-25-{stored_in}.json").is_file()


def test_no_rung_of_the_judge_is_told_of_random_weights():
    section = larger_section()
    above = section[: section.index("### Commands")]
    assert not re.search(r"ex_strict|ex_bird|ast_equal|sqlglot|`grounded`|`ran`| %(?! free)", above)


def test_the_numbers_are_those_of_the_performance_page():
    text = (results_page.ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    targets = text[text.index("## Targets") : text.index("## Beside the stock stack")]
    told = re.findall(r"(\d[\d,]*)(?: MiB)? at ([\d,]+)\b", targets)
    assert len(told) == 8  # 1.5B at 16,384 tokens, Falcon3, StarCoder2 and 3B, each with a graph and without
    shown = {
        (f"{one.reserved_mib:,}", f"{one.tokens_a_second:,}") for one in measured() if one.tokens_a_second
    }
    assert set(told) <= shown
