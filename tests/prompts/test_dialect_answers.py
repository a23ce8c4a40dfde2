"""From gold to label and from what a model wrote to SQL, in each dialect."""

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from groundql.answer import Assistant
from groundql.config import GenerationSettings, PromptSettings, load_config
from groundql.generating import make_prompts, read_schemas, write_completions
from groundql.prompts.dialect import answered_sql, in_dialect
from groundql.questions.load import load_data
from groundql.records import DatabaseFiles
from tests.prompts.market import MARKET
from tests.scripted import scripted_writer
from tests.small_data import CLUB, write_small_data

GOLD = 'select s.Name from shop s where s.City = "Lyon"'
FROM_FIRST = "FROM shop WHERE city = 'Lyon' SELECT name"
STANDARD = "SELECT name FROM shop WHERE city = 'Lyon'"


@pytest.mark.parametrize(
    ("dialect", "label"), [("raw", GOLD), ("canonical", STANDARD), ("from_first", FROM_FIRST)]
)
def test_a_gold_becomes_what_the_model_is_to_write(dialect, label):
    assert in_dialect(GOLD, MARKET, dialect) == label


@pytest.mark.parametrize(
    "text",
    [
        FROM_FIRST,
        f" {FROM_FIRST};",
        f"```sql\n{FROM_FIRST}\n```",
        f"SQL: {FROM_FIRST}",
        f"{FROM_FIRST}\n\nThis query finds the names.",
        f"<think>FROM here SELECT one</think>{FROM_FIRST}",
        STANDARD,  # as a model that was not trained on it writes
        f"The query is: {STANDARD}",
    ],
)
def test_what_was_written_from_first_comes_back_as_standard_sql(text):
    assert answered_sql(text, "from_first") == STANDARD


def test_a_from_first_text_that_does_not_parse_stays_the_answer_and_prose_is_none():
    assert answered_sql("FROM shop WHERE city = 'Ly", "from_first") == "FROM shop WHERE city = 'Ly"
    assert answered_sql("From here on I do not know.", "from_first") is None


@pytest.mark.parametrize("dialect", ["raw", "canonical"])
def test_in_the_other_dialects_the_text_is_taken_as_it_is(dialect):
    assert answered_sql(STANDARD, dialect) == STANDARD
    assert answered_sql(FROM_FIRST, dialect) != STANDARD


def test_a_model_that_writes_from_first_gives_standard_sql_in_completions_and_answers(tmp_path: Path):
    _, dev = write_small_data(tmp_path)
    written = "FROM member SELECT COUNT(*)"
    writer = replace(scripted_writer(written), prompt=PromptSettings(dialect="from_first"))
    data = load_data(dev)
    settings = GenerationSettings(max_new_tokens=40)
    _, completions = write_completions(writer.loaded.model, writer, data, settings=settings)
    assert {(one.text, one.sql) for one in completions} == {(written, "SELECT COUNT(*) FROM member")}

    path = tmp_path / "club.sqlite"
    make_database(path)
    with Assistant(writer, settings) as assistant:
        answer = assistant.ask(path, "How many members are there?")
    assert answer.sql == "SELECT COUNT(*) FROM member"
    assert answer.outcome is not None
    assert answer.outcome.rows == ((2,),)


def test_values_of_the_rows_are_in_the_prompt_where_they_are_asked_for_and_no_gold_is_looked_at(
    tmp_path: Path,
):
    _, dev = write_small_data(tmp_path)
    make_database(tmp_path / "club.sqlite")
    data = load_data(dev)
    files = {"club": DatabaseFiles(db_id="club", sqlite_path=tmp_path / "club.sqlite")}
    made_up = {"club": files["club"].model_copy(update={"rows": "synthetic"})}

    def suffixes(n: int, databases: dict[str, DatabaseFiles]) -> list[str]:
        writer = scripted_writer("")
        prompts, _ = make_prompts(
            data.questions,
            read_schemas(data, 0),
            settings=PromptSettings(values=n),
            turns=writer.turns,
            count_tokens=len,
            databases=databases,
        )
        return [prompt.suffix for prompt in prompts]

    # the second and third gold hold nothing and 'Grace'; only the third question names her
    assert ["Values: member.name = 'Grace'" in suffix for suffix in suffixes(3, files)] == [
        False,
        False,
        True,
    ]
    assert not any("Values" in suffix for suffix in suffixes(0, files) + suffixes(3, made_up))


def make_database(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.executescript(CLUB)
    connection.close()


@pytest.mark.parametrize(
    ("name", "dialect"),
    [
        ("paper-qwen2.5-coder-1.5b", "raw"),
        ("paper-falcon3-1b", "raw"),
        ("paper-starcoder2-3b", "raw"),
        ("recommended", "canonical"),
        ("pocket-smollm2", "canonical"),
    ],
)
def test_the_papers_recipes_train_on_golds_as_they_are_and_ours_on_the_dialect(name, dialect):
    assert load_config(name).prompt.dialect == dialect
