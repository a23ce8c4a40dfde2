"""Comparisons and sums of unlike kinds give on DuckDB and PostgreSQL what SQLite gives on the same rows."""

import re

import apsw
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from groundql.databases.translate import engine_sql, from_engine_sql
from groundql.prompts.dialect import canonical_sql
from groundql.records import Column, Schema, Table
from tests.postgres_server import postgres_server

duckdb = pytest.importorskip("duckdb", reason="DuckDB is not installed: pip install 'groundql[duckdb]'")

COLUMNS = {"id": "BIGINT", "n": "BIGINT", "m": "BIGINT", "r": "DOUBLE PRECISION", "s": "VARCHAR", "t": "VARCHAR", "ok": "BOOLEAN", "day": "DATE"}  # fmt: skip
ROWS = [
    (1, 12, 3, 2.5, "12", "abc", 1, "2004-02-29"),
    (2, -5, 12, 12.0, "12.0", "", 0, "1999-12-31"),
    (3, 0, None, -0.5, " 12 ", "1", None, None),
    (4, None, 1, None, None, "2.5", 1, "2004-01-01"),
    (5, 1, 2004, 1e10, "12abc", "2004-02-29", 0, "2019-07-05"),
    (6, 2004, 0, 3.0, "-5", "zoë", 1, "2004-12-31"),
    (7, 3, 3, 0.0, "1e1", "Y", 0, "1970-01-01"),
]
SCHEMA = Schema(
    db_id="x",
    tables=(Table(name="x", columns=tuple(Column(name=name, type=kind) for name, kind in COLUMNS.items())),),
)


def filled(connection, types):
    """The table x, with `types` in place of SQLite's."""
    connection.execute(f"CREATE TABLE x ({', '.join(f'{name} {kind}' for name, kind in types.items())})")
    for row in ROWS:
        cells = ["NULL" if cell is None else repr(cell) for cell in row]
        if row[6] is not None and types["ok"] == "BOOLEAN":
            cells[6] = ("false", "true")[row[6]]
        connection.execute(f"INSERT INTO x VALUES ({', '.join(cells)})")
    return connection


@pytest.fixture(scope="module")
def sqlite():
    # Truths are 0 and 1 and dates are texts there.
    return filled(apsw.Connection(":memory:"), COLUMNS | {"ok": "INTEGER", "day": "TEXT"})


@pytest.fixture(scope="module")
def duck():
    with duckdb.connect(":memory:", config={"threads": 1}) as connection:
        yield filled(connection, COLUMNS)


@pytest.fixture(scope="module")
def postgres(tmp_path_factory):
    psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed")
    with (
        postgres_server(tmp_path_factory.mktemp("postgres")) as url,
        psycopg.connect(url, autocommit=True) as maker,
    ):
        maker.execute(
            "CREATE DATABASE bytewise LC_COLLATE 'C' TEMPLATE template0"
        )  # the order of texts is SQLite's
        with psycopg.connect(url.removesuffix("postgres") + "bytewise", autocommit=True) as connection:
            yield filled(connection, COLUMNS)


columns = st.sampled_from([name for name in COLUMNS if name != "id"])
literals = st.one_of(
    st.sampled_from(
        ["'Agnes'", "'Y'", "''", "'12'", "' 12 '", "'12.0'", "'1e1'", "'.5'", "'-5'", "'0'", "'1'", "'2004'"]
    ),
    st.sampled_from(["'2004-02-29'", "'2004-02-30'", "'2004-02'", "'1/2/2004'", "'2004-02-29 10:00:00'", "'inf'", "'nan'"]),
    st.sampled_from(["0", "1", "12", "-5", "2.5", "12.0", "1e10", "2004", "NULL"]),
)  # fmt: skip
# The sums of numbers, texts of texts, and casts: no affinity, but for the casts.
values = st.one_of(
    columns,
    literals,
    st.sampled_from(["n + 1", "r * 2", "SUBSTR(t, 1, 4)", "LOWER(s)", "LENGTH(t)", "STRFTIME('%Y', day)", "-n", "ABS(n)", "DATE(day)"]),
    st.sampled_from(
        ["CAST(t AS INTEGER)", "CAST(s AS REAL)", "CAST(n AS TEXT)", "(SELECT MAX(n) FROM x)", "(SELECT s FROM x WHERE id = 1)"]
    ),
)  # fmt: skip
signs = st.sampled_from(["=", "!=", "<", "<=", ">", ">="])
conditions = st.one_of(
    st.builds("{} {} {}".format, values, signs, values),
    st.builds("{} {} {}".format, columns, signs, literals),
    st.builds("{} BETWEEN {} AND {}".format, columns, values, values),
    st.builds("{} IN ({}, {})".format, columns, values, literals),
    st.builds("{} NOT IN ({})".format, values, literals),
    st.builds("{} IN (SELECT {} FROM x WHERE id < 3)".format, columns, columns),
    st.builds("{} NOT IN (SELECT {} FROM x WHERE id < 3)".format, columns, columns),
    st.builds("id IN (SELECT T1.id FROM (SELECT id, {} AS v FROM x) AS T1 JOIN x ON T1.id = x.id WHERE v {} {})".format, values, signs, literals),
    st.builds("CASE {} WHEN {} THEN 1 WHEN {} THEN 2 ELSE 3 END = 2".format, columns, literals, literals),
)  # fmt: skip


