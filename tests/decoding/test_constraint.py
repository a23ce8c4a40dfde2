"""A row's constraint: lazy answers, masks, and that going back leaves no trace."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundql.decoding.constraint import Constraints, Vocabulary
from groundql.errors import ModelMissing
from tests.decoding.schemas import LIBRARY, AnyScope, encode, tiny_vocabulary
from tests.tiny import sentencepiece_parts, tiny_tokenizer

QUERIES = [
    "SELECT T1.title FROM book AS T1 JOIN `order` AS T2 ON T1.id = T2.book_id WHERE T1.`Due Date` > '2024'",
    " SELECT COUNT(*) FROM book WHERE title LIKE '%Zoë; 日本%' OR price NOT IN (1, 2.5);",
    "WITH Q1 AS (SELECT id, MAX(price) AS c1 FROM book GROUP BY id) SELECT c1 FROM Q1 ORDER BY c1 DESC LIMIT 3",
]
END = tiny_tokenizer().eos_token_id


class NoTitle(AnyScope):
    """Refuses any text with the word `title`."""

    def advance(self, state, piece):
        return None if "title" in state + piece else state + piece

    def why_not(self, state, piece):
        return "title may not be named"


@pytest.fixture(scope="module")
def constraints():
    return Constraints(tiny_vocabulary(), LIBRARY, tracker=AnyScope())


def written(constraints, tokens):
    row = constraints.start()
    for token in tokens:
        row.consume(token)
    return row


def state_of(row):
    """All that a caller can see of where a row stands."""
    some = range(0, row.mask().size, 7)
    return (
        row.text,
        row.query,
        row.n_tokens,
        row.mask().tolist(),
        [row.accepts(token) for token in (*some, END)],
    )


def test_the_end_is_accepted_only_where_the_gate_lets_the_text_through(constraints):
    row = written(constraints, encode("SELECT title FROM book"))
    assert row.accepts(END)
    row = written(constraints, encode("SELECT T1.date FROM book AS T1"))
    assert not row.accepts(END)
    assert (row.refused_by, row.gate_error) == ("gate", "no such column: T1.date")
    assert row.why_not(END) == "no such column: T1.date"


def test_a_text_that_is_no_query_yet_cannot_end(constraints):
    for text in ("", "SELECT title FROM", "SELECT title FROM book WHERE"):
        row = written(constraints, encode(text))
        assert not row.accepts(END)
        assert row.refused_by == "grammar"


def test_a_final_semicolon_is_held_to_the_gate_and_one_in_a_literal_is_not(constraints):
    (semicolon,) = encode(";")
    row = written(constraints, encode("SELECT 'a"))
    assert row.accepts(semicolon)
    row = written(constraints, encode("SELECT title FROM book"))
    assert row.accepts(semicolon)
    row.consume(semicolon)
    assert row.query == "SELECT title FROM book"
    assert np.flatnonzero(row.mask()).tolist() == [END]
    assert [token for token in range(row.mask().size) if row.accepts(token)] == [END]
    row = written(constraints, encode("SELECT T1.date FROM book AS T1"))
    assert not row.accepts(semicolon)
    assert row.refused_by == "gate"


def test_what_the_scope_tracker_refuses_is_refused_with_its_words():
    row = Constraints(tiny_vocabulary(), LIBRARY, tracker=NoTitle()).start()
    tokens = encode("SELECT title")
    for token in tokens[:-1]:
        row.consume(token)
    assert not row.accepts(tokens[-1])
    assert (row.refused_by, dict(row.refusals)) == ("scope", {"scope": 1})
    assert row.why_not(tokens[-1]) == "title may not be named"
    with pytest.raises(ValueError, match="may not follow 'SELECT"):
        row.consume(tokens[-1])


def test_special_tokens_and_the_padding_of_wide_logits_are_never_accepted():
    tokenizer = tiny_tokenizer()
    vocabulary = Vocabulary(tokenizer, {END}, n_logits=640)
    row = Constraints(vocabulary, LIBRARY, tracker=AnyScope()).start()
    for token in encode("SELECT '"):
        row.consume(token)
    special = set(tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|im_start|>", "<|im_end|>"]))
    assert row.mask().shape == (640,)
    for token in (*special, *range(len(tokenizer), 640), 10**6, -1):
        assert not row.accepts(token)
        assert token >= 640 or not row.mask()[token]


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("bytewise", [False, True])
def test_the_mask_admits_what_is_accepted_where_scope_and_gate_know_no_no(constraints, query, bytewise):
    """AnyScope refuses nothing, so beside the end only the grammar speaks. Of forced text the mask has one spelling."""
    row = constraints.start()
    n_free = 0
    for token in encode(query, bytewise=bytewise):
        mask = row.mask()
        accepted = np.array([row.accepts(t) or row.refused_by == "gate" for t in range(mask.size)])
        assert not (mask & ~accepted).any()
        if mask.sum() > 1:
            assert mask.tolist() == accepted.tolist()
            n_free += 1
        row.consume(token)
    assert n_free > 10


def test_text_is_made_of_bytes_so_a_character_may_be_cut_between_tokens(constraints):
    row = written(constraints, encode("SELECT 'é日", bytewise=True)[:-1])
    assert row.text == "SELECT 'é"
    row.consume(encode("日", bytewise=True)[-1])
    assert row.text == "SELECT 'é日"


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(QUERIES),
    st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), max_size=8),
    st.booleans(),
)
def test_any_sequence_of_consume_and_rollback_leaves_a_row_as_if_decoded_straight(query, moves, bytewise):
    constraints = tiny_vocabulary().__dict__.setdefault(
        "_for_rollback", Constraints(tiny_vocabulary(), LIBRARY, tracker=AnyScope())
    )
    tokens = [*encode(query, bytewise=bytewise), END]
    row, place = constraints.start(), 0
    for forward, back in moves:
        for token in tokens[place : place + forward]:
            row.consume(token)
        place = min(place + forward, len(tokens))
        row.rollback(min(back, place))
        place -= min(back, place)
    assert state_of(row) == state_of(written(constraints, tokens[:place]))


def test_asking_changes_nothing(constraints):
    tokens = encode(QUERIES[0])
    row, quiet = constraints.start(), constraints.start()
    for token in tokens:
        for other in range(0, 600, 11):
            row.accepts(other)
        row.mask()
        row.consume(token)
        quiet.consume(token)
    assert state_of(row) == state_of(quiet)


def test_more_than_was_written_cannot_be_taken_back(constraints):
    row = written(constraints, encode("SELECT"))
    with pytest.raises(ValueError, match="cannot be taken back"):
        row.rollback(row.n_tokens + 1)


def test_a_place_in_the_text_is_found_as_the_token_that_wrote_it(constraints):
    text = " SELECT '日本', title"
    tokens = encode(text)
    row = written(constraints, tokens)
    place = row.token_at(row.query.index("title"))
    begun = tiny_tokenizer().decode(tokens[:place])
    assert begun == " SELECT '日本', "[: len(begun)]
    assert "t" in tiny_tokenizer().decode(tokens[place])


def test_constraints_of_a_schema_are_compiled_once_for_a_vocabulary():
    vocabulary = Vocabulary(tiny_tokenizer(), {END})
    assert vocabulary.constraints(LIBRARY) is vocabulary.constraints(LIBRARY.model_copy(deep=True))
    renamed = LIBRARY.model_copy(update={"tables": LIBRARY.tables[:1]})
    assert vocabulary.constraints(renamed) is not vocabulary.constraints(LIBRARY)


def test_a_tokenizer_whose_tokens_are_read_as_other_bytes_is_refused_and_shows_them():
    with pytest.raises(ModelMissing) as raised:
        Vocabulary(sentencepiece_parts(tiny_tokenizer()), {END})
    message = str(raised.value)
    assert "cannot tell which bytes this model's tokens write" in message
    assert 'SELECT "a b" FROM c were read as SELECTĠ"aĠb"ĠFROMĠc' in message
    assert "--decoding free" in message
