"""A row under a constraint: what it writes binds to its schema, or it abstains and says why. No torch.

Step by step the same as `single_row.decode_grounded_row`, which asks for logits where this is given them: it looks at the
best few tokens and asks for the whole vocabulary only where all of them are refused.
"""

import math
from collections import defaultdict
from collections.abc import Collection, Sequence

import numpy as np

from groundql.decoding import closing as closings
from groundql.decoding.closing import Closing
from groundql.decoding.constraint import RowConstraint
from groundql.decoding.rows import Feed, Written, strain_of
from groundql.decoding.single_row import MAX_BACKTRACKS, MAX_TRIES, WORK, Retreat, choose, fault_place
from groundql.records import CompletionStatus


class GroundedRow:
    """Chooses for one row, and goes back where it comes to a dead end."""

    def __init__(
        self, constraint: RowConstraint, ends: Collection[int], budget: int, *, closes: bool = True
    ) -> None:
        """`constraint` is at its start; `budget`: tokens of the text, the end token among them.

        `closes`: a row that does not end by itself is closed (`closing.py`); without, it abstains.
        """
        self._constraint = constraint
        self._closes = closes
        self._closing: Closing | None = None
        self._closing_why = ""
        self._close_at = budget - closings.reserve(budget)
        self._n_loops = 0
        self._n_jumps = 0
        self._ends = frozenset(ends)
        self._budget = budget
        self._ids: list[int] = []
        self._log_probabilities: list[float] = []  # of each token taken, by the model alone
        self._refused: list[float] = []  # before each token taken: the probability that was refused
        self._offers: list[tuple[np.ndarray, np.ndarray]] = []  # of each place: the best tokens and theirs
        self._bans: defaultdict[int, dict[int, float]] = defaultdict(
            dict
        )  # of each place, with log-probability
        self._retreat = Retreat()
        self._n_backtracks = 0
        self._work = 0

    def advance(self, ids: np.ndarray, log_probabilities: np.ndarray) -> Feed | Written:
        place = len(self._ids)
        if place < len(self._offers):  # a place that was gone back to is asked again only for its whole row
            raise AssertionError("the row was not asking")
        self._offers.append((ids.copy(), log_probabilities.copy()))
        return self._go_on()

    def advance_whole(self, scores: np.ndarray, log_probabilities: np.ndarray) -> Feed | Written:
        choice = choose(scores, self._constraint, self._bans[len(self._ids)])
        refused = [float(log_probabilities[token]) for token, _ in choice.refused]
        taken = float(log_probabilities[choice.token]) if choice.token is not None else 0.0
        ended = self._after(choice.token, taken, refused, is_gated=choice.is_gated)
        return ended or self._go_on()

    def _go_on(self) -> Feed | Written:
        """Choose for as long as the tokens at hand allow it."""
        while True:
            place = len(self._ids)
            if self._closing is None and self._work == WORK * self._budget:
                if not self._close("work budget"):
                    return self._written("abstained", "work budget")
                continue
            if self._closing is None and place == self._close_at:
                self._close_at += closings.STEP
                if self._jump(in_trouble=True) or self._close("token budget", at_once=False):
                    continue
            if place == self._budget:
                return self._written("abstained", "token budget")
            if place == len(self._offers):
                return self._feed()
            if self._closing is not None:
                if self._take_closing(self._closing):
                    return self._written("answer", self._closing_why)
                continue
            refused: list[float] = []
            token, log_probability, is_gated = -1, 0.0, False
            bans = self._bans.get(place, ())
            for one, of_one in zip(*self._offers[place], strict=True):
                offered, log_probability = int(one), float(of_one)
                if offered in bans:
                    continue
                if self._constraint.accepts(offered):
                    token = offered
                    break
                refused.append(log_probability)
                is_gated = self._constraint.refused_by == "gate"
                if is_gated or len(refused) == MAX_TRIES:
                    break
            else:
                return self._feed(whole=True)
            ended = self._after(token if token >= 0 else None, log_probability, refused, is_gated=is_gated)
            if ended:
                return ended

    def _after(
        self, token: int | None, log_probability: float, refused: Sequence[float], *, is_gated: bool
    ) -> Written | None:
        """Take `token`; with None go back. What is written, if that ends it."""
        self._work += 1
        place = len(self._ids)
        if token is not None:
            banned = self._bans[place].values() if place in self._bans else ()
            self._refused.append(sum(map(math.exp, (*refused, *banned))))
            self._log_probabilities.append(log_probability)
            self._constraint.consume(token)
            if token in self._ends:
                return self._written("answer")
            self._ids.append(token)
            self._jump(in_trouble=False)
            return self._break_loop()
        if place == 0:
            return self._written("abstained", "dead end")
        back_to = fault_place(self._constraint, self._retreat) if is_gated else self._retreat.place(place)
        if back_to is None:  # the gate's message names nothing in the text: try other tokens than the end
            self._bans[place] |= {end: self._offered(place, end) for end in self._ends}
            return None
        if self._n_backtracks >= MAX_BACKTRACKS:
            if self._jump(in_trouble=True):
                return None
            reason = f"gate: {self._constraint.gate_error}" if is_gated else "dead end"
            return None if self._close(reason) else self._written("abstained", reason)
        self._go_back(back_to)
        return None

    def _break_loop(self) -> Written | None:
        """Go back where the last token has made a loop whole. What is written, if that ends the row."""
        place = closings.loop_place(self._ids, self._constraint)
        if place is None:
            return None
        if self._jump(in_trouble=True):
            return None
        self._n_loops += 1
        self._go_back(place)
        if self._n_loops <= closings.MAX_LOOPS or self._close("loop"):
            return None
        return self._written("abstained", "loop")

    def _jump(self, *, in_trouble: bool) -> bool:
        """Go back to an alias that was named too early; whether there is one."""
        if self._n_jumps == closings.MAX_JUMPS:
            return False
        place = closings.jump_place(self._ids, self._constraint, in_trouble=in_trouble)
        if place is None:
            return False
        self._n_jumps += 1
        self._go_back(place)
        return True

    def _close(self, why: str, *, at_once: bool = True) -> bool:
        """Begin to close the row, some tokens back where need be; False where it cannot or shall not be closed."""
        if not self._closes:
            return False
        self._closing = closings.begun(self._constraint, self._ids, self._budget, at_once=at_once)
        if self._closing is None:
            return False
        self._closing_why = why
        place = self._closing.begun_at
        self._bans.clear()
        del self._ids[place:], self._refused[place:], self._log_probabilities[place:]
        del self._offers[place + 1 :]
        return True

    def _take_closing(self, closing: Closing) -> bool:
        """Take the next token of a row that is being closed; whether that ended it."""
        ids, log_probabilities = map(np.ndarray.tolist, self._offers[len(self._ids)])
        token, n_before, self._closing = closings.step(
            closing, len(self._ids), ids, self._constraint, self._ends
        )
        self._work += 1
        mass = sum(map(math.exp, log_probabilities[:n_before]))
        self._refused.append(mass)
        of_token = log_probabilities[n_before] if n_before < len(ids) else math.log(max(1e-9, 1 - mass))
        self._log_probabilities.append(of_token)
        self._constraint.consume(token)
        if token in self._ends:
            return True
        self._ids.append(token)
        return False

    def _go_back(self, place: int) -> None:
        """Drop what stands from `place` on and ban there what stood there."""
        self._n_backtracks += 1
        self._constraint.rollback(len(self._ids) - place)
        self._bans[place][self._ids[place]] = self._log_probabilities[place]
        for later in [p for p in self._bans if p > place]:
            del self._bans[later]
        del self._ids[place:], self._refused[place:], self._log_probabilities[place:]
        del self._offers[place + 1 :]

    def _offered(self, place: int, token: int) -> float:
        """The log-probability of `token` where it is among the best, else -inf: a lower bound."""
        ids, log_probabilities = self._offers[place]
        at = np.flatnonzero(ids == token)
        return float(log_probabilities[at[0]]) if len(at) else -math.inf

    def _feed(self, *, whole: bool = False) -> Feed:
        return Feed(len(self._ids), self._ids[-1] if self._ids else -1, whole)

    def _written(self, status: CompletionStatus, reason: str = "") -> Written:
        return Written(
            tuple(self._ids),
            status,
            stopped=status == "answer",
            reason=reason,
            sql=self._constraint.query if status == "answer" else None,
            log_probability=sum(self._log_probabilities),
            strain=strain_of(self._refused),
            n_refused=sum(self._constraint.refusals.values()),
            n_backtracks=self._n_backtracks,
            closed_at=self._closing.begun_at if self._closing is not None else None,
            work=self._work,
        )
