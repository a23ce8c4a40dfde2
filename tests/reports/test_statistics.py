"""Intervals and tests against hand-worked numbers, published tables and laws."""

import doctest
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundql.reports import statistics
from groundql.reports.statistics import bootstrap_mean, bootstrap_over_groups, mcnemar_p, wilson


@pytest.mark.parametrize(("n", "points"), [(500, 4.4), (656, 3.8), (972, 3.1), (1034, 3.0), (1534, 2.5)])
def test_half_width_at_one_half_for_the_sizes_of_known_benchmarks(n, points):
    # half of the width is z / (1 + z^2/n) * sqrt(1/(4n) + z^2/(4n^2)); worked by hand for each n
    assert round(100 * wilson(n // 2, n).half_width, 1) == points


def test_wilson_of_nothing_right_is_z2_over_n_plus_z2():
    # p = 0: centre = half = (z^2/2n) / (1 + z^2/n), so the upper end is z^2 / (n + z^2)
    low, high = wilson(0, 10)
    assert low == 0.0
    assert high == pytest.approx(1.959964**2 / (10 + 1.959964**2))


@given(st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_rate_stays_in_bounds_and_mirrors(count_and_n):
    count, n = count_and_n
    low, high = wilson(count, n)
    assert 0 <= low <= count / n <= high <= 1
    mirrored = wilson(n - count, n)
    assert mirrored.low == pytest.approx(1 - high, abs=1e-9)


@pytest.mark.parametrize(("count", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_what_is_no_rate_is_an_error(count, n):
    with pytest.raises(ValueError, match="not a rate"):
        wilson(count, n)


@pytest.mark.parametrize(
    ("only_a", "only_b", "p"),
    [
        (0, 0, 1.0),  # no question tells them apart
        (0, 5, 2 / 32),  # all five heads or all five tails
        (1, 5, 2 * 7 / 64),  # 1 + 6 of 64 ways, both sides
        (3, 3, 1.0),
        (10, 25, 0.0167),  # one point on 1,534 questions, and yet no noise
    ],
)
def test_mcnemar_is_the_sign_test_on_the_questions_that_differ(only_a, only_b, p):
    assert mcnemar_p(only_a, only_b) == pytest.approx(p, abs=5e-5)
    assert mcnemar_p(only_b, only_a) == mcnemar_p(only_a, only_b)


def test_mcnemar_does_not_overflow_on_large_counts():
    assert 0 < mcnemar_p(4000, 6000) < 1e-80


def test_bootstrap_of_equal_values_has_no_width():
    assert bootstrap_mean([0.25] * 40) == (0.25, 0.25)


def test_bootstrap_of_a_rate_is_close_to_the_normal_interval():
    low, high = bootstrap_mean([0.0, 1.0] * 200)  # sd of the mean: 0.5 / sqrt(400) = 0.025
    assert low == pytest.approx(0.5 - 1.96 * 0.025, abs=0.006)
    assert high == pytest.approx(0.5 + 1.96 * 0.025, abs=0.006)


def test_many_distinct_values_take_the_other_path_to_the_same_interval():
    values = [index / 999 for index in range(1000)]  # uniform: sd of the mean sqrt(1/12/1000)
    low, high = bootstrap_mean(values)
    assert (high - low) / 2 == pytest.approx(1.96 * math.sqrt(1 / 12 / 1000), rel=0.03)


def test_the_same_seed_gives_the_same_interval():
    values = [0.0, 0.5, 1.0, 1.0]
    assert bootstrap_mean(values, seed=7) == bootstrap_mean(values, seed=7)


def test_questions_of_one_database_that_fall_together_widen_the_interval():
    values, databases = [1.0] * 50 + [0.0] * 50, ["a"] * 50 + ["b"] * 50
    # two databases drawn twice: both all-right in a quarter of the draws, both all-wrong in another quarter
    assert bootstrap_over_groups(values, databases) == (0.0, 1.0)
    assert bootstrap_mean(values).high < 0.61


def test_a_large_database_weighs_by_its_questions():
    low, high = bootstrap_over_groups([1.0] * 9 + [0.0], ["a"] * 9 + ["b"])
    # aa 1.0, ab 0.9, bb 0.0: each end of the interval is one of these
    assert (low, high) == (0.0, 1.0)
    assert bootstrap_over_groups([1.0] * 10, ["a"] * 9 + ["b"]) == (1.0, 1.0)


@pytest.mark.parametrize("call", [lambda: bootstrap_mean([]), lambda: bootstrap_over_groups([1.0], [])])
def test_no_values_have_no_mean(call):
    with pytest.raises(ValueError, match="mean"):
        call()


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(statistics) == (0, 2)
