"""The reference loop: greedy where it may be, back where it must, and an abstention where nothing holds."""

import numpy as np
import pytest

from groundql.databases.binding import prepare
from groundql.decoding.constraint import Constraints
from groundql.decoding.single_row import MAX_BACKTRACKS, Strain, decode_grounded_row
from tests.decoding.schemas import LIBRARY, AnyScope, OpenGate, encode, tiny_vocabulary
from tests.tiny import tiny_tokenizer

END = tiny_tokenizer().eos_token_id
WIDTH = tiny_vocabulary().n_logits


def model_that_wants(*texts, bytewise=False):
    """Logits for the next token of the first of `texts` that the ids so far begin; the end where one is whole."""
    wishes = [[*encode(text, bytewise=bytewise), END] for text in texts]

    def next_logits(ids):
        row = np.zeros(WIDTH)
        for rank, wish in enumerate(reversed(wishes)):
            if wish[: len(ids)] == list(ids) and len(ids) < len(wish):
                row[wish[len(ids)]] = 10.0 + rank
        return row

    return next_logits


def decode(next_logits, *, tracker=None, gate=None, budget=80):
    row = Constraints(tiny_vocabulary(), LIBRARY, tracker=tracker or AnyScope(), gate=gate).start()
    decoded = decode_grounded_row(next_logits, row, {END}, budget)
    assert row.text == tiny_tokenizer().decode(decoded.ids).rstrip("\ufffd")
    return decoded, row.query


def test_what_is_accepted_is_taken_as_it_is_without_strain():
    decoded, text = decode(model_that_wants("SELECT title FROM book"))
    assert (decoded.status, text, decoded.n_backtracks) == ("answer", "SELECT title FROM book", 0)
    assert [strain.nats for strain in decoded.strain] == [0.0] * (len(decoded.ids) + 1)


def test_a_refused_token_gives_way_to_the_next_and_leaves_its_mass_as_strain():
    wanted, second = "SELECT ghost", "SELECT title FROM book"
    decoded, text = decode(model_that_wants(wanted, second))
    assert (decoded.status, text) == ("answer", second)
    strained = [strain for strain in decoded.strain if strain.nats > 0]
    assert len(strained) == 1
    # logits 11 for the first wish, 10 for the second, 0 for the others
    mass = np.exp(11) / (np.exp(11) + np.exp(10) + WIDTH - 2)
    assert strained[0].grammar == pytest.approx(mass)
    assert strained[0].nats == pytest.approx(-np.log(1 - mass))


def test_strain_tells_grammar_from_binding():
    assert Strain(0.5, 0.25).nats == pytest.approx(np.log(4))


class DeadEnd(AnyScope):
    """Admits `id` and then nothing at all."""

    def advance(self, state, piece):
        text = state + piece
        return None if text.startswith("SELECT id") and len(text) > 9 else text

    def refusal(self, state):
        return "nothing is selected from" if state == "SELECT id" else None


def test_at_a_dead_end_the_row_goes_back_and_takes_another_way():
    """A token a byte: behind `id` nothing may come, nothing but `d` behind `i`, so it takes two steps back."""
    model = model_that_wants("SELECT id FROM book", "SELECT title FROM book", bytewise=True)
    decoded, text = decode(model, tracker=DeadEnd())
    assert (decoded.status, text, decoded.n_backtracks) == ("answer", "SELECT title FROM book", 2)
    mass = np.exp(11) / (np.exp(11) + np.exp(10) + WIDTH - 2)  # of the `i` that is banned in the end
    assert max(strain.binding for strain in decoded.strain) == pytest.approx(mass)


class NoWay(AnyScope):
    """Admits SELECT and nothing behind it."""

    def advance(self, state, piece):
        return state + piece if "SELECT".startswith(state + piece) else None


def test_where_nothing_is_left_the_row_abstains():
    decoded, _ = decode(model_that_wants("SELECT id"), tracker=NoWay())
    assert (decoded.status, decoded.reason) == ("abstained", "dead end")
    assert decoded.n_backtracks <= MAX_BACKTRACKS


def test_a_name_that_the_gate_refuses_is_chosen_anew_where_it_was_first_used():
    """No scope tracker here: the gate finds the misplaced column at the end, far behind it."""
    wrong = "SELECT T1.date FROM book AS T1"
    decoded, text = decode(model_that_wants(wrong, "SELECT T1.title FROM book AS T1"))
    assert (decoded.status, text) == ("answer", "SELECT T1.title FROM book AS T1")
    assert decoded.n_backtracks >= 1


def test_an_unfinished_text_is_never_an_answer():
    decoded, text = decode(model_that_wants("SELECT title FROM book WHERE price > 1"), budget=4)
    assert (decoded.status, decoded.reason) == ("abstained", "token budget")
    assert len(decoded.ids) == 4


def test_a_model_that_insists_on_a_wrong_column_ends_within_its_work():
    asked = []

    def stubborn(ids):
        asked.append(len(ids))
        row = np.zeros(WIDTH)
        for token in encode("SELECT T1.date, T1.book_id FROM book AS T1"):
            row[token] = 5.0
        row[END] = 4.0
        return row

    decoded, text = decode(stubborn, budget=30)
    assert len(asked) <= 4 * 30
    if decoded.status == "answer":
        assert prepare(LIBRARY, text) is None


@pytest.mark.parametrize("seed", range(25))
def test_any_answer_to_random_logits_prepares(seed):
    """Even without a scope tracker: the gate is asked of every end."""
    chance = np.random.default_rng(seed)

    def noise(ids):
        row = chance.gumbel(size=WIDTH)
        row[END] += 2.0 + len(ids) / 8
        return row

    decoded, text = decode(noise, budget=40)
    if decoded.status == "answer":
        assert prepare(LIBRARY, text) is None


def test_with_an_open_gate_the_loop_returns_what_the_model_wrote():
    wrong = "SELECT T1.date FROM book AS T1"
    decoded, text = decode(model_that_wants(wrong), gate=OpenGate())
    assert (decoded.status, text) == ("answer", wrong)
