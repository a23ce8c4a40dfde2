"""Random queries through the mask: what finishes prepares, by the tracker alone and by the gate."""

import pytest

from benchmarks.decoding_fuzz import awkward_schema, fuzz, wide_schema
from tests.decoding.schemas import LIBRARY, pocket_schemas, tiny_vocabulary


def schemas(n_pocket):
    return [awkward_schema(), wide_schema(), LIBRARY, *list(pocket_schemas().values())[:n_pocket]]


def faults(texts, *ends):
    return [(text.db_id, text.text, text.error or text.decoded.reason) for text in texts if text.end in ends]


def test_random_queries_prepare_by_the_tracker_alone():
    texts = fuzz(tiny_vocabulary(), schemas(2), 40, seed=5, gated=False)
    assert faults(texts, "fails", "dead end") == []
    finished = [text.text for text in texts if text.end == "prepares"]
    assert len(finished) > 25
    assert sum("JOIN" in text for text in finished) > 3
    assert sum(text.count("SELECT") > 1 for text in finished) > 3


@pytest.mark.slow
def test_no_random_query_passes_the_gate_without_preparing():
    texts = fuzz(tiny_vocabulary(), schemas(2), 30, seed=6, gated=True)
    assert faults(texts, "fails", "dead end") == []


@pytest.mark.slow
def test_of_a_thousand_random_queries_at_most_one_fails_by_the_tracker_alone():
    texts = fuzz(tiny_vocabulary(), schemas(20), 1000, seed=7, gated=False)
    assert len(faults(texts, "fails")) <= 1, faults(texts, "fails")
    assert len(faults(texts, "dead end")) <= 1, faults(texts, "dead end")


@pytest.mark.slow
def test_of_a_thousand_random_queries_none_passes_the_gate_without_preparing():
    texts = fuzz(tiny_vocabulary(), schemas(20), 1000, seed=8, gated=True)
    assert faults(texts, "fails") == []
    assert len(faults(texts, "dead end")) <= 1, faults(texts, "dead end")
