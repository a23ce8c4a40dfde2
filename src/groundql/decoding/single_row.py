"""Grounded decoding of one row: the plain loop that the batched engine is tested against.

A step proposes tokens in the order of their logits and takes the first that the constraint accepts. At a dead end the
row goes back one token and bans it there; where it comes to no better end, further and further, for the fault may lie
far back (a first table that has nothing to do with the question). Where the gate refuses the end, it goes to the first
use of the name in SQLite's message and bans that token.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from groundql.decoding import closing as closings
from groundql.decoding.constraint import Refusal, RowConstraint
from groundql.decoding.gate import ENGINE, first_use, named_in

MAX_BACKTRACKS = 12
N_RANKED = 64  # tokens tried before the grammar's mask is computed
BACK_TOKENS = (1, 1, 2, 4, 8, 16, 32, 64)  # at the first dead end, and at each that lies no further on
MAX_TRIES = 400  # tokens tried at one step; then it is a dead end
WORK = 4  # steps in all, as a multiple of the token budget


@dataclass(frozen=True)
class Strain:
    """The probability that the model gave, at one step, to tokens that were tried and refused: lower bounds."""

    grammar: float
    binding: float  # refused by scope or gate, or banned after a dead end

    @property
    def nats(self) -> float:
        """-log of the probability that is left; 0 where the model's own choice was taken."""
        return float(-np.log(max(1.0 - self.grammar - self.binding, 1e-12)))


@dataclass(frozen=True)
class GroundedText:
    """What one row came to. Only with status "answer" are `ids` a query; else they are what stood when it gave up."""

    ids: tuple[int, ...]  # without the end token
    status: Literal["answer", "abstained"]
    # Of an abstention or a closed answer: "dead end", "loop", "token budget", "work budget" or "gate: ..." with SQLite's words.
    reason: str
    strain: tuple[Strain, ...]  # of each token, the end token last
    n_backtracks: int
    closed_at: int | None = None  # the token from which on it was closed (`closing.py`)


@dataclass(frozen=True)
class Choice:
    """The outcome of one step: the token, or None; and what was refused on the way, in order."""

    token: int | None
    refused: tuple[tuple[int, Refusal], ...]

    @property
    def is_gated(self) -> bool:
        """Whether the gate refused an end: the fault lies far back, and nothing further was tried."""
        return bool(self.refused) and self.refused[-1][1] == "gate"


class Retreat:
    """How far one row goes back at a dead end."""

    def __init__(self) -> None:
        self._deepest = -1
        self._n_in_row = 0  # dead ends since the row last came further than ever

    def place(self, dead_end: int) -> int:
        """The place whose token is banned; `dead_end` is how many tokens stand, at least 1."""
        self._n_in_row = 0 if dead_end > self._deepest else self._n_in_row + 1
        self._deepest = max(self._deepest, dead_end)
        return max(0, dead_end - BACK_TOKENS[min(self._n_in_row, len(BACK_TOKENS) - 1)])


def decode_grounded_row(
    next_logits: Callable[[Sequence[int]], np.ndarray],
    constraint: RowConstraint,
    ends: Collection[int],
    budget: int,
    *,
    closes: bool = True,
) -> GroundedText:
    """The query that greedy decoding under `constraint` comes to, or an abstention with its reason.

    Args:
        next_logits: (n_logits,) floats for what follows the tokens given; asked once for each text.
        constraint: a row at its start; it is left at the text that is returned.
        ends: tokens that end a text.
        budget: tokens in one text; before it is closed, the steps of all attempts are at most `WORK` times as many.
        closes: whether a text that does not end by itself is closed (`closing.py`).
    """
    return _SingleRow(next_logits, constraint, frozenset(ends), budget, closes).run()


