"""Each published way around a read-only MCP server, sent by the official client: refused, and the database as it was.

Sources are issues of the projects where it worked; docs/mcp.md has the list.
"""

import sqlite3
from pathlib import Path

import pytest

pytest.importorskip("mcp", reason="the package mcp is not installed: pip install 'groundql[mcp]'")

from groundql.answer import OpenDatabase
from groundql.serving.mcp import ReplyLimits, build_server
from tests.postgres_server import as_reader, prepared_postgres
from tests.serving.mcp_client import call, started

SETUP = """
CREATE TABLE account (id INTEGER PRIMARY KEY, owner TEXT, balance REAL);
INSERT INTO account VALUES (1, 'Ada', 10.0), (2, 'Bo', 20.0);
CREATE VIEW rich AS SELECT * FROM account WHERE balance > 15;
"""
POSTGRES_SETUP = """
CREATE TABLE account (id int, owner text, balance real);
CREATE TABLE book (id int);
CREATE SEQUENCE numbers;
CREATE EXTENSION dblink;
INSERT INTO account VALUES (1, 'Ada', 10), (2, 'Bo', 20);
INSERT INTO book VALUES (1);
"""
ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
# (where it was published, what is sent, how the reply begins)
SQLITE = [
    ("modelcontextprotocol/servers#1889", "COMMIT; DROP TABLE account; SELECT 1", "refused"),
    ("modelcontextprotocol/servers#1889", "SELECT 1; COMMIT; DELETE FROM account", "refused"),
    ("GHSA-65hm-pwj5-73pw", "SELECT 1; INSERT INTO account VALUES (3, 'Eve', 0); SELECT 2", "refused"),
    ("GHSA-65hm-pwj5-73pw", "SELECT * FROM account; END; DROP TABLE account", "refused"),
    ("sqlite-explorer-fastmcp#8", "WITH x AS (SELECT 1) DELETE FROM account", "refused"),
    ("sqlite-explorer-fastmcp#12", "WITH x AS (SELECT 1) DELETE FROM account -- limit", "refused"),
    ("sqlite-explorer-fastmcp#14", "WITH x AS (SELECT 1) UPDATE account SET balance = 0 RETURNING *", "refused"),
    ("sqlite-explorer-fastmcp#14", "WITH x AS (SELECT 9) INSERT INTO account SELECT *, 'Eve', 1 FROM x RETURNING id", "refused"),
    ("pg-mcp-server#3", "/* only reading */ DELETE FROM account", "refused"),
    ("pg-mcp-server#3", "-- SELECT\nUPDATE account SET balance = 0", "refused"),
    ("awslabs/mcp#4044", "SELECT 1/**/;/**/DROP/**/TABLE/**/account", "refused"),
    ("awslabs/mcp#4044", "/*!50000 DROP TABLE account */", "error"),
    ("fabric-dw-mcp-cli#788", "SELECT [a'];DELETE FROM account WHERE owner='x'", "error"),
    ("fabric-dw-mcp-cli#788", "SELECT id AS [a'] FROM account;DELETE FROM account WHERE owner='x'", "refused"),
    ("dbhub#349", "EXEC('DELETE FROM account')", "error"),
    ("strix#845", "ATTACH DATABASE 'stolen.db' AS s", "refused"),
    ("strix#845", "SELECT load_extension('/tmp/evil.so')", "refused"),
    ("strix#845", "SELECT readfile('/etc/passwd')", "error"),
    ("strix#845", "SELECT writefile('stolen.txt', 'x')", "error"),
    ("strix#845", "VACUUM INTO 'stolen.db'", "refused"),
    ("modelcontextprotocol/servers#1348", "CREATE TABLE t (a); DROP TABLE account", "refused"),
    ("vanna#886", "DROP TABLE account", "refused"),
    ("vanna#1098", "SELECT * FROM account; CREATE TABLE stolen AS SELECT * FROM account", "refused"),
    ("NeMo-Agent-Toolkit#1817", "ALTER TABLE account ADD COLUMN x", "refused"),
    ("llama_index#9957", "REPLACE INTO account VALUES (1, 'Eve', 0)", "refused"),
    ("SQLite", "PRAGMA writable_schema = 1", "refused"),
    ("SQLite", "PRAGMA journal_mode = DELETE", "refused"),
    ("SQLite", "SELECT * FROM pragma_database_list", "refused"),
    ("SQLite", "UPDATE sqlite_master SET sql = 'x'", "error"),
    ("SQLite", "INSERT INTO rich VALUES (9, 'Eve', 99)", "refused"),
    ("SQLite", "CREATE TEMP TRIGGER t AFTER INSERT ON account BEGIN DELETE FROM account; END", "refused"),
    ("SQLite", "BEGIN EXCLUSIVE", "refused"),
    ("SQLite", "SAVEPOINT s", "refused"),
    ("SQLite", "EXPLAIN DELETE FROM account", "refused"),
    ("SQLite", "SELECT 1\0; DROP TABLE account", "error"),
    ("SQLite", "", "error"),
    ("resources", f"{ENDLESS} SELECT COUNT(*) FROM n", "timeout"),
    ("resources", f"{ENDLESS} SELECT i FROM n", "too large"),
    ("resources", "SELECT randomblob(1000000000)", "refused"),
    ("resources", "SELECT printf('%999999999d', 1)", "too large"),
    ("resources", "SELECT 1 -- " + "x" * 200_000, "too large"),
]  # fmt: skip
DUCKDB = [
    ("Tencent/WeKnora#1881", "SELECT * FROM read_text('/etc/passwd')", "refused"),
    ("Tencent/WeKnora#1881", "SELECT * FROM (SELECT content FROM read_blob('/etc/passwd'))", "refused"),
    ("Tencent/WeKnora#1881", "SELECT * FROM read_csv('/etc/passwd')", "refused"),
    ("DuckDB", "SELECT * FROM '/etc/passwd'", "error"),
    ("DuckDB", "COPY account TO 'stolen.csv'", "refused"),
    ("DuckDB", "EXPORT DATABASE 'stolen'", "refused"),
    ("DuckDB", "ATTACH 'stolen.db'", "refused"),
    ("DuckDB", "INSTALL httpfs", "refused"),
    ("DuckDB", "LOAD '/tmp/evil.so'", "refused"),
    ("DuckDB", "SET enable_external_access = true", "refused"),
    ("DuckDB", "PRAGMA enable_external_access", "refused"),
    ("DuckDB", "SELECT 1; DROP TABLE account", "refused"),
    ("DuckDB", "WITH x AS (SELECT 1) DELETE FROM account", "refused"),
    ("DuckDB", "CREATE TABLE stolen AS SELECT * FROM account", "refused"),
]
POSTGRES = [
    ("pgadmin4#10022", "COMMIT; DROP TABLE book; SELECT 1", "error"),
    ("pgadmin4#10022", "COPY (SELECT 1) TO PROGRAM 'touch /tmp/stolen'", "refused"),
    ("modelcontextprotocol/servers#1889", "SELECT 1; END; DROP TABLE book", "refused"),
    ("pgedge-postgres-mcp#196", "/* x */ SET TRANSACTION READ WRITE; DELETE FROM book", "error"),
    ("pgedge-postgres-mcp#196", "SELECT set_config('transaction_read_only', 'off', false)", "refused"),
    ("eliza#14286", "SELECT U&\"s\\0065tval\"('numbers', 999)", "refused"),
    ("eliza#14286", "SELECT pg_terminate_backend(pg_backend_pid())", "refused"),
    ("strix#845", "SELECT pg_read_file('/etc/hostname')", "refused"),
    ("strix#845", "SELECT pg_ls_dir('/')", "refused"),
    ("strix#845", "SELECT lo_export(1, '/tmp/stolen')", "refused"),
    ("strix#845", "SELECT lo_import('/etc/hostname')", "refused"),
    ("strix#845", "SELECT * FROM dblink('host=localhost', 'DROP TABLE book') AS t (x int)", "refused"),
    ("strix#845", "COPY book TO '/tmp/stolen'", "refused"),
    ("vanna#1078", "COPY book (title) FROM PROGRAM 'id'", "refused"),
    ("GHSA-65hm-pwj5-73pw", "SELECT pg_sleep(1000)", "refused"),
    ("mcp-dbutils#116", "SELECT * FROM book; DELETE FROM book", "refused"),
    ("sqlite-explorer-fastmcp#8", "WITH x AS (DELETE FROM book RETURNING *) SELECT * FROM x", "refused"),
    ("PostgreSQL", "SELECT query_to_xml('DELETE FROM book', true, true, '')", "refused"),
    ("PostgreSQL", "DO $$ BEGIN DELETE FROM book; END $$", "refused"),
    ("PostgreSQL", "SELECT * INTO stolen FROM book", "refused"),
    ("PostgreSQL", "SELECT nextval('numbers')", "refused"),
    ("resources", "SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 100000) b WHERE a + b > 3", "timeout"),
    ("resources", "SELECT repeat('x', 70000000)", "too large"),
]  # fmt: skip
# What goes in as the name of a table, where others put it into a statement
NAMES = ("account); DROP TABLE account; --", "account'); DELETE FROM account; --", 'account"; DROP TABLE account; --', "sqlite_master")  # fmt: skip
# Those that every reader of the literature knows; the lists above hold more.
PUBLISHED = {
    "sqlite-explorer-fastmcp#8", "sqlite-explorer-fastmcp#12", "GHSA-65hm-pwj5-73pw", "mcp-dbutils#116",
    "modelcontextprotocol/servers#1348", "strix#845", "llama_index#9957", "NeMo-Agent-Toolkit#1817", "vanna#886", "vanna#1078", "vanna#1098",
}  # fmt: skip
LIMITS = ReplyLimits(deadline_s=0.3)
AFTER = ("run_query", {"sql": "SELECT COUNT(*), SUM(balance) FROM account"})


