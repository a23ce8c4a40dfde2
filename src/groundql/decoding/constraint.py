"""What may be written next about one schema: grammar, scope and gate as one object a decoding row.

Made for a lazy check. The engine proposes one token (the best, or the best after Gumbel noise) and asks `accepts`;
on a no it proposes the next. That is exact for greedy decoding and for sampling, step by step, and needs no mask:
about one question a token.

One matcher is compiled for each (tokenizer, schema) and kept; a row copies it in microseconds.
"""

import copy
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from llguidance import LLMatcher, LLTokenizer
from llguidance.hf import from_tokenizer

from groundql.decoding.ending import EndingSearch
from groundql.decoding.gate import Gate, first_use
from groundql.decoding.grammar import function_names, lark_text, sql_rules
from groundql.decoding.scope import ScopeTracker
from groundql.errors import ModelMissing
from groundql.records import Schema

Refusal = Literal["grammar", "scope", "gate"]
N_TEXTS = 20_000  # pieces whose tokens are kept for each vocabulary
PROBE = 'SELECT "a b" FROM c'  # its tokens must write it
N_SCHEMAS = 256  # compiled constraints kept for each vocabulary; one takes about 1 MB


class Tracker(Protocol):
    """What a row needs of a scope tracker; its states are immutable."""

    def start(self) -> Any:
        """The state before the first character."""

    def advance(self, state: Any, piece: str) -> Any | None:
        """The state after `piece`, None where no completion can bind."""

    def refusal(self, state: Any) -> str | None:
        """Why the text so far cannot stand as the whole query; None where it can."""

    def why_not(self, state: Any, piece: str) -> str:
        """Why `advance` says None."""

    def passed_over(self, state: Any) -> tuple[str, int]:
        """An alias that waits for its source, and how many sources of higher number are declared; ("", 0) if none."""

    def ways_on(self, state: Any) -> Iterable[str]:
        """Pieces that may bring the text nearer to its end, likely ones first."""


class Vocabulary:
    """A tokenizer's tokens as bytes, which of them end a text, and the constraints compiled for it."""

    def __init__(self, tokenizer: Any, ends: Collection[int], *, n_logits: int | None = None) -> None:
        """`tokenizer` is a fast one of transformers; `n_logits` the model's width where it is more than the tokenizer's.

        Raises:
            ModelMissing: what its tokens write is not known byte by byte: every query would be refused.
        """
        self.ends = frozenset(ends)
        self.matcher_tokens: LLTokenizer = from_tokenizer(tokenizer, eos_token=sorted(self.ends))
        check_bytes(self.matcher_tokens, tokenizer)
        self.n_tokens = self.matcher_tokens.vocab_size
        self.n_logits = max(n_logits or 0, self.n_tokens)
        self._pieces: dict[int, bytes] = {}
        self._texts: dict[str, tuple[int, ...]] = {}
        self._compiled: OrderedDict[str, Constraints] = OrderedDict()

    def piece(self, token: int) -> bytes:
        """The bytes that `token` writes."""
        piece = self._pieces.get(token)
        if piece is None:
            piece = self._pieces[token] = self.matcher_tokens.decode_bytes([token])
        return piece

    def tokens_of(self, text: str) -> tuple[int, ...]:
        """Tokens that write `text`, whatever stands before it."""
        known = self._texts.get(text)
        if known is None:
            data = text.encode()
            tokens = self.matcher_tokens.tokenize_bytes(data)
            if self.matcher_tokens.decode_bytes(tokens) != data:
                tokens = self.matcher_tokens.greedy_tokenize(text)
            if len(self._texts) >= N_TEXTS:
                self._texts.clear()
            known = self._texts[text] = tuple(tokens)
        return known

    def constraints(self, schema: Schema) -> "Constraints":
        """The constraints of `schema` on this vocabulary, compiled at the first call (about 10 ms) and then kept."""
        key = schema.fingerprint()
        known = self._compiled.get(key)
        if known is None:
            known = self._compiled[key] = Constraints(self, schema)
            if len(self._compiled) > N_SCHEMAS:
                self._compiled.popitem(last=False)
        self._compiled.move_to_end(key)
        return known


def check_bytes(matcher_tokens: LLTokenizer, tokenizer: Any) -> None:
    """Raise where llguidance reads the tokens of `tokenizer` as other bytes than they write.

    Raises:
        ModelMissing: shows what a query was read as.
    """
    written = matcher_tokens.decode_bytes(tokenizer(PROBE, add_special_tokens=False)["input_ids"])
    if written.strip() != PROBE.encode():  # some tokenizers begin a text with a space
        raise ModelMissing(
            "grounded decoding cannot tell which bytes this model's tokens write: "
            f"those of {PROBE} were read as {written.decode('utf-8', 'replace')}; "
            "the decoder in its tokenizer.json is of another kind than its tokens; --decoding free does without"
        )


