"""A project from a database: what lies in the folder, what own questions do, and errors that a person makes."""

import json
import tomllib

import pytest

from groundql.config import load_config
from groundql.databases.open_database import OpenDatabase
from groundql.prompts.dialect import canonical_sql
from groundql.questions.load import load_data
from groundql.records import Schema
from tests.command import groundql

duckdb = pytest.importorskip("duckdb", reason="DuckDB is not installed: pip install 'groundql[duckdb]'")

COAST = """
CREATE TABLE light (light_id INTEGER PRIMARY KEY, name VARCHAR NOT NULL, coast VARCHAR, height_m DOUBLE, lit DATE);
CREATE TABLE keeper (keeper_id INTEGER PRIMARY KEY, full_name VARCHAR, light_id INTEGER REFERENCES light(light_id), grade VARCHAR);
COMMENT ON COLUMN light.height_m IS 'height in metres';
INSERT INTO light SELECT i, 'Light ' || chr(64 + i::INT), ['North', 'South', 'East'][1 + i % 3], 10.5 + i, DATE '1850-01-01' + (400 * i)::INT FROM range(1, 10) t(i);
INSERT INTO keeper SELECT i, 'Keeper ' || i, 1 + i % 7, ['head', 'relief'][1 + i % 2] FROM range(1, 25) t(i);
"""


