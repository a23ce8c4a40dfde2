"""The decoding loop: slots are filled, stepped, settled and refilled until every row is written. Needs torch.

On a GPU the next step starts before the last one is settled: each row goes on with the model's own best token, and
meanwhile the choosers say whether they take it. A row that does not is put back to the place it chose from, and loses
one step; the others lose nothing. Where a chooser is late, the GPU goes on without its answer. What is written is the
same with and without.
"""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from groundql.decoding.crew import Crew, Findings
from groundql.decoding.cuda_graph import Fetched, Stepper
from groundql.decoding.reader import Reader
from groundql.decoding.rows import Written
from groundql.decoding.schedule import Capacity, Prefix, Row, Shape, Waiting, choose_shape, is_much_smaller
from groundql.decoding.slots import Choosing, Slots

AHEAD_SHARE = 0.25  # of the tokens in the cache: prompts read and not taken yet, beside it


@dataclass(frozen=True)
class Pace:
    """How the loop is run; nothing of it changes what is written."""

    lookahead: int = 0  # steps started before the last one is settled: 0 or 1
    use_graph: bool = False
    tokens_at_once: int = 2048  # of prompts, in one forward pass
    reads_ahead: bool = False  # fill such a pass up with questions that no slot is free for yet
    refill_share: float = 0.0  # free slots wait until they are this share of all
    compact_share: float = 0.75  # fewer rows than this share of the slots move to a smaller batch
    prefix_share: float = 0.6  # and so do rows whose prefixes have at most this share of the batch's length
    least_saved: int = 0  # places of all slots by which a batch becomes smaller, or it stays as it is
    moving_share: float = (
        2.0  # of the capacity's tokens: most that the old and the new batch hold while rows move
    )

    @classmethod
    def on(cls, device: torch.device) -> "Pace":
        """What suits a device: a GPU loses most by waiting and by small passes, a CPU by computing free slots.

        Another shape is another graph, whose capture takes a GPU as long as some twenty steps; a place costs each step 2 to
        5 ns (small model, H100).
        """
        if device.type != "cuda":
            return cls()
        return cls(
            lookahead=1,
            use_graph=True,
            tokens_at_once=8192,
            reads_ahead=True,
            refill_share=0.1,
            compact_share=0.25,
            prefix_share=0.5,
            least_saved=40_000,
            moving_share=1.5,
        )


@dataclass
class _Live:
    """A row in a slot."""

    row: Row
    valid_from: int  # the number of the first step whose finding counts for it
    course: int = 0  # how often it was put back
    n_ids: int = 0  # tokens behind it at its next step, taken or not
    whole: bool = False  # its whole vocabulary is asked for


@dataclass(frozen=True)
class _Started:
    """A step that was started."""

    number: int
    rows: list[tuple[int, _Live]]
    best: Fetched
    whole_rows: list[tuple[int, _Live]]
    whole: Fetched | None


