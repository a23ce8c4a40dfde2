"""The tally's object and table: denominators, what is undecided, what is skipped, what is said."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundql.errors import DataError
from groundql.records import Verdict
from groundql.reports.tally import SYNTHETIC_WARNING, rung_table, skipped_lines, tally, tally_by
from tests.reports.verdicts import climbed

RUNGS = ("extracted", "parsed", "read_only", "grounded", "ran", "ex_bird", "ex_strict")


def test_each_rung_counts_over_all_questions():
    found = tally([climbed(1), climbed(2, "grounded"), climbed(3, "parsed"), climbed(4, "")])
    assert found["n"] == 4
    assert {name: found[name]["count"] for name in RUNGS} == {
        "extracted": 3, "parsed": 3, "read_only": 2, "grounded": 2, "ran": 1, "ex_bird": 1, "ex_strict": 1,
    }  # fmt: skip
    assert found["grounded"]["rate"] == 0.5
    assert set(found["grounded"]) == {"count", "rate", "low", "high"}


def test_no_verdicts_are_an_error_not_a_rate_of_zero():
    with pytest.raises(DataError, match="no verdicts"):
        tally([])


def test_a_rung_that_nobody_could_decide_is_absent():
    no_rows = {"ran": None, "ex_bird": None, "ex_strict": None, "rows": "none"}
    found = tally([climbed(1, **no_rows), climbed(2, **no_rows)])
    assert found["grounded"]["count"] == 2
    assert not {"ran", "ex_bird", "ex_strict"} & set(found)


def test_an_undecided_question_is_no_pass_and_is_counted_apart():
    found = tally([climbed(1), climbed(2, ex_strict=None, gold_fault="does not run")])
    assert found["ex_strict"]["count"] == 1
    assert found["ex_strict"]["rate"] == 0.5
    assert found["ex_strict"]["undecided"] == 1
    assert any("undecided counts as not passed: 1 of 2" in line for line in found["warnings"])


def test_gold_faults_are_listed_by_id_and_reason():
    found = tally([climbed("a"), climbed("b", gold_fault="gold returns no rows")])
    assert found["skipped"] == [{"question_id": "b", "db_id": "shop", "reason": "gold returns no rows"}]


def test_measures_that_no_judge_computed_are_absent_rather_than_invented():
    assert not {"soft_f1", "ves", "r_ves", "ast_equal", "invented_table", "robust"} & set(tally([climbed(1)]))


def test_measures_beside_the_ladder_flow_through():
    verdicts = [
        climbed(1, soft_f1=1.0, invented_column=False),
        climbed(2, soft_f1=0.5, invented_column=True),
    ]
    found = tally(verdicts)
    assert found["soft_f1"] == 0.75
    assert found["intervals"]["soft_f1"] == {"low": 0.5, "high": 1.0}
    assert found["invented_column"]["count"] == 1
    assert "soft_f1" in rung_table(found)


def test_every_measure_of_a_verdict_is_in_the_tally():
    """A new field of Verdict that holds a measure must be named in the tally, or here as none."""
    no_measures = {"n_references", "n_bad_references", "strain"}
    numbers = [
        name
        for name, field in Verdict.model_fields.items()
        if any(kind in str(field.annotation) for kind in ("bool", "float"))
    ]
    verdict = climbed(1, **dict.fromkeys(numbers, 1))
    assert set(numbers) - no_measures <= set(tally([verdict]))


def test_the_matched_that_fall_on_changed_copies_are_counted():
    found = tally([climbed(1, robust=True), climbed(2, robust=False), climbed(3, "ran", robust=False)])
    assert (found["robust"]["count"], found["robust"]["fell"], found["robust"]["of"]) == (1, 1, 2)
    assert "1 of 2 matched fell" in rung_table(found)


def test_steps_are_a_geometric_mean_over_what_matched():
    found = tally([climbed(1, step_ratio=2.0), climbed(2, step_ratio=0.5), climbed(3, "ran")])
    assert found["step_ratio"] == pytest.approx(1)
    assert found["intervals"]["step_ratio"]["n"] == 2


def test_spider_s_scores_are_there_by_hardness():
    found = tally([climbed(1, difficulty="extra", spider_match=True, spider_exec=False)])
    assert found["by_difficulty"]["extra"]["spider_match"]["count"] == 1
    assert found["spider_exec"]["count"] == 0


def test_classes_keep_the_order_of_difficulty_and_add_up_to_all():
    found = tally(
        [climbed(1, difficulty="challenging"), climbed(2, difficulty="simple"), climbed(3), climbed(4, "ran")]
    )
    assert list(found["by_difficulty"]) == ["simple", "challenging", "unclassed"]
    assert sum(members["n"] for members in found["by_difficulty"].values()) == 4
    assert found["by_difficulty"]["unclassed"]["ex_strict"]["count"] == 1


def test_a_data_set_without_classes_has_none():
    assert tally([climbed(1)])["by_difficulty"] == {}


def test_synthetic_rows_are_named_in_the_object_and_in_the_table():
    found = tally([climbed(index, rows="synthetic") for index in range(400)])
    assert found["rows"] == {"synthetic": 400}
    assert found["warnings"] == [SYNTHETIC_WARNING]
    assert "not BIRD EX" in rung_table(found)


def test_synthetic_rows_say_nothing_where_no_rung_used_them():
    unused = {"ran": None, "ex_bird": None, "ex_strict": None, "rows": "synthetic"}
    assert SYNTHETIC_WARNING not in tally([climbed(1, **unused)])["warnings"]


@pytest.mark.parametrize(("n", "warned"), [(380, True), (381, False)])
def test_too_few_questions_for_a_claim_are_said(n, warned):
    # the half-width at one half falls below 5 points between n = 380 and n = 381
    warnings = tally([climbed(index) for index in range(n)])["warnings"]
    assert any("no fine claim" in line for line in warnings) == warned


def test_the_table_shows_count_percent_and_interval():
    verdicts = [climbed(index, "ex_strict" if index < 231 else "ran") for index in range(500)]
    line = next(line for line in rung_table(tally(verdicts)).splitlines() if line.startswith("ex_strict"))
    assert line.split()[:5] == ["ex_strict", "231", "46.2", "%", "[41.9,"]


def test_gold_faults_are_told_by_reason_with_some_ids_and_the_rest_in_one_line():
    skipped = [{"question_id": str(i), "db_id": "shop", "reason": "no rows"} for i in range(7)]
    skipped += [{"question_id": "x", "db_id": "shop", "reason": reason} for reason in ("r1", "r2")]
    assert skipped_lines(skipped, n_ids=2, n_reasons=1) == [
        "7 gold faults: no rows (0, 1, ...)",
        "2 gold faults for 2 other reasons",
    ]


def test_slices_are_largest_first_and_a_question_may_be_in_several():
    found = tally_by([climbed(1), climbed(2, "ran")], [("join", "group"), ("join",)])
    assert [(name, slices["n"], slices["ex_strict"]["count"]) for name, slices in found.items()] == [
        ("join", 2, 1),
        ("group", 1, 1),
    ]


@given(st.lists(st.sampled_from(["", *RUNGS]), min_size=1, max_size=30))
def test_counts_never_rise_along_the_ladder_and_the_object_is_json(reached):
    found = tally([climbed(index, up_to) for index, up_to in enumerate(reached)])
    counts = [found[name]["count"] for name in RUNGS]
    assert counts == sorted(counts, reverse=True)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
