"""The rows' choosers, wherever they run: here, or shared out over processes (`workers.py`). No torch.

The batch goes on with each row's best token before it knows whether the row takes it. So a crew says only what it must: of
a row that took the best token nothing, of another what the model shall read instead. From then on the row is on a new
course, and what was found for it on the old one is passed over.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from groundql.decoding.rows import Feed, RowChooser, Written

MakeChooser = Callable[[int], RowChooser]  # from a row's place
Did = tuple[int, Feed | Written]  # a row's place, and what it did


class Findings(NamedTuple):
    """What a step found for some rows on their courses: the best tokens, ids and log-probabilities both (rows, n_best).

    With `best`, the best token of each, scores and log-probabilities of the whole vocabulary, both (rows, vocab).
    """

    places: Sequence[int]
    courses: Sequence[int]
    ids: np.ndarray
    log_probabilities: np.ndarray
    best: Sequence[int] | None = None

    def part(self, rows: Sequence[int]) -> "Findings":
        """Of these rows alone."""
        best = None if self.best is None else [self.best[i] for i in rows]
        places, courses = [self.places[i] for i in rows], [self.courses[i] for i in rows]
        return Findings(places, courses, self.ids[rows], self.log_probabilities[rows], best)


class Crew(Protocol):
    """Choosers by the rows' places in the caller's order."""

    def start(self, places: Sequence[int]) -> None:
        """Rows that are about to be decoded, each on its course 0."""

    def ask(self, found: Findings) -> None:
        """Tell rows what a step found for them."""

    def hear(self, may_leave: Callable[[], bool] | None = None) -> list[Did]:
        """Of all rows asked, those that did not take the best token and go on, each on its next course.

        With `may_leave` some may be left for the next time, once it says so.
        """


@dataclass
class _Working:
    """A row at work."""

    chooser: RowChooser
    course: int = 0
    n_ids: int = 0


class Desk:
    """Choosers of one process."""

    def __init__(self, make: MakeChooser) -> None:
        self._make = make
        self._rows: dict[int, _Working] = {}

    def start(self, places: Sequence[int]) -> None:
        """Rows begin."""
        for place in places:
            self._rows[place] = _Working(self._make(place))

    def advance(self, found: Findings) -> list[Did]:
        """What rows did that did not take the best token and go on."""
        places, courses, ids, log_probabilities, best = found
        done: list[Did] = []
        for i, place in enumerate(places):
            row = self._rows.get(place)
            if row is None or row.course != courses[i]:
                continue
            if best is None:
                did = row.chooser.advance(ids[i], log_probabilities[i])
            else:
                did = row.chooser.advance_whole(ids[i], log_probabilities[i])
            if isinstance(did, Written):
                del self._rows[place]
                done.append((place, did))
                continue
            first = int(ids[i, 0]) if best is None else best[i]
            if did.whole or did.token != first or did.n_ids != row.n_ids + 1:
                row.course += 1
                done.append((place, did))
            row.n_ids = did.n_ids
        return done


class LocalCrew:
    """All choosers in this process."""

    def __init__(self, make: MakeChooser) -> None:
        self._desk = Desk(make)
        self._did: list[Did] = []

    def start(self, places: Sequence[int]) -> None:
        self._desk.start(places)

    def ask(self, found: Findings) -> None:
        self._did += self._desk.advance(found)

    def hear(self, may_leave: Callable[[], bool] | None = None) -> list[Did]:
        did, self._did = self._did, []
        return did
