"""The plain paths: answers, edited SQL under guard, schemas, cells, faults of a database."""

import hashlib
import sqlite3
import threading
from contextlib import closing

import pytest

from groundql.records import Outcome
from groundql.serving.cells import bounded, json_cell
from tests.serving.served import QUERIES, client_of, desk_on, make_databases

ATTACKS = (
    "DELETE FROM sale",
    "WITH gone AS (SELECT 1) DELETE FROM sale",  # sqlite-explorer-fastmcp#8
    "SELECT 1; DROP TABLE sale",  # mcp-database-server#33
    "SELECT 1;;DELETE FROM sale;",
    "/* SELECT */ DELETE FROM sale",
    "-- SELECT\nDROP TABLE sale",
    "\ufeffDELETE FROM sale",
    "INSERT INTO sale VALUES (9, 1, 1, NULL) RETURNING id",
    "WITH RECURSIVE x AS (SELECT 1) INSERT INTO sale SELECT 9, 1, 1, NULL",
    "UPDATE sale SET amount = 0",
    "REPLACE INTO product VALUES (1, 'x', 1)",
    "CREATE TABLE t AS SELECT 1",
    "CREATE TEMP TABLE t (a)",
    "CREATE TRIGGER t AFTER INSERT ON sale BEGIN SELECT 1; END",
    "ALTER TABLE sale ADD COLUMN x",
    "ATTACH DATABASE 'FOLDER/made.sqlite' AS other",
    "VACUUM INTO 'FOLDER/made.sqlite'",
    "VACUUM",
    "REINDEX",
    "ANALYZE",
    "PRAGMA writable_schema = 1",
    "PRAGMA journal_mode = WAL",
    "SELECT * FROM pragma_table_info('sale')",
    "BEGIN IMMEDIATE",
    "SAVEPOINT a",
    "EXPLAIN DELETE FROM sale",
    "SELECT load_extension('/lib/x')",
    "SELECT writefile('FOLDER/made.txt', 'x')",
    "SELECT readfile('/etc/passwd')",
    "SELECT edit('x')",
    "SELECT fts3_tokenizer('simple', x'00')",
    "SELECT zeroblob(1000000000)",
    "SELECT randomblob(1000000000)",
    "SELECT hex(zeroblob(900000000))",
    "SELECT replace(printf('%.*c', 5000000, 'a'), 'a', 'aaaaaaaaaa')",
    "SELECT COUNT(*) FROM sale, sale, sale, sale, sale, sale, sale, sale, sale, sale, sale, sale, sale, sale, sale, sale, sale",
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n",
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT COUNT(*) FROM n",
    "SELECT " + "(" * 5000 + "1" + ")" * 5000,
    "SELECT 1 " + "UNION SELECT 1 " * 400,
    "",
    ";",
    "SELECT 1\x00; DROP TABLE sale",
)  # fmt: skip


@pytest.mark.parametrize("sql", ATTACKS, ids=lambda sql: sql[:40])
def test_edited_sql_reads_and_does_nothing_else(client, shared_paths, sql):
    folder = shared_paths["shop"].parent
    before = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    answer = client.post("/run", json={"database": "shop", "sql": sql.replace("FOLDER", str(folder))})
    assert answer.status_code == 200
    assert answer.json()["outcome"]["status"] in ("refused", "error", "timeout", "too_large")
    assert answer.json()["outcome"]["rows"] == []
    assert {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()} == before
    healthy = client.post("/run", json={"database": "shop", "sql": "SELECT 1"}).json()
    assert healthy["outcome"]["rows"] == [[1]]


@pytest.mark.parametrize(
    ("question", "status", "sql", "rows"),
    [
        ("How many products are there?", "answered", QUERIES["How many products are there?"], [[3]]),
        ("What is love?", "abstained", None, None),
        ("Which colours are there?", "does_not_bind", "SELECT colour FROM product", None),
        ("Endless", "not_run", QUERIES["Endless"], []),
    ],
)
def test_an_answer_says_what_came_of_the_question(client, question, status, sql, rows):
    answer = client.post("/ask", json={"database": "shop", "question": question}).json()
    assert answer["status"] == status
    assert answer["sql"] == sql
    assert (answer["outcome"] or {}).get("rows") == rows
    assert bool(answer["reason"]) == (status != "answered")
    assert answer["timing"]["batch"] == 1


