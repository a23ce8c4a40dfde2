"""One loaded model on databases of several engines: each query in the engine's own SQL, checked by the engine itself."""

import pytest

from groundql.answer import Assistant
from groundql.config import GenerationSettings
from tests.scripted import scripted_writer
from tests.small_data import SHOP, shop_file

duckdb = pytest.importorskip("duckdb", reason="DuckDB is not installed: pip install 'groundql[duckdb]'")

FREE = GenerationSettings(max_new_tokens=60)
GROUNDED = GenerationSettings(max_new_tokens=60, decoding="grounded", processes=0)


@pytest.fixture
def places(tmp_path):
    """A shop as DuckDB file, with true dates, and as SQLite file."""
    with duckdb.connect(str(tmp_path / "shop.duckdb")) as connection:
        connection.execute(SHOP.replace("day TEXT", "day DATE"))
    return tmp_path / "shop.duckdb", shop_file(tmp_path)


@pytest.mark.parametrize("settings", [FREE, GROUNDED], ids=["free", "grounded"])
def test_the_same_canonical_query_runs_on_both_engines(places, settings):
    written = "SELECT STRFTIME('%Y', day), SUM(amount) FROM sale WHERE day LIKE '2024%'"
    with Assistant(scripted_writer(written), settings) as assistant:
        duck, lite = (assistant.ask(place, "How much?") for place in places)
    assert (duck.status, duck.reason) == ("answered", "")
    assert duck.outcome.rows == lite.outcome.rows == (("2024", 13),)
    assert "ILIKE" in duck.sql  # the engine's own SQL is shown
    assert lite.sql == written


def test_grounded_decoding_returns_no_query_that_the_engine_refuses(places):
    written = "SELECT DATE(day, 'weekday 0') FROM sale"  # binds in SQLite; DuckDB has no such function
    with Assistant(scripted_writer(written), GROUNDED) as assistant:
        lite = assistant.ask(places[1], "Which Sunday?")
        duck = assistant.ask(places[0], "Which Sunday?")
        database = assistant.open(places[0])
        assert lite.sql == written
        assert duck.status in ("answered", "abstained")
        assert duck.sql is None or database.prepare(duck.sql) is None
        assert database.prepare(database.translate(written)) is not None  # or nothing was tested


def test_free_text_that_the_engine_refuses_is_not_run_and_its_words_are_passed_on(places):
    with Assistant(scripted_writer("SELECT colour FROM sale"), FREE) as assistant:
        answer = assistant.ask(places[0], "What colour?")
    assert (answer.status, answer.binds, answer.outcome) == ("does_not_bind", False, None)
    assert "colour" in answer.reason


def test_a_question_that_cannot_be_asked_leaves_the_others_answered_in_their_order(places, tmp_path):
    with Assistant(scripted_writer("SELECT COUNT(*) FROM sale"), FREE) as assistant:
        first, second, third = assistant.ask_many(
            [(places[0], "a", ""), (tmp_path / "none.sqlite", "b", ""), (places[1], "c", "")]
        )
    assert [first.status, second.status, third.status] == ["answered", "not_asked", "answered"]
    assert [answer.question for answer in (first, second, third)] == ["a", "b", "c"]
    assert "is not there" in second.reason
    assert first.outcome.rows == third.outcome.rows == ((3,),)
