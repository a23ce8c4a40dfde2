"""Rows under a constraint: in any batch what the plain loop over one row writes."""

import numpy as np
import pytest
import torch

from groundql.config import GenerationSettings
from groundql.decoding import closing as closings
from groundql.decoding.batch import Pace
from groundql.decoding.crew import LocalCrew
from groundql.decoding.engine import decode, ends_of
from groundql.decoding.grounded_row import GroundedRow
from groundql.decoding.schedule import Capacity
from groundql.decoding.single_row import decode_grounded_row
from tests.decoding.test_engine import TOKENIZER, TURNS, encode, lively_model, some_prompts
from tests.decoding.toy_constraint import ToyConstraint
from tests.mostly_slow import first_fast

N_TOKENS = len(TOKENIZER)
BUDGET = 10
ENDS = ends_of(TOKENIZER, TURNS)
SETTINGS = GenerationSettings(max_new_tokens=BUDGET)
PACES = {
    "settle first": Pace(),
    "look ahead": Pace(lookahead=1),
    "as on a GPU": Pace(
        lookahead=1, refill_share=0.3, compact_share=0.3, tokens_at_once=100, reads_ahead=True
    ),
}


def constraint_of(place, ends):
    """Easy, narrow, narrower, and one that no text satisfies."""
    one_in, traps, gate = [(3, 5, 3), (40, 3, 5), (200, 5, 2), (40, 5, 10**9)][place % 4]
    return ToyConstraint(N_TOKENS, ends, one_in=one_in, traps=traps, gate=gate, names=place % 8 > 3)


def alone(model, prompt, place):
    """What the plain loop writes, each text computed anew by the model as it is."""
    ids = encode(prompt.prefix) + encode(prompt.suffix)

    @torch.inference_mode()
    def next_logits(written):
        return model(torch.tensor([ids + list(written)], device=model.device)).logits[0, -1].cpu().numpy()

    return decode_grounded_row(next_logits, constraint_of(place, ENDS), ENDS, BUDGET)


class LateCrew(LocalCrew):
    """Answers at every third step only, unless it is waited for."""

    n_steps = 0

    def hear(self, may_leave=None):
        self.n_steps += 1
        return super().hear() if may_leave is None or self.n_steps % 3 == 0 else []


def together(model, prompts, pace, crew_type=LocalCrew, **options):
    crew = crew_type(lambda place: GroundedRow(constraint_of(place, ENDS), ENDS, BUDGET))
    found = decode(model, TOKENIZER, prompts, TURNS, settings=SETTINGS, crew=crew, pace=pace, **options)
    return [one for (one,) in found]


@pytest.fixture(scope="module", autouse=True)
def short_texts_may_be_closed():
    """The toy's texts have six tokens at most."""
    kept, closings.MIN_KEPT = closings.MIN_KEPT, 1
    yield
    closings.MIN_KEPT = kept


@pytest.fixture(scope="module")
def many():
    """A model, questions, and what the plain loop writes for each."""
    model, prompts = lively_model("qwen2"), some_prompts(12)
    expected = [alone(model, prompt, place) for place, prompt in enumerate(prompts)]
    assert {one.status for one in expected} == {"answer", "abstained"}  # or too little is tested
    assert sum(one.n_backtracks > 0 for one in expected) > 3
    assert any(one.closed_at is not None for one in expected)
    return model, prompts, expected


def test_rows_whose_answers_are_late_write_the_same(many):
    model, prompts, expected = many
    capacity = Capacity(n_slots=6, kv_tokens=10_000, rows_a_group=3)
    found = together(model, prompts, PACES["as on a GPU"], crew_type=LateCrew, capacity=capacity)
    for one, plain in zip(found, expected, strict=True):
        assert (one.ids, one.status, one.reason) == (plain.ids, plain.status, plain.reason)
        assert (one.n_backtracks, one.closed_at) == (plain.n_backtracks, plain.closed_at)
        assert one.strain.total == pytest.approx(sum(step.nats for step in plain.strain), abs=1e-3)


@pytest.mark.parametrize("pace", first_fast(PACES.values()), ids=PACES)
def test_a_batch_writes_what_each_row_writes_alone(many, pace):
    model, prompts, expected = many
    found = together(model, prompts, pace, capacity=Capacity(n_slots=6, kv_tokens=10_000, rows_a_group=3))
    for one, plain in zip(found, expected, strict=True):
        same = ("ids", "status", "reason", "n_backtracks", "closed_at")
        assert [getattr(one, name) for name in same] == [getattr(plain, name) for name in same]
        assert one.strain.total == pytest.approx(sum(step.nats for step in plain.strain), abs=1e-3)


def test_the_whole_vocabulary_is_asked_for_where_all_offered_tokens_are_refused():
    model, prompts = lively_model("llama"), some_prompts(3)
    found = together(model, prompts, Pace(lookahead=1))
    assert max(one.n_refused for one in found) > 100
    assert [one.ids for one in found] == [alone(model, p, place).ids for place, p in enumerate(prompts)]


def test_an_abstention_has_a_reason_and_no_query():
    found = together(lively_model("qwen2"), some_prompts(12), Pace())
    for one in found:
        assert (one.status == "abstained") == (one.sql is None)
        assert (one.status == "abstained" or one.closed_at is not None) == bool(one.reason)


def test_work_is_bounded_however_often_a_row_goes_back():
    row = GroundedRow(ToyConstraint(8, {0}, one_in=1, traps=2), {0}, budget=5)
    did, n_asked = row.advance(np.arange(1, 8), np.full(7, -2.0)), 1
    while not hasattr(did, "status"):
        n_asked += 1
        assert n_asked < 100
        did = (
            row.advance_whole(np.arange(8.0), np.full(8, -2.0))
            if did.whole
            else row.advance(np.arange(1, 8), np.full(7, -2.0))
        )
    assert did.work <= 4 * 5