def test_each_database_is_asked_under_its_own_name(client):
    shop = client.post("/run", json={"database": "shop", "sql": "SELECT COUNT(*) FROM product"}).json()
    club = client.post("/run", json={"database": "club", "sql": "SELECT COUNT(*) FROM product"}).json()
    assert shop["outcome"]["rows"] == [[3]]
    assert "no such table" in club["outcome"]["error"]
    assert [one["name"] for one in client.get("/databases").json()["databases"]] == ["shop", "club"]
    assert client.post("/run", json={"database": "bank", "sql": "SELECT 1"}).status_code == 404


def test_a_schema_has_tables_types_keys_and_examples(client):
    schema = client.get("/schema/shop").json()
    assert schema["dialect"] == "sqlite"
    product, sale = schema["tables"]
    assert (product["name"], product["primary_key"]) == ("product", ["id"])
    assert product["columns"][1] == {
        "name": "name",
        "type": "TEXT",
        "description": "",
        "examples": ["'pen'", "'ink'"],
        "not_null": True,
    }
    assert sale["foreign_keys"][0]["ref_table"] == "product"


@pytest.mark.parametrize(
    ("cell", "form"),
    [
        (None, None),
        (2**60 + 1, 2**60 + 1),
        (0.1, 0.1),
        (float("inf"), {"float": "Infinity"}),
        (float("-inf"), {"float": "-Infinity"}),
        (float("nan"), {"float": "NaN"}),
        (b"\x00\xff", {"base64": "AP8="}),
        ("</script>\u2028", "</script>\u2028"),
    ],
)
def test_every_cell_has_a_form_in_json(cell, form):
    assert json_cell(cell) == form


def test_rows_beyond_the_limit_are_refused_and_never_cut(paths):
    with desk_on(paths, rows=2) as desk, client_of(desk) as client:
        outcome = client.post("/run", json={"database": "shop", "sql": "SELECT id FROM product"}).json()[
            "outcome"
        ]
        assert (outcome["status"], outcome["rows"]) == ("too_large", [])
        assert (
            client.post("/run", json={"database": "shop", "sql": "SELECT id FROM product LIMIT 2"}).json()[
                "outcome"
            ]["n_rows"]
            == 2
        )


def test_rows_of_too_many_bytes_are_refused_too():
    outcome = Outcome(status="ok", columns=("a",), rows=(("x" * 600,), ("y" * 600,)))
    assert bounded(outcome, 2_000) is outcome
    assert bounded(outcome, 1_000).status == "too_large"
    assert bounded(outcome, 1_000).rows == ()


def test_edited_queries_beyond_the_queue_are_told_to_come_back_and_taken_again_later(shared_paths):
    with desk_on(shared_paths, queue=1, query_s=0.1) as desk, client_of(desk) as client:
        running = desk.run("shop", QUERIES["Endless"])
        body = {"database": "shop", "sql": "SELECT 1"}
        full = client.post("/run", json=body)
        assert (full.status_code, full.json()["error"]["code"]) == (503, "queue_full")
        assert int(full.headers["retry-after"]) >= 1
        assert running.result(5).status == "timeout"
        assert client.post("/run", json=body).json()["outcome"]["rows"] == [[1]]


def test_a_database_that_is_deleted_is_a_503_and_the_others_stay(own_client, paths):
    paths["shop"].unlink()
    for path, body in (("/ask", {"question": "How many products are there?"}), ("/run", {"sql": "SELECT 1"})):
        answer = own_client.post(path, json={"database": "shop", **body})
        assert answer.status_code == 503
        assert "not there" in answer.json()["error"]["message"]
        assert int(answer.headers["retry-after"]) >= 1
    assert own_client.get("/schema/shop").status_code == 503
    assert own_client.post("/run", json={"database": "club", "sql": "SELECT 1"}).status_code == 200


