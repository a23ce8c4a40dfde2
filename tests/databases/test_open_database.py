"""A database by its path or URL: which engine, what is read, and what a change of the file does."""

import sqlite3
import sys
import threading

import apsw
import pytest

from groundql.databases.open_database import N_EXECUTORS, OpenDatabase
from groundql.databases.place import database_name, shown_place, without_password
from groundql.databases.table_files import table_name
from groundql.errors import DatabaseMissing, DataError
from tests.mostly_slow import first_fast

duckdb = pytest.importorskip("duckdb", reason="DuckDB is not installed: pip install 'groundql[duckdb]'")

CITIES = "id,city name,pop,founded\n1,Rome,2.8,-753-01-01\n2,Oslo,0.7,1040-01-01\n"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def places(tmp_path):
    """The same table in every form."""
    folder = tmp_path / "tables"
    folder.mkdir()
    (folder / "cities.csv").write_text("id,name\n1,Rome\n2,Oslo\n")
    duckdb.sql(f"SELECT * FROM '{folder}/cities.csv'").write_parquet(str(tmp_path / "cities.parquet"))
    with duckdb.connect(str(tmp_path / "cities.duckdb")) as connection:
        connection.execute(f"CREATE TABLE cities AS SELECT * FROM '{folder}/cities.csv'")
    with sqlite3.connect(tmp_path / "cities.sqlite") as connection:
        connection.execute("CREATE TABLE cities (id INTEGER, name TEXT)")
        connection.execute("INSERT INTO cities VALUES (1, 'Rome'), (2, 'Oslo')")
    connection.close()
    return tmp_path


@pytest.mark.parametrize(
    ("place", "db_id", "dialect"),
    first_fast(
        [
            ("sqlite:{}/cities.sqlite", "cities", "sqlite"),
            ("duckdb:{}/cities.duckdb", "cities", "duckdb"),
            ("{}/tables", "tables", "duckdb"),
            ("{}/cities.sqlite", "cities", "sqlite"),
            ("{}/cities.duckdb", "cities", "duckdb"),
            ("{}/tables/cities.csv", "cities", "duckdb"),
            ("{}/cities.parquet", "cities", "duckdb"),
        ],
        3,
    ),
)
def test_each_form_of_a_place_opens_with_its_engine_and_gives_the_same_rows(places, place, db_id, dialect):
    with OpenDatabase(place.format(places)) as database:
        assert (database.db_id, database.dialect) == (db_id, dialect)
        assert [column.name for column in database.schema.tables[0].columns] == ["id", "name"]
        assert database.schema.tables[0].columns[1].examples == ("'Rome'", "'Oslo'")
        assert database.prepare("SELECT name FROM cities") is None
        assert database.prepare("SELECT ghost FROM cities") is not None
        assert database.run("SELECT name FROM cities ORDER BY id").rows == (("Rome",), ("Oslo",))
        assert database.run("DROP TABLE cities").status == "refused"


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("{}/none.sqlite", "is not there"),
        ("duckdb:{}/none.duckdb", "is not there"),
        ("{}/empty.sqlite", "it is empty"),
        ("{}/notes.txt", "no SQLite and no DuckDB file"),
        ("{}/nothing", "holds no .csv"),
        ("mysql://root@localhost/shop", "mysql:// names no engine"),
        ("duckdb:{}/notes.txt", "cannot be read as a DuckDB database"),
        ("{}/twice", "would be a second table 'a'"),
        ("{}/broken.parquet", "cannot be read as a table"),
    ],
)
def test_what_is_no_database_is_refused_with_its_name_and_the_reason(tmp_path, place, message):
    (tmp_path / "empty.sqlite").touch()
    (tmp_path / "notes.txt").write_text("a list of things to do")
    (tmp_path / "nothing").mkdir()
    (tmp_path / "twice").mkdir()
    (tmp_path / "twice" / "a.csv").write_text("x\n1\n")
    (tmp_path / "twice" / "A.tsv").write_text("x\n1\n")
    (tmp_path / "broken.parquet").write_text("no parquet")
    with pytest.raises(DataError, match=message):
        OpenDatabase(place.format(tmp_path))


def test_a_changed_file_is_read_again_and_queries_see_it(tmp_path):
    path = tmp_path / "shop.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE pen (name TEXT)")
    connection.close()
    with OpenDatabase(path) as database:
        first = database.schema
        assert database.schema is first  # read once
        assert database.prepare("SELECT price FROM pen") is not None
        with sqlite3.connect(path) as connection:
            connection.execute("ALTER TABLE pen ADD COLUMN price REAL")
            connection.execute("INSERT INTO pen VALUES ('blue', 2.5)")
        connection.close()
        assert database.prepare("SELECT price FROM pen") is None
        assert database.run("SELECT price FROM pen").rows == ((2.5,),)


def test_rows_that_change_all_the_time_cost_no_new_reading_of_the_schema(tmp_path):
    path = tmp_path / "shop.sqlite"
    writer = apsw.Connection(str(path))  # two SQLite libraries in one process would drop each other's locks
    writer.execute("PRAGMA journal_mode = WAL").fetchall()
    writer.execute("CREATE TABLE pen (name TEXT)")
    with OpenDatabase(path) as database:
        first = database.schema
        for n in range(1, 4):
            writer.execute("INSERT INTO pen VALUES ('blue')")
            assert database.run("SELECT COUNT(*) FROM pen").rows == ((n,),)
            assert database.schema is first
    writer.close()


