"""Drafted questions in a model's words: what is kept, what is thrown away, and where it goes."""

from dataclasses import replace

import pytest

from groundql.projects import rephrasing
from groundql.projects.golds import Line
from groundql.projects.rephrasing import is_same_question, rephraser
from tests.scripted import scripted_writer
from tests.tiny import save_tiny

LINE = Line(
    question_id="d1",
    text="How many lamps in 'hall' use more than 40 watts?",
    sql="SELECT COUNT(*) FROM lamp WHERE room = 'hall' AND watts > 40",
    split="train",
    source="drafted",
    template="count_two",
)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("In the hall, how many lamps take over 40 watts?", True),
        ("How many lamps take over 40 watts?", False),  # the room is lost
        ("How many lamps in the hall take a lot of watts?", False),  # the number is lost
        ("How many lamps in the hall take over 40 watts", False),  # cut off
        ("Count the lamps in the hall that use more than 40 watts.", True),
        ("The lamps in the hall use more than 40 watts each.", False),  # it asserts
        ("How many of the 9 lamps in the hall use over 40 watts?", False),  # a number of its own
        ("hall 40?", False),  # far shorter
        ("SELECT COUNT(*) FROM lamp WHERE room = 'hall' AND watts > 40.", False),
    ],
)
def test_a_text_may_stand_for_a_question_when_it_keeps_the_values(text, kept):
    assert is_same_question(LINE, text) is kept


def test_what_a_model_that_knows_nothing_writes_is_thrown_away_and_said(tmp_path):
    said = []
    lines = [LINE, replace(LINE, question_id="d2", split="held-out")]
    assert rephraser(str(save_tiny(tmp_path / "m", "qwen2")), said.append)(lines) == []
    assert "said 0 of 1 questions" in said[0]  # one gold of the training part; the held-out one is not asked


def test_a_text_that_keeps_the_values_becomes_one_more_line_of_training_with_the_same_gold(monkeypatch):
    said = []
    text = "In the hall, how many lamps take over 40 watts?"
    monkeypatch.setattr(rephrasing, "load_writer", lambda _: scripted_writer(text))
    others = [
        replace(LINE, question_id="d2", split="held-out"),
        replace(LINE, question_id="own1", source="own"),
    ]
    assert rephraser("scripted", said.append)([LINE, *others]) == [
        replace(LINE, question_id="d1m", text=text)
    ]
    assert "said 1 of 1 questions" in said[0]
