"""DuckDB: what the adapter reads, what binds, and every attack with the file's bytes as they were."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from groundql.databases.duckdb_engine import DuckdbEngine
from groundql.databases.engines import Binder
from groundql.databases.executor import Executor
from groundql.databases.schema import read_schema
from groundql.errors import DatabaseMissing, DataError
from groundql.records import DatabaseFiles, ForeignKey

duckdb = pytest.importorskip("duckdb", reason="DuckDB is not installed: pip install 'groundql[duckdb]'")

SHOP = """
CREATE TABLE author (author_id INTEGER PRIMARY KEY, name VARCHAR NOT NULL);
CREATE TABLE book (
    book_id INTEGER PRIMARY KEY, author_id INTEGER REFERENCES author (author_id), title VARCHAR, price DECIMAL(8, 2),
    day DATE, is_sold BOOLEAN, code UUID, seen TIMESTAMPTZ, tags VARCHAR[], shape STRUCT(w INTEGER), cover BLOB);
CREATE SEQUENCE numbers;
COMMENT ON TABLE author IS 'who wrote';
COMMENT ON COLUMN book.day IS 'day of print';
INSERT INTO author VALUES (1, 'Ada O''Neil'), (2, 'Bo');
INSERT INTO book VALUES
    (1, 1, 'Tides', 12.50, '1999-12-31', true, '00000000-0000-0000-0000-00000000000a',
     '2020-01-01 12:00:00+02', ['a', 'b'], {'w': 3}, '\\x01\\x02'::BLOB),
    (2, 2, 'Sand', 8.00, NULL, false, NULL, NULL, NULL, NULL, NULL);
