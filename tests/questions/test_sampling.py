"""Samples keep distributions, splits keep databases whole, and both are exact and repeatable."""

from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundql.errors import SettingError
from groundql.questions.load import load_data
from groundql.questions.sample import (
    distance,
    evidence_bucket,
    evidence_edges,
    kolmogorov_smirnov,
    split_by_database,
    stratified_sample,
    stratum_of,
)
from groundql.records import Question


def question(number: int, evidence: str = "", db_id: str = "a", sql: str | None = None) -> Question:
    return Question(question_id=str(number), db_id=db_id, text="?", evidence=evidence, gold_sql=sql)


question_lists = st.lists(
    st.tuples(st.integers(0, 30), st.sampled_from("abcd")), min_size=1, max_size=150
).map(lambda parts: [question(number, "x" * length, db_id) for number, (length, db_id) in enumerate(parts)])


@given(question_lists, st.floats(0.01, 1), st.integers(0, 5))
def test_a_sample_has_exactly_its_share_of_the_whole_and_of_every_stratum(
    questions: list[Question], fraction: float, seed: int
) -> None:
    n_wanted = int(Fraction(str(fraction)) * len(questions) + Fraction(1, 2))
    if n_wanted == 0:
        return
    kept = stratified_sample(questions, fraction, by=("evidence", "database"), seed=seed)
    assert len(kept) == n_wanted
    by_evidence, by_database = stratum_of("evidence", questions), stratum_of("database", questions)
    for strata in (by_evidence, lambda q: (by_evidence(q), by_database(q))):
        in_whole, in_sample = Counter(map(strata, questions)), Counter(map(strata, kept))
        for name, count in in_whole.items():
            exact = Fraction(n_wanted * count, len(questions))
            assert abs(in_sample[name] - exact) < 1


@pytest.mark.parametrize(
    ("fraction", "n", "n_kept"), [(0.15, 10, 2), (0.15, 9, 1), (0.45, 10, 5), (0.05, 10, 1)]
)
def test_a_half_is_rounded_up_and_a_fraction_is_what_was_written(
    fraction: float, n: int, n_kept: int
) -> None:
    assert len(stratified_sample([question(number) for number in range(n)], fraction, seed=0)) == n_kept


@given(question_lists, st.integers(0, 5))
def test_a_sample_keeps_the_old_order_and_repeats_nothing(questions: list[Question], seed: int) -> None:
    kept = (
        [int(q.question_id) for q in stratified_sample(questions, 0.5, seed=seed)]
        if len(questions) > 1
        else []
    )
    assert kept == sorted(set(kept))


def test_the_seed_decides_the_sample() -> None:
    questions = [question(number) for number in range(200)]
    assert stratified_sample(questions, 0.5, seed=1) == stratified_sample(questions, 0.5, seed=1)
    assert stratified_sample(questions, 0.5, seed=1) != stratified_sample(questions, 0.5, seed=2)


def test_the_whole_is_its_own_full_sample() -> None:
    questions = tuple(question(number, "x" * number) for number in range(20))
    assert stratified_sample(questions, 1.0, by=("evidence", "database"), seed=3) == questions


def test_every_question_is_as_likely_as_any_other_however_small_its_stratum() -> None:
    """Rounding each stratum by largest remainder would take all of the one-question strata, or none."""
    questions = [question(number, db_id=f"db{number}") for number in range(10)]
    questions += [question(number, db_id="big") for number in range(10, 20)]
    n_small = sum(
        q.db_id != "big"
        for seed in range(300)
        for q in stratified_sample(questions, 0.45, by=("database",), seed=seed)
    )
    assert 0.4 < n_small / 3000 < 0.5


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.1, float("nan")])
def test_a_fraction_outside_its_range_is_refused(fraction: float) -> None:
    with pytest.raises(SettingError, match="above 0 and up to 1"):
        stratified_sample([question(0)], fraction, seed=0)


