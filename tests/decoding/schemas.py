"""Schemas and helpers of the decoding tests."""

from functools import cache

from groundql.databases.schema import read_schema
from groundql.decoding.constraint import Vocabulary
from groundql.questions.pocket import load_pocket
from groundql.records import Column, Schema, Table
from tests.tiny import tiny_tokenizer

LIBRARY = Schema(
    db_id="library",
    tables=(
        Table(
            name="book",
            columns=(
                Column(name="id", type="INTEGER"),
                Column(name="title", type="TEXT"),
                Column(name="Due Date", type="TEXT"),
                Column(name="price", type="REAL"),
            ),
        ),
        Table(
            name="order",
            columns=(
                Column(name="id", type="INTEGER"),
                Column(name="book_id", type="INTEGER"),
                Column(name="date", type="TEXT"),
            ),
        ),
    ),
)


class AnyScope:
    """A scope tracker that knows no scope: what is refused beside it, the grammar or the gate refuses."""

    def start(self):
        return ""

    def advance(self, state, piece):
        return state + piece

    def refusal(self, state):
        return None

    def why_not(self, state, piece):
        return ""

    def passed_over(self, state):
        return "", 0

    def ways_on(self, state):
        return ()


class OpenGate:
    """A gate that lets everything through."""

    def refusal(self, text):
        return None


@cache
def tiny_vocabulary():
    """600 tokens, every single byte among them; <|im_end|> ends a text."""
    tokenizer = tiny_tokenizer()
    return Vocabulary(tokenizer, {tokenizer.eos_token_id})


@cache
def pocket_schemas():
    """Each pocket database's schema, by name."""
    return {name: read_schema(files) for name, files in load_pocket("pocket").databases.items()}


def encode(text, *, bytewise=False):
    """Token ids of `text`: as the tokenizer merges them, or a token a byte."""
    tokenizer = tiny_tokenizer()
    if not bytewise:
        return tokenizer(text, add_special_tokens=False)["input_ids"]
    return [byte_tokens()[byte] for byte in text.encode()]


@cache
def byte_tokens():
    vocabulary = tiny_vocabulary()
    pieces = {token: vocabulary.piece(token) for token in range(vocabulary.n_tokens)}
    return {piece[0]: token for token, piece in pieces.items() if len(piece) == 1}


def stops_at(constraints, text, *, bytewise=False):
    """(what was written, who refused the rest) of `text` fed token by token; who is None where it may end there."""
    row = constraints.start()
    for token in [*encode(text, bytewise=bytewise), *constraints.vocabulary.ends]:
        if not row.accepts(token):
            return row.text, row.refused_by
        row.consume(token)
    return row.text, None
