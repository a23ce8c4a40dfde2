"""Progress on stderr: a bar with an estimate on a terminal, a line now and then elsewhere."""

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

_LINE_EVERY_S = 20.0


class progress:  # noqa: N801  used like a statement: with progress("train", n) as advance
    """Shows how far a piece of work is: called with the number done so far."""

    def __init__(self, what: str, total: int) -> None:
        self.what, self.total, self.text = what, total, ""
        self.started = self.last = time.monotonic()
        self.bar: Progress | None = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            self.bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self.bar.start()
            self.task = self.bar.add_task(self.what, total=self.total)
        return self

    def __call__(self, done: int) -> None:
        """Say that `done` of the total are done."""
        if self.bar:
            self.bar.update(
                self.task, completed=done, total=self.total, description=f"{self.what} {self.text}"
            )
            return
        now = time.monotonic()
        if now - self.last >= _LINE_EVERY_S and 0 < done < self.total:
            self.last = now
            left_s = (now - self.started) / done * (self.total - done)
            say(f"{self.what}: {done} of {self.total}, about {left_s:.0f} s left {self.text}".rstrip())

    def set_total(self, total: int) -> None:
        """Correct the total once it is known."""
        self.total = total

    def note(self, text: str) -> None:
        """A short fact to show beside the number, such as the loss."""
        self.text = text

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if self.bar:
            self.bar.stop()
        elif kind is None:
            say(f"{self.what}: {self.total} in {time.monotonic() - self.started:.1f} s {self.text}".rstrip())


def say(line: str) -> None:
    """A line on stderr, at once."""
    print(line, file=sys.stderr, flush=True)
