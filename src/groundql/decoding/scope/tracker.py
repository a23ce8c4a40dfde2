"""The scope tracker: whether the text of a query, as far as it is written, can still bind to the schema."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from groundql.decoding.scope.clauses import ENDED, STARTING
from groundql.decoding.scope.endings import ways_on
from groundql.decoding.scope.expressions import OPERAND_AT
from groundql.decoding.scope.frames import TOP, Aux, Block, Frame, block_of
from groundql.decoding.scope.functions import deployed_functions
from groundql.decoding.scope.lexer import checked_number, scan
from groundql.decoding.scope.names import Refusal, schema_catalog, unquoted
from groundql.decoding.scope.obligations import passed_over
from groundql.decoding.scope.steps import step
from groundql.decoding.scope.unfinished import OTHER_WORDS, can_grow
from groundql.records import Schema


class ScopeState(NamedTuple):
    """How far a text has been read; never changed, so any number of them may be kept and gone on from."""

    frame: Frame
    at: str  # what is expected next
    aux: Aux
    mode: str = ""  # what the text ends in; see lexer.py
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

    def passed_over(self, state: ScopeState) -> tuple[str, int]:
        """(alias, n): an alias that waits for its source while n sources of higher number are declared; ("", 0) if none."""
        alias, n = passed_over(block_of(state.frame))
        return alias.upper(), n

    def ways_on(self, state: ScopeState) -> Iterator[str]:
        """Pieces that may bring the text nearer to its end, likely ones first; a space may be needed before each.

        `advance` decides about each of them.
        """
        return ways_on(state, self._flush, self._callable)

    def _read(self, state: ScopeState, piece: str) -> ScopeState:
        frame, at, aux, mode, tail = state
        functions = self._functions
        i, n = 0, len(piece)
        while i < n:
            mode, tail, i, kind, text = scan(mode, tail, piece, i, at in OPERAND_AT)
            if kind:
                frame, at, aux = step(functions, frame, at, aux, kind, text)
        if mode == "n":
            step(functions, frame, at, aux, "n", checked_number(tail))
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
            return step(self._functions, frame, at, aux, "n", checked_number(tail))
        if mode == "Q":
            return step(self._functions, frame, at, aux, "q", unquoted(tail))
        return frame, at, aux

    def _why_unfinished(self, frame: Frame, at: str, aux: Aux, mode: str, tail: str) -> str:
        """A reason for an unfinished word that cannot become one that fits."""
        words = [word for word in OTHER_WORDS if word.startswith(tail) and at not in OPERAND_AT]
        reasons = []
        for kind, text in [*(("w", word) for word in words), (mode.lower(), tail)]:
            try:
                if kind == "q":
                    self._flush(ScopeState(frame, at, aux, mode, tail))
                else:
                    step(self._functions, frame, at, aux, kind, text)
            except Refusal as refusal:
                reasons.append(str(refusal))
        told = [
            reason for reason in reasons if "cannot stand here" not in reason and "unfinished" not in reason
        ]
        return told[0] if told else f"nothing that starts with {tail} can stand here"
