"""Paired comparison: who gained what, and when a difference is no more than noise."""

import math

import pytest

from groundql.errors import DataError
from groundql.records import Verdict
from groundql.reports.comparison import compare, comparison_table
from tests.reports.verdicts import climbed


def _run(reached: str, **changes) -> list[Verdict]:
    """One verdict a letter: `s` climbs to the top, `r` only ran, `-` nothing."""
    return [
        climbed(place, {"s": "ex_strict", "r": "ran", "-": ""}[letter], **changes)
        for place, letter in enumerate(reached)
    ]


def test_rates_gains_and_losses_are_paired_by_question():
    found = compare(_run("ssrr"), _run("rsss"))
    strict = found["rungs"]["ex_strict"]
    assert (strict["a"]["count"], strict["b"]["count"]) == (2, 3)
    assert (strict["only_a"], strict["only_b"]) == (1, 2)
    assert (strict["gained"], strict["lost"]) == (["2", "3"], ["0"])
    assert strict["difference"]["value"] == 0.25
    assert found["rungs"]["ran"]["only_a"] == found["rungs"]["ran"]["only_b"] == 0


def test_order_of_the_lines_changes_nothing():
    a, b = _run("ssrrr-"), _run("rsss--")
    assert compare(a, b)["rungs"] == compare(a, list(reversed(b)))["rungs"]


def test_questions_of_one_side_only_are_left_out_and_named():
    found = compare(_run("sss"), _run("ss--")[1:])
    assert found["n"] == 2
    assert (found["only_in_a"], found["only_in_b"]) == (["0"], ["3"])
    assert any("1 of A, 1 of B" in line for line in found["warnings"])


def test_the_same_run_twice_differs_in_nothing_and_warns_of_no_noise():
    found = compare(_run("sr-" * 10), _run("sr-" * 10))
    assert all(rung["mcnemar_p"] == 1.0 for rung in found["rungs"].values())
    assert not any("noise" in line for line in found["warnings"])


def test_a_small_change_is_called_noise_and_a_large_one_is_not():
    small = compare(_run("r" * 40), _run("ss" + "r" * 38))
    assert any("noise" in line and "ex_strict" in line for line in small["warnings"])
    large = compare(_run("r" * 40), _run("s" * 10 + "r" * 30))
    assert large["rungs"]["ex_strict"]["mcnemar_p"] == pytest.approx(2 / 2**10)
    assert not any("noise" in line for line in large["warnings"])


def test_a_gain_in_one_database_of_two_may_not_hold_on_others():
    a = _run("r" * 20, db_id="x") + [climbed(f"y{i}", "ran", db_id="y") for i in range(20)]
    b = _run("s" * 20, db_id="x") + [climbed(f"y{i}", "ran", db_id="y") for i in range(20)]
    found = compare(a, b)
    assert found["rungs"]["ex_strict"]["over_databases"] == {"low": 0.0, "high": 1.0}
    assert any("may not hold on other databases" in line for line in found["warnings"])


def test_one_database_has_no_interval_over_databases():
    assert "over_databases" not in compare(_run("sr"), _run("ss"))["rungs"]["ex_strict"]


def test_an_undecided_question_is_neither_gained_nor_lost():
    found = compare([climbed(1, ex_strict=None), climbed(2, "ran")], [climbed(1), climbed(2)])
    assert found["rungs"]["ex_strict"]["gained"] == ["2"]
    assert found["rungs"]["ex_strict"]["undecided"] == 1
    assert found["rungs"]["ex_strict"]["difference"]["value"] == 0.5


def test_a_fault_that_goes_away_is_a_gain():
    found = compare([climbed(1, invented_table=True)], [climbed(1, invented_table=False)])
    found = found["rungs"]["invented_table"]
    assert (found["only_a"], found["gained"], found["lost"]) == (1, ["1"], [])


def test_steps_are_compared_where_both_have_them():
    a = [climbed(1, step_ratio=1.0), climbed(2, step_ratio=2.0), climbed(3, "ran")]
    b = [climbed(1, step_ratio=2.0), climbed(2, step_ratio=2.0), climbed(3, step_ratio=9.0)]
    found = compare(a, b)
    steps = found["means"]["step_ratio"]
    assert (steps["a"], steps["b"], steps["n"]) == (pytest.approx(2**0.5), pytest.approx(2), 2)
    assert steps["difference"]["value"] == pytest.approx(math.log(2) / 2)
    assert "step_ratio" in comparison_table(found)


def test_a_reworded_question_or_another_gold_is_named():
    found = compare(_run("s"), _run("s", gold_sql="SELECT 2"))
    assert found["changed"] == ["0"]
    assert any("differs between A and B" in line for line in found["warnings"])


def test_runs_on_different_rows_do_not_compare():
    found = compare(_run("s", rows="real"), _run("s", rows="synthetic"))
    assert any("different rows (real, synthetic)" in line for line in found["warnings"])


@pytest.mark.parametrize(
    ("b", "why"),
    [
        ([climbed("other")], "no question in common"),
        ([climbed(0, db_id="bank")], "asked of shop in A and of bank in B"),
        ([climbed(0), climbed(0)], "two verdicts for question 0"),
        ([], "no question in common"),
    ],
)
def test_what_cannot_be_paired_is_refused(b, why):
    with pytest.raises(DataError, match=why):
        compare(_run("s"), b)


def test_the_table_has_one_line_a_rung_and_names_what_changed():
    table = comparison_table(compare(_run("ssrr"), _run("rsss")))
    line = next(line for line in table.splitlines() if line.startswith("ex_strict"))
    assert "+25.0" in line
    assert "gained           2 (2, 3) on ex_strict" in table
    assert "lost             1 (0) on ex_strict" in table