@pytest.fixture
def coast(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "coast.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute(COAST)
    return path


def lines_of(folder):
    return [json.loads(line) for line in (folder / "questions.jsonl").read_text().splitlines()]


def test_the_project_holds_questions_whose_golds_run_a_config_that_loads_and_a_readme(coast, tmp_path):
    folder = tmp_path / "project"
    ended = groundql("init", coast, "--out", folder)
    assert (ended.status, ended.stderr.count("error")) == (0, 0)
    assert {path.name for path in folder.iterdir()} == {"README.md", "config.toml", "questions.jsonl", "schema.json", "schema.md", "schema.sql"}  # fmt: skip
    lines = lines_of(folder)
    assert {line["source"] for line in lines} == {"drafted"}
    assert {line["split"] for line in lines} == {"train", "dev", "held-out"}
    with OpenDatabase(coast) as database:
        assert Schema.model_validate_json((folder / "schema.json").read_text()) == database.schema
        for sql in {line["sql"] for line in lines}:
            outcome = database.run(sql)
            assert outcome.status == "ok"
            assert outcome.rows
    assert len({line["question"].lower() for line in lines}) == len(lines)
    config = load_config(str(folder / "config.toml"))
    for spec in (config.data.train, config.data.dev, config.data.test):
        assert load_data(spec).questions
    readme = (folder / "README.md").read_text()
    assert "What they cannot show" in readme
    assert "no question of your own" in readme
    assert "height in metres" in (folder / "schema.md").read_text()


def test_no_gold_of_training_is_held_out_and_every_gold_has_a_canonical_form_that_is_learned(coast, tmp_path):
    folder = tmp_path / "project"
    groundql("init", coast, "--out", folder)
    train, held = (
        load_data(f"jsonl:{folder / 'questions.jsonl'}#{split}") for split in ("train", "held-out")
    )
    assert not {q.gold_sql for q in train.questions} & {q.gold_sql for q in held.questions}
    from groundql.databases.translate import from_engine_sql

    with OpenDatabase(coast) as database:
        for question in train.questions:
            canonical_sql(from_engine_sql(question.gold_sql, database.schema, "duckdb"), database.schema)
    assert train.n_drafted == len(train.questions)


def test_own_questions_are_the_test_and_what_they_ask_is_not_trained_on(coast, tmp_path):
    own = tmp_path / "own.jsonl"
    own.write_text(
        '{"question": "how tall is the tallest?", "sql": "SELECT MAX(height_m) FROM light"}\n'
        '{"question": "who is there", "sql": "SELECT ghost FROM light"}\n'
        '{"question": "and without sql?"}\n'
        '{"question": "how many keepers have we got", "sql": "SELECT COUNT(*) FROM keeper;"}\n'
        '{"question": "How tall is the tallest?", "sql": "SELECT MAX(height_m) FROM light"}\n'
    )
    folder = tmp_path / "project"
    ended = groundql("init", coast, "--out", folder, "--questions", own)
    assert ended.status == 0
    assert "own.jsonl, line 2: its SQL does not run" in ended.stderr
    assert "own.jsonl, line 3: has no SQL" in ended.stderr
    assert f"own.jsonl, line 5: stands there already: {own}, line 1" in ended.stderr
    lines = lines_of(folder)
    test = [line for line in lines if line["split"] == "test"]
    assert [line["question"] for line in test] == ["how tall is the tallest?", "how many keepers have we got"]
    assert {line["source"] for line in test} == {"own"}
    assert not {line["sql"] for line in test} & {line["sql"] for line in lines if line["source"] == "drafted"}
    assert load_config(str(folder / "config.toml")).data.test.endswith("#test")
    assert load_data(f"jsonl:{folder / 'questions.jsonl'}#test").n_drafted == 0


def test_own_questions_beyond_the_test_are_trained_on(coast, tmp_path):
    own = tmp_path / "own.csv"
    own.write_text("question,sql\nfirst?,SELECT COUNT(*) FROM light\nsecond?,SELECT MIN(lit) FROM light\n")
    folder = tmp_path / "project"
    assert groundql("init", coast, "--out", folder, "--questions", own, "--own-test", 1).status == 0
    assert {line["question"]: line["split"] for line in lines_of(folder) if line["source"] == "own"} == {
        "first?": "test",
        "second?": "train",
    }


def test_a_folder_of_csv_files_becomes_a_project_that_needs_no_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    tables = tmp_path / "tables"
    tables.mkdir()
    (tables / "author.csv").write_text("author_id,name\n1,Ada\n2,Bo\n3,Cy\n")
    (tables / "book.csv").write_text("id,author_id,title,pages\n" + "".join(f"{i},{1 + i % 2},Book {i},{10 * i}\n" for i in range(1, 9)))  # fmt: skip
    folder = tmp_path / "project"
    assert groundql("init", tables, "--out", folder).status == 0
    data = load_data(f"jsonl:{folder / 'questions.jsonl'}#train")
    assert data.databases["tables"].url == f"duckdb:{(folder / 'tables.duckdb').resolve()}"
    assert any("JOIN" in question.gold_sql for question in data.questions)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{tmp}/none.duckdb", "--out", "{tmp}/p"], "none.duckdb is not there"),
        (["{coast}", "--out", "{tmp}/full"], "holds something"),
        (["{coast}", "--out", "{coast}"], "holds something"),
        (["{coast}", "--out", "{tmp}/p", "--questions", "{tmp}/none.jsonl"], "none.jsonl is not there"),
        (["{coast}", "--out", "{tmp}/p", "--questions", "{tmp}/bad.jsonl"], "is not JSON"),
        (["{coast}", "--out", "{tmp}/p", "--questions", "{tmp}/typo.jsonl"], "`question` is missing"),
        (
            ["{coast}", "--out", "{tmp}/p", "--questions", "{tmp}/semicolons.csv"],
            "names the columns: question,sql",
        ),
        (["{tmp}/nothing.csv", "--out", "{tmp}/p"], "nothing.csv holds no table: it is empty"),
        (["{tmp}/hollow.duckdb", "--out", "{tmp}/p"], "no question could be drafted"),
        (["postgresql://nobody@127.0.0.1:1/none", "--out", "{tmp}/p"], "127.0.0.1"),
    ],
)
def test_what_a_person_gets_wrong_is_said_in_a_sentence_and_nothing_is_written(
    coast, tmp_path, arguments, message
):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    (tmp_path / "bad.jsonl").write_text("{question\n")
    (tmp_path / "typo.jsonl").write_text('{"qestion": "x", "sql": "SELECT 1"}\n')
    (tmp_path / "semicolons.csv").write_text("question;sql\nx;SELECT 1\n")
    (tmp_path / "nothing.csv").touch()
    with duckdb.connect(str(tmp_path / "hollow.duckdb")) as connection:
        connection.execute("CREATE TABLE t (x INTEGER)")
    ended = groundql("init", *(one.format(tmp=tmp_path, coast=coast) for one in arguments))
    assert ended.status == 2
    assert message in ended.stderr
    assert not (tmp_path / "p").exists()


@pytest.mark.slow
def test_the_config_names_the_base_model_that_was_asked_for_and_settings_of_its_size(coast, tmp_path):
    for base in ("SmolLM2-135M-Instruct", "Qwen2.5-Coder-1.5B-Instruct"):
        groundql("init", coast, "--out", tmp_path / base, "--base", base)
        settings = tomllib.loads((tmp_path / base / "config.toml").read_text())
        assert settings["model"]["name"] == base
        assert settings["training"]["learning_rate"] == (2e-3 if base.startswith("Smol") else 2e-4)
