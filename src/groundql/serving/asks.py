"""What a server asks and is told: the interface between HTTP, the model and the databases."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from groundql.answer import Answer, OpenDatabase
from groundql.errors import GroundqlError


class Ask(NamedTuple):
    """One question of one served database."""

    database: str
    question: str
    evidence: str = ""


class Writes(Protocol):
    """What writes the queries of a batch: an Assistant."""

    def write_many(
        self, questions: Sequence[tuple[OpenDatabase, str, str]], /
    ) -> Sequence[Answer | GroundqlError]:
        """Answers in order, not run yet; an error concerns its own question alone. Called from one thread."""
