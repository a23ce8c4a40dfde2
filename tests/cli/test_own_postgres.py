"""A PostgreSQL database that no part of the project knows: a project from it, and a question answered on it."""

import json

import pytest

from groundql.answer import Assistant
from groundql.config import GenerationSettings
from groundql.questions.load import load_data
from tests.command import groundql
from tests.postgres_server import as_reader, prepared_postgres
from tests.scripted import scripted_writer

MILL = """
CREATE TABLE mill (mill_id integer PRIMARY KEY, name text NOT NULL, "River" varchar(30), built date);
CREATE TABLE sack (sack_id integer PRIMARY KEY, mill_id integer REFERENCES mill, grain text, kg numeric(6, 1), is_sold boolean);
COMMENT ON COLUMN sack.kg IS 'weight in kg';
INSERT INTO mill SELECT i, 'Mill ' || i, (ARRAY['Ouse', 'Tyne'])[1 + i % 2], date '1700-01-01' + 900 * i FROM generate_series(1, 8) i;
INSERT INTO sack SELECT i, 1 + i % 6, (ARRAY['rye', 'oat', 'wheat'])[1 + i % 3], 20 + i / 2.0, i % 4 = 0 FROM generate_series(1, 60) i;
"""


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with prepared_postgres(tmp_path_factory.mktemp("postgres"), MILL) as superuser:
        yield as_reader(superuser)


@pytest.mark.slow
def test_init_drafts_questions_that_run_and_writes_no_password(url, tmp_path):
    folder = tmp_path / "mill"
    secret = url.replace("reader@", "reader:hush@")
    ended = groundql("init", secret, "--out", folder)
    assert ended.status == 0, ended.stderr
    assert "hush" not in ended.stdout + ended.stderr
    assert not any("hush" in path.read_text() for path in folder.iterdir())
    lines = [json.loads(line) for line in (folder / "questions.jsonl").read_text().splitlines()]
    assert any('"River"' in line["sql"] for line in lines)
    assert any("JOIN" in line["sql"] for line in lines)
    assert "weight in kg" in (folder / "schema.md").read_text()
    data = load_data(f"jsonl:{folder / 'questions.jsonl'}#train")
    assert data.databases["postgres"].dialect == "postgres"


@pytest.mark.slow
@pytest.mark.parametrize("decoding", ["free", "grounded"])
def test_a_canonical_query_is_answered_there_in_its_own_sql(url, decoding):
    written = "SELECT River, COUNT(*) FROM mill WHERE name LIKE 'mill%' GROUP BY River ORDER BY River"
    settings = GenerationSettings(max_new_tokens=80, decoding=decoding, processes=0)
    with Assistant(scripted_writer(written), settings) as assistant:
        answer = assistant.ask(url, "How many mills on each river?")
    assert answer.reason == ""
    assert answer.outcome.rows == (("Ouse", 4), ("Tyne", 4))
    assert '"River"' in answer.sql
    assert "ILIKE" in answer.sql


@pytest.mark.slow
def test_a_role_that_may_write_is_refused_before_any_weight_is_loaded(url, tmp_path):
    ended = groundql("ask", url.replace("reader@", "postgres@"), "How many?", "--model", "no-such-model")
    assert ended.status == 2
    assert "superuser" in ended.stderr
