"""A canonical query returns on DuckDB and PostgreSQL what SQLite returns, and comes back as it was."""

import sqlite3

import pytest

from groundql.databases.executor import Executor
from groundql.databases.open_database import OpenDatabase
from groundql.databases.translate import engine_sql, from_engine_sql
from groundql.prompts.dialect import canonical_sql
from groundql.records import Column, Schema, Table
from tests.postgres_server import as_reader, prepared_postgres

duckdb = pytest.importorskip("duckdb", reason="DuckDB is not installed: pip install 'groundql[duckdb]'")

# Types that all three engines know; a date is text in SQLite.
TABLES = """
CREATE TABLE author (id INTEGER PRIMARY KEY, name VARCHAR(20) NOT NULL);
CREATE TABLE book (id INTEGER PRIMARY KEY, author_id INTEGER REFERENCES author(id), "Title" VARCHAR(40), price REAL,
    pages INTEGER, day DATE, is_sold BOOLEAN, "shelf no" VARCHAR(10), "user" VARCHAR(10));
INSERT INTO author VALUES (1, 'Ada'), (2, 'Bo'), (3, 'Cy');
INSERT INTO book VALUES (1, 1, 'Tides', 12.5, 300, '1999-12-31', true, '007', 'ann'),
    (2, 1, 'Sand', 8.0, 95, '2004-02-29', false, '12', 'bob'), (3, 2, 'sandstone', 20.0, 411, NULL, true, NULL, NULL);
"""
# canonical query, its rows by thought
CASES = [
    ("SELECT Title FROM book WHERE Title LIKE 'SAND%' ORDER BY Title", [("Sand",), ("sandstone",)]),  # case is nothing
    ("SELECT Title FROM book WHERE day LIKE '2004%'", [("Sand",)]),
    ("SELECT SUBSTR(day, 1, 4) FROM book WHERE id = 1", [("1999",)]),
    ("SELECT SUBSTR(Title, -3) FROM book WHERE id = 1", [("des",)]),
    ("SELECT STRFTIME('%Y-%m', day) FROM book WHERE id = 2", [("2004-02",)]),
    ("SELECT DATE(day, '+1 day') FROM book WHERE id = 2", [("2004-03-01",)]),
    ("SELECT DATE(day, 'start of year') FROM book WHERE id = 1", [("1999-01-01",)]),
    ("SELECT CAST(JULIANDAY(day) - JULIANDAY('1999-12-01') AS INTEGER) FROM book WHERE id = 1", [(30,)]),
    ("SELECT Title FROM book WHERE `shelf no` = 12", [("Sand",)]),  # a number beside a text column is text
    ("SELECT `user` FROM book WHERE is_sold = 1 AND `user` IS NOT NULL", [("ann",)]),
    ("SELECT SUM(is_sold) FROM book", [(2,)]),
    ("SELECT SUM(Title = 'Sand') FROM book", [(1,)]),
    ("SELECT pages / 2 FROM book WHERE id = 2", [(47,)]),  # integers stay integers
    ("SELECT CAST(pages AS REAL) / 2 FROM book WHERE id = 2", [(47.5,)]),
    ("SELECT pages / 0 FROM book WHERE id = 2", [(None,)]),
    ("SELECT CAST(price AS INTEGER) FROM book WHERE id = 1", [(12,)]),  # cut off, not rounded
    ("SELECT day FROM book ORDER BY day", [(None,), ("1999-12-31",), ("2004-02-29",)]),  # NULL first
    ("SELECT day FROM book ORDER BY day DESC", [("2004-02-29",), ("1999-12-31",), (None,)]),
    ("SELECT Title, MAX(price) FROM book", [("sandstone", 20.0)]),  # the title of that row
    ("SELECT Title, MIN(price) FROM book WHERE author_id = 1", [("Sand", 8.0)]),
    ("SELECT T1.name, COUNT(*) FROM author AS T1 JOIN book AS T2 ON T1.id = T2.author_id GROUP BY T1.id ORDER BY T1.id",
     [("Ada", 2), ("Bo", 1)]),
    ("SELECT STRFTIME('%Y', day) AS c1, COUNT(*) FROM book WHERE day IS NOT NULL GROUP BY c1 ORDER BY c1",
     [("1999", 1), ("2004", 1)]),
    ("SELECT name FROM author WHERE id NOT IN (SELECT author_id FROM book)", [("Cy",)]),
    ("SELECT name FROM author EXCEPT SELECT T1.name FROM author AS T1 JOIN book AS T2 ON T1.id = T2.author_id", [("Cy",)]),
    ("WITH Q1 AS (SELECT author_id, COUNT(*) AS c1 FROM book GROUP BY author_id) SELECT AVG(c1) FROM Q1", [(1.5,)]),
    ("SELECT TOTAL(pages) FROM book WHERE id > 9", [(0.0,)]),
    ("SELECT GROUP_CONCAT(pages) FROM book WHERE id = 1", [("300",)]),
    ("SELECT Title || pages FROM book WHERE id = 1", [("Tides300",)]),
    ("SELECT LENGTH(pages) FROM book WHERE id = 1", [(3,)]),
    ("SELECT IIF(price > 10, 'dear', 'cheap') FROM book WHERE id = 2", [("cheap",)]),
    ("SELECT ROUND(AVG(price), 2) FROM book", [(13.5,)]),
    ("SELECT ROUND(price, 1) FROM book WHERE id = 1", [(12.5,)]),
    ("SELECT Title FROM book ORDER BY price DESC LIMIT 1 OFFSET 1", [("Tides",)]),
]  # fmt: skip


