"""DuckDB and PostgreSQL behind the server: schema, answers, cells, edited SQL under guard, faults of a database."""

import hashlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from groundql.answer import Assistant
from groundql.config import GenerationSettings
from tests.postgres_server import as_reader, prepared_postgres
from tests.scripted import scripted_writer
from tests.serving.served import client_of, desk_on, make_databases

duckdb = pytest.importorskip("duckdb", reason="DuckDB is not installed: pip install 'groundql[duckdb]'")

TABLES = """
CREATE TABLE kiln (kiln_id INTEGER PRIMARY KEY, name VARCHAR(20) NOT NULL, built DATE);
CREATE TABLE tile (tile_id INTEGER PRIMARY KEY, kiln_id INTEGER REFERENCES kiln, "Edge mm" NUMERIC(5, 1), is_glazed BOOLEAN);
COMMENT ON COLUMN tile.is_glazed IS 'second firing done';
INSERT INTO kiln VALUES (1, 'North', '1911-05-01'), (2, 'South', NULL);
INSERT INTO tile VALUES (1, 1, 98.5, TRUE), (2, 1, 150.0, FALSE), (3, 2, NULL, TRUE);
"""
QUERIES = {
    "Tiles of each kiln": "SELECT T1.name, COUNT(*) FROM kiln AS T1 JOIN tile AS T2 ON T2.kiln_id = T1.kiln_id GROUP BY T1.name ORDER BY 1",
    "Colours": "SELECT colour FROM tile",
    "Why?": None,
}
POSTGRES = pytest.param("postgres", marks=pytest.mark.slow)
REFUSED = (  # on both engines
    "DELETE FROM tile",
    "WITH gone AS (DELETE FROM tile RETURNING *) SELECT * FROM gone",
    "SELECT 1; DROP TABLE tile",
    "/* SELECT */ UPDATE tile SET is_glazed = TRUE",
    "CREATE TABLE copy AS SELECT * FROM tile",
    "COPY tile TO 'FOLDER/made.csv'",
    "SET search_path = 'x'",
    "EXPLAIN ANALYZE DELETE FROM tile",
    "",
)
OF_DUCKDB = (
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM '/etc/passwd'",
    "ATTACH 'FOLDER/made.duckdb'",
    "EXPORT DATABASE 'FOLDER/made'",
    "INSTALL httpfs",
    "SET enable_external_access = true",
    "PRAGMA database_list",
    "SELECT COUNT(*) FROM range(100000000000)",
)
OF_POSTGRES = (
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT pg_sleep(60)",
    "COPY tile TO PROGRAM 'touch FOLDER/made'",
    "SELECT set_config('transaction_read_only', 'off', false)",
    "COMMIT; DROP TABLE tile",
    "DO $$ BEGIN DELETE FROM tile; END $$",
    "SELECT COUNT(*) FROM generate_series(1, 100000) a, generate_series(1, 100000) b WHERE a + b > 3",
)
ATTACKS = [(engine, sql) for engine, own in (("duckdb", OF_DUCKDB), ("postgres", OF_POSTGRES)) for sql in REFUSED + own]  # fmt: skip


def make_duckdb(path: Path, sql: str = TABLES) -> Path:
    with duckdb.connect(str(path)) as connection:
        connection.execute(sql)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("engines")


@pytest.fixture(scope="module")
def duckdb_place(folder):
    return make_duckdb(folder / "works.duckdb")


@pytest.fixture(scope="module")
def postgres_place(tmp_path_factory):
    with prepared_postgres(tmp_path_factory.mktemp("postgres"), TABLES) as url:
        yield as_reader(url)


@pytest.fixture(scope="module")
def clients(request):
    """A client by engine, made when it is first asked for."""
    with ExitStack() as stack:
        made = {}

        def client(engine):
            if engine not in made:
                place = request.getfixturevalue(f"{engine}_place")
                desk = stack.enter_context(desk_on({"works": place}, QUERIES, query_s=0.3))
                made[engine] = stack.enter_context(client_of(desk))
            return made[engine]

        yield client


def run(client, sql):
    return client.post("/run", json={"database": "works", "sql": sql}).json()["outcome"]


def ask(client, question):
    return client.post("/ask", json={"database": "works", "question": question})


@pytest.mark.parametrize("engine", ["duckdb", POSTGRES])
def test_the_schema_is_the_engines_with_comments_and_keys(clients, engine):
    schema = clients(engine).get("/schema/works").json()
    assert schema["dialect"] == engine
    tile = next(table for table in schema["tables"] if table["name"] == "tile")
    assert [column["name"] for column in tile["columns"]] == ["tile_id", "kiln_id", "Edge mm", "is_glazed"]
    assert tile["columns"][3]["description"] == "second firing done"
    assert tile["foreign_keys"] == [{"columns": ["kiln_id"], "ref_table": "kiln", "ref_columns": ["kiln_id"]}]


