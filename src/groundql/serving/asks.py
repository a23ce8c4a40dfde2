"""What a server asks and is told: the interface between HTTP, the model and the databases."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from groundql.answer import Answer
from groundql.records import Dialect, Outcome, Schema


class Ask(NamedTuple):
    """One question of one served database."""

    database: str
    question: str
    evidence: str = ""


class Asks(Protocol):
    """Answers to questions, in their order; an exception in place of an answer concerns that question alone."""

    def __call__(self, asks: Sequence[Ask]) -> Sequence[Answer | Exception]:
        """Called from one thread."""


class Database(Protocol):
    """What a server needs of a database; called from several threads."""

    @property
    def dialect(self) -> Dialect:
        """The engine."""

    @property
    def schema(self) -> Schema:
        """As it is now; DatabaseMissing where it is gone."""

    def run(self, sql: str, *, deadline_s: float, max_rows: int) -> Outcome:
        """What one statement gave, under guard."""
