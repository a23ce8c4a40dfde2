"""The vote on results, and the words of a second try."""

import pytest

from groundql.decoding.repair import repair_prompt
from groundql.decoding.vote import Candidate, vote
from groundql.records import Prompt, Turns


def candidates(*some):
    return [Candidate(result, log_probability, 10) for result, log_probability in some]


@pytest.mark.parametrize(
    ("some", "chosen", "n_agreeing"),
    [
        (candidates(("a", -9), ("b", -1), ("a", -5)), 2, 2),  # two agree against the most probable
        (candidates(("a", -3), ("b", -1)), 1, 1),  # a tie goes to the more probable
        (candidates((None, -1), (None, -2), ("b", -9)), 2, 1),  # what does not run has no vote
        (candidates((None, -4), (None, -2)), 1, 0),  # nothing runs
        (candidates(("a", -1), ("a", -1)), 0, 2),  # equal: the first
        ([Candidate("a", -4.0, 2), Candidate("b", -6.0, 6)], 1, 1),  # by token: -2 against -1
    ],
)
def test_the_largest_group_wins_and_in_it_the_most_probable_text(some, chosen, n_agreeing):
    found = vote(some)
    assert (found.chosen, found.n_agreeing) == (chosen, n_agreeing)


def test_a_second_try_keeps_the_prefix_and_ends_as_a_question_does():
    turns = Turns(before_system="<s>", after_system="</s>", before_user="<u>", after_user="</u>", end="</a>")
    prompt = Prompt(
        question_id="1", db_id="shop", prefix="<s>schema</s>", suffix="<u>How many?</u>", n_tokens=9
    )
    again = repair_prompt(prompt, turns, "SELECT x FROM t", "no such\ncolumn: x")
    assert again.prefix == prompt.prefix
    assert again.suffix == "<u>How many?\nThis query fails: SELECT x FROM t\nError: no such column: x</u>"
