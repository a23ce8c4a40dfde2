"""Only what SQLite prepares as one read-only SELECT ends a text; messages lead back to the name at fault."""

import pytest

from groundql.decoding.gate import ENGINE, Gate, first_use, named_in
from tests.decoding.schemas import LIBRARY


@pytest.mark.parametrize(
    "text",
    [
        "SELECT title FROM book",
        "WITH Q1 AS (SELECT id FROM book) SELECT * FROM Q1",
        "SELECT `Due Date` FROM book",
    ],
)
def test_a_query_that_prepares_passes(text):
    assert Gate(LIBRARY).refusal(text) is None


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("SELECT ghost FROM book", "no such column: ghost"),
        ('SELECT "ghost" FROM book', "no such column"),  # double-quoted strings are off
        ("SELECT title FROM ghost", "no such table: ghost"),
        ("SELECT T1.id FROM book AS T1 JOIN `order` AS T2 ON id = 1", "ambiguous column name: id"),
        ("SELECT title FROM book; SELECT 1", "more than one statement"),
        ("SELECT title FROM", "incomplete input"),
        ("SELECT load_extension('x')", "not authorized"),
        ("PRAGMA user_version", "not a SELECT"),
        ("DELETE FROM book", "not a SELECT"),
        ("WITH Q1 AS (SELECT 1) DELETE FROM book", "not authorized"),
        ("EXPLAIN SELECT 1", "not a SELECT"),
        ("SELECTED", "not a SELECT"),
        ("", "not a SELECT"),
    ],
)
def test_anything_else_is_refused_with_its_reason(text, part):
    reason = Gate(LIBRARY).refusal(text)
    assert reason is not None
    assert part in reason


def test_a_file_is_asked_as_it_is_on_disk(tmp_path):
    import sqlite3

    path = tmp_path / "x.sqlite"
    connection = sqlite3.connect(path)
    connection.executescript("CREATE TABLE t (a); CREATE VIEW v AS SELECT a AS b FROM t")
    connection.close()
    assert Gate(path).refusal("SELECT b FROM v") is None
    assert Gate(path).refusal("SELECT a FROM v") == "no such column: a"


@pytest.mark.parametrize(
    ("message", "name"),
    [
        ("no such column: T1.Due Date", "T1.Due Date"),
        ("no such table: ghost", "ghost"),
        ("ambiguous column name: id", "id"),
        ("misuse of aggregate: COUNT()", "COUNT"),
        ("misuse of aliased aggregate c1", "c1"),
        ("misuse of window function RANK()", "RANK"),
        ("wrong number of arguments to function GLOB()", "GLOB"),
        ('near "FROM": syntax error', "FROM"),
        ("incomplete input", None),
        ("not authorized", None),
    ],
)
def test_the_name_in_a_message_is_found(message, name):
    assert named_in(message) == name


@pytest.mark.parametrize(
    ("name", "text", "rest"),
    [
        ("ghost", "SELECT ghost FROM book", "ghost FROM book"),
        ("T1.date", "SELECT T1.title FROM book AS T1 WHERE T1.date = 1", "date = 1"),  # behind the dot
        ("T1.Due Date", "SELECT T1.`Due Date` FROM `order` AS T1", "`Due Date` FROM `order` AS T1"),
        ("id", "SELECT 'id', idx, T1.idx, ID FROM t", "ID FROM t"),  # whole words, not in literals, any case
        ("date", "SELECT `update date`, date", "date"),
        ("a.b", "SELECT `a.b`", "`a.b`"),  # one name with a dot in it
    ],
)
def test_the_first_use_of_a_name_is_found(name, text, rest):
    offset = first_use(name, text)
    assert offset is not None
    assert text[offset:] == rest


def test_a_name_that_stands_only_in_a_literal_is_not_used():
    assert first_use("ghost", "SELECT 'ghost', `ghost town` FROM t") is None


def test_another_engine_is_asked_only_what_sqlite_lets_through_and_its_words_are_marked():
    asked = []

    def binds(text):
        asked.append(text)
        return "no such thing here" if "due" in text.lower() else None

    gate = Gate(LIBRARY, binds)
    assert gate.refusal("SELECT title FROM book") is None
    assert gate.refusal("SELECT ghost FROM book") == "no such column: ghost"
    assert gate.refusal("SELECT `Due Date` FROM book") == f"{ENGINE}no such thing here"
    assert asked == ["SELECT title FROM book", "SELECT `Due Date` FROM book"]


@pytest.mark.parametrize(
    ("message", "name"),
    [
        ("Catalog Error: Scalar Function with name julianday does not exist!\nDid you mean \"julian\"?", "julianday"),
        ("Binder Error: No function matches the given name and argument types 'avg(VARCHAR)'. You might", "avg"),
        ("function total(integer) does not exist", "total"),
        ("operator does not exist: text > integer", None),
    ],
)  # fmt: skip
def test_the_function_is_found_in_the_words_of_duckdb_and_postgres(message, name):
    assert named_in(ENGINE + message) == name
