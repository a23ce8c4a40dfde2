"""The table of row cases: what each rule says of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundql.records import Outcome
from groundql.verdicts.rows import same_results, same_rows, same_sets


@pytest.mark.parametrize(
    ("gold", "predicted", "bird", "strict"),
    [
        ([(1,), (1,), (2,)], [(1,), (2,)], True, False),  # duplicates
        ([(1,), (2,)], [(2,), (1,)], True, True),  # order
        ([(1, "a")], [("a", 1)], False, False),  # columns swapped
        ([(1,)], [("1",)], False, False),
        ([(1,)], [(1.0,)], True, True),
        ([(0.3,)], [(0.1 + 0.2,)], False, True),
        ([(None,)], [(0,)], False, False),
        ([(None,)], [(None,)], True, True),
        ([(None,)], [("None",)], False, False),
        ([(2**60,)], [(2**60 + 1,)], False, False),
        ([(2**53 + 1,)], [(float(2**53),)], False, False),
        ([(123456789,)], [(123456788,)], False, False),
        ([(33.333,)], [(33.33,)], False, False),
        ([], [], True, True),
        ([(1, "b"), (2, "a")], [(1, "a"), (2, "b")], False, False),  # each column alone is the same
        ([("a",)], [(b"a",)], False, False),
        ([(1.0000005,)], [(1.0000005 + 2e-16,)], False, True),  # noise around a rounding step
        ([(1e300 * 10**10,)], [(1e300 * 10**10,)], True, True),  # infinite
        ([("",)], [(None,)], False, False),
        ([(1,)], [(1, 1)], False, False),
    ],
)
def test_row_table(gold, predicted, bird, strict):
    assert same_sets(gold, predicted) == bird
    assert same_rows(gold, predicted, ordered=False) == strict
    assert same_rows(predicted, gold, ordered=False) == strict


FEW_VALUES = st.lists(st.tuples(st.sampled_from([0, 1, 1.0, "1", None])), max_size=4)


@given(FEW_VALUES, FEW_VALUES)
def test_the_official_rule_is_equality_of_sets_of_rows_in_lists_and_tuples_alike(gold, predicted):
    assert same_sets(gold, predicted) == same_sets(tuple(gold), predicted) == (set(gold) == set(predicted))


def test_order_counts_where_it_is_asked_for():
    assert not same_rows([(1,), (2,)], [(2,), (1,)], ordered=True)
    assert same_rows([(1,), (2.0,)], [(1.0,), (2,)], ordered=True)


def test_equal_column_names_with_different_values_do_not_match():
    assert not same_rows([(1,)], [(2,)], ordered=False)


def test_empty_results_of_different_width_differ():
    one = Outcome(status="ok", columns=("a",))
    two = Outcome(status="ok", columns=("a", "b"))
    assert same_results(one, one, ordered=False)
    assert not same_results(one, two, ordered=False)


def test_what_did_not_run_equals_nothing():
    failed = Outcome(status="error")
    assert not same_results(failed, failed, ordered=False)


VALUES = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(max_size=3),
    st.binary(max_size=2),
)
ROWS = st.lists(st.tuples(VALUES, VALUES), max_size=8)


@given(ROWS, st.randoms())
def test_shuffling_rows_changes_nothing_when_order_is_free(rows, random):
    assert same_rows(rows, random.sample(rows, len(rows)), ordered=False)


@given(ROWS, VALUES)
def test_one_row_more_is_never_the_same(rows, value):
    assert not same_rows(rows, [*rows, (value, value)], ordered=False)
    assert not same_rows([*rows, (value, value)], rows, ordered=True)


@given(ROWS, ROWS)
def test_both_sides_are_treated_alike(gold, predicted):
    assert same_rows(gold, predicted, ordered=False) == same_rows(predicted, gold, ordered=False)
