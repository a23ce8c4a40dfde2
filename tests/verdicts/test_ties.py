"""Golds that cut a tie: seen where the answer is open, and nowhere else."""

import pytest

from groundql.verdicts.ties import FAULT, tie_probes


def is_flagged(judged, gold: str) -> bool:
    return FAULT in judged(gold, gold=gold).gold_fault


# the bookshop: Tides and Snow cost 10, the others other prices
@pytest.mark.parametrize(
    ("gold", "flagged"),
    [
        ("SELECT title FROM book WHERE price = 10 ORDER BY price LIMIT 1", True),
        ("SELECT title FROM book WHERE price = 10 ORDER BY price LIMIT 2", False),  # all of the tie is kept
        ("SELECT title FROM book WHERE price = 10 ORDER BY price, title LIMIT 1", False),  # decided by title
        ("SELECT price FROM book WHERE price = 10 ORDER BY price LIMIT 1", False),  # either row says the same
        ("SELECT price AS p, title FROM book WHERE price = 10 ORDER BY p LIMIT 1", True),
        ("SELECT price, title FROM book WHERE price = 10 ORDER BY 1 DESC LIMIT 1", True),
        ("SELECT title FROM book WHERE price = 10 ORDER BY price LIMIT 1 OFFSET 1", False),  # the last row
        ("SELECT DISTINCT price FROM book WHERE price = 10 ORDER BY price LIMIT 1", False),
        ("SELECT title FROM book WHERE title = (SELECT title FROM book WHERE price = 10 ORDER BY price LIMIT 1)", True),
        ("SELECT price, COUNT(*) FROM book GROUP BY title ORDER BY COUNT(*) DESC LIMIT 1", True),
        ("SELECT title FROM book WHERE price = 10", False),
    ],
)  # fmt: skip
def test_a_tie_is_flagged_where_the_answer_is_open(judged, gold, flagged):
    assert is_flagged(judged, gold) == flagged


@pytest.mark.parametrize(
    "gold",
    [
        "not SQL",
        "SELECT * FROM book ORDER BY 1 LIMIT 1",  # what stands at place 1 is not said
        "SELECT title FROM book ORDER BY price LIMIT 1 + 1",
        "SELECT DISTINCT title FROM book ORDER BY price LIMIT 1",
    ],
)
def test_what_cannot_be_asked_is_not_asked(gold):
    assert tie_probes(gold) == []


def test_a_query_that_needs_the_one_around_it_says_nothing(judged):
    inner = "SELECT b.title FROM book AS b WHERE b.price = a.price ORDER BY b.price LIMIT 1"
    assert not is_flagged(judged, f"SELECT ({inner}) FROM book AS a")
