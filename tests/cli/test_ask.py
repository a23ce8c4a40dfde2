"""One question on one file: what is run, what is refused, and what is said."""

import hashlib
import json
import sqlite3

import pytest

from groundql.answer import Assistant
from groundql.config import GenerationSettings
from tests.command import groundql
from tests.scripted import scripted_writer
from tests.small_data import shop_file
from tests.tiny import save_tiny

SETTINGS = GenerationSettings(max_new_tokens=120)


def ask(written, database, question, **limits):
    """The answer where the model writes `written`."""
    with Assistant(scripted_writer(written), SETTINGS) as assistant:
        return assistant.ask(database, question, **limits)


@pytest.fixture
def shop(tmp_path):
    return shop_file(tmp_path)


def test_a_query_that_binds_is_run_and_its_rows_come_back(shop):
    answer = ask(
        "SELECT name, price FROM product WHERE price > 1.8 ORDER BY price", shop, "What costs more than 1.80?"
    )
    assert answer.binds
    assert answer.reason == ""
    assert answer.outcome.columns == ("name", "price")
    assert answer.outcome.rows == (("paper", 2.0), ("ink", 4.0))


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("SELECT colour FROM product", "no such column: colour"),
        ('SELECT "colour" FROM product', "no such column"),  # SQLite's own default would run this as a string
        ("I am not sure what you mean.", "wrote no query"),
        ("DELETE FROM product", ""),
        ("SELECT 1; DROP TABLE product", ""),
    ],
)
def test_what_does_not_bind_or_is_no_query_is_not_run_and_the_file_stays_as_it_was(shop, written, reason):
    before = hashlib.sha256(shop.read_bytes()).hexdigest()
    answer = ask(written, shop, "What colours are there?")
    if answer.binds:  # the extractor may take the first statement alone
        assert answer.sql == "SELECT 1"
    else:
        assert answer.outcome is None
        assert reason in answer.reason
        assert answer.reason
    assert hashlib.sha256(shop.read_bytes()).hexdigest() == before


def test_a_query_that_never_ends_is_stopped_and_said_so(shop):
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT COUNT(*) FROM n"
    answer = ask(endless, shop, "?", deadline_s=0.2)
    assert answer.outcome.status == "timeout"
    assert "timeout" in answer.reason


def test_the_command_prints_json_and_ends_with_1_where_there_is_no_query(shop, tmp_path):
    model = save_tiny(tmp_path / "tiny", "llama")
    ended = groundql("ask", shop, "How many?", "--model", model, "--max-new-tokens", "4", "--json")
    assert ended.status == 1
    assert json.loads(ended.stdout)["sql"] is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "is not there"),
        (lambda path: path.touch(), "holds no table"),
        (
            lambda path: (
                sqlite3.connect(path).executescript("CREATE TABLE t (a); DROP TABLE t").connection.close()
            ),
            "other.sqlite holds no table",
        ),
    ],
)
def test_a_file_that_is_missing_or_empty_is_told_before_any_weight_is_loaded(tmp_path, make, message):
    path = tmp_path / "other.sqlite"
    make(path)
    ended = groundql("ask", path, "How many?", "--model", "no-such-model")
    assert ended.status == 2
    assert message in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["{shop}", "  "], "the question is empty"), (["", "How many?"], "no database is named"), (["{shop}", "?", "--deadline-s", "-1"], "--deadline-s")],
)  # fmt: skip
def test_an_empty_word_is_told_before_any_weight_is_loaded(shop, arguments, message):
    ended = groundql("ask", *(one.format(shop=shop) for one in arguments), "--model", "no-such-model")
    assert ended.status == 2
    assert message in ended.stderr


def test_ctrl_c_while_the_command_is_still_being_read_is_one_word(monkeypatch):
    def interrupted(name, *_, **__):
        if name == "groundql.cli" and _[2] == ("verbs",):
            raise KeyboardInterrupt
        return real(name, *_, **__)

    import builtins

    real = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", interrupted)
    ended = groundql("--version")
    assert (ended.status, ended.stderr) == (1, "error: interrupted\n")