def ids(cases):
    return [f"{source}: {sql[:50]!r}" for source, sql, _ in cases]


def attacked(server, cases):
    """The reply to each case, and to one harmless query after each, in one session."""
    calls = [call for _, sql, _ in cases for call in (("run_query", {"sql": sql}), AFTER)]
    replies = call(server, *calls)
    return dict(zip((sql for _, sql, _ in cases), zip(replies[::2], replies[1::2], strict=True), strict=True))


@pytest.fixture(scope="module")
def sqlite_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("bank") / "bank.sqlite"
    connection = sqlite3.connect(path)
    connection.executescript(SETUP)
    connection.close()
    return path


@pytest.fixture(scope="module")
def on_sqlite(sqlite_file):
    before = sqlite_file.read_bytes()
    with OpenDatabase(sqlite_file) as database:
        replies = attacked(build_server({"bank": database}, None, LIMITS), SQLITE)
    assert sqlite_file.read_bytes() == before
    assert list(sqlite_file.parent.iterdir()) == [sqlite_file]
    return replies


@pytest.mark.parametrize(("source", "sql", "begins"), SQLITE, ids=ids(SQLITE))
def test_on_sqlite_it_is_refused_and_nothing_changes(on_sqlite, source, sql, begins):
    reply, after = on_sqlite[sql]
    assert reply.is_error, source
    assert reply.text.startswith(begins), reply.text
    assert after.value["rows"] == [[2, 30.0]]


