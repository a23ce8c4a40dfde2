"""What one row of a batch does with the tokens that the model offers, step by step. No torch: it runs in any process.

A row is told the best tokens after what it has, and answers with a `Feed` (what the model reads next) or with what it
wrote. The batch does not know how a row chooses.
"""

import hashlib
import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from groundql.records import CompletionStatus, Strain


@dataclass(frozen=True)
class Written:
    """The tokens that one row wrote, the end token not among them."""

    ids: tuple[int, ...]
    status: CompletionStatus
    stopped: bool  # the end token came before the limit
    reason: str = ""  # why it abstained, or why it was closed
    sql: str | None = None  # the query that the gate let through
    log_probability: float = 0.0  # of all tokens and the end, by the model alone
    strain: Strain | None = None  # of a row under a constraint
    n_refused: int = 0  # tokens that the constraint refused
    n_backtracks: int = 0
    closed_at: int | None = None  # the token from which on it was closed (`closing.py`)
    work: int = 0  # tokens chosen, those that were dropped again among them


@dataclass(frozen=True)
class Decoded(Written):
    """What a model wrote after one prompt."""

    n_prompt_tokens: int = 0


def seed_of(question_id: str, sample: int, seed: int) -> int:
    """A row's own seed: of its question, not of its place, so that the rest of a data set changes nothing."""
    digest = hashlib.blake2b(f"{seed} {sample} {question_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


@dataclass(frozen=True)
class Feed:
    """The model reads the row's last token and is asked what follows.

    `n_ids` tokens are written by now and `token` is the last of them; -1 stands for the prompt's own last token.
    `whole` asks for the whole row of scores in place of the best few.
    """

    n_ids: int
    token: int
    whole: bool = False


class RowChooser(Protocol):
    """One row's way to choose."""

    def advance(self, ids: np.ndarray, log_probabilities: np.ndarray) -> Feed | Written:
        """Choose after the last feed. `ids`: the best tokens, best first."""

    def advance_whole(self, scores: np.ndarray, log_probabilities: np.ndarray) -> Feed | Written:
        """Choose from the whole vocabulary, after a feed that asked for it. Both (vocab,) float32."""


class FreeRow:
    """The model's own best token each time, until it ends or the limit comes."""

    def __init__(self, ends: frozenset[int], limit: int) -> None:
        self._ends = ends
        self._limit = limit
        self._ids: list[int] = []
        self._log_probability = 0.0

    def advance(self, ids: np.ndarray, log_probabilities: np.ndarray) -> Feed | Written:
        token = int(ids[0])
        self._log_probability += float(log_probabilities[0])
        if token in self._ends:
            return self._written(stopped=True)
        self._ids.append(token)
        if len(self._ids) == self._limit:
            return self._written(stopped=False)
        return Feed(len(self._ids), token)

    def advance_whole(self, scores: np.ndarray, log_probabilities: np.ndarray) -> Feed | Written:
        raise AssertionError("a free row never asks for the whole vocabulary")

    def _written(self, *, stopped: bool) -> Written:
        return Written(
            tuple(self._ids),
            "free",
            stopped,
            log_probability=self._log_probability,
            work=len(self._ids) + stopped,
        )


def strain_of(refused_masses: list[float]) -> Strain:
    """The strain of a text whose token i was taken after a probability of `refused_masses[i]` was refused."""
    steps = [0.0 - math.log(max(1e-9, 1 - mass)) for mass in refused_masses]
    largest = max(steps, default=0.0)
    at = steps.index(largest) if largest > 0 else None
    return Strain(total=round(sum(steps), 4), largest=round(largest, 4), at=at)
