"""Where predictions fall, and the few words for it."""

import pytest

from groundql.records import ResultPreview
from groundql.reports.causes import CHAIN, cause, fell_at
from tests.reports.verdicts import climbed


@pytest.mark.parametrize(("up_to", "falls"), list(zip(["", *CHAIN], [*CHAIN, ""], strict=True)))
def test_a_prediction_falls_at_the_rung_after_the_last_it_passes(up_to, falls):
    assert fell_at(climbed(1, up_to)) == falls


def test_without_rows_the_top_is_grounded():
    verdict = climbed(1, "grounded", ran=None, ex_bird=None, ex_strict=None)
    assert fell_at(verdict) == "undecided"
    assert fell_at(verdict, CHAIN[:4]) == ""


def test_a_gold_that_does_not_run_leaves_it_open_unless_the_prediction_fell_before():
    assert fell_at(climbed(1, "ran", ex_strict=None)) == "undecided"
    assert fell_at(climbed(1, "parsed", ex_strict=None)) == "read_only"


def test_equal_to_the_last_digit_that_counts_is_right_though_the_official_rule_refuses_it():
    assert fell_at(climbed(1, ex_bird=False)) == ""


@pytest.mark.parametrize(
    ("up_to", "error", "expected"),
    [
        ("", "", "no SQL"),
        ("extracted", "2 statements, not one", "several statements"),
        ("extracted", "not a query but Command", "not a query"),
        ("extracted", "does not parse: Expecting )", "does not parse"),
        ("parsed", "it writes", "writes"),
        ("read_only", "no such table: orders", "no such table"),
        ("read_only", "no such column: T1.colour", "no such column"),
        ("read_only", "ambiguous column name: id", "ambiguous column"),
        ("read_only", "no such function: CONCAT_WS", "no such function"),
        ("read_only", "wrong number of arguments to function SUBSTR()", "wrong arguments"),
        ("read_only", "misuse of aggregate: SUM()", "misused aggregate"),
        ("read_only", 'near "FORM": syntax error', "syntax error"),
        ("read_only", "something new", "does not prepare"),
        ("grounded", "timeout: deadline of 30 s", "too slow"),
        ("grounded", "too_large: more than 100,000 rows", "too large"),
        ("grounded", "crashed: the worker ended", "crashed"),
        ("grounded", "integer overflow", "error while running"),
        ("ran", "", "other rows"),
        ("ex_bird", "the same rows in another order", "other order"),
        ("ex_bird", "5 rows, gold has 4", "other duplicates"),
        ("ex_strict", "", "right"),
    ],
)
def test_the_cause_is_the_engine_s_word_in_short(up_to, error, expected):
    assert cause(climbed(1, up_to, error=error)) == expected


@pytest.mark.parametrize(
    ("gold", "predicted", "expected"),
    [
        (ResultPreview(columns=("a",), n_rows=3), ResultPreview(columns=("a",), n_rows=0), "empty result"),
        (
            ResultPreview(columns=("a",), n_rows=3),
            ResultPreview(columns=("a", "b"), n_rows=3),
            "other columns",
        ),
        (
            ResultPreview(columns=("a",), n_rows=3),
            ResultPreview(columns=("b",), n_rows=4),
            "other number of rows",
        ),
        (ResultPreview(columns=("a",), n_rows=3), ResultPreview(columns=("b",), n_rows=3), "other values"),
    ],
)
def test_wrong_rows_are_told_apart_by_what_differs_first(gold, predicted, expected):
    assert cause(climbed(1, "ran", gold_result=gold, predicted_result=predicted)) == expected
