"""What prepares, and what the engine says where it does not."""

import time

import pytest

from groundql.databases.binding import prepare, twin_of
from groundql.databases.schema import read_schema
from groundql.errors import DataError
from groundql.records import DatabaseFiles


@pytest.fixture
def schema(bookshop):
    return read_schema(DatabaseFiles(db_id="bookshop", sqlite_path=bookshop))


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT title FROM book",
        "SELECT title FROM book;",
        ' -- first\nSELECT `paid on` FROM "order" -- last',
        "WITH b AS (SELECT price FROM book) SELECT AVG(price) FROM b",
        "VALUES (1)",
        'SELECT "title" FROM book WHERE [price] > 1',
    ],
)
def test_a_query_on_what_exists_prepares(bookshop, schema, sql):
    assert prepare(bookshop, sql) is None
    assert prepare(schema, sql) is None


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("SELECT titel FROM book", "no such column: titel"),
        ("SELECT title FROM books", "no such table: books"),
        ('SELECT "titel" FROM book', "no such column"),
        ('SELECT title FROM book WHERE title = "Snow"', "no such column"),
        ("SELECT YEAR(price) FROM book", "no such function: YEAR"),
        ("SELECT b.title FROM book", "no such column: b.title"),
        ("SELECT author_id FROM book JOIN author", "ambiguous column name"),
        ("SELECT title FROM book WHERE AVG(price) > 1", "misuse of aggregate"),
        ("SELECT FROM book", "syntax error"),
        ("SELECT 1; SELECT 2", "more than one statement"),
        ("SELECT ?", "bindings"),
        ("EXPLAIN SELECT 1", "EXPLAIN"),
        ("DELETE FROM book", "not authorized"),
        ("PRAGMA user_version", "not authorized"),
        ("", "no statement"),
        ("hello world", "syntax error"),
        ("SELECT '\ud800'", "not text"),
    ],
)
def test_anything_else_comes_back_with_the_reason(bookshop, schema, sql, words):
    for source in (bookshop, schema):
        said = prepare(source, sql)
        assert said is not None
        assert words in said


def test_preparing_takes_less_than_a_twentieth_of_a_millisecond_or_a_few(schema):
    sql = (
        "SELECT a.name, COUNT(*) FROM author AS a JOIN book AS b ON a.author_id = b.author_id GROUP BY a.name"
    )
    prepare(schema, sql)
    started = time.perf_counter()
    for _ in range(200):
        prepare(schema, sql)
    assert (time.perf_counter() - started) / 200 < 0.0005  # ten times the aim: other work shares the machine


def test_the_twin_of_a_file_follows_the_file(bookshop):
    import apsw

    assert prepare(bookshop, "SELECT isbn FROM book") is not None
    connection = apsw.Connection(str(bookshop))
    connection.execute("ALTER TABLE book ADD COLUMN isbn TEXT; CREATE TABLE filler AS SELECT zeroblob(9000)")
    connection.close()
    assert prepare(bookshop, "SELECT isbn FROM book") is None


def test_views_of_the_file_are_part_of_its_twin(bookshop):
    import apsw

    connection = apsw.Connection(str(bookshop))
    connection.execute("CREATE VIEW cheap AS SELECT title FROM book WHERE price < 11")
    connection.close()
    assert prepare(bookshop, "SELECT title FROM cheap") is None


def test_a_file_that_is_no_database_names_itself(tmp_path):
    path = tmp_path / "text.sqlite"
    path.write_text("not a database " * 100)
    with pytest.raises(DataError, match=r"text\.sqlite"):
        twin_of(path)