class _SingleRow:
    """The loop over one row."""

    def __init__(
        self,
        next_logits: Callable[[Sequence[int]], np.ndarray],
        constraint: RowConstraint,
        ends: frozenset[int],
        budget: int,
        closes: bool,
    ) -> None:
        self.next_logits = next_logits
        self.constraint = constraint
        self.ends = ends
        self.budget = budget
        self.closes = closes
        self.ids: list[int] = []
        self.rows: list[np.ndarray] = []  # the logits of each place, kept: going back computes nothing anew
        self.strain: list[Strain] = []
        self.bans: defaultdict[int, set[int]] = defaultdict(set)
        self.n_backtracks = self.n_loops = self.n_jumps = 0
        self.retreat = Retreat()

    def run(self) -> GroundedText:
        close_at = self.budget - closings.reserve(self.budget)
        for _ in range(WORK * self.budget):
            if len(self.ids) == close_at:
                close_at += closings.STEP
                if self.jump(in_trouble=True):
                    continue
                closed = self.closed("token budget", at_once=False)
                if closed:
                    return closed
            if len(self.ids) == self.budget:
                return self.ended("abstained", "token budget")
            choice = choose(self.logits(), self.constraint, self.bans[len(self.ids)])
            ended = self.back_from(choice) if choice.token is None else self.take(choice.token, choice)
            if ended:
                return ended
        return self.closed("work budget") or self.ended("abstained", "work budget")

    def logits(self) -> np.ndarray:
        """What may follow where the row stands."""
        if len(self.ids) == len(self.rows):
            self.rows.append(self.next_logits(self.ids))
        return self.rows[len(self.ids)]

    def take(self, token: int, choice: Choice) -> GroundedText | None:
        """Write `token`; the text where that ends it."""
        self.strain.append(strain_of(self.logits(), choice.refused, self.bans[len(self.ids)]))
        if token in self.ends:
            return self.ended("answer")
        self.constraint.consume(token)
        self.ids.append(token)
        self.jump(in_trouble=False)
        loop = closings.loop_place(self.ids, self.constraint)
        if loop is None or self.jump(in_trouble=True):
            return None
        self.n_loops += 1
        self.go_back(loop)
        if self.n_loops <= closings.MAX_LOOPS:
            return None
        return self.closed("loop") or self.ended("abstained", "loop")

    def back_from(self, choice: Choice) -> GroundedText | None:
        """Go back from a dead end; the text where that ends it."""
        place = len(self.ids)
        if place == 0:
            return self.ended("abstained", "dead end")
        back_to = fault_place(self.constraint, self.retreat) if choice.is_gated else self.retreat.place(place)
        if back_to is None:  # the gate's message names nothing in the text: try other tokens than the end
            self.bans[place].update(self.ends)
            return None
        if self.n_backtracks >= MAX_BACKTRACKS:
            if self.jump(in_trouble=True):
                return None
            reason = f"gate: {self.constraint.gate_error}" if choice.is_gated else "dead end"
            return self.closed(reason) or self.ended("abstained", reason)
        self.go_back(back_to)
        return None

    def jump(self, *, in_trouble: bool) -> bool:
        """Go back to an alias that was named too early; whether there is one."""
        if self.n_jumps == closings.MAX_JUMPS:
            return False
        place = closings.jump_place(self.ids, self.constraint, in_trouble=in_trouble)
        if place is None:
            return False
        self.n_jumps += 1
        self.go_back(place)
        return True

    def go_back(self, place: int) -> None:
        """Drop what stands from `place` on and ban there what stood there."""
        self.n_backtracks += 1
        self.constraint.rollback(len(self.ids) - place)
        self.bans[place].add(self.ids[place])
        for later in [p for p in self.bans if p > place]:
            del self.bans[later]
        self.drop(place)

    def drop(self, place: int) -> None:
        del self.ids[place:], self.strain[place:], self.rows[place + 1 :]

    def closed(self, why: str, *, at_once: bool = True) -> GroundedText | None:
        """The row closed, some tokens back where need be; None where it cannot or shall not be closed."""
        if not self.closes:
            return None
        closing = closings.begun(self.constraint, self.ids, self.budget, at_once=at_once)
        if closing is None:
            return None
        self.drop(closing.begun_at)
        while True:
            logits = self.logits()
            offered = list(_ranked(_best(logits, closings.N_OFFERED), logits))
            token, n_before, closing = closings.step(
                closing, len(self.ids), offered, self.constraint, self.ends
            )
            self.strain.append(strain_of(logits, (), offered[:n_before]))
            if token in self.ends:
                return self.ended("answer", why, closing.begun_at)
            self.constraint.consume(token)
            self.ids.append(token)

    def ended(
        self, status: Literal["answer", "abstained"], reason: str = "", closed_at: int | None = None
    ) -> GroundedText:
        return GroundedText(tuple(self.ids), status, reason, tuple(self.strain), self.n_backtracks, closed_at)


