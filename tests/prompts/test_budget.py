"""Prompts that fit: what shrinks, in which order, and what never does. A token is a character here."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundql.config import PromptSettings
from groundql.errors import PromptTooLong
from groundql.prompts.budget import fit_prompt, keep_pointed_columns
from groundql.prompts.render import render_prompt
from groundql.records import Question
from tests.prompts.shop import PLAIN_TURNS, QUESTION, SHOP

DROPPED = ("descriptions", "examples", "columns")
FORMS = [DROPPED[:n] for n in range(4)]  # from the fullest to the barest


def fit(max_tokens, *, question=QUESTION, **settings):
    return fit_prompt(
        question,
        SHOP,
        settings=PromptSettings(max_tokens=max_tokens, **settings),
        turns=PLAIN_TURNS,
        count_tokens=len,
    )


def lengths():
    """Length of each form, the fullest first: found by asking for one character less than the last."""
    found = [fit(100_000).n_tokens]
    while len(found) < 4:
        found.append(fit(found[-1] - 1).n_tokens)
    return found


def test_parts_shrink_in_the_stated_order_and_only_as_far_as_needed():
    sizes = lengths()
    assert sizes == sorted(sizes, reverse=True)
    assert [fit(size).shrunk for size in sizes] == FORMS


def test_each_form_lacks_what_it_says_and_nothing_else():
    full, no_descriptions, no_examples, fewest = (fit(size).prefix for size in lengths())
    assert "A regular, B new" in full
    assert "A regular, B new" not in no_descriptions
    assert "'Ada Byron'" in no_descriptions
    assert "'Ada Byron'" not in no_examples
    assert "note" in no_examples  # nothing points to it and nobody asks for it
    assert "note" not in fewest
    for column in ("id integer PRIMARY KEY", "customer integer REFERENCES", "total real", "grade char(1)"):
        assert column in fewest


def test_values_go_last_and_only_where_the_barest_schema_leaves_no_room():
    values = {("order", "note"): ["late"]}

    def with_values(max_tokens):
        return fit_prompt(
            QUESTION,
            SHOP,
            settings=PromptSettings(max_tokens=max_tokens),
            turns=PLAIN_TURNS,
            count_tokens=len,
            values=values,
        )

    barest = lengths()[-1]
    n_more = len("\nValues: `order`.note = 'late'")
    assert with_values(barest + n_more).shrunk == DROPPED
    assert "Values: `order`.note = 'late'" in with_values(barest + n_more).suffix
    assert with_values(barest + n_more - 1).shrunk == (*DROPPED, "values")
    assert "Values" not in with_values(barest).suffix


def test_question_and_evidence_are_whole_in_every_form():
    whole = render_prompt(
        QUESTION, SHOP, settings=PromptSettings(), turns=PLAIN_TURNS, count_tokens=None
    ).suffix
    assert {fit(size).suffix for size in lengths()} == {whole}


def test_what_does_not_fit_even_barest_is_refused_with_its_size_and_the_next_step():
    barest = lengths()[-1]
    with pytest.raises(PromptTooLong) as raised:
        fit(barest - 1)
    assert f"question 7 on shop: {barest} tokens" in str(raised.value)
    assert f"raise prompt.max_tokens (now {barest - 1})" in str(raised.value)


def test_what_was_never_in_the_prompt_is_not_called_left_out():
    bare = fit(100_000, descriptions=False, n_examples=0)
    assert bare.shrunk == ()
    assert fit(bare.n_tokens - 1, descriptions=False, n_examples=0).shrunk == ("columns",)
    no_descriptions = fit(100_000, descriptions=False)
    assert fit(no_descriptions.n_tokens - 1, descriptions=False).shrunk == ("examples",)


def test_without_a_schema_there_is_nothing_to_shrink():
    whole = fit(100_000, schema=False)
    with pytest.raises(PromptTooLong):
        fit(whole.n_tokens - 1, schema=False)


@given(st.integers(64, 1000), st.text(max_size=200))
def test_a_prompt_is_never_longer_than_its_budget(max_tokens, text):
    question = Question(question_id="0", db_id="shop", text=text)
    try:
        prompt = fit(max_tokens, question=question)
    except PromptTooLong:
        return
    assert len(prompt.prefix + prompt.suffix) == prompt.n_tokens <= max_tokens
    assert prompt.shrunk in FORMS
    assert text.strip() in prompt.suffix


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Which notes are there?", "note"),  # the plural
        ("Spending in TOTAL", "total"),
        ("Whose name is it?", "Full Name"),  # one word of two
    ],
)
def test_a_column_that_shares_a_word_with_the_question_stays(text, kept):
    question = Question(question_id="0", db_id="shop", text=text)
    columns = [
        column.name for table in keep_pointed_columns(question, SHOP).tables for column in table.columns
    ]
    assert kept in columns


def test_keys_and_what_they_point_to_stay_whatever_is_asked():
    kept = keep_pointed_columns(Question(question_id="0", db_id="shop", text="?"), SHOP)
    assert [[column.name for column in table.columns] for table in kept.tables] == [
        ["id"],
        ["shop", "number", "customer"],
        ["shop", "number"],
    ]


def test_a_table_is_never_left_without_a_column():
    table = SHOP.tables[0].model_copy(update={"primary_key": ()})
    kept = keep_pointed_columns(
        Question(question_id="0", db_id="shop", text="?"), SHOP.model_copy(update={"tables": (table,)})
    )
    assert [column.name for column in kept.tables[0].columns] == ["id"]
