"""The rows' choosers, wherever they run: here, or shared out over processes (`workers.py`). No torch."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from groundql.decoding.rows import Feed, RowChooser, Written

MakeChooser = Callable[[int], RowChooser]  # from a row's place


class Crew(Protocol):
    """Choosers by the rows' places in the caller's order."""

    def start(self, places: Sequence[int]) -> None:
        """Rows that are about to be decoded."""

    def advance(
        self, places: Sequence[int], ids: np.ndarray, log_probabilities: np.ndarray
    ) -> list[Feed | Written]:
        """What each row does with the best tokens, both (rows, n_best)."""

    def advance_whole(
        self, places: Sequence[int], scores: np.ndarray, log_probabilities: np.ndarray
    ) -> list[Feed | Written]:
        """What each row does with the whole vocabulary, both (rows, vocab)."""


class LocalCrew:
    """All choosers in this process."""

    def __init__(self, make: MakeChooser) -> None:
        self._make = make
        self._choosers: dict[int, RowChooser] = {}

    def start(self, places: Sequence[int]) -> None:
        for place in places:
            self._choosers[place] = self._make(place)

    def advance(
        self, places: Sequence[int], ids: np.ndarray, log_probabilities: np.ndarray
    ) -> list[Feed | Written]:
        return [
            self._kept(place, self._choosers[place].advance(ids[i], log_probabilities[i]))
            for i, place in enumerate(places)
        ]

    def advance_whole(
        self, places: Sequence[int], scores: np.ndarray, log_probabilities: np.ndarray
    ) -> list[Feed | Written]:
        return [
            self._kept(place, self._choosers[place].advance_whole(scores[i], log_probabilities[i]))
            for i, place in enumerate(places)
        ]

    def _kept(self, place: int, did: Feed | Written) -> Feed | Written:
        if isinstance(did, Written):
            del self._choosers[place]
        return did
