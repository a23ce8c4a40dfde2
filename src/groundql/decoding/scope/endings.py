"""Pieces of text that bring a half-written query nearer to its end: what a search for an ending tries first."""

from collections.abc import Callable, Iterator
from typing import Any

from groundql.decoding.scope import calls, clauses, expressions
from groundql.decoding.scope.calls import TYPES
from groundql.decoding.scope.frames import FROM, ORDER, SELECT, Aux, Block, Frame, block_of
from groundql.decoding.scope.names import SOURCE_ALIASES, Refusal
from groundql.decoding.scope.obligations import alias_choices
from groundql.decoding.scope.unfinished import OPERAND_WORDS, OTHER_WORDS

OUTPUTS = tuple(f"c{n}" for n in range(1, 20))
CTES = tuple(f"Q{n}" for n in range(1, 10))
OPERANDS = ("1", "NULL", ")", "'_'", "SELECT", "WHEN", "*", "COUNT(")
# What ends a thing that is open, by its kind; a comma where it wants more than it has.
ENDS_OF_MARK = {
    "call": (")", ","),
    "case": ("END", "THEN", "WHEN"),
    "cast": ("AS",),
}
AFTER_A_SPACE = ("=", "WHERE", "DESC")  # where nothing can end any more
ENDS_OF_BLOCK = {SELECT: (")", "FROM", ","), FROM: (")", "CROSS JOIN", "ON")}
WORDS_AT = {
    clauses.STARTING: ("SELECT",),
    clauses.SETOP: ("SELECT",),
    clauses.CTE_NAME: CTES,
    clauses.CTE_AS: ("AS",),
    clauses.CTE_OPEN: ("(",),
    clauses.CTE_NEXT: ("SELECT",),
    clauses.OUT_NAME: OUTPUTS,
    clauses.JOINING: ("JOIN",),
    clauses.BY: ("BY",),
    clauses.NULLS: ("LAST",),
    clauses.LIMIT_N: ("1",),
    clauses.OFFSET_N: ("1",),
    clauses.LIMITED: (")", "OFFSET"),
    calls.TYPE: ("TEXT",),
    expressions.NOT_OPERATOR: ("IN", "LIKE"),
    expressions.LIST_OPEN: ("(",),
    expressions.EXISTS_OPEN: ("(",),
    expressions.OVER_OPEN: ("(",),
    expressions.OVER_START: (")",),
}
OPERAND_NAMES = (*OPERAND_WORDS, *SOURCE_ALIASES, *OUTPUTS)
OTHER_NAMES = (*OTHER_WORDS, *SOURCE_ALIASES, *OUTPUTS, *CTES, *TYPES)


def ways_on(
    state: Any, flush: Callable[[Any], tuple[Frame, str, Aux]], called: tuple[str, ...]
) -> Iterator[str]:
    """Pieces that may come next, those that end what is open first; a space may be needed before each.

    `flush` gives the stack with an unfinished word taken as finished; `called` are the functions that may be meant.
    """
    mode, tail = state.mode, state.tail
    if mode == "s":
        yield "'"
        return
    if mode == "!":
        yield "="
        return
    if mode != "q":
        try:
            frame, at, _ = flush(state)
        except Refusal:
            pass
        else:
            yield from _from_word(frame, at)
    if mode == "n":
        yield "0"
    if mode in ("w", "q", "Q"):
        if mode != "q" and state.at in expressions.OPERAND_AT:
            yield "."
        yield from _rests(state.frame, state.at, tail, called)


def _from_word(frame: Frame, at: str) -> Iterator[str]:
    """Pieces after a finished word."""
    block = block_of(frame)
    if at in WORDS_AT:
        yield from WORDS_AT[at]
    elif at in expressions.OPERAND_AT or at == expressions.EXISTS_START:
        if at == clauses.FIRST and block.phase == SELECT and not block.outs and not block.limit:
            yield "*"
        yield from ("1",) if block.compound and block.phase == ORDER else OPERANDS
    elif at == clauses.DOT:
        yield from (spelling for spelling, _ in block.catalog.column_spellings)
        yield "*"
    elif at == clauses.SOURCE:
        yield from _sources(block)
    elif at == clauses.SOURCE_ALIAS:
        yield from (alias.upper() for alias in (*_waiting(block), *alias_choices(block)))
    else:
        if frame.between:
            yield "AND"
        if at == clauses.SOURCE_NAMED and _waiting(block):
            yield "AS"
        yield from (
            ENDS_OF_BLOCK.get(frame.phase, (")",)) if frame is block else ENDS_OF_MARK.get(frame.kind, (")",))
        )
        if at == clauses.SOURCE_NAMED:
            yield "AS"
        if at == calls.AFTER_AGGREGATE:
            yield "OVER ("
        yield from AFTER_A_SPACE


def _sources(block: Block) -> list[str]:
    """Tables, first those that bring most of what the block has named, and of equal ones those of WITH."""
    needed = set(block.bare).union(*block.pairs.values(), *block.strict.values())
    ranked = [
        (
            -len(needed & block.catalog.tables[block.catalog.by_key[key]].has),
            key not in block.cte_keys,
            spelling,
        )
        for spelling, key in block.catalog.table_spellings
    ]
    return [spelling for _, _, spelling in sorted(ranked)]


def _waiting(block: Block) -> list[str]:
    """Aliases that were named and wait for their source."""
    return sorted((block.pairs.keys() | block.strict.keys()) - {alias for alias, _ in block.sources})


def _rests(frame: Frame, at: str, tail: str, called: tuple[str, ...]) -> Iterator[str]:
    """What is missing of the words and names that begin with `tail`."""
    catalog = block_of(frame).catalog
    words: list[str] = []
    if at in expressions.OPERAND_AT or at == clauses.DOT:
        words += [spelling for spelling, _ in catalog.column_spellings if spelling.startswith(tail)]
    if at in expressions.OPERAND_AT:
        words += [word for word in OPERAND_NAMES if word.startswith(tail)]
        words += [f"{name}(" for name in called if name.startswith(tail)]
    elif at != clauses.DOT:
        words += [word for word in OTHER_NAMES if word.startswith(tail)]
    if at in expressions.OPERAND_AT or at == clauses.SOURCE:
        words += [spelling for spelling, _ in catalog.table_spellings if spelling.startswith(tail)]
    yield from (word[len(tail) :] for word in words if len(word) > len(tail))
