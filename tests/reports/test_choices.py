"""Abstentions and strain: bins by hand, the share of pairs by hand, and where they are shown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundql.records import Completion, Strain, write_jsonl
from groundql.reports.causes import cause
from groundql.reports.choices import choice_facts, choice_lines, risk_by_coverage, separation, strain_bins
from groundql.reports.page import write_report
from groundql.reports.statistics import wilson
from groundql.reports.tally import rung_table, tally
from tests.reports.verdicts import climbed


def test_an_abstention_is_its_own_cause_and_passes_no_rung():
    silent = climbed(1, "", abstained=True, error="abstained: no table fits")
    assert cause(silent) == "abstained"
    assert cause(climbed(2, "")) == "no SQL"


def test_the_answered_have_their_own_rate_beside_the_one_over_all():
    """Two of four abstain; of the two others one is right: 25 % of all, 50 % of the answered."""
    verdicts = [climbed(n, "", abstained=True) for n in (1, 2)] + [climbed(3), climbed(4, "ran")]
    found = tally(verdicts)
    assert found["ex_strict"]["rate"] == 0.25
    assert found["abstained"]["count"] == 2
    assert (found["answered"]["n"], found["answered"]["rate"]) == (2, 0.5)
    assert (found["answered"]["low"], found["answered"]["high"]) == wilson(1, 2)
    assert "2 abstained: they pass no rung; of the 2 others 50.0 %" in rung_table(found)


def test_without_choices_nothing_is_said():
    assert choice_facts([climbed(1)]) == {}
    assert choice_lines({}) == []


def test_strain_in_bins_of_equal_size_by_hand():
    """Ten answers with strain 0 to 9, the lower six right: bins of two have 2, 2, 2, 0, 0 right."""
    pairs = [(float(n), n < 6) for n in range(10)]
    bins = strain_bins(pairs, 5)
    assert [(b["low_strain"], b["high_strain"], b["n"], b["count"]) for b in bins] == [
        (0, 1, 2, 2), (2, 3, 2, 2), (4, 5, 2, 2), (6, 7, 2, 0), (8, 9, 2, 0),
    ]  # fmt: skip


def test_accuracy_by_coverage_by_hand():
    """Twenty answers with strain 0 to 19, the least strained ten right: 10 of 10, 10 of 16, 10 of 19, 10 of 20."""
    points = risk_by_coverage([(float(n), n < 10) for n in range(20)])
    assert [(p["n"], p["rate"]) for p in points] == [(10, 1.0), (16, 10 / 16), (19, 10 / 19), (20, 0.5)]


def test_where_most_strains_are_equal_half_of_them_are_as_good_as_all():
    points = risk_by_coverage([(0.0, n % 4 > 0) for n in range(20)])
    assert [p["rate"] for p in points] == [pytest.approx(0.75)] * 4


def test_equal_strains_stay_in_one_bin():
    bins = strain_bins([(0.0, True)] * 9 + [(1.0, False)], 5)
    assert [(b["n"], b["count"]) for b in bins] == [(9, 9), (1, 0)]


@pytest.mark.parametrize(
    ("pairs", "area"),
    [
        ([(1, True), (2, False)], 1.0),
        ([(2, True), (1, False)], 0.0),
        ([(1, True), (1, False)], 0.5),
        ([(1, True), (3, True), (2, False), (3, False)], 0.625),  # 2 > 1, 3 > 1, 3 = 3: 2.5 of 4 pairs
        ([(1, True)], None),
        ([(1, False)], None),
    ],
)
def test_the_share_of_pairs_by_hand(pairs, area):
    assert separation(pairs)["auroc"] == area


@given(st.lists(st.tuples(st.integers(0, 5).map(float), st.booleans()), min_size=1, max_size=40))
def test_bins_hold_every_answer_and_the_share_is_that_of_all_pairs(pairs):
    bins = strain_bins(pairs)
    assert sum(b["n"] for b in bins) == len(pairs)
    assert sum(b["count"] for b in bins) == sum(right for _, right in pairs)
    right = [s for s, is_right in pairs if is_right]
    wrong = [s for s, is_right in pairs if not is_right]
    found = separation(pairs)
    if right and wrong:
        wins = sum((w > r) + (w == r) / 2 for w in wrong for r in right)
        assert found["auroc"] == pytest.approx(wins / (len(right) * len(wrong)))
        assert 0 <= found["low"] <= found["auroc"] <= found["high"] <= 1
    else:
        assert found["auroc"] is None


def test_the_interval_is_hanley_and_mcneil_s():
    """A = 0.75 from 2 wrong and 2 right: Q1 = 0.6, Q2 = 9/14, variance (0.1875 + 0.0375 + 9/14 - 0.5625) / 4."""
    found = separation([(1, True), (3, True), (2, False), (4, False)])
    assert found["auroc"] == 0.75
    half = 1.959964 * ((0.1875 + 0.0375 + 9 / 14 - 0.5625) / 4) ** 0.5
    assert found["low"] == pytest.approx(0.75 - half)
    assert found["high"] == 1.0


def test_page_and_markdown_show_both(tmp_path):
    verdicts = [climbed(n, "ex_strict" if n < 12 else "ran", strain=n / 10) for n in range(20)]
    verdicts.append(climbed(20, "", abstained=True, error="abstained: no table fits"))
    write_jsonl(tmp_path / "verdicts.jsonl", verdicts)
    said = [Completion(question_id="20", db_id="shop", text="", sql=None, status="abstained", reason="no table fits", strain=Strain(total=2.5))]  # fmt: skip
    write_jsonl(tmp_path / "predictions.jsonl", said)
    page = write_report([tmp_path], tmp_path).read_text()
    assert "1 abstained: they pass no rung; of the 20 others 60.0 %" in page
    assert "4 answers by strain" in page
    assert '"cause":"abstained"' in page
    assert "What the writer says itself" in (tmp_path / "report.md").read_text()