def choose(logits: np.ndarray, constraint: RowConstraint, banned: Collection[int] = ()) -> Choice:
    """The first token, by logit and then by id, that is not banned and that `constraint` accepts.

    After `N_RANKED` proposals only tokens in the grammar's mask are tried.
    """
    return first_accepted(_proposed(logits, constraint), constraint, banned)


def first_accepted(
    proposed: Iterable[int], constraint: RowConstraint, banned: Collection[int] = ()
) -> Choice:
    """The first of `proposed` that is not banned and that `constraint` accepts; at most `MAX_TRIES` are tried.

    An end that the gate refuses stops the search: the fault is not in this token.
    """
    refused: list[tuple[int, Refusal]] = []
    for token in proposed:
        if token in banned:
            continue
        if constraint.accepts(token):
            return Choice(token, tuple(refused))
        assert constraint.refused_by is not None
        refused.append((token, constraint.refused_by))
        if constraint.refused_by == "gate" or len(refused) == MAX_TRIES:
            break
    return Choice(None, tuple(refused))


def strain_of(logits: np.ndarray, refused: Sequence[tuple[int, Refusal]], banned: Collection[int]) -> Strain:
    """The probability of the tokens that were refused or banned at one step, at temperature 1."""
    if not refused and not banned:
        return Strain(0.0, 0.0)
    scores = logits.astype(np.float64) - logits.max()
    total = np.exp(scores[scores > -np.inf]).sum()

    def mass(tokens: Iterable[int]) -> float:
        return float(np.exp(scores[list(tokens)]).sum() / total)

    by_grammar = [token for token, by in refused if by == "grammar"]
    return Strain(mass(by_grammar), mass({token for token, by in refused if by != "grammar"} | set(banned)))


def fault_place(constraint: RowConstraint, retreat: Retreat) -> int | None:
    """Which token of the text first uses the name that the gate's message gives; None where there is none.

    Another engine refuses for types more than for names, and its names are not always ours: then as far as at a dead end.
    """
    error = constraint.gate_error or ""
    name = named_in(error)
    offset = first_use(name, constraint.query) if name else None
    if offset is None:
        return retreat.place(constraint.n_tokens) if error.startswith(ENGINE) else None
    return constraint.token_at(offset)


def _proposed(logits: np.ndarray, constraint: RowConstraint) -> Iterator[int]:
    """The best tokens as they come, then those that the grammar's mask admits; -inf is never proposed."""
    best = _best(logits, N_RANKED)
    yield from _ranked(best, logits)
    if len(best) < N_RANKED:
        return
    admitted = constraint.mask()[: len(logits)] & (logits > -np.inf)
    admitted[best] = False
    yield from _ranked(np.flatnonzero(admitted), logits)


def _best(logits: np.ndarray, n: int) -> np.ndarray:
    """The `n` tokens with the highest logits, in any order; those at -inf never."""
    possible = np.flatnonzero(logits > -np.inf)
    n = min(n, len(possible))
    return possible[np.argpartition(-logits[possible], n - 1)[:n]] if n else possible


def _ranked(tokens: np.ndarray, logits: np.ndarray) -> Iterator[int]:
    """By logit, the highest first, and then by id."""
    return map(int, tokens[np.lexsort((tokens, -logits[tokens]))])
