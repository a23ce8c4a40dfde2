"""Loops and the closing of a query: how a row that would not end by itself comes to an end. No torch.

A row under a constraint may never end: kept from the name that it wanted, a small model writes the same condition again
and again. A phrase written three times in a row is a loop; the row goes back to where the second began and does
something else there. Where a row's budget of tokens, of ways back or of loops is spent, it is closed: the model goes on
choosing, but each token must leave a known way to the end within what is left. `ending` is that way, found by search
(`ending.py`), and what is written where the model offers nothing that keeps to it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

MAX_JUMPS = 2  # back to an alias that no table has been found for, in one row
PATIENCE = 3  # sources that may pass an alias over
MAX_LOOPS = 3  # broken in one row; at the next it is closed
MAX_PERIOD = 64  # tokens of a phrase that counts as a loop when it stands three times in a row
RESERVE = 64  # tokens before the end of the budget at which closing begins, at most a quarter of it
MIN_KEPT = 4  # tokens, and half of the text: of less the end would be the search's query and not the model's
STEP = 8  # tokens until it is tried again, where no place near could be closed
N_OFFERED = 32  # best tokens that a row is told at each step
MAX_OFFERED = 8  # tokens of the model's that are looked into at one step of closing
BACK = (
    0,
    1,
    2,
    4,
    8,
    16,
    32,
)  # tokens dropped, one after the other, until a place is found that can be closed
_JOINTS = (" and", " or", ",", " join", " union")  # a phrase begins behind one of these


class Closable(Protocol):
    """What closing needs of a row's constraint."""

    def piece(self, token: int) -> bytes:
        """The bytes that `token` writes."""

    def accepts(self, token: int) -> bool:
        """Whether `token` may come next."""

    def consume(self, token: int) -> None:
        """Write `token`."""

    def rollback(self, n: int) -> None:
        """Take back the last `n` tokens."""

    def stranded(self, least: int) -> int | None:
        """The place where an alias was named that at least `least` sources of higher number have passed over."""

    def ending(self, limit: int) -> tuple[int, ...] | None:
        """At most `limit` tokens, an end token last, that complete the query; None where none are found."""


@dataclass(frozen=True)
class Closing:
    """A row that is being closed."""

    begun_at: int  # the place from which on each token had to leave a way to the end
    deadline: int  # the end token stands at most at place deadline - 1
    ending: tuple[int, ...]  # the known way, from where the row stands


def begun(constraint: Closable, written: Sequence[int], budget: int, *, at_once: bool) -> Closing | None:
    """The closing of a row that has written these tokens, `constraint` rolled back to the place where it begins.

    None where no place near can be closed; then `constraint` is as it was. `at_once`: soon, where the row has budget
    left but shall not use it.
    """
    n = place = len(written)
    for back in BACK:
        if n - back < max(MIN_KEPT, n / 2):
            break
        constraint.rollback(place - (n - back))
        place = n - back
        ending = constraint.ending(budget - place)
        if ending is not None:
            deadline = min(budget, place + 2 * len(ending) + 8) if at_once else budget
            return Closing(place, deadline, ending)
    for token in written[place:]:
        constraint.consume(token)
    return None


def jump_place(ids: Sequence[int], constraint: Closable, *, in_trouble: bool) -> int | None:
    """Where a row goes back to because it named an alias too early; None where it has not.

    `T2.name` in SELECT and then no table T2 that has it: another table is called T3, and a query that was meant for two
    tables wanders through six. After a few of them, or at any other trouble, the alias is chosen anew.
    """
    place = constraint.stranded(1 if in_trouble else PATIENCE)
    return place if place is not None and place < len(ids) else None


def reserve(budget: int) -> int:
    """Tokens before the end of `budget` at which closing begins."""
    return min(RESERVE, budget // 4)


def step(
    closing: Closing, place: int, offered: Sequence[int], constraint: Closable, ends: frozenset[int]
) -> tuple[int, int, Closing]:
    """(the token taken, how many of `offered` were refused before it, the closing after it); it is not written yet.

    Of the first tokens that the model offers, the first that leaves a way to the end; else the known way's next.
    """
    left = closing.deadline - place - 1
    for n_refused, token in enumerate(offered[:MAX_OFFERED]):
        if not constraint.accepts(token):
            continue
        if token in ends:
            return token, n_refused, closing
        if token == closing.ending[0]:
            return token, n_refused, Closing(closing.begun_at, closing.deadline, closing.ending[1:])
        constraint.consume(token)
        ending = constraint.ending(left)
        constraint.rollback(1)
        if ending is not None:
            return token, n_refused, Closing(closing.begun_at, closing.deadline, ending)
    token = closing.ending[0]
    known = Closing(closing.begun_at, closing.deadline, closing.ending[1:])
    n_before = next((n for n, one in enumerate(offered) if one == token), len(offered))
    return token, n_before, known


def loop_place(ids: Sequence[int], constraint: Closable) -> int | None:
    """Where the second round of a loop begins that the last of `ids` has made whole; None where it has not.

    A loop is a phrase of at least two tokens and a space that stands three times in a row.
    """
    n = len(ids)
    last = ids[-1] if ids else None
    for period in range(2, min(MAX_PERIOD, n // 3) + 1):
        if ids[n - 1 - period] != last or ids[n - 1 - 2 * period] != last:
            continue
        first, second = ids[n - 3 * period : n - 2 * period], ids[n - 2 * period : n - period]
        if first != second or second != ids[n - period :]:
            continue
        words = [constraint.piece(token).decode("utf-8", "replace").lower() for token in first]
        if " " not in "".join(words):
            continue
        joint = next((at for at in reversed(range(period)) if words[at].startswith(_JOINTS)), None)
        return n - 2 * period if joint is None else n - 3 * period + joint
    return None
