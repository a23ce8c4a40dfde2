"""Random queries through the constraint: tokens drawn from the grammar's mask, with no model behind them.

Drawn evenly, random tokens make long literals and short queries. So weights push towards FROM, JOIN, GROUP BY, ORDER BY
and subqueries, out of literals, and, the longer a text is, towards its end. `tests/decoding/test_fuzz.py` runs a small
fixed seed of it.
"""

import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from groundql.databases.binding import prepare
from groundql.decoding.constraint import Constraints, RowConstraint, Vocabulary
from groundql.decoding.single_row import GroundedText, decode_grounded_row
from groundql.records import Column, Schema, Table

TURN = 30  # tokens after which a text is pushed to its end
# What a token adds to its logit: behind an operand or a table by the words that it begins, elsewhere by a pattern for
# its text without spaces; while a query grows, and when it shall end. Unnamed tokens get the first number.
GROWING_BEHIND = (
    -1,
    {
        " FROM": 5,
        " JOIN": 2,
        " LEFT JOIN": 2,
        " INNER JOIN": 1,
        " CROSS JOIN": 1,
        " ON": 3,
        " WHERE": 4,
        " GROUP BY": 4,
        " ORDER BY": 4,
        " HAVING": 3,
        " UNION": 2,
        " INTERSECT": 1,
        " EXCEPT": 1,
        " IN (SELECT": 3,
        " AS T": 3,
    },
)
ENDING_BEHIND = (
    -5,
    {
        " FROM": 5,
        " JOIN": 3,
        " CROSS JOIN": 3,
        " ON": 3,
        " AS T": 4,
        " END": 5,
        " THEN": 5,
        ")": 4,
        " AND": -1,
    },
)
GROWING = {
    r"[A-Z_]+\(?": -6,  # most begin a function
    r"T|T[123]|\.": 4,
    r"[123]|Q1?|c1?|COUNT|SUM|RANK|OVER|CASE": 2,
    r"\(SELECT|SELECT": 5,
    r"EX|EXISTS|CO": -2,
    r"W|WITH": 4,
    r"\(+|-": -1,
    r"'.*": -8,
}
ENDING = {r"[A-Z_]+\(?|\(.*|-": -6, r"T|T\d": 4, r"\d": 1, r"'.*": -8}
WHOLE = (" L", " C", " H", ")")  # begin one of the words above and hardly anything else
QUOTE = {r"'\)*": 12, r".*''.*": -5}  # in a literal, where thousands of tokens may follow


class OpenGate:
    """Lets every text through: shows what grammar and scope tracker hold by themselves."""

    def refusal(self, text: str) -> str | None:
        return None


@dataclass(frozen=True)
class FuzzedText:
    """One random text and what became of it."""

    db_id: str
    text: str
    decoded: GroundedText
    error: str | None  # SQLite's words where an answer does not prepare
    refusals: dict[str, int]

    @property
    def end(self) -> str:
        """`prepares`, `fails`, `dead end`, `truncated` (budget) or `gate`."""
        if self.decoded.status == "answer":
            return "prepares" if self.error is None else "fails"
        reason = self.decoded.reason
        return "truncated" if "budget" in reason else "dead end" if reason == "dead end" else "gate"


