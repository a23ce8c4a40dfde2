"""What one server takes on: sizes, times and counts, each with its reason."""

import difflib
from collections.abc import Sequence

from pydantic import Field, ValidationError

from groundql.errors import SettingError
from groundql.records import Record, first_fault


class Limits(Record):
    """Bounds of a server. What is beyond one is refused with the status beside it, never cut and never lost."""

    body_bytes: int = Field(256 * 1024, ge=1)  # 413; a question and its evidence take a few kB
    body_s: float = Field(10.0, gt=0)  # 408; a body that trickles in holds a place for no longer
    question_chars: int = Field(2_000, ge=1)  # 422; the longest question of BIRD has 325
    evidence_chars: int = Field(4_000, ge=1)  # 422
    sql_chars: int = Field(20_000, ge=1)  # 422; the engine's own bound is 100,000 bytes
    answer_s: float = Field(120.0, gt=0)  # 504; queue and model together, for a slow model on a CPU
    query_s: float = Field(10.0, gt=0)  # outcome "timeout"; `POST /run` waits its turn on top
    lock_s: float = Field(
        0.5, ge=0
    )  # a query that finds its database locked by a writer is tried again for so long
    rows: int = Field(1_000, ge=1)  # outcome "too_large": a part of the rows is never shown as the whole
    response_bytes: int = Field(8 * 2**20, ge=1)  # outcome "too_large"
    queue: int = Field(64, ge=1)  # 503; questions taken in and not answered yet, of all clients
    per_client: int = Field(32, ge=1)  # 429; requests at once of one key, or of one address without keys
    connections: int = Field(512, ge=2)  # 503
    batch: int = Field(8, ge=1)  # questions the model gets at once
    gather_s: float = Field(0.005, ge=0)  # a batch that is not full waits so long for more
    query_threads: int = Field(2, ge=1)  # queries at once: so many of answers, and as many that people edited
    drain_s: float = Field(30.0, ge=0)  # after a signal to stop, for what was taken in before it


def read_limits(texts: Sequence[str]) -> Limits:
    """The limits with changes given as NAME=VALUE.

    Raises:
        SettingError: no limit of that name, or a value that it cannot have.
    """
    given: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or name not in Limits.model_fields:
            nearest = difflib.get_close_matches(name, list(Limits.model_fields), n=1)
            hint = f"; did you mean {nearest[0]}?" if nearest else ""
            raise SettingError(f"{text} is no NAME=VALUE of a limit{hint}")
        given[name] = value
    try:
        return Limits.model_validate(given)
    except ValidationError as error:
        raise SettingError(f"--limit {first_fault(error)}") from None
