"""Values of the rows that a question mentions: found as they are spelt there, and never from made-up rows."""

import sqlite3

import pytest

from groundql.databases import values as values_module
from groundql.databases.schema import read_schema
from groundql.databases.values import nearest_values, value_source
from groundql.errors import DataError
from groundql.records import DatabaseFiles

ROWS = """
CREATE TABLE city (name TEXT, state, people INTEGER);
CREATE TABLE "air port" (id INTEGER, "full name" TEXT, town TEXT, note TEXT);
INSERT INTO city VALUES ('Lyon', 'FR', 500), ('San Juan', 'PR', 300), ('San', 'TX', 20), ('Juan', 'us', 1), (NULL, NULL, 2);
INSERT INTO "air port" VALUES (1, 'Lyon–Saint-Exupéry', 'Lyon', 'the'), (2, 'O''Hare', 'Chicago', 'name'), (3, 'Australia', 'a', 'x'),
  (4, 'Diffa', 'nurse', 'x');
"""


@pytest.fixture
def files(tmp_path):
    path = tmp_path / "map.sqlite"
    connection = sqlite3.connect(path)
    connection.executescript(ROWS)
    connection.close()
    return DatabaseFiles(db_id="map", sqlite_path=path)


@pytest.fixture
def ask(files):
    schema = read_schema(files, n_examples=0)
    return lambda text, n=5: nearest_values(text, schema, files.sqlite_path, n)


def test_a_value_is_found_in_every_column_that_holds_it(ask):
    assert ask("How many people live in lyon?") == {
        ("city", "name"): ["Lyon"],
        ("air port", "town"): ["Lyon"],
    }


@pytest.mark.parametrize(
    ("text", "place", "value"),
    [
        ("airports in CHICAGO", ("air port", "town"), "Chicago"),  # case
        ("Is it the o'hare airport?", ("air port", "full name"), "O'Hare"),  # marks
        ("Lyon Saint Exupéry", ("air port", "full name"), "Lyon–Saint-Exupéry"),
        ("Which are Australian?", ("air port", "full name"), "Australia"),  # an ending
        ("cities of TX", ("city", "state"), "TX"),
    ],
)
def test_a_value_is_given_as_the_rows_spell_it(ask, text, place, value):
    assert value in ask(text)[place]


def test_a_longer_value_goes_before_its_parts_and_hides_them(ask):
    assert ask("Who lives in San Juan?") == {("city", "name"): ["San Juan"]}


@pytest.mark.parametrize(
    "text",
    [
        "Give us the name of a place",  # us, the, name and a are values, and words of any question
        "What costs 500?",  # a number is no text
        "How many different courses?",  # Diffa and nurse share four letters of five with words of it
        "Lyonesse is no city, Chic is no town",
        "",
    ],
)
def test_common_words_numbers_and_chance_likeness_find_nothing(ask, text):
    assert ask(text) == {}


def test_there_are_never_more_than_asked_for_and_the_surest_come_first(ask):
    text = "From Lyon to San Juan in PR, with O'Hare"
    everything = [value for found in ask(text, 20).values() for value in found]
    assert len(everything) == 5
    assert ask(text, 1) == {("city", "name"): ["San Juan"]}
    assert ask(text, 0) == {}


def test_the_index_follows_the_file(files, ask):
    assert ask("in Bergen") == {}
    connection = sqlite3.connect(files.sqlite_path)
    connection.executescript("INSERT INTO city VALUES ('Bergen', 'NO', 9)" + ", ('x', 'y', 1)" * 500)
    connection.close()
    assert ask("in Bergen") == {("city", "name"): ["Bergen"]}


def test_a_column_gives_a_bounded_number_of_values_for_a_bounded_amount_of_work(files, ask, monkeypatch):
    monkeypatch.setattr(values_module, "MAX_VALUES", 1)
    values_module._index.cache_clear()
    assert ask("Lyon or San Juan or Chicago") == {("city", "name"): ["Lyon"], ("air port", "town"): ["Lyon"]}
    monkeypatch.setattr(values_module, "MAX_STEPS", 0)
    monkeypatch.setattr(values_module, "CHECK_STEPS", 1)
    values_module._index.cache_clear()
    assert ask("Lyon or San Juan or Chicago") == {}


def test_made_up_rows_and_databases_without_rows_are_no_source(files, tmp_path):
    assert value_source(files) == files.sqlite_path
    for rows in ("synthetic", "none"):
        assert value_source(files.model_copy(update={"rows": rows})) is None
    assert value_source(files.model_copy(update={"url": "duckdb:x"})) == "duckdb:x"
    assert value_source(DatabaseFiles(db_id="x", sqlite_path=tmp_path / "absent.sqlite")) is None


def test_a_file_that_is_no_database_is_named(files, tmp_path):
    path = tmp_path / "text.sqlite"
    path.write_text("no database, but long enough to be looked at as one " * 9)
    with pytest.raises(DataError, match="text.sqlite cannot be read"):
        nearest_values("Lyon", read_schema(files, n_examples=0), path, 3)


def test_values_of_a_duckdb_file_are_found_and_found_anew_when_it_changes(tmp_path):
    duckdb = pytest.importorskip("duckdb", reason="DuckDB is not installed: pip install 'groundql[duckdb]'")
    path = tmp_path / "towns.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE town (id INTEGER, name VARCHAR, tags VARCHAR[])")
        connection.execute("INSERT INTO town VALUES (1, 'Saint-Denis', ['a']), (2, 'Oslo', NULL)")
    files = DatabaseFiles(db_id="towns", url=f"duckdb:{path}")
    schema = read_schema(files)
    source = value_source(files)
    assert nearest_values("who lives in saint denis?", schema, source, 5) == {
        ("town", "name"): ["Saint-Denis"]
    }
    with duckdb.connect(str(path)) as connection:
        connection.execute("INSERT INTO town VALUES (3, 'Bergen', NULL)")
    assert nearest_values("who lives in Bergen?", schema, source, 5) == {("town", "name"): ["Bergen"]}