class Weights:
    """What each token of a vocabulary adds to its logit: (n_logits,) floats for the tables above."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        texts = [vocabulary.piece(token).decode("utf-8", "replace") for token in range(vocabulary.n_tokens)]

        def by_pattern(table: dict[str, int]) -> np.ndarray:
            column = np.zeros(vocabulary.n_logits)
            for pattern, weight in table.items():
                matches = re.compile(pattern, re.DOTALL).fullmatch
                column[[token for token, text in enumerate(texts) if matches(text.strip())]] = weight
            return column

        def by_words(rest: int, table: dict[str, int]) -> np.ndarray:
            column = np.full(vocabulary.n_logits, float(rest))
            for word, weight in table.items():
                begins = [
                    token
                    for token, text in enumerate(texts)
                    if word.startswith(text) and (len(text) > 2 or text in WHOLE)
                ]
                column[begins] = np.maximum(column[begins], weight)
            column[list(vocabulary.ends)] = 6
            return column

        self.growing, self.ending, self.quote = by_pattern(GROWING), by_pattern(ENDING), by_pattern(QUOTE)
        self.growing_behind, self.ending_behind = by_words(*GROWING_BEHIND), by_words(*ENDING_BEHIND)
        self.growing_behind[list(vocabulary.ends)] = -3
        words = (" =", " AND", " FROM", " WHERE", " ON", " THEN", " OR", " JO", " JOIN")
        self.behind = [token for token, text in enumerate(texts) if text in words]


def fuzz(
    vocabulary: Vocabulary,
    schemas: Sequence[Schema],
    n: int,
    *,
    seed: int,
    gated: bool,
    budget: int = 140,
) -> list[FuzzedText]:
    """`n` random texts, spread evenly over `schemas`; without `gated` the gate lets everything through."""
    weights = Weights(vocabulary)
    rng = np.random.default_rng(seed)
    gate = None if gated else OpenGate()
    constraints: dict[int, Constraints] = {}
    found = []
    for i in range(n):
        place = i % len(schemas)
        if place not in constraints:
            constraints[place] = Constraints(vocabulary, schemas[place], gate=gate)
        row = constraints[place].start()
        decoded = decode_grounded_row(random_logits(row, weights, rng), row, vocabulary.ends, budget)
        query = row.query
        error = prepare(schemas[place], query) if decoded.status == "answer" else None
        found.append(FuzzedText(schemas[place].db_id, query, decoded, error, dict(row.refusals)))
    return found


def random_logits(row: RowConstraint, weights: Weights, rng: np.random.Generator):
    """Logits for the reference loop: Gumbel noise on what the grammar admits, weighted, -inf elsewhere."""

    def logits(ids: Sequence[int]) -> np.ndarray:
        mask = row.mask()
        admitted = np.flatnonzero(mask)
        scores = np.full(len(mask), -np.inf)
        noise = rng.gumbel(size=len(admitted))
        over = max(0, len(ids) - TURN) / TURN
        if len(admitted) > len(mask) // 4:  # inside a literal
            weight = weights.quote
        elif mask[weights.behind].any():
            weight = weights.ending_behind * (1 + over) if over else weights.growing_behind
        else:
            weight = weights.ending * (1 + over) if over else weights.growing
        scores[admitted] = noise + weight[admitted]
        return scores

    return logits


def tally(texts: Sequence[FuzzedText]) -> dict[str, int]:
    """How many texts ended how, and what the refusals and backtracks were."""
    counts = Counter(text.end for text in texts)
    counts["backtracked"] = sum(bool(text.decoded.n_backtracks) for text in texts)
    counts["with a subquery or CTE"] = sum(
        text.text.count("SELECT") > 1 for text in texts if text.end == "prepares"
    )
    counts["with a join"] = sum("JOIN" in text.text for text in texts if text.end == "prepares")
    counts["gate refused an end"] = sum("gate" in text.refusals for text in texts)
    return dict(sorted(counts.items()))


def awkward_schema() -> Schema:
    """Names that need quotes, look like keywords, aliases or functions, or differ between tables in case alone."""
    tables = {
        "order": ("id", "Due Date", "select", "T1", "c1", "price%", "näme"),
        "Order Details": ("ID", "order", "Unit`Price", 'a"b', "it's", "Q1", "COUNT"),
        "T2": ("c2", "Id", "left", "End", "notes", "not", "IN", "CASEs"),
        "Q1": ("sum", "Date", "date of birth", "1st", "x.y", "True", "null"),
        "group": ("NAME", "Name Full", "as", "ASCII", "INTEGER", "rowid"),
        "日本": ("都市", "id", "値 段", "END", "when"),
        "a": ("a", "b", "aa", "ab"),
        "ab": ("a", "ab", "abc"),
    }
    return Schema(
        db_id="awkward",
        tables=tuple(
            Table(name=name, columns=tuple(Column(name=column, type="TEXT") for column in columns))
            for name, columns in tables.items()
        ),
    )


def wide_schema(n_tables: int = 70, *, seed: int = 1) -> Schema:
    """`n_tables` tables of 3 to 12 columns; many share column names, as keys and dates do in real schemas."""
    rng = random.Random(seed)
    shared = [
        "id",
        "name",
        "date",
        "status",
        "amount",
        "customer_id",
        "order_id",
        "Type",
        "Created At",
        "code",
    ]
    tables = []
    for i in range(n_tables):
        own = [
            f"{rng.choice(['total', 'first', 'last', 'net', 'is'])}_{word}_{i}"
            for word in ("value", "rate", "by")
        ]
        names = rng.sample(shared, rng.randint(2, 6)) + own[: rng.randint(1, 3)]
        tables.append(
            Table(
                name=rng.choice(["sales", "stock", "person", "plant"]) + f"_{i}",
                columns=tuple(
                    Column(name=name, type=rng.choice(["INTEGER", "TEXT", "REAL"])) for name in names
                ),
            )
        )
    return Schema(db_id=f"wide_{n_tables}", tables=tuple(tables))
