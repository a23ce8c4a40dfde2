"""The scope tracker: whether the text of a query, as far as it is written, can still bind to the schema."""

import re
from collections.abc import Iterable
from typing import NamedTuple

from groundql.decoding.scope.clauses import ENDED, STARTING
from groundql.decoding.scope.expressions import OPERAND_AT
from groundql.decoding.scope.frames import TOP, Aux, Block, Frame, block_of
from groundql.decoding.scope.functions import deployed_functions
from groundql.decoding.scope.names import Refusal, schema_catalog, unquoted
from groundql.decoding.scope.steps import step
from groundql.decoding.scope.unfinished import can_grow
from groundql.records import Schema

_WORD = re.compile(r"[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_$\x80-\U0010ffff]*")
_WORD_REST = re.compile(r"[A-Za-z0-9_$\x80-\U0010ffff]+")
_NUMBER_REST = re.compile(r"[0-9.]+")
_NUMBER = re.compile(r"[0-9]+(\.[0-9]*)?")
_IN_LITERAL = re.compile(r"[^']+")
_IN_NAME = re.compile(r"[^`]+")
_SPACE = frozenset(" \t\n\r\f")
_NO_CALLS = frozenset(["NOT", "EXISTS", "CASE", "SELECT", "DISTINCT", "WHEN", "WITH"])
# A sign that a second character may follow: which ones, and whether one must.
_SECOND = {"<": "=>", ">": "=", "=": "=", "!": "=", "|": "|"}
_SIGNS = frozenset("()*,+/%&;-<>=!|")


class ScopeState(NamedTuple):
    """How far a text has been read; never changed, so any number of them may be kept and gone on from."""

    frame: Frame
    at: str  # what is expected next
    aux: Aux
    mode: str = ""  # what the text ends in: w word, q and Q open and closed back-tick, n number, s and S literal, a sign
    tail: str = ""  # the unfinished word, name or number

    @property
    def phase(self) -> str:
        """The clause of the innermost block: start, with, select, from, where, group, having, order or limit."""
        return block_of(self.frame).phase