# These come back as another query with the same rows: dates in steps, CASE for IIF, what is said for SQLite's silence.
ONE_WAY = ("DATE(", "TOTAL", "IIF", "`shelf no` = 12", "GROUP_CONCAT")


@pytest.fixture(scope="module")
def sqlite_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("sqlite") / "shop.sqlite"
    with sqlite3.connect(path) as connection:
        connection.executescript(TABLES.replace("true", "1").replace("false", "0"))
    connection.close()
    return path


@pytest.fixture(scope="module")
def duck(tmp_path_factory):
    path = tmp_path_factory.mktemp("duck") / "shop.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute(TABLES)
    with OpenDatabase(path) as database:
        yield database


@pytest.fixture(scope="module")
def postgres(tmp_path_factory):
    with (
        prepared_postgres(tmp_path_factory.mktemp("postgres"), TABLES) as url,
        OpenDatabase(as_reader(url)) as database,
    ):
        yield database


@pytest.fixture(scope="module")
def executor():
    with Executor() as executor:
        yield executor


@pytest.mark.parametrize(("sql", "rows"), CASES, ids=[sql[:60] for sql, _ in CASES])
def test_a_canonical_query_has_its_rows_on_sqlite_and_on_duckdb(executor, sqlite_file, duck, sql, rows):
    assert list(executor.run(sqlite_file, sql).rows) == rows  # or the expectation is wrong
    outcome = duck.run(duck.translate(sql))
    assert outcome.error == ""
    assert list(outcome.rows) == rows
    assert duck.prepare(duck.translate(sql)) is None


@pytest.mark.slow
@pytest.mark.parametrize(("sql", "rows"), CASES, ids=[sql[:60] for sql, _ in CASES])
def test_a_canonical_query_has_its_rows_on_postgres(postgres, sql, rows):
    outcome = postgres.run(postgres.translate(sql))
    assert outcome.error == ""
    assert [tuple(float(c) if isinstance(c, float) else c for c in row) for row in outcome.rows] == rows


@pytest.mark.parametrize("sql", [sql for sql, _ in CASES if not any(name in sql for name in ONE_WAY)])
@pytest.mark.parametrize("dialect", ["duckdb", "postgres"])
def test_what_was_translated_comes_back_as_the_same_canonical_query(duck, dialect, sql):
    there = engine_sql(sql, duck.schema, dialect)
    assert canonical_sql(from_engine_sql(there, duck.schema, dialect), duck.schema) == canonical_sql(
        sql, duck.schema
    )


def test_names_are_quoted_where_the_engine_would_fold_or_reserve_them():
    columns = tuple(Column(name=name) for name in ("Title", "user", "plain", "a b"))
    schema = Schema(db_id="x", tables=(Table(name="Book", columns=columns),))
    sql = "SELECT title, `user`, PLAIN, `a b` FROM book"
    assert engine_sql(sql, schema, "postgres") == 'SELECT "Title", "user", plain, "a b" FROM "Book"'
    assert engine_sql(sql, schema, "duckdb") == 'SELECT Title, "user", plain, "a b" FROM Book'


@pytest.mark.parametrize(
    "text", ["SELECT", "not a query at all", "SELECT 1; SELECT 2", "DELETE FROM book", ""]
)
def test_what_is_no_single_query_stays_as_it_is_for_the_engine_to_refuse(duck, text):
    assert engine_sql(text, duck.schema, "duckdb") == text
    assert duck.prepare(text) is not None


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT Title FROM book WHERE Title ILIKE 'sand%'",
        "SELECT author_id, any_value(Title) FROM book GROUP BY author_id",
        "SELECT strftime(day, '%Y') FROM book",
        "SELECT pages // 2 FROM book",
    ],
)
def test_a_gold_that_a_person_wrote_for_duckdb_has_a_canonical_form_that_sqlite_prepares(
    duck, sqlite_file, executor, sql
):
    assert duck.prepare(sql) is None
    label = canonical_sql(from_engine_sql(sql, duck.schema, "duckdb"), duck.schema)
    assert executor.run(sqlite_file, label).status == "ok"


def test_duckdbs_division_of_integers_keeps_its_fraction_in_the_canonical_form(duck):
    label = canonical_sql(from_engine_sql("SELECT pages / 2 FROM book", duck.schema, "duckdb"), duck.schema)
    assert label == "SELECT CAST(pages AS REAL) / 2 FROM book"