def test_a_database_that_is_replaced_is_asked_as_it_is_now(own_client, paths, tmp_path):
    assert own_client.post("/run", json={"database": "shop", "sql": "SELECT COUNT(*) FROM product"}).json()[
        "outcome"
    ]["rows"] == [[3]]
    (tmp_path / "new").mkdir()
    new = make_databases(
        tmp_path / "new", shop="CREATE TABLE product (colour TEXT); INSERT INTO product VALUES ('red')"
    )
    new["shop"].replace(paths["shop"])
    answer = own_client.post("/ask", json={"database": "shop", "question": "Which colours are there?"}).json()
    assert answer["outcome"]["rows"] == [["red"]]
    assert own_client.post("/run", json={"database": "shop", "sql": "SELECT COUNT(*) FROM product"}).json()[
        "outcome"
    ]["rows"] == [[1]]
    assert [column["name"] for column in own_client.get("/schema/shop").json()["tables"][0]["columns"]] == [
        "colour"
    ]


def test_a_locked_database_is_said_to_be_and_answers_again_afterwards(own_client, paths):
    with closing(sqlite3.connect(paths["shop"])) as other:
        other.execute("BEGIN EXCLUSIVE")
        other.execute("UPDATE sale SET amount = amount")
        answer = own_client.post(
            "/ask", json={"database": "shop", "question": "How many products are there?"}
        ).json()
        assert answer["sql"] == QUERIES["How many products are there?"]
        assert answer["status"] == "not_run"
        assert "locked" in answer["reason"]
        other.rollback()
    assert own_client.post(
        "/ask", json={"database": "shop", "question": "How many products are there?"}
    ).json()["outcome"]["rows"] == [[3]]


def test_a_writer_that_is_soon_done_is_waited_for(own_client, paths):
    with closing(sqlite3.connect(paths["shop"], check_same_thread=False)) as other:
        other.execute("BEGIN EXCLUSIVE")
        release = threading.Timer(0.1, other.rollback)
        release.start()
        answer = own_client.post(
            "/run", json={"database": "shop", "sql": "SELECT COUNT(*) FROM product"}
        ).json()
        release.join()
    assert answer["outcome"]["rows"] == [[3]]


def test_questions_and_rows_are_in_no_log_unless_asked_for(paths, caplog):
    question = "What costs more than 1.80?"
    caplog.set_level("INFO", logger="groundql.serving")
    for logs in (False, True):
        caplog.clear()
        with desk_on(paths, logs_questions=logs) as desk, client_of(desk) as client:
            client.post("/ask", json={"database": "shop", "question": question})
            client.post("/run", json={"database": "shop", "sql": "SELECT 'secret'"})
            client.get("/schema/shop?question=secret")
        assert "POST /ask 200" in caplog.text
        assert (question in caplog.text) == logs
        assert ("SELECT 'secret'" in caplog.text) == logs
        assert "paper" not in caplog.text


def test_a_failure_of_ours_is_logged_by_place_and_without_its_words(paths, caplog):
    class Broken:
        def write_many(self, questions):
            raise ValueError(f"cannot read {questions[0][1]}")

    with desk_on(paths, writes=Broken()) as desk, client_of(desk) as client:
        answer = client.post("/ask", json={"database": "shop", "question": "a secret"})
    assert answer.status_code == 500
    assert "secret" not in answer.text + caplog.text
    assert "ValueError at" in caplog.text
    assert "test_plain.py" in caplog.text


def test_health_tells_when_the_server_stops(paths):
    with desk_on(paths) as desk, client_of(desk) as client:
        assert client.get("/health").json()["status"] == "ok"
        desk.batcher.drain()
        assert client.get("/health").status_code == 503
        assert client.post("/ask", json={"database": "shop", "question": "x"}).status_code == 503
        assert client.post("/run", json={"database": "shop", "sql": "SELECT 1"}).status_code == 503