class ScopeTracker:
    """Tells of a prefix whether it can be completed to a query that binds, and of a text whether it does.

    Built once for a schema and used for any number of texts. `functions` are the names of those that may be called,
    where the caller knows better than all that SQLite has: it only sharpens the judgement of an unfinished word.
    """

    def __init__(self, schema: Schema, functions: Iterable[str] | None = None) -> None:
        self._functions = deployed_functions()
        names = self._functions if functions is None else {name.upper() for name in functions}
        self._callable = tuple(sorted({*names, "CAST"}))
        self._start = ScopeState(Block(None, TOP, 0, schema_catalog(schema)), STARTING, None)

    def start(self) -> ScopeState:
        """The state of the empty text."""
        return self._start

    def advance(self, state: ScopeState, piece: str) -> ScopeState | None:
        """The state after `piece` more, or None where no completion can bind. `state` stays as it is."""
        try:
            return self._read(state, piece)
        except Refusal:
            return None

    def why_not(self, state: ScopeState, piece: str) -> str:
        """Why `advance` gives None; "" where it does not."""
        try:
            self._read(state, piece)
        except Refusal as refusal:
            return str(refusal)
        return ""

    def refusal(self, state: ScopeState) -> str | None:
        """Why the text, taken as complete, does not bind; None where it does."""
        if state.at == ENDED:
            return None
        try:
            frame, at, aux = self._flush(state)
            step(self._functions, frame, at, aux, "e", "")
        except Refusal as refusal:
            return str(refusal)
        return None

    def _read(self, state: ScopeState, piece: str) -> ScopeState:
        frame, at, aux, mode, tail = state
        functions = self._functions
        i, n = 0, len(piece)
        while i < n:
            char = piece[i]
            if mode == "":
                if char in _SPACE:
                    i += 1
                    continue
                if match := _WORD.match(piece, i):
                    mode, tail, i = "w", match.group(), match.end()
                elif char in "0123456789":
                    mode, tail, i = "n", char, i + 1
                elif char == "'":
                    frame, at, aux = step(functions, frame, at, aux, "s", "")
                    mode, i = "s", i + 1
                elif char == "`":
                    mode, tail, i = "q", char, i + 1
                elif char in _SIGNS:
                    frame, at, aux = step(functions, frame, at, aux, "o", char)
                    mode, i = char if char in _SECOND or char == "-" else "", i + 1
                else:
                    raise Refusal(f"{char!r} is not part of the dialect")
            elif mode == "w":
                if match := _WORD_REST.match(piece, i):
                    tail, i = tail + match.group(), match.end()
                    continue
                kind = "w"
                if char == ".":
                    kind, i = "d", i + 1
                elif char == "(" and at in OPERAND_AT and tail.upper() not in _NO_CALLS:
                    kind, i = "c", i + 1
                frame, at, aux = step(functions, frame, at, aux, kind, tail)
                mode = tail = ""
            elif mode == "s":
                match = _IN_LITERAL.match(piece, i)
                if match:
                    i = match.end()
                else:
                    mode, i = "S", i + 1
            elif mode == "S":
                if char == "'":
                    mode, i = "s", i + 1
                else:
                    mode = ""
            elif mode == "n":
                if match := _NUMBER_REST.match(piece, i):
                    tail, i = tail + match.group(), match.end()
                    continue
                if _WORD_REST.match(piece, i):
                    raise Refusal(f"{tail + char} is no number")
                frame, at, aux = step(functions, frame, at, aux, "n", _number(tail))
                mode = tail = ""
            elif mode == "q":
                match = _IN_NAME.match(piece, i)
                if match:
                    tail, i = tail + match.group(), match.end()
                else:
                    mode, tail, i = "Q", tail + "`", i + 1
            elif mode == "Q":
                if char == "`":
                    mode, tail, i = "q", tail + "`", i + 1
                    continue
                kind = "q"
                if char == ".":
                    kind, i = "d", i + 1
                frame, at, aux = step(functions, frame, at, aux, kind, unquoted(tail))
                mode = tail = ""
            else:  # a sign that may have a second character
                mode, i = _second(mode, char, i)
        if mode == "n":
            step(functions, frame, at, aux, "n", _number(tail))
        elif tail and not can_grow(functions, frame, at, aux, tail, self._callable):
            raise Refusal(self._why_unfinished(frame, at, aux, mode, tail))
        return ScopeState(frame, at, aux, mode, tail)

    def _flush(self, state: ScopeState) -> tuple[Frame, str, Aux]:
        frame, at, aux, mode, tail = state
        if mode in ("s", "q", "!"):
            raise Refusal("a literal, name or operator is unfinished")
        if mode == "w":
            return step(self._functions, frame, at, aux, "w", tail)
        if mode == "n":
            return step(self._functions, frame, at, aux, "n", _number(tail))
        if mode == "Q":
            return step(self._functions, frame, at, aux, "q", unquoted(tail))
        return frame, at, aux

    def _why_unfinished(self, frame: Frame, at: str, aux: Aux, mode: str, tail: str) -> str:
        """A reason for an unfinished word that cannot become one that fits."""
        try:
            self._flush(ScopeState(frame, at, aux, mode, tail))
        except Refusal as refusal:
            return str(refusal)
        return f"nothing that starts with {tail} can stand here"


def _number(text: str) -> str:
    if not _NUMBER.fullmatch(text):
        raise Refusal(f"{text} is no number")
    return text


def _second(sign: str, char: str, i: int) -> tuple[str, int]:
    """(mode, position) after the character that follows `sign`."""
    if sign == "-":
        if char in "->":
            raise Refusal(f"{sign}{char} is not part of the dialect")
        return "", i
    if char in _SECOND[sign]:
        return "", i + 1
    if sign == "!":
        raise Refusal("! without =")
    return "", i