def test_a_file_that_is_replaced_is_opened_anew_and_one_that_is_gone_is_said(tmp_path):
    path = tmp_path / "shop.duckdb"

    def make(value):
        beside = tmp_path / "new.duckdb"
        with duckdb.connect(str(beside)) as connection:
            connection.execute(f"CREATE TABLE t AS SELECT {value} AS v")
        beside.replace(path)

    make(1)
    with OpenDatabase(path) as database:
        assert database.run("SELECT v FROM t").rows == ((1,),)
        make(2)
        assert database.run("SELECT v FROM t").rows == ((2,),)
        path.unlink()
        with pytest.raises(DatabaseMissing, match="is not there"):
            database.run("SELECT v FROM t")


def test_a_changed_csv_file_is_imported_again(tmp_path):
    path = tmp_path / "cities.csv"
    path.write_text("name\nRome\n")
    with OpenDatabase(path) as database:
        assert database.run("SELECT * FROM cities").rows == (("Rome",),)
        path.write_text("name\nRome\nOslo\n")
        assert database.run("SELECT COUNT(*) FROM cities").rows == ((2,),)


@pytest.mark.slow
def test_queries_from_many_threads_run_beside_each_other_and_each_gets_its_own_rows(places):
    slow = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT COUNT(*) FROM n"
    found = {}
    with OpenDatabase(places / "cities.sqlite") as database:

        def ask(i):
            found[i] = database.run(f"SELECT {i}").rows

        blocked = threading.Thread(target=lambda: database.run(slow, deadline_s=3.0))
        blocked.start()
        threads = [threading.Thread(target=ask, args=(i,)) for i in range(3 * N_EXECUTORS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert blocked.is_alive()  # none waited for the slow one
        blocked.join()
    assert found == {i: ((i,),) for i in range(3 * N_EXECUTORS)}


def test_the_keys_of_tables_from_files_are_found_in_their_values(tmp_path):
    (tmp_path / "author.csv").write_text("author_id,name\n1,Ada\n2,Bo\n")
    (tmp_path / "book.csv").write_text("id,author_id,pages\n1,1,10\n2,1,20\n3,2,1\n")
    with OpenDatabase(tmp_path) as database:
        author, book = database.schema.tables
    assert author.primary_key == ("author_id",)
    assert book.primary_key == ("id",)
    (key,) = book.foreign_keys
    assert (key.columns, key.ref_table, key.ref_columns) == (("author_id",), "author", ("author_id",))


def test_a_column_whose_values_stand_in_no_other_table_is_no_key(tmp_path):
    (tmp_path / "author.csv").write_text("author_id,name\n1,Ada\n1,Bo\n")  # twice: no key
    (tmp_path / "book.csv").write_text("id,author_id\n1,7\n")
    with OpenDatabase(tmp_path) as database:
        author, book = database.schema.tables
    assert author.primary_key == ()
    assert book.foreign_keys == ()


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("postgresql://reader@localhost/shop", "shop"),
        ("postgresql://reader@localhost:5433/my%20shop?sslmode=require", "my shop"),
        ("postgresql://reader@localhost", "reader"),
    ],
)
def test_a_server_s_database_is_named_by_its_url(url, name):
    assert database_name(url) == name


@pytest.mark.parametrize(
    ("url", "written", "said"),
    [
        ("postgresql://ada:hush@db:5433/shop?sslmode=require", "postgresql://ada@db:5433/shop?sslmode=require", "postgresql://ada@db:5433/shop"),
        ("postgresql://ada@db/shop?password=hush&sslmode=require", "postgresql://ada@db/shop?sslmode=require", "postgresql://ada@db/shop"),
        ("postgresql:///shop?user=ada&Password=hush", "postgresql:///shop?user=ada", "postgresql:///shop"),
    ],
)  # fmt: skip
def test_a_password_is_neither_written_nor_said_wherever_it_stands(url, written, said):
    assert without_password(url) == written
    assert shown_place(url) == said
    assert shown_place("a:b.sqlite") == "a:b.sqlite"


@pytest.mark.parametrize(
    ("file", "name"), [("a.csv", "a"), ("2024 sales.tsv.gz", "t_2024_sales"), ("Ä-b.parquet", "Ä_b")]
)
def test_a_table_is_named_by_its_file_so_that_it_needs_no_quotes(tmp_path, file, name):
    assert table_name(tmp_path / file) == name


@pytest.fixture
def _eager_threads():
    """Threads take turns at every step: what may fall between two steps falls there."""
    usual_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual_s)


@pytest.mark.usefixtures("_eager_threads")
@pytest.mark.parametrize(("kind", "n"), [("sqlite", 60), ("duckdb", 4)])
def test_many_threads_may_ask_at_once_whether_queries_bind(places, kind, n):
    """A guarded connection remembers the statement that it is at: two threads at one took each other's for a second one."""
    names = ", ".join(f"name AS n{i}" for i in range(200))  # long enough to be prepared side by side
    wrong = []

    def ask(database, thread):
        for i in range(n):
            if (refusal := database.prepare(f"SELECT {names}, {thread}, {i} FROM cities")) is not None:
                wrong.append(refusal)
            refusal = database.prepare(f"SELECT ghost, {thread}, {i} FROM cities") or "it binds"
            if "ghost" not in refusal:
                wrong.append(refusal)

    with OpenDatabase(places / f"cities.{kind}") as database:
        threads = [threading.Thread(target=ask, args=(database, number)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []
