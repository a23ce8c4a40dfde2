"""Completions of a half-written query, found by trying pieces until the tracker calls the text complete."""

import random

from groundql.decoding.scope import ScopeState, ScopeTracker
from groundql.prompts.render import quoted
from groundql.records import Schema

WORDS = (
    *(
        "NOT",
        "NULL",
        "CASE",
        "EXISTS",
        "SELECT",
        "DISTINCT",
        "WHEN",
        "AND",
        "OR",
        "AS",
        "FROM",
        "WHERE",
        "GROUP BY",
    ),
    *(
        "ORDER BY",
        "IN",
        "IS NOT NULL",
        "LIKE",
        "BETWEEN",
        "JOIN",
        "ON",
        "LEFT JOIN",
        "INNER JOIN",
        "CROSS JOIN",
    ),
    *(
        "LEFT OUTER JOIN",
        "HAVING",
        "LIMIT",
        "OFFSET",
        "UNION",
        "INTERSECT",
        "EXCEPT",
        "ALL",
        "DESC",
        "ASC",
        "NULLS",
    ),
    *("FIRST", "LAST", "THEN", "ELSE", "END", "OVER", "PARTITION BY", "GLOB", "ESCAPE", "INTEGER", "REAL"),
    *("COUNT(", "SUM(", "MAX(", "MIN(", "ABS(", "CAST(", "RANK(", "LAG(", "NTILE(", "SUBSTR(", "IFNULL("),
    *("GROUP_CONCAT(", "AVG(", "TRIM(", "DATE(", "IIF(", "INSTR("),
)
CLOSERS = (")", " END", "`", "'")
VALUES = (" OVER ()", "()", "(1)", " 1", "1", " THEN 1", "SELECT 1", "(SELECT 1")
FILLERS = (
    *(
        " SELECT 1",
        "BY 1",
        " BY 1",
        "LAST",
        "FIRST",
        " AS INTEGER",
        "INTEGER",
        "NULL",
        "*",
        "*)",
        "= 1",
        ", 1",
        ", 1, 1",
    ),
    *(
        "BETWEEN 1 AND 1",
        "ORDER BY 1",
        "WHEN 1 THEN 1 END",
        " WHEN 1 THEN 1 END",
        "1 THEN 1 END",
        "THEN 1 END",
    ),
    *("c1", "Q1 AS (", " AS (SELECT 1", "x"),
)


def completion(
    tracker: ScopeTracker, state: ScopeState, schema: Schema, rng: random.Random, n_tries: int = 80
) -> str | None:
    """Text after which the query is complete to the tracker; None where `n_tries` walks found none."""
    shelves = _pieces(schema)
    for _ in range(n_tries):
        text = _walk(tracker, state, shelves, rng)
        if text is not None:
            return text
    return None


def _walk(
    tracker: ScopeTracker, state: ScopeState, shelves: list[list[str]], rng: random.Random
) -> str | None:
    text = ""
    for _ in range(30):
        if tracker.refusal(state) is None:
            return text
        rest = []
        if state.tail:
            rest = [
                word[len(state.tail) :]
                for word in (*shelves[-1], *shelves[-2])
                if word.startswith(state.tail)
            ]
        shelves = shelves if rng.random() < 0.7 else rng.sample(shelves, len(shelves))
        for shelf in (rest, *shelves):
            found = _first(tracker, state, rng.sample(shelf, len(shelf)))
            if found is not None:
                break
        else:
            return None
        state, piece = found
        text += piece
    return None


def _first(tracker: ScopeTracker, state: ScopeState, pieces: list[str]) -> tuple[ScopeState, str] | None:
    for piece in pieces:
        following = tracker.advance(state, piece) if piece else None
        if following is not None:
            return following, piece
    return None


def _pieces(schema: Schema) -> list[list[str]]:
    aliases = [f"T{n}" for n in range(1, 20)]
    tables = [*(quoted(table.name) for table in schema.tables), "Q1", "Q2"]
    columns = sorted({quoted(column.name) for table in schema.tables for column in table.columns})
    columns += [f"c{n}" for n in range(1, 20)]
    sources = [start + table for table in tables for start in (" FROM ", "FROM ")]
    sources += [start + alias for alias in aliases for start in (" AS ", "AS ")]
    joins = [start + table for table in tables for start in (" JOIN ", "JOIN ")]
    names = [*tables, *columns, *aliases, *(f".{column}" for column in columns)]
    spaced = [f" {word}" for word in (*tables, *aliases, *(f"AS {alias}" for alias in aliases), *WORDS)]
    return [list(CLOSERS), sources, joins, list(VALUES), list(FILLERS), spaced, list(WORDS), names]
