"""What is said of a rate on a person's own database."""

from groundql.records import Verdict
from groundql.reports.trust import trust_lines


def verdicts(n_right, n):
    return [
        Verdict.unchecked(question_id=str(i), db_id="x", question="?", ex_strict=i < n_right)
        for i in range(n)
    ]


def test_the_rate_comes_with_its_n_and_its_interval():
    (first, *_) = trust_lines(verdicts(231, 500), 0)
    assert first.startswith("231 of 500 questions were answered")
    assert "between 42 % and 51 %" in first  # Wilson, as in the docstring of `wilson`


def test_drafted_questions_are_called_so_and_own_ones_too():
    assert any("no person asked them" in line for line in trust_lines(verdicts(20, 40), 40))
    assert any("All of them are your own" in line for line in trust_lines(verdicts(20, 40), 0))
    mixed = trust_lines(verdicts(20, 40), 10)
    assert any("10 of 40 were drafted" in line for line in mixed)


def test_few_questions_are_called_few():
    assert any("5 questions are few" in line for line in trust_lines(verdicts(2, 5), 0))
    assert not any("are few" in line for line in trust_lines(verdicts(20, 40), 0))


def test_without_a_gold_there_is_no_rate():
    (only,) = trust_lines([Verdict.unchecked(question_id="0", db_id="x", question="?")], 0)
    assert "no rate" in only