class Constraints:
    """Grammar, scope tracker and gate of one schema on one vocabulary."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        schema: Schema,
        *,
        tracker: Tracker | None = None,
        gate: Gate | None = None,
    ) -> None:
        """`tracker` and `gate` are those of the schema where none is given."""
        self.vocabulary = vocabulary
        self.schema = schema
        self.tracker: Tracker = tracker or ScopeTracker(schema, function_names())
        self.gate = gate or Gate(schema)
        self.matcher = LLMatcher(vocabulary.matcher_tokens, lark_text(sql_rules(schema)))
        assert not self.matcher.is_error(), self.matcher.get_error()

    def gated(self, gate: Gate) -> "Constraints":
        """The same with another gate."""
        other = copy.copy(self)
        other.gate = gate
        return other

    def start(self) -> "RowConstraint":
        """A row that has written nothing."""
        return RowConstraint(self)


@dataclass(frozen=True, slots=True)
class _Point:
    """Where a row stands after one of its tokens."""

    scope: Any  # the tracker's state
    n_bytes: int  # written so far
    cut: bytes = b""  # the first bytes of a character that the next token completes
    closed: bool = False  # a final ";" is written: only an end token may follow
    ended: bool = False  # an end token is written


class RowConstraint:
    """What one decoding row may write next. Any sequence of `consume` and `rollback` leaves it as if decoded straight."""

    def __init__(self, constraints: Constraints) -> None:
        self.refusals: Counter[Refusal] = Counter()  # how often each part said no, since the start
        self.gate_error: str | None = None  # what the gate said when it last refused
        self.refused_by: Refusal | None = None  # the part that said no at the last `accepts`
        self._constraints = constraints
        self._vocabulary = constraints.vocabulary
        self._tracker = constraints.tracker
        self._matcher: LLMatcher = constraints.matcher.deep_copy()
        self._points = [_Point(self._tracker.start(), 0)]
        self._tokens: list[int] = []
        self._ahead: tuple[int, _Point] | None = None  # the token last accepted here, and where it leads

    def accepts(self, token: int) -> bool:
        """Whether `token` may come next; an end token where the text is a query that the gate lets through.

        Nothing changes but `refusals`, `refused_by` and `gate_error`.
        """
        self.refused_by = self._look_ahead(token)
        if self.refused_by:
            self.refusals[self.refused_by] += 1
        return self.refused_by is None

    def consume(self, token: int) -> None:
        """Write `token`; ValueError where it is refused."""
        if (self._ahead is None or self._ahead[0] != token) and self._look_ahead(token):
            raise ValueError(f"token {token} may not follow {self.text!r}")
        assert self._ahead is not None
        if not self._ahead[1].ended:
            consumed = self._matcher.consume_token(token)
            assert consumed, self._matcher.get_error()
        self._points.append(self._ahead[1])
        self._tokens.append(token)
        self._ahead = None

    def rollback(self, n: int) -> None:
        """Take back the last `n` tokens; ValueError where there are fewer."""
        if not 0 <= n <= len(self._tokens):
            raise ValueError(f"{n} of {len(self._tokens)} tokens cannot be taken back")
        if n:
            in_matcher = n - self._points[-1].ended
            if in_matcher:
                self._matcher.rollback(in_matcher)
            del self._points[-n:], self._tokens[-n:]
            self._ahead = None

    def mask(self) -> np.ndarray:
        """(n_logits,) bool: what the grammar alone admits next. For the rare step that refuses many good tokens.

        Where the grammar forces text, only the token that the tokenizer would write it with: `accepts` takes any.
        """
        point, vocabulary = self._points[-1], self._vocabulary
        admitted = np.zeros(vocabulary.n_logits, dtype=bool)
        if point.ended:
            return admitted
        may_end = point.closed or self._matcher.is_accepting()
        if not point.closed:
            bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
            admitted[: vocabulary.n_tokens] = np.unpackbits(bits, bitorder="little")[: vocabulary.n_tokens]
        admitted[list(vocabulary.ends)] = may_end
        return admitted

    def stranded(self, least: int) -> int | None:
        """The place of the token with the number of an alias that at least `least` sources of higher number have passed over.

        Some table was meant that lacks the column named with it; None where there is no such alias.
        """
        scope = self._points[-1].scope
        alias, n = self._tracker.passed_over(scope)
        if n < least:
            return None
        query = self.query
        start = max(query.rfind("SELECT "), 0)
        offset = first_use(alias, query[start:])
        return None if offset is None else self.token_at(start + offset + len(alias) - 1)

    def piece(self, token: int) -> bytes:
        """The bytes that `token` writes."""
        return self._vocabulary.piece(token)

    def ending(self, limit: int) -> tuple[int, ...] | None:
        """At most `limit` tokens, an end token last, after which the text is a query that the gate lets through.

        None where the search finds none (see `ending.py`). About a millisecond.
        """
        point = self._points[-1]
        if point.ended or point.cut or limit < 1:
            return None
        if point.closed:
            return (min(self._vocabulary.ends),)
        return EndingSearch(self._constraints, self._matcher.deep_copy(), self.query, limit).run(point.scope)

    def why_not(self, token: int) -> str:
        """Why `token` may not come next, for people; "" where it may."""
        refused_by = self._look_ahead(token)
        if refused_by is None:
            return ""
        if refused_by == "grammar":
            return "not in the grammar"
        if token in self._vocabulary.ends:
            return str(self._final_refusal()[1])
        piece, _ = self._decoded(self._points[-1], self._vocabulary.piece(token))
        return self._tracker.why_not(self._points[-1].scope, piece)

    @property
    def text(self) -> str:
        """What is written so far; the cut beginning of a character is left out."""
        written = b"".join(
            self._vocabulary.piece(token) for token in self._tokens if token not in self._vocabulary.ends
        )
        return written.decode("utf-8", "ignore")

    @property
    def query(self) -> str:
        """The text without a leading space and a final semicolon."""
        text = self.text.removeprefix(" ")
        return text[:-1] if self._points[-1].closed else text

    @property
    def n_tokens(self) -> int:
        """Tokens written and not taken back."""
        return len(self._tokens)

    def token_at(self, offset: int) -> int:
        """The place of the token that wrote the character at `offset` of `query`."""
        n_bytes = len(self.query[:offset].encode()) + self.text.startswith(" ")
        return next(i for i, point in enumerate(self._points[1:]) if point.n_bytes > n_bytes)

    def _look_ahead(self, token: int) -> Refusal | None:
        """Who refuses `token`; where nobody does, `_ahead` is set."""
        point = self._points[-1]
        if token in self._vocabulary.ends:
            refused_by = self._refuses_end()
            if refused_by is None:
                self._ahead = token, _Point(point.scope, point.n_bytes, closed=point.closed, ended=True)
            return refused_by
        if point.closed or point.ended or not 0 <= token < self._vocabulary.n_tokens:
            return "grammar"
        piece = self._vocabulary.piece(token)
        if not piece or self._matcher.validate_tokens([token]) != 1:
            return "grammar"
        if piece[-1:] == b";" and self._closes(token):
            return self._look_behind_semicolon(token, piece)
        text, cut = self._decoded(point, piece)
        scope = self._tracker.advance(point.scope, text) if text else point.scope
        if scope is None:
            return "scope"
        self._ahead = token, _Point(scope, point.n_bytes + len(piece), cut)
        return None

    def _look_behind_semicolon(self, token: int, piece: bytes) -> Refusal | None:
        point = self._points[-1]
        text = self._decoded(point, piece[:-1])[0]
        scope = self._tracker.advance(point.scope, text) if text else point.scope
        if scope is None:
            return "scope"
        refused_by = self._refuses_final(scope, (self.text + text).removeprefix(" "))
        if refused_by is None:
            self._ahead = token, _Point(scope, point.n_bytes + len(piece), closed=True)
        return refused_by

    def _decoded(self, point: _Point, piece: bytes) -> tuple[str, bytes]:
        """The whole characters that `piece` completes, and the bytes of one that it begins."""
        whole = point.cut + piece
        if whole.isascii():
            text, cut = whole.decode("ascii"), b""
        else:
            text = whole.decode("utf-8", "ignore")
            cut = whole[len(text.encode()) :]
        return (text.removeprefix(" ") if point.n_bytes == 0 else text), cut

    def _closes(self, token: int) -> bool:
        """Whether the semicolon that `token` ends with is the final one, not one in a literal or a name."""
        self._matcher.consume_token(token)
        closes = self._matcher.is_stopped()
        self._matcher.rollback(1)
        return closes

    def _refuses_end(self) -> Refusal | None:
        point = self._points[-1]
        if point.ended or not (point.closed or self._matcher.is_accepting()):
            return "grammar"
        return None if point.closed else self._refuses_final(point.scope, self.query)

    def _refuses_final(self, scope: Any, query: str) -> Refusal | None:
        if self._tracker.refusal(scope) is not None:
            return "scope"
        error = self._constraints.gate.refusal(query)
        if error is None:
            return None
        self.gate_error = error
        return "gate"

    def _final_refusal(self) -> tuple[Refusal | None, str | None]:
        reason = self._tracker.refusal(self._points[-1].scope)
        return ("scope", reason) if reason is not None else ("gate", self.gate_error)
