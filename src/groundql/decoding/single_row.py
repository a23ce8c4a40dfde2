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
    reason: (
        str  # of an abstention: "dead end", "token budget", "work budget" or "gate: ..." with SQLite's words
    )
    strain: tuple[Strain, ...]  # of each token, the end token last
    n_backtracks: int


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
) -> GroundedText:
    """The query that greedy decoding under `constraint` comes to, or an abstention with its reason.

    Args:
        next_logits: (n_logits,) floats for what follows the tokens given; asked once for each text.
        constraint: a row at its start; it is left at the text that is returned.
        ends: tokens that end a text.
        budget: tokens in one text; the steps of all attempts together are at most `WORK` times as many.
    """
    ids: list[int] = []
    rows: list[np.ndarray] = []  # the logits of each place, kept: going back computes nothing anew
    strain: list[Strain] = []
    bans: defaultdict[int, set[int]] = defaultdict(set)
    n_backtracks = 0
    retreat = Retreat()

    def ended(status: Literal["answer", "abstained"], reason: str = "") -> GroundedText:
        return GroundedText(tuple(ids), status, reason, tuple(strain), n_backtracks)

    for _ in range(WORK * budget):
        place = len(ids)
        if place == budget:
            return ended("abstained", "token budget")
        if place == len(rows):
            rows.append(next_logits(ids))
        choice = choose(rows[place], constraint, bans[place])
        if choice.token is not None:
            strain.append(strain_of(rows[place], choice.refused, bans[place]))
            if choice.token in ends:
                return ended("answer")
            constraint.consume(choice.token)
            ids.append(choice.token)
            continue
        if place == 0:
            return ended("abstained", "dead end")
        back_to = fault_place(constraint, retreat) if choice.is_gated else retreat.place(place)
        if back_to is None:  # the gate's message names nothing in the text: try other tokens than the end
            bans[place].update(ends)
            continue
        if n_backtracks == MAX_BACKTRACKS:
            return ended("abstained", f"gate: {constraint.gate_error}" if choice.is_gated else "dead end")
        n_backtracks += 1
        constraint.rollback(place - back_to)
        bans[back_to].add(ids[back_to])
        for later in [p for p in bans if p > back_to]:
            del bans[later]
        del ids[back_to:], strain[back_to:], rows[back_to + 1 :]
    return ended("abstained", "work budget")


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
    possible = np.flatnonzero(logits > -np.inf)
    n_best = min(N_RANKED, len(possible))
    if n_best == 0:
        return
    best = possible[np.argpartition(-logits[possible], n_best - 1)[:n_best]]
    yield from _ranked(best, logits)
    if n_best == len(possible):
        return
    admitted = constraint.mask()[: len(logits)] & (logits > -np.inf)
    admitted[best] = False
    yield from _ranked(np.flatnonzero(admitted), logits)


def _ranked(tokens: np.ndarray, logits: np.ndarray) -> Iterator[int]:
    """By logit, the highest first, and then by id."""
    return map(int, tokens[np.lexsort((tokens, -logits[tokens]))])