@pytest.mark.parametrize("engine", ["duckdb", POSTGRES])
def test_a_question_is_answered_refused_by_the_engine_or_left_open(clients, engine):
    answer = ask(clients(engine), "Tiles of each kiln").json()
    assert (answer["status"], answer["outcome"]["rows"]) == ("answered", [["North", 2], ["South", 1]])
    answer = ask(clients(engine), "Colours").json()
    assert answer["status"] == "does_not_bind"
    assert "colour" in answer["reason"]
    assert ask(clients(engine), "Why?").json()["status"] == "abstained"


@pytest.mark.parametrize("engine", ["duckdb", POSTGRES])
def test_decimals_dates_truths_and_nulls_have_a_form_in_json(clients, engine):
    outcome = run(clients(engine), 'SELECT "Edge mm", is_glazed FROM tile ORDER BY tile_id')
    assert outcome["rows"] == [[98.5, 1], [150, 0], [None, 1]]
    assert run(clients(engine), "SELECT built FROM kiln ORDER BY kiln_id")["rows"] == [["1911-05-01"], [None]]


@pytest.mark.parametrize(
    ("engine", "sql"),
    [pytest.param(engine, sql, marks=pytest.mark.slow if engine == "postgres" else ()) for engine, sql in ATTACKS],
    ids=lambda text: text[:40],
)  # fmt: skip
def test_edited_sql_reads_and_does_nothing_else(clients, folder, engine, sql):
    client = clients(engine)  # makes the database
    before = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    outcome = run(client, sql.replace("FOLDER", str(folder)))
    assert outcome["status"] in ("refused", "error", "timeout", "too_large")
    assert outcome["rows"] == []
    assert {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()} == before
    assert run(client, "SELECT COUNT(*), SUM(CASE WHEN is_glazed THEN 1 END) FROM tile")["rows"] == [[3, 2]]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["duckdb", POSTGRES])
def test_what_a_model_writes_in_the_canonical_dialect_is_asked_in_the_engines(request, engine):
    written = "SELECT name, built FROM kiln WHERE name LIKE 'north%'"
    settings = GenerationSettings(max_new_tokens=80, decoding="grounded", processes=0)
    place = request.getfixturevalue(f"{engine}_place")
    with (
        Assistant(scripted_writer(written), settings) as assistant,
        desk_on({"works": place}, writes=assistant) as desk,
        client_of(desk) as client,
    ):
        answer = ask(client, "When was the north kiln built?").json()
    assert answer["reason"] == ""
    assert answer["outcome"]["rows"] == [["North", "1911-05-01"]]
    assert "ILIKE" in answer["sql"]


@pytest.mark.parametrize("engine", ["sqlite", pytest.param("duckdb", marks=pytest.mark.slow)])
def test_an_assistant_may_be_asked_from_several_threads(duckdb_place, tmp_path, engine):
    """As the MCP server does: prompts and checks run side by side, the model takes one at a time."""
    place, written = duckdb_place, "SELECT COUNT(*) FROM kiln"
    if engine == "sqlite":
        place, written = make_databases(tmp_path)["shop"], "SELECT COUNT(*) FROM product"
    settings = GenerationSettings(max_new_tokens=40, decoding="grounded", processes=0)
    with Assistant(scripted_writer(written), settings) as assistant, ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda i: assistant.ask(place, f"How many, {i}?"), range(12)))
    assert [answer.reason for answer in answers] == [""] * 12
    assert len({answer.outcome.rows for answer in answers}) == 1


@pytest.mark.slow
def test_a_duckdb_file_that_another_program_writes_is_a_503_without_its_path_and_answers_afterwards(tmp_path):
    path = make_duckdb(tmp_path / "works.duckdb")
    holder = (
        "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"
    )
    with desk_on({"works": path}, QUERIES) as desk, client_of(desk) as client:
        command = [sys.executable, "-c", holder, str(path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
            assert other.stdout.readline() == "held\n"
            for answer in (
                ask(client, "Tiles of each kiln"),
                client.post("/run", json={"database": "works", "sql": "SELECT 1"}),
            ):
                assert answer.status_code == 503
                assert answer.json()["error"]["code"] == "database_unavailable"
                assert str(tmp_path) not in answer.text
            other.stdin.close()
            other.wait(10)
        assert ask(client, "Tiles of each kiln").json()["status"] == "answered"


@pytest.mark.slow
def test_a_duckdb_file_that_is_replaced_is_asked_as_it_is_now_and_a_deleted_one_is_a_503(tmp_path):
    path = make_duckdb(tmp_path / "works.duckdb")
    with desk_on({"works": path}, QUERIES) as desk, client_of(desk) as client:
        assert ask(client, "Colours").json()["status"] == "does_not_bind"
        new = "CREATE TABLE tile (colour VARCHAR); INSERT INTO tile VALUES ('blue')"
        make_duckdb(tmp_path / "new.duckdb", new).replace(path)
        assert ask(client, "Colours").json()["outcome"]["rows"] == [["blue"]]
        path.unlink()
        assert ask(client, "Colours").status_code == 503
