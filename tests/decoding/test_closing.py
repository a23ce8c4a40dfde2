"""Loops are broken, an alias that no table was found for is chosen anew, and what would not end is closed."""

import random

import numpy as np
import pytest

from groundql.databases.binding import prepare
from groundql.decoding import closing as closings
from groundql.decoding.constraint import Constraints
from groundql.decoding.single_row import decode_grounded_row
from groundql.prompts.dialect import canonical_sql
from groundql.questions.pocket import load_pocket
from tests.decoding.schemas import LIBRARY, encode, pocket_schemas, tiny_vocabulary
from tests.tiny import tiny_tokenizer

END = tiny_tokenizer().eos_token_id
VOCABULARY = tiny_vocabulary()
WIDTH = VOCABULARY.n_logits
CONSTRAINTS = Constraints(VOCABULARY, LIBRARY)


def loop_in(text):
    """What stands before the second round of the loop that `text` ends with, a token a byte; None where there is none."""
    ids = encode(text, bytewise=True)
    place = closings.loop_place(ids, CONSTRAINTS.start())
    return None if place is None else text[:place]


def test_a_phrase_that_stands_three_times_is_a_loop_and_its_second_round_is_dropped():
    """The last token of the third round makes it whole; the joint goes with the second round."""
    text = "SELECT a = 1, a = 1, a = 1,"
    assert [loop_in(text[:n]) for n in range(1, len(text))] == [None] * (len(text) - 1)
    assert loop_in(text) == "SELECT a = 1"


@pytest.mark.parametrize(
    "text", ["LIMIT 1000000000000", "WHERE a = 1 AND a = 2 AND a = 3", "'aaaaaaaaaaaaaaa", "a, b, a, b"]
)
def test_numbers_letters_and_phrases_that_differ_are_no_loops(text):
    assert loop_in(text) is None


def test_no_gold_of_the_shipped_benchmark_has_a_loop():
    schemas, row = pocket_schemas(), CONSTRAINTS.start()
    for question in load_pocket("pocket").questions[::4]:
        ids = encode(canonical_sql(question.gold_sql, schemas[question.db_id]))
        assert all(closings.loop_place(ids[:n], row) is None for n in range(len(ids) + 1))


def test_every_beginning_of_a_gold_can_be_brought_to_an_end():
    schemas = pocket_schemas()
    chance = random.Random(3)
    questions = chance.sample(load_pocket("pocket").questions, 25)
    for question in questions:
        schema = schemas[question.db_id]
        row = VOCABULARY.constraints(schema).start()
        ids = encode(canonical_sql(question.gold_sql, schema))
        for place in sorted(chance.sample(range(len(ids)), min(6, len(ids)))):
            while row.n_tokens < place:
                row.consume(ids[row.n_tokens])
            ending = row.ending(150)
            assert ending is not None, row.text
            assert ending[-1] in VOCABULARY.ends
            for token in ending:
                assert row.accepts(token)
                row.consume(token)
            assert prepare(schema, row.query) is None
            row.rollback(len(ending))


def test_an_ending_is_not_longer_than_is_asked():
    row = CONSTRAINTS.start()
    for token in encode("SELECT T1.title"):
        row.consume(token)
    n = len(row.ending(150))
    assert row.ending(n) is not None
    assert row.ending(3) is None


def writes(text, *, then_end):
    """A model that wants `text`, whatever becomes of it, and behind it the end if `then_end`; else more of the same."""
    wish = encode(text)

    def next_logits(ids):
        row = np.zeros(WIDTH)
        row[END] = 5.0
        row[wish[len(ids)] if len(ids) < len(wish) else END] += 10.0
        if not then_end and len(ids) >= len(wish):
            row[END] = -5.0
        return row

    return next_logits


def decode(next_logits, budget, *, closes=True):
    row = CONSTRAINTS.start()
    decoded = decode_grounded_row(next_logits, row, {END}, budget, closes=closes)
    return decoded, row.query


def test_a_loop_is_broken_where_the_model_would_rather_end_than_do_another_thing():
    looping = "SELECT title FROM book WHERE price > 1" + " AND price > 1" * 9
    decoded, text = decode(writes(looping, then_end=True), 200)
    assert (decoded.status, decoded.closed_at) == ("answer", None)
    assert text == "SELECT title FROM book WHERE price > 1"
    assert decoded.n_backtracks == 1


ENDLESS = "SELECT title FROM book WHERE " + " OR ".join(f"price + {n} > {100 - n}" for n in range(1, 10))


def test_a_query_that_would_not_end_is_closed_within_its_budget_and_says_so():
    decoded, text = decode(writes(ENDLESS, then_end=True), 60)
    assert (decoded.status, decoded.reason) == ("answer", "token budget")
    assert len(decoded.ids) < 60
    assert 60 - closings.reserve(60) - max(closings.BACK) <= decoded.closed_at <= len(decoded.ids)
    assert prepare(LIBRARY, text) is None
    assert text.startswith("SELECT title FROM book WHERE price + 1 > 99")


def test_up_to_the_last_tokens_a_query_that_fits_the_budget_is_written_as_the_model_wants_it():
    n = len(encode(ENDLESS))
    decoded, text = decode(writes(ENDLESS, then_end=True), n + 1)
    assert (decoded.status, text) == ("answer", ENDLESS)


def test_without_closing_it_is_an_abstention():
    decoded, _ = decode(writes(ENDLESS, then_end=True), 60, closes=False)
    assert (decoded.status, decoded.reason, decoded.closed_at) == ("abstained", "token budget", None)


def test_an_alias_is_stranded_once_several_sources_have_passed_it_over():
    row = CONSTRAINTS.start()
    text = "SELECT T2.price FROM `order` AS T1" + "".join(f" JOIN `order` AS T{n} ON 1" for n in (3, 4, 5))
    seen = {}
    for token in encode(text):
        row.consume(token)
        seen[row.query] = row.stranded(3), row.stranded(1)
    assert seen[text[: text.index(" JOIN `order` AS T4")]][0] is None
    place, _ = seen[text]
    row.rollback(row.n_tokens - place)
    assert row.query == "SELECT T"


def test_an_alias_in_its_turn_is_not_stranded():
    row = CONSTRAINTS.start()
    for token in encode("SELECT T3.price FROM `order` AS T1 JOIN `order` AS T2 ON 1 JOIN book"):
        row.consume(token)
        assert row.stranded(1) is None


def test_a_row_that_named_an_alias_too_early_names_another():
    """The model wants T2 for `order`, which has no price; T1 it takes next, and then ends."""
    wish = encode("SELECT T2.price FROM `order` AS T1 JOIN `order` AS T3 ON 1 JOIN `order` AS T4 ON 1")
    wish += encode(" JOIN `order` AS T5 ON 1 JOIN `order` AS T6 ON 1")
    other = encode("SELECT T1.price FROM book AS T1")

    def next_logits(ids):
        row = np.zeros(WIDTH)
        row[END] = 1.0
        for rank, text in ((12.0, wish), (10.0, other)):
            if len(ids) < len(text) and list(ids) == text[: len(ids)]:
                row[text[len(ids)]] = rank
        return row

    decoded, text = decode(next_logits, 150)
    assert (decoded.status, text, decoded.closed_at) == ("answer", "SELECT T1.price FROM book AS T1", None)