class Batch:
    """Decodes rows with one model."""

    def __init__(
        self,
        model: Any,
        rows: Sequence[Row],
        crew: Crew,
        *,
        choosing: Choosing,
        capacity: Capacity,
        pace: Pace,
        on_written: Callable[[Row, Written], None],
    ) -> None:
        self._model = model
        self._crew = crew
        self._choosing = choosing
        self._capacity = capacity
        self._pace = pace
        self._on_written = on_written
        self._waiting = Waiting(rows)
        self._n_own = self._waiting.n_own()
        n_ahead = int(AHEAD_SHARE * capacity.kv_tokens) if pace.reads_ahead else 0
        self._reader = Reader(model, rows, tokens_at_once=pace.tokens_at_once, tokens_ahead=n_ahead)
        self._slots: Slots | None = None
        self._number = 0  # of the next step
        self._started: deque[_Started] = deque()
        self._put_back: dict[int, tuple[int, int]] = {}  # slot to token and number of ids
        self._slot_of: dict[int, int] = {}  # by the place of a live row
        self._has_news = True  # rows have left since the shape was last thought of
        self._may_reshape = True
        self._take_shape(choose_shape(self._waiting.counts(), self._n_own, capacity))

    def run(self) -> None:
        """Decode all rows."""
        while self._waiting or any(self._live):
            if self._has_news:
                self._reshape()
                self._admit()
                self._has_news = False
                if not any(self._live):
                    continue
            self._start_step()
            if len(self._started) > self._pace.lookahead:
                self._settle(self._started.popleft())
                self._hear(self._started[-1].best.is_ready if self._started else None)

    def _take_shape(self, shape: Shape) -> None:
        self._shape = shape
        self._groups: list[Prefix | None] = [None] * shape.n_groups
        self._live: list[_Live | None] = [None] * shape.n_slots

    def _start_step(self) -> None:
        assert self._slots is not None
        if self._put_back:
            slots = list(self._put_back)
            self._slots.put_back(
                slots, [self._put_back[s][0] for s in slots], [self._put_back[s][1] for s in slots]
            )
            self._put_back = {}
        rows = [(slot, live) for slot, live in enumerate(self._live) if live is not None]
        n_own = max(len(live.row.suffix) + live.n_ids for _, live in rows)
        best = self._stepper.step(min(n_own, self._shape.n_own))
        whole = [(slot, live) for slot, live in rows if live.whole and live.valid_from == self._number]
        fetched = Fetched(self._slots.whole_rows([slot for slot, _ in whole])) if whole else None
        self._started.append(_Started(self._number, rows, best, whole, fetched))
        self._number += 1
        for _, live in rows:
            live.n_ids += 1

    def _settle(self, started: _Started) -> None:
        """Tell the rows what a step found."""
        found = started.best.wait()
        ids, log_probabilities = found[:, : self._choosing.n_best], found[:, self._choosing.n_best :]
        log_probabilities = log_probabilities.view(np.float32)
        whole_slots = {slot for slot, _ in started.whole_rows}
        usual = [
            (slot, live)
            for slot, live in started.rows
            if live.row.place in self._slot_of  # else it has ended
            and live.valid_from <= started.number
            and slot not in whole_slots
        ]
        slots = [slot for slot, _ in usual]
        places, courses = [live.row.place for _, live in usual], [live.course for _, live in usual]
        self._crew.ask(Findings(places, courses, ids[slots], log_probabilities[slots]))
        if started.whole is not None:
            places = [live.row.place for _, live in started.whole_rows]
            courses = [live.course for _, live in started.whole_rows]
            best = [int(ids[slot, 0]) for slot, _ in started.whole_rows]
            scores, log_probabilities = started.whole.wait()
            self._crew.ask(Findings(places, courses, scores, log_probabilities, best))

    def _hear(self, may_leave: Callable[[], bool] | None) -> None:
        """Put back the rows that did not take the best token, and take out those that ended."""
        for place, did in self._crew.hear(may_leave):
            slot = self._slot_of[place]
            live = self._live[slot]
            assert live is not None
            if isinstance(did, Written):
                self._live[slot] = None
                del self._slot_of[place]
                self._put_back.pop(slot, None)
                self._has_news = True
                self._on_written(live.row, did)
                continue
            token = did.token if did.token >= 0 else live.row.suffix[-1]
            self._put_back[slot] = (token, did.n_ids)
            live.valid_from, live.course = self._number, live.course + 1
            live.n_ids, live.whole = did.n_ids, did.whole

    def _admit(self) -> None:
        """Fill free slots with rows that wait, when enough are free."""
        n_worth = max(1, min(int(self._pace.refill_share * self._shape.n_slots), len(self._waiting)))
        if self._live.count(None) < n_worth:
            return
        self._gather()
        placed = self._plan()
        if not placed or (len(placed) < n_worth and any(self._live)):
            return
        new_groups: dict[int, Prefix] = {}
        rows: list[tuple[int, Row]] = []
        for slot, prefix in placed:
            group = slot // self._shape.n_rows
            if self._groups[group] != prefix:
                new_groups[group] = self._groups[group] = prefix
            rows.append((slot, self._waiting.take(prefix)))
        self._reader.read([row for _, row in rows], self._waiting.rows())
        if self._slots is None:
            layers = self._reader.prefix(rows[0][1].prefix)
            self._use(Slots(self._model, self._shape, self._choosing, layers))
        assert self._slots is not None
        for group, prefix in new_groups.items():
            self._slots.set_prefix(group, self._reader.prefix(prefix))
        self._crew.start([row.place for _, row in rows])
        suffixes = [self._reader.take(row) for _, row in rows]
        self._slots.place([slot for slot, _ in rows], [row for _, row in rows], suffixes)
        for slot, row in rows:
            self._live[slot] = _Live(row, self._number)
            self._slot_of[row.place] = slot
        self._reader.forget(self._waiting.counts())

    def _plan(self) -> list[tuple[int, Prefix]]:
        """Free slots and the prefixes whose next rows go there: first in groups of the prefix, then in empty groups."""
        left = self._waiting.counts()
        n_rows = self._shape.n_rows
        placed: list[tuple[int, Prefix]] = []
        empty = []
        for group, own in enumerate(self._groups):
            free = [s for s in range(group * n_rows, (group + 1) * n_rows) if self._live[s] is None]
            if own is None or (len(free) == n_rows and not left.get(own)):
                empty.append(free)
                continue
            for slot in free[: left.get(own, 0)]:
                placed.append((slot, own))
                left[own] -= 1
        for free in empty:
            prefix = next((prefix for prefix, n in left.items() if n), None)
            if prefix is None:
                break
            taken = free[: left[prefix]]
            placed += [(slot, prefix) for slot in taken]
            left[prefix] -= len(taken)
        return placed

    def _gather(self) -> None:
        """Let rows of one prefix that nothing waits for move together, where that frees a group for another prefix."""
        left = self._waiting.counts()
        if not left or self._slots is None:
            return
        n_rows = self._shape.n_rows
        groups_of: dict[Prefix, list[list[int]]] = {}  # slots of groups that have rows
        for group, prefix in enumerate(self._groups):
            slots = list(range(group * n_rows, (group + 1) * n_rows))
            if prefix is not None and prefix not in left and any(self._live[slot] for slot in slots):
                groups_of.setdefault(prefix, []).append(slots)
        moved: dict[int, int] = {}
        for groups in groups_of.values():
            groups.sort(key=lambda slots: sum(self._live[slot] is not None for slot in slots), reverse=True)
            n_kept = -(-sum(self._live[slot] is not None for slots in groups for slot in slots) // n_rows)
            free = [slot for slots in groups[:n_kept] for slot in slots if self._live[slot] is None]
            taken = [slot for slots in groups[n_kept:] for slot in slots if self._live[slot] is not None]
            moved |= dict(zip(taken, free, strict=False))
        if moved:
            self._slots.move(list(moved), list(moved.values()))
        for old, new in moved.items():
            self._live[new], self._live[old] = live, _ = self._live[old], None
            if live is not None:
                self._slot_of[live.row.place] = new
            if old in self._put_back:
                self._put_back[new] = self._put_back.pop(old)

    def _use(self, slots: Slots) -> None:
        self._slots = slots
        self._stepper = Stepper(slots, use_graph=self._pace.use_graph)

    def _reshape(self) -> None:
        """Move to a smaller batch where little of this one is used, or where its prefixes are much too wide.

        Where both do not fit into the memory, this one stays to the end.
        """
        if not self._may_reshape or self._slots is None or not any(self._live):
            return
        shape = self._better_shape()
        if shape is None:
            return
        while self._started:
            self._settle(self._started.popleft())
        self._hear(None)
        shape = self._better_shape()
        if shape is None or self._slots is None:
            return
        old = self._live
        of_prefix: dict[Prefix, list[int]] = {}
        old_groups: dict[Prefix, int] = {}
        for slot, live in enumerate(old):
            if live is not None:
                of_prefix.setdefault(live.row.prefix, []).append(slot)
                old_groups.setdefault(live.row.prefix, slot // self._shape.n_rows)
        groups: list[int] = []
        prefixes: list[Prefix] = []
        moved: dict[int, int] = {}
        for prefix, slots in of_prefix.items():
            for start in range(0, len(slots), shape.n_rows):
                for i, slot in enumerate(slots[start : start + shape.n_rows]):
                    moved[slot] = len(groups) * shape.n_rows + i
                groups.append(old_groups[prefix])
                prefixes.append(prefix)
        try:
            new_slots = self._slots.moved(shape, groups, moved)
        except torch.OutOfMemoryError:
            self._may_reshape = False
            return
        self._take_shape(shape)
        self._groups[: len(prefixes)] = prefixes
        for slot, new in moved.items():
            self._live[new] = live = old[slot]
            if live is not None:
                self._slot_of[live.row.place] = new
        self._put_back = {moved[slot]: value for slot, value in self._put_back.items()}
        self._use(new_slots)

    def _better_shape(self) -> Shape | None:
        """A much smaller shape that holds the rows of this batch, or None."""
        living = Counter(live.row.prefix for live in self._live if live is not None)
        if not living:
            return None
        counts = dict(living)
        for prefix, n in self._waiting.counts().items():
            counts[prefix] = counts.get(prefix, 0) + n
        shape = choose_shape(counts, self._n_own, self._capacity)
        n_groups = sum(-(-n // shape.n_rows) for n in living.values())
        shares = self._pace.compact_share, self._pace.prefix_share
        if n_groups > shape.n_groups or not is_much_smaller(shape, self._shape, *shares):
            return None
        if self._shape.n_places - shape.n_places < self._pace.least_saved:
            return None
        if self._shape.kv_tokens + shape.kv_tokens > self._pace.moving_share * self._capacity.kv_tokens:
            return None
        return shape