def test_a_sample_of_nothing_is_refused() -> None:
    with pytest.raises(SettingError, match="raise the fraction"):
        stratified_sample([question(0), question(1)], 0.1, seed=0)


def test_an_unknown_key_is_told_the_nearest() -> None:
    with pytest.raises(SettingError, match=r"'evidnce' .* did you mean evidence\?"):
        stratified_sample([question(0)], 1, by=("evidnce",), seed=0)


def test_evidence_buckets_are_tenths_and_zero_stands_apart() -> None:
    questions = [question(0), *(question(length, "x" * length) for length in range(1, 101))]
    edges = evidence_edges(questions)
    assert edges == (10, 20, 30, 40, 50, 60, 70, 80, 90)
    counts = Counter(evidence_bucket(q, edges) for q in questions)
    assert counts == {0: 1, **dict.fromkeys(range(1, 11), 10)}


def test_equal_evidence_lengths_share_a_bucket() -> None:
    questions = [question(number, "x" * (5 if number < 90 else 9)) for number in range(100)]
    assert {evidence_bucket(q, evidence_edges(questions)) for q in questions} == {1, 2}


def test_the_distance_of_a_lopsided_sample_is_what_the_definition_says() -> None:
    whole = [question(number, db_id="a" if number < 50 else "b") for number in range(100)]
    found = distance(whole[:50], whole, "database")
    assert (found.total_variation, found.n_strata, found.kolmogorov_smirnov) == (0.5, 2, None)
    assert distance(whole, whole, "evidence").kolmogorov_smirnov == 0


def test_complexity_can_be_kept() -> None:
    simple, joined = "SELECT a FROM t", "SELECT a FROM t INNER JOIN u ON t.a = u.a"
    questions = [question(n, sql=simple if n % 4 else joined) for n in range(80)]
    kept = stratified_sample(questions, 0.5, by=("complexity",), seed=1)
    assert Counter(q.gold_sql for q in kept) == {simple: 30, joined: 10}


@given(st.lists(st.integers(), min_size=1, max_size=30))
def test_shuffled_lengths_have_no_gap(lengths: list[int]) -> None:
    assert kolmogorov_smirnov(lengths, lengths[::-1]) == 0


@given(question_lists.filter(lambda questions: len({q.db_id for q in questions}) >= 3), st.integers(0, 5))
def test_no_database_is_in_two_splits_and_no_question_is_lost(questions: list[Question], seed: int) -> None:
    parts = split_by_database(questions, (0.6, 0.2, 0.2), seed=seed)
    databases = [{q.db_id for q in part} for part in parts]
    assert all(databases)
    assert sum(map(len, databases)) == len(set.union(*databases))
    assert sorted(int(q.question_id) for part in parts for q in part) == list(range(len(questions)))


def test_splits_come_near_their_shares() -> None:
    questions = [question(number, db_id=str(number % 40)) for number in range(4000)]
    assert [len(part) for part in split_by_database(questions, (0.8, 0.1, 0.1), seed=5)] == [3200, 400, 400]


@pytest.mark.parametrize("fractions", [(0.5, 0.4), (1.2, -0.2), (1.0, 0.0)])
def test_shares_that_do_not_add_up_are_refused(fractions: tuple[float, ...]) -> None:
    with pytest.raises(SettingError, match="add up to 1"):
        split_by_database([question(0)], fractions, seed=0)


def test_fewer_databases_than_splits_are_refused() -> None:
    with pytest.raises(SettingError, match="1 databases cannot fill 2 splits"):
        split_by_database([question(0)], (0.5, 0.5), seed=0)


def test_a_sample_of_pocket_lies_nearer_to_the_whole_than_chance() -> None:
    whole = load_data("pocket").questions
    kept = stratified_sample(whole, 0.45, by=("evidence",), seed=7)
    blind = stratified_sample(whole, 0.45, by=(), seed=7)
    assert (
        distance(kept, whole, "evidence").total_variation < distance(blind, whole, "evidence").total_variation
    )
    assert distance(kept, whole, "evidence").total_variation < 0.01
