"""From questions that wait to their answers: one thread owns the model, a few more run what it wrote.

The model's thread takes what waits, up to a batch, and has it written in one call; then it goes on to the next while
the queries run, so that a slow query holds up its own answer alone.

Nothing is lost: every question that was taken in gets an answer or an error. Where a batch raises, its questions are
asked again one at a time, so that one that cannot be asked fails alone. A question whose client has gone is passed over
if it has not begun; a batch that has begun runs to its end, because a model's step cannot be called back.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from contextlib import suppress
from typing import NamedTuple

from groundql.answer import Answer
from groundql.serving.asks import Ask
from groundql.serving.faults import Fault, too_busy

Write = Callable[[Sequence[Ask]], Sequence[Answer | Exception]]
Run = Callable[[Ask, Answer], Answer]


class Timed(NamedTuple):
    """An answer with what it took."""

    answer: Answer
    queued_s: float
    writing_s: float  # of the whole batch
    n_batch: int


class _Waiting:
    """A question with its answer to come."""

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self.future: Future[Timed] = Future()
        self.since_s = time.monotonic()

    def settle(self, made: Timed | Exception) -> None:
        """Hand it over; one that was failed meanwhile stays so."""
        with suppress(InvalidStateError):
            if isinstance(made, Exception):
                self.future.set_exception(made)
            else:
                self.future.set_result(made)


class Batcher:
    """Takes questions from any thread. `write` is called from one thread, `run` from `n_runners`."""

    def __init__(
        self,
        write: Write,
        run: Run,
        *,
        n_open: int,
        n_batch: int,
        n_runners: int = 2,
        gather_s: float = 0.0,
        on_batch: Callable[[int, float], None] | None = None,
    ) -> None:
        """At most `n_open` questions are taken in and not answered yet.

        A batch that is not full waits `gather_s` for more, from its first question or the end of the batch before.
        """
        self._write, self._run = write, run
        self._most_open, self._n_batch, self._gather_s = n_open, n_batch, gather_s
        self._on_batch = on_batch or (lambda n, seconds: None)
        self._changed = threading.Condition()
        self._waiting: deque[_Waiting] = deque()
        self._open: set[_Waiting] = set()
        self._is_closing = False
        self._written_s = 0.0  # when the last batch was
        self._runners = ThreadPoolExecutor(n_runners, thread_name_prefix="answers")
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    @property
    def n_open(self) -> int:
        """Questions taken in and not answered yet."""
        with self._changed:
            return len(self._open)

    @property
    def is_alive(self) -> bool:
        """Whether the model's thread is there."""
        return self._thread.is_alive()

    @property
    def is_closing(self) -> bool:
        """Whether it takes no more questions."""
        return self._is_closing

    def submit(self, ask: Ask) -> "Future[Timed]":
        """The answer to come; cancel it where nobody waits for it any more. Fault 503 where too many are open."""
        with self._changed:
            if self._is_closing:
                raise stopping()
            if len(self._open) >= self._most_open:
                raise too_busy(f"{self._most_open} questions wait already: try again")
            waiting = _Waiting(ask)
            self._open.add(waiting)
            self._waiting.append(waiting)
            self._changed.notify_all()
        waiting.future.add_done_callback(lambda _: self._ended(waiting))
        return waiting.future

    def _ended(self, waiting: _Waiting) -> None:
        with self._changed:
            self._open.discard(waiting)
            self._changed.notify_all()

    def drain(self) -> None:
        """Take no more questions; those that were taken in are still answered."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()

    def close(self, limit_s: float) -> int:
        """Drain for at most so long, then fail what is left; how many those were."""
        self.drain()
        with self._changed:
            self._changed.wait_for(lambda: not self._open, limit_s)
            left = list(self._open)
            self._waiting.clear()
        for waiting in left:
            if not waiting.future.cancelled():
                waiting.settle(stopping())
        self._runners.shutdown(wait=False, cancel_futures=True)
        return len(left)

    def _work(self) -> None:
        while (batch := self._next_batch()) is not None:
            begun = [waiting for waiting in batch if waiting.future.set_running_or_notify_cancel()]
            if begun:
                start_s = time.monotonic()
                self._answer(begun)
                self._written_s = time.monotonic()
                self._on_batch(len(begun), time.monotonic() - start_s)

    def _next_batch(self) -> list[_Waiting] | None:
        """What waits, up to a batch; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_closing)
            if self._waiting:
                # Those who were just answered ask again: without a moment for them, two halves of the clients take
                # turns for ever, each in batches of half the size.
                from_s = max(self._waiting[0].since_s, self._written_s)
                left_s = from_s + self._gather_s - time.monotonic()
                self._changed.wait_for(self._has_batch, max(0.0, left_s))
            n = min(len(self._waiting), self._n_batch)
            return [self._waiting.popleft() for _ in range(n)] if n else None

    def _has_batch(self) -> bool:
        return len(self._waiting) >= self._n_batch or self._is_closing

    def _answer(self, batch: Sequence[_Waiting]) -> None:
        """Have the batch written, and hand each query on to be run."""
        start_s = time.monotonic()
        try:
            answers = self._write([waiting.ask for waiting in batch])
            if len(answers) != len(batch):
                raise RuntimeError(f"{len(batch)} questions got {len(answers)} answers")
        except Exception as error:
            if len(batch) == 1:
                batch[0].settle(error)
            else:
                for waiting in batch:
                    self._answer([waiting])
            return
        writing_s = time.monotonic() - start_s
        for waiting, answer in zip(batch, answers, strict=True):
            if isinstance(answer, Exception):
                waiting.settle(answer)
            else:
                timed = Timed(answer, start_s - waiting.since_s, writing_s, len(batch))
                with suppress(RuntimeError):  # closed meanwhile, and so failed already
                    self._runners.submit(self._finish, waiting, timed)

    def _finish(self, waiting: _Waiting, timed: Timed) -> None:
        try:
            waiting.settle(timed._replace(answer=self._run(waiting.ask, timed.answer)))
        except Exception as error:
            waiting.settle(error)


def stopping() -> Fault:
    """503: the server is being stopped."""
    return Fault(503, "stopping", "the server is being stopped: try again", retry_s=5)