def test_the_name_of_a_table_is_a_name_and_no_part_of_a_statement(sqlite_file):
    """modelcontextprotocol/servers#1348: describe_table put it between the brackets of a PRAGMA."""
    before = sqlite_file.read_bytes()
    with OpenDatabase(sqlite_file) as database:
        *replies, after = call(
            build_server({"bank": database}, None, LIMITS),
            *(("describe_table", {"table": name}) for name in NAMES),
            AFTER,
        )
    assert all(reply.is_error and "is no table of bank" in reply.text for reply in replies)
    assert after.value["rows"] == [[2, 30.0]]
    assert sqlite_file.read_bytes() == before


@pytest.fixture(scope="module")
def on_duckdb(tmp_path_factory):
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed: pip install 'groundql[duckdb]'")
    path = tmp_path_factory.mktemp("duck") / "bank.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute(SETUP)
    before = path.read_bytes()
    with OpenDatabase(path) as database:
        replies = attacked(build_server({"bank": database}, None, LIMITS), DUCKDB)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]
    return replies


@pytest.mark.parametrize(("source", "sql", "begins"), DUCKDB, ids=ids(DUCKDB))
def test_on_duckdb_it_is_refused_and_nothing_changes(on_duckdb, source, sql, begins):
    reply, after = on_duckdb[sql]
    assert reply.is_error, source
    assert reply.text.startswith(begins), reply.text
    assert after.value["rows"] == [[2, 30.0]]


def test_every_published_bypass_stands_in_the_docs():
    text = (Path(__file__).resolve().parents[2] / "docs" / "mcp.md").read_text(encoding="utf-8")
    for source, _, _ in SQLITE + DUCKDB + POSTGRES:
        assert source in text, source
    assert {source for source, _, _ in SQLITE + DUCKDB + POSTGRES} >= PUBLISHED


def test_a_file_that_another_program_holds_is_told_in_words(sqlite_file):
    holder = sqlite3.connect(sqlite_file, isolation_level=None)
    with OpenDatabase(sqlite_file) as database:
        server = build_server({"bank": database}, None, ReplyLimits(deadline_s=1))
        holder.execute("BEGIN EXCLUSIVE")
        try:
            (held,) = call(server, AFTER)
        finally:
            holder.execute("ROLLBACK")
            holder.close()
        (free,) = call(server, AFTER)
    assert held.is_error
    assert "locked" in held.text
    assert free.value["rows"] == [[2, 30.0]]


@pytest.fixture(scope="module")
def on_postgres(tmp_path_factory):
    """Replies on a PostgreSQL that is started for it, as the role that docs/engines.md makes."""
    with prepared_postgres(tmp_path_factory.mktemp("postgres"), POSTGRES_SETUP) as url:
        import psycopg

        replies = attacked(started("mcp", as_reader(url), "--deadline-s", "3"), POSTGRES)
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT count(*) FROM book").fetchall() == [(1,)]
            assert connection.execute("SELECT is_called FROM numbers").fetchall() == [(False,)]
            assert connection.execute("SELECT to_regclass('stolen')").fetchall() == [(None,)]
        yield replies


@pytest.mark.slow
@pytest.mark.parametrize(("source", "sql", "begins"), POSTGRES, ids=ids(POSTGRES))
def test_on_postgres_it_is_refused_and_nothing_changes(on_postgres, source, sql, begins):
    reply, after = on_postgres[sql]
    assert reply.is_error, source
    assert reply.text.startswith(begins), reply.text
    assert after.value["rows"] == [[2, 30.0]]
    assert not Path("/tmp/stolen").exists()
