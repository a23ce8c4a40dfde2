"""One thread that owns the model: it takes what waits, up to a batch, and answers it in one call.

Nothing is lost: every question that was taken in gets an answer or an error. One that fails fails alone: where a batch
raises, its questions are asked again one at a time. One whose client has gone is passed over if it has not begun;
a batch that has begun runs to its end, because a model's step cannot be called back.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import NamedTuple

from groundql.answer import Answer
from groundql.serving.asks import Ask, Asks
from groundql.serving.faults import Fault, too_busy


class Timed(NamedTuple):
    """An answer with what it took."""

    answer: Answer
    queued_s: float
    answered_s: float  # of the whole batch
    n_batch: int


@dataclass
class _Waiting:
    ask: Ask
    future: "Future[Timed]" = field(default_factory=Future)
    since_s: float = field(default_factory=time.monotonic)


class Batcher:
    """Takes questions from any thread; `asks` is called from its own thread alone."""

    def __init__(
        self, asks: Asks, *, n_queue: int, n_batch: int, on_batch: Callable[[int, float], None] | None = None
    ) -> None:
        self._asks, self._n_queue, self._n_batch = asks, n_queue, n_batch
        self._on_batch = on_batch or (lambda n, seconds: None)
        self._waiting: deque[_Waiting] = deque()
        self._has_changed = threading.Condition()
        self._is_closing = False
        self._n_running = 0
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    @property
    def n_waiting(self) -> int:
        """Questions that wait, those whose client has gone left out."""
        with self._has_changed:
            return sum(not waiting.future.cancelled() for waiting in self._waiting)

    @property
    def is_alive(self) -> bool:
        """Whether its thread is there."""
        return self._thread.is_alive()

    @property
    def is_closing(self) -> bool:
        """Whether it takes no more questions."""
        return self._is_closing

    def submit(self, ask: Ask) -> "Future[Timed]":
        """The answer to come; cancel it where nobody waits for it any more. Fault 503 where the queue is full."""
        with self._has_changed:
            if self._is_closing:
                raise stopping()
            if len(self._waiting) >= self._n_queue:
                self._waiting = deque(w for w in self._waiting if not w.future.cancelled())
            if len(self._waiting) >= self._n_queue:
                raise too_busy(f"{self._n_queue} questions wait already: try again")
            waiting = _Waiting(ask)
            self._waiting.append(waiting)
            self._has_changed.notify()
            return waiting.future

    def drain(self) -> None:
        """Take no more questions; those that wait are still answered."""
        with self._has_changed:
            self._is_closing = True
            self._has_changed.notify()

    def close(self, limit_s: float) -> int:
        """Drain for at most so long, then fail what still waits or runs; how many those were."""
        self.drain()
        self._thread.join(limit_s)
        return self.fail_waiting()

    def fail_waiting(self) -> int:
        """Tell everybody who still waits that the server stops; how many those were."""
        with self._has_changed:
            left, self._waiting = list(self._waiting), deque()
        n_failed = 0
        for waiting in left:
            if waiting.future.set_running_or_notify_cancel():
                waiting.future.set_exception(stopping())
                n_failed += 1
        return n_failed

    def _work(self) -> None:
        while batch := self._next_batch():
            start_s = time.monotonic()
            self._answer([w for w in batch if w.future.set_running_or_notify_cancel()])
            self._on_batch(len(batch), time.monotonic() - start_s)

    def _next_batch(self) -> list[_Waiting]:
        """What waits, up to a batch; empty at the end."""
        with self._has_changed:
            while not self._waiting and not self._is_closing:
                self._has_changed.wait()
            n = min(len(self._waiting), self._n_batch)
            return [self._waiting.popleft() for _ in range(n)]

    def _answer(self, batch: Sequence[_Waiting]) -> None:
        """Settle every future of the batch."""
        if not batch:
            return
        start_s = time.monotonic()
        try:
            told = self._asks([waiting.ask for waiting in batch])
            if len(told) != len(batch):
                raise RuntimeError(f"{len(batch)} questions got {len(told)} answers")
        except Exception as error:
            if len(batch) == 1:
                batch[0].future.set_exception(error)
            else:
                for waiting in batch:
                    self._answer([waiting])
            return
        answered_s = time.monotonic() - start_s
        for waiting, one in zip(batch, told, strict=True):
            if isinstance(one, Exception):
                waiting.future.set_exception(one)
            else:
                waiting.future.set_result(Timed(one, start_s - waiting.since_s, answered_s, len(batch)))


def stopping() -> Fault:
    """503: the server is being stopped."""
    return Fault(503, "stopping", "the server is being stopped: try again", retry_s=5)
