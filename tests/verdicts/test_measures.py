"""Relaxed match, Soft-F1 and efficiency, with numbers worked by hand, and cheats that get nothing."""

import math
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundql.records import Outcome
from groundql.verdicts.efficiency import mean_ratio, r_ves, reward, step_ratio, ves
from groundql.verdicts.relaxed import holds_gold
from groundql.verdicts.soft_f1 import _best_pairing, soft_f1, soft_f1_unordered


def outcome(*rows, width=None):
    n = width if width is not None else len(rows[0])
    return Outcome(status="ok", columns=tuple(f"c{i}" for i in range(n)), rows=rows)


@pytest.mark.parametrize(
    ("gold", "predicted", "ordered", "holds"),
    [
        ([(1, "a")], [("a", 1)], False, True),
        ([(1,)], [(7, 1, 9)], False, True),  # columns beside
        ([(1, "a"), (2, "b")], [("b", 2), ("a", 1)], False, True),
        ([(1, "a"), (2, "b")], [("b", 2), ("a", 1)], True, False),
        ([(1, "b"), (2, "a")], [(1, "a"), (2, "b")], False, False),  # each column alone is the same
        ([(1, 1)], [(1,)], False, False),  # fewer columns
        ([(1, 1)], [(1, 2)], False, False),  # one column may stand for one only
        ([(1,), (1,)], [(1,)], False, False),
        ([(1.0,)], [("x", 1)], False, True),
    ],
)
def test_relaxed_cases(gold, predicted, ordered, holds):
    assert holds_gold(outcome(*gold), outcome(*predicted), ordered=ordered) == holds


def test_ten_columns_of_few_values_are_settled_at_once():
    rows = [tuple((n >> bit) & 1 for bit in range(10)) for n in range(300)]
    started = time.monotonic()
    assert holds_gold(outcome(*rows), outcome(*(row[::-1] for row in rows)), ordered=False)
    assert not holds_gold(outcome(*rows), outcome(*(row[:9] + (1 - row[9],) for row in rows)), ordered=False)
    assert time.monotonic() - started < 5


def test_empty_results_need_the_columns_too():
    assert holds_gold(outcome(width=1), outcome(width=2), ordered=False)
    assert not holds_gold(outcome(width=2), outcome(width=1), ordered=False)


@pytest.mark.parametrize(
    ("gold", "predicted", "official", "unordered"),
    [
        ([(1,), (2,)], [(2,), (1,)], 0.0, 1.0),  # the order of rows
        (
            [(n,) for n in range(9)],
            [(99,), *((n,) for n in range(9))],
            0.0,
            18 / 19,
        ),  # one row in front of nine
        (
            [(1, 2)],
            [(1, 1, 1)],
            0.857,
            0.4,
        ),  # one gold cell found three times: official 1.5 / (1.5 + 0 + 0.5)
        ([(1,)], [(1,)] * 50, 1.0, 2 / 51),  # duplicates
        ([], [], 1.0, 1.0),
        ([(1,)], [], 0.0, 0.0),
        ([], [(1,)], 0.0, 0.0),
        (
            [("Apple", 325), ("Orange", None), ("Banana", 119)],
            [(325, "Apple"), (191, "Orange"), (None, "Banana")],
            0.667,
            0.667,
        ),
    ],
)
def test_soft_f1_by_hand(gold, predicted, official, unordered):
    assert soft_f1(gold, predicted) == pytest.approx(official, abs=1e-3)
    assert soft_f1_unordered(gold, predicted, n_columns=(1, 1)) == pytest.approx(unordered, abs=1e-3)


def test_empty_results_of_other_width_share_nothing():
    assert soft_f1_unordered([], [], n_columns=(1, 2)) == 0


ROWS = st.lists(st.tuples(st.integers(0, 3), st.sampled_from("ab")), max_size=7)


@given(ROWS, ROWS, st.randoms())
@settings(deadline=None)
def test_the_order_of_rows_moves_only_the_official_score(gold, predicted, random):
    value = soft_f1_unordered(gold, predicted, n_columns=(2, 2))
    assert 0 <= value <= 1
    assert soft_f1_unordered(gold, random.sample(predicted, len(predicted)), n_columns=(2, 2)) == value
    assert (value == 1) == (sorted(gold) == sorted(predicted))


@given(st.lists(st.lists(st.integers(0, 5), min_size=3, max_size=3), min_size=1, max_size=4))
def test_the_pairing_is_the_best_of_all(gains):
    from itertools import permutations

    n = len(gains)
    wide = max(n, 3)
    best = max(sum(gains[i][j] for i, j in enumerate(p[:n]) if j < 3) for p in permutations(range(wide)))
    assert _best_pairing(gains) == best


def test_large_results_are_scored_in_a_moment():
    started = time.monotonic()
    gold = [(n, f"t{n}") for n in range(20_000)]
    value = soft_f1_unordered(gold, [(n, f"t{n + 1}") for n in range(20_000)], n_columns=(2, 2))
    assert 0.4 < value < 0.6
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    ("ratio", "worth"),
    [(3, 1.25), (2, 1.25), (1.99, 1), (1, 1), (0.99, 0.75), (0.5, 0.75), (0.3, 0.5), (0.1, 0.25), (0, 0)],
)
def test_rewards_step_as_published(ratio, worth):
    assert reward(ratio) == worth


def test_timed_scores_by_hand():
    assert mean_ratio([1.0, 3.0]) == 2
    assert ves([1.0, 3.0]) == pytest.approx(math.sqrt(2))
    assert r_ves([1.0, 3.0]) == pytest.approx(math.sqrt(1.25))
    assert r_ves([0.9, 1.0]) == pytest.approx(math.sqrt(0.75))
    ratios = [1.0, 1.02] * 10 + [50.0]  # one outlier goes
    assert mean_ratio(ratios) == pytest.approx(1.01)


def test_the_official_filter_drops_ratios_that_are_all_equal():
    assert mean_ratio([1.0]) == mean_ratio([1.0, 1.0, 1.0]) == 0  # its fault: nothing lies within 3 * 0


def test_half_the_steps_are_twice_as_good():
    assert step_ratio(200, 100) == 2


def test_cheats_get_nothing(judged):
    for text in (
        "",
        "hello world",
        "sql placeholder",
        "SELECT title FROM book WHERE 0",
        "SELECT name AS title FROM author",
    ):
        verdict = judged(text)
        assert not verdict.ex_relaxed
        assert not verdict.ast_equal
        assert verdict.soft_f1 == verdict.soft_f1_unordered == 0
        assert verdict.step_ratio is None


def test_gold_gets_everything(judged):
    verdict = judged("SELECT title FROM book WHERE price = 10")
    assert verdict.ex_relaxed
    assert verdict.ast_equal
    assert (
        verdict.ast_similarity
        == verdict.soft_f1
        == verdict.soft_f1_unordered
        == verdict.step_ratio
        == verdict.link_f1
        == 1
    )
