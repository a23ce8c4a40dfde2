"""The search for an ending: tokens after which a half-written query is one that the gate lets through.

Depth first over short pieces of text (`scope/endings.py`), those that end what is open before all others; scope tracker
and grammar judge each piece, the gate the whole. What it finds is short, not the shortest, and says nothing about what
was asked: literals are 1, tables are joined where names need them. No torch.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from groundql.decoding.constraint import Constraints

MAX_PIECES = 600  # tried in one search
MAX_DEPTH = 40  # pieces in one ending
MAX_GATED = 4  # whole texts that the gate may refuse


class EndingSearch:
    """One search, from where a row stands."""

    def __init__(self, constraints: "Constraints", matcher: Any, query: str, limit: int) -> None:
        """`matcher` is a copy that may be written to; `query` what stands; `limit`: tokens, the end among them."""
        self._tracker = constraints.tracker
        self._vocabulary = constraints.vocabulary
        self._gate = constraints.gate
        self._matcher = matcher
        self._query = query
        self._limit = limit
        self._n_tried = 0
        self._n_gated = 0

    def run(self, scope: Any) -> tuple[int, ...] | None:
        """The tokens of an ending, an end token last; None where none was found."""
        pieces = self._from(scope, ())
        if pieces is None:
            return None
        return (*self._vocabulary.tokens_of("".join(pieces)), min(self._vocabulary.ends))

    def _from(self, scope: Any, pieces: tuple[str, ...]) -> tuple[str, ...] | None:
        text = "".join(pieces)
        if self._is_end(scope, text):
            return pieces
        if len(pieces) == MAX_DEPTH or self._n_gated > MAX_GATED:
            return None
        for piece in self._spaced(scope):
            if self._n_tried == MAX_PIECES:
                return None
            self._n_tried += 1
            tokens = self._vocabulary.tokens_of(piece)
            if self._matcher.validate_tokens(tokens) != len(tokens):  # first: it is the cheapest question
                continue
            following = self._tracker.advance(scope, piece)
            if following is None or len(self._vocabulary.tokens_of(text + piece)) >= self._limit:
                continue
            self._matcher.consume_tokens(tokens)
            found = self._from(following, (*pieces, piece))
            if found is not None:
                return found
            self._matcher.rollback(len(tokens))
        return None

    def _spaced(self, scope: Any) -> Iterator[str]:
        for piece in self._tracker.ways_on(scope):
            yield piece
            yield f" {piece}"

    def _is_end(self, scope: Any, text: str) -> bool:
        if self._tracker.refusal(scope) is not None or not self._matcher.is_accepting():
            return False
        self._n_gated += 1
        return self._gate.refusal(self._query + text) is None