def as_integers(rows):
    return [tuple(int(cell) if isinstance(cell, bool) else cell for cell in row) for row in rows]


def agrees(connection, sqlite, condition, dialect):
    canonical = canonical_sql(f"SELECT id, {condition} FROM x ORDER BY id", SCHEMA)
    there = engine_sql(canonical, SCHEMA, dialect)
    found = as_integers(connection.execute(there).fetchall())
    assert found == list(sqlite.execute(canonical)), there


@pytest.mark.parametrize(
    ("condition", "ids"),
    [
        ("n = 'Agnes'", []),
        ("n = '12'", [1]),
        ("n < 'Agnes'", [1, 2, 3, 5, 6, 7]),  # any number is less than any text
        ("NOT n = 'Agnes'", [1, 2, 3, 5, 6, 7]),  # and NULL is neither
        ("ok = 'Agnes'", []),
        ("ok = 'true'", [1, 4, 6]),  # what SQLite has not
        ("ok = 'Y'", []),
        ("ok > 0", [1, 4, 6]),
        ("s = 12", [1]),
        ("s = 12.0", [2]),
        ("n = s", [1]),
        ("day = 'Agnes'", []),
        ("day >= '2004-02'", [1, 5, 6]),
        ("day BETWEEN '2004' AND '2005'", [1, 4, 6]),
        ("n IN ('Agnes', '12', 3)", [1, 7]),
        ("n NOT IN (SELECT s FROM x WHERE id IN (1, 5))", [2, 3, 5, 6, 7]),
    ],
)
def test_a_comparison_of_unlike_kinds_runs_and_decides_as_sqlite_does(duck, condition, ids):
    found = duck.execute(engine_sql(f"SELECT id FROM x WHERE {condition} ORDER BY id", SCHEMA, "duckdb"))
    assert [row for (row,) in found.fetchall()] == ids


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("AVG(s)", (12 + 12 + 12 + 12 - 5 + 10) / 6),  # a text counts as the number that it begins with
        ("SUM(t)", 0 + 0 + 1 + 2.5 + 2004 + 0 + 0),
        ("CAST('12.9kg' AS INTEGER)", 12),
        ("MAX(CAST(t AS INTEGER))", 2004),
        ("MAX(s + 1)", 13),
        ("MAX(day - 4)", 2015),
    ],
)
def test_a_text_in_a_sum_is_the_number_that_it_begins_with(duck, sqlite, value, expected):
    sql = f"SELECT {value} FROM x"
    assert next(sqlite.execute(sql)) == (pytest.approx(expected),)  # or the expectation is wrong
    assert duck.execute(engine_sql(sql, SCHEMA, "duckdb")).fetchone() == (pytest.approx(expected),)


@pytest.mark.parametrize("dialect", ["duckdb", "postgres"])
@pytest.mark.parametrize(
    "sql",
    [
        "SELECT id FROM x WHERE n = s",
        "SELECT AVG(s) FROM x",
        "SELECT CAST(t AS INTEGER) FROM x",
        "SELECT CAST(t AS REAL) / 2 FROM x",
        "SELECT id FROM x WHERE n IN (SELECT t FROM x)",
    ],
)
def test_a_text_that_was_read_as_a_number_comes_back_as_it_was(dialect, sql):
    there = engine_sql(sql, SCHEMA, dialect)
    assert there != sql
    assert canonical_sql(from_engine_sql(there, SCHEMA, dialect), SCHEMA) == sql


@given(condition=conditions)
@settings(max_examples=60, deadline=None)
def test_any_comparison_decides_on_duckdb_as_on_sqlite(duck, sqlite, condition):
    agrees(duck, sqlite, condition, "duckdb")


@pytest.mark.slow
@given(condition=conditions)
@settings(max_examples=4000, deadline=None)
def test_thousands_of_comparisons_decide_on_duckdb_as_on_sqlite(duck, sqlite, condition):
    agrees(duck, sqlite, condition, "duckdb")


@pytest.mark.slow
@given(condition=conditions)
@settings(max_examples=4000, deadline=None)
def test_thousands_of_comparisons_decide_on_postgres_as_on_sqlite(postgres, sqlite, condition):
    words = set(re.findall(r"\w+", condition))
    assume(not (words & {"r", "REAL"} and words & {"s", "t", "day", "TEXT"}))  # 12.0 is the text '12' there
    assume("NULL AS v" not in condition)  # has no type there
    agrees(postgres, sqlite, condition, "postgres")