"""
# outcome, statement
ATTACKS = [
    ("refused", "INSERT INTO author VALUES (3, 'Eve')"),
    ("refused", "UPDATE author SET name = 'Eve'"),
    ("refused", "DROP TABLE book"),
    ("refused", "WITH x AS (INSERT INTO author VALUES (3, 'Eve') RETURNING name) SELECT * FROM x"),
    ("refused", "WITH x AS (DELETE FROM book RETURNING title) SELECT * FROM x"),
    ("refused", "SELECT nextval('numbers')"),
    ("refused", "SELECT * FROM read_text('/etc/hostname')"),
    ("refused", "SELECT * FROM read_csv('secret.csv')"),
    ("refused", "SELECT * FROM glob('*')"),
    ("refused", "SELECT * FROM 'secret.csv'"),
    ("refused", "COPY book TO 'stolen.csv'"),
    ("refused", "COPY (SELECT 1) TO 'stolen.csv'"),
    ("refused", "EXPORT DATABASE 'stolen'"),
    ("refused", "SET memory_limit = '99GB'"),
    ("refused", "SET enable_external_access = true"),
    ("refused", "RESET lock_configuration"),
    ("refused", "ATTACH 'other.duckdb'"),
    ("refused", "ATTACH ':memory:' AS m"),
    ("refused", "INSTALL httpfs"),
    ("refused", "LOAD httpfs"),
    ("refused", "CREATE TEMP TABLE t AS SELECT 1"),
    ("refused", "CREATE MACRO f(x) AS x"),
    ("refused", "CREATE SECRET (TYPE s3)"),
    ("refused", "PRAGMA database_list"),
    ("refused", "CALL pragma_version()"),
    ("refused", "CHECKPOINT"),
    ("refused", "VACUUM"),
    ("refused", "BEGIN"),
    ("refused", "PREPARE p AS SELECT 1"),
    ("refused", "EXPLAIN ANALYZE SELECT 1"),
    ("refused", "SELECT 1; SELECT 2"),
    ("refused", "SELECT 1; DROP TABLE book"),
    ("error", "SELECT * FROM query('DROP TABLE book')"),
    ("error", "SELECT * FROM rows"),  # a variable of ours, were Python's names looked up
    ("error", "SELECT * FROM sql"),
    ("error", "SELECT getenv('HOME')"),
    ("error", ""),
    ("error", "hello there"),
    ("too_large", "SELECT * FROM range(1000000000000)"),
    ("too_large", "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT n FROM r"),
    ("too_large", "SELECT length(repeat('x', 1500000000))"),
    ("too_large", "SELECT repeat('x', 70000000)"),
    ("too_large", "SELECT repeat('x', 10000000) FROM range(100)"),
    ("too_large", "SELECT CASE WHEN range < 3000 THEN '' ELSE repeat('x', 10000000) END FROM range(4000)"),
    ("too_large", "SELECT string_agg(repeat('x', 1000000), '') FROM range(2000)"),
    ("too_large", "SELECT 1 -- " + "x" * 100_000),
    ("timeout", "SELECT count(*) FROM range(1000000) a, range(1000000) b, range(1000) c WHERE a.range + b.range > c.range"),
    ("timeout", "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT count(*) FROM r"),
]  # fmt: skip


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor]:
    with Executor() as executor:
        yield executor


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file, beside one that attacks try to read."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "secret.csv").write_text("word\nswordfish\n")
    connection = duckdb.connect(str(folder / "shop.duckdb"))
    connection.execute(SHOP)
    connection.close()
    return folder / "shop.duckdb"


@pytest.mark.parametrize(
    ("expected", "sql"), ATTACKS, ids=[f"{status}: {sql[:50]}" for status, sql in ATTACKS]
)
def test_an_attack_gets_its_outcome_and_changes_nothing(executor, shop, expected, sql, monkeypatch):
    monkeypatch.chdir(shop.parent)
    before = shop.read_bytes()
    deadline_s = 0.4 if expected == "timeout" else 8.0
    started = time.monotonic()
    outcome = executor.run(f"duckdb:{shop}", sql, deadline_s=deadline_s)
    assert outcome.status == expected, outcome.error
    assert outcome.rows == ()
    assert time.monotonic() - started < deadline_s + 3
    assert shop.read_bytes() == before
    assert sorted(path.name for path in shop.parent.iterdir()) == ["secret.csv", "shop.duckdb"]
    assert executor.run(f"duckdb:{shop}", "SELECT count(*) FROM book").rows == ((2,),)


def test_values_become_cells(executor, shop):
    outcome = executor.run(f"duckdb:{shop}", "SELECT * FROM book ORDER BY book_id")
    assert outcome.status == "ok", outcome.error
    assert outcome.columns[:3] == ("book_id", "author_id", "title")
    first, second = outcome.rows
    assert first == (1, 1, "Tides", 12.5, "1999-12-31", 1, "00000000-0000-0000-0000-00000000000a",
                     "2020-01-01 10:00:00+00:00", '["a", "b"]', '{"w": 3}', b"\x01\x02")  # fmt: skip
    assert second[3:6] == (8, None, 0)
    assert type(second[3]) is int


def test_the_schema_has_keys_comments_and_examples(shop):
    schema = read_schema(DatabaseFiles(db_id="shop", url=f"duckdb:{shop}"))
    author, book = schema.tables
    assert (author.name, author.primary_key, author.description) == ("author", ("author_id",), "who wrote")
    assert author.columns[1].examples == ("'Ada O''Neil'", "'Bo'")
    assert author.columns[1].not_null
    assert book.foreign_keys == (
        ForeignKey(columns=("author_id",), ref_table="author", ref_columns=("author_id",)),
    )
    by_name = {column.name: column for column in book.columns}
    assert by_name["day"].description == "day of print"
    assert by_name["price"].type == "DECIMAL(8,2)"
    assert by_name["price"].examples == ("12.50", "8.00")
    assert by_name["is_sold"].examples == ("true", "false")
    assert by_name["cover"].examples == ()


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("SELECT title FROM book WHERE price > 5;", None),
        ("FROM book", None),
        ("(SELECT title FROM book) UNION ALL (SELECT 'x')", None),
        ("(SELECT titel FROM book)", 'Referenced column "titel" not found'),
        ("WITH a AS (SELECT 1 AS n) SELECT n FROM a -- end", None),
        ("SELECT titel FROM book", 'Referenced column "titel" not found'),
        ("SELECT 1 FROM buch", "buch does not exist"),
        ("SELECT no_such(1)", "no_such does not exist"),
        ("SELECT 1; SELECT 2", "more than one statement"),
        ("DELETE FROM book", "DELETE is not a query"),
        ('SELECT "Tides" FROM book', 'Referenced column "Tides" not found'),
        ("SELECT $1", "parameter"),
    ],
)
def test_binding_asks_the_engine(shop, binder, sql, words):
    found = binder.prepare(sql)
    assert found is None if words is None else words in (found or "")


@pytest.fixture(scope="module")
def binder(shop: Path) -> Iterator[Binder]:
    with Binder(f"duckdb:{shop}") as binder:
        yield binder


def test_binding_a_costly_query_runs_nothing(binder):
    started = time.monotonic()
    assert binder.prepare("SELECT count(*) FROM range(1000000) a, range(1000000) b") is None
    assert time.monotonic() - started < 2


def test_more_rows_than_the_cap_are_too_large_and_as_many_are_not(executor, shop):
    run = executor.run
    assert run(f"duckdb:{shop}", "FROM range(10)", max_rows=10).status == "ok"
    assert run(f"duckdb:{shop}", "FROM range(11)", max_rows=10).status == "too_large"


def test_an_endless_query_does_not_harm_those_behind_it(executor, shop):
    endless = "SELECT count(*) FROM range(1000000) a, range(1000000) b, range(1000) c WHERE a.range + b.range > c.range"
    assert executor.run(f"duckdb:{shop}", endless, deadline_s=0.3).status == "timeout"
    assert executor.run(f"duckdb:{shop}", "SELECT 1").rows == ((1,),)


def test_a_late_interrupt_does_not_reach_the_next_query(shop):
    engine = DuckdbEngine(shop)
    engine._connection.interrupt()
    assert engine.run("SELECT 1", deadline_s=5, max_rows=1)[:3] == ("ok", ("1",), [(1,)])
    engine.close()


def test_after_a_fatal_fault_the_file_is_opened_anew(shop, monkeypatch):
    engine = DuckdbEngine(shop)
    broken = engine._connection
    with monkeypatch.context() as patch:
        patch.setattr(engine, "_one_query", raise_fatal)
        assert engine.run("SELECT 1", deadline_s=5, max_rows=1)[0] == "error"
    assert engine._connection is not broken
    assert engine.run("SELECT 1", deadline_s=5, max_rows=1)[0] == "ok"
    engine.close()


def raise_fatal(sql: str) -> str:
    raise duckdb.FatalException("FATAL Error: the database has been invalidated")


def test_its_own_file_is_the_one_file_that_a_query_may_read_as_bytes(executor, shop):
    """DuckDB keeps the paths of attached files open to file functions: what was deleted from it may be seen so."""
    sql = f"SELECT filename FROM read_blob('{shop}')"
    assert executor.run(f"duckdb:{shop}", sql).rows == ((str(shop),),)


def test_a_file_that_is_not_there_or_no_database_is_named(tmp_path):
    with pytest.raises(DatabaseMissing, match=r"none\.duckdb is not there"):
        read_schema(DatabaseFiles(db_id="x", url=f"duckdb:{tmp_path / 'none.duckdb'}"))
    (tmp_path / "prose.duckdb").write_text("not a database, " * 1000)
    with pytest.raises(DataError, match=r"prose\.duckdb cannot be read as a DuckDB database"):
        read_schema(DatabaseFiles(db_id="x", url=f"duckdb:{tmp_path / 'prose.duckdb'}"))
