"""What a judge is given: questions with completions, and how to run and what to look at."""

from dataclasses import dataclass
from typing import NamedTuple

from groundql.records import Completion, DatabaseFiles, Question


@dataclass(frozen=True, kw_only=True)
class Judging:
    """How predictions are run and what is looked at."""

    deadline_s: float = 30.0  # each query; BIRD's script gives 30 s to prediction and gold together
    max_rows: int = 100_000  # beyond this a result is "too_large", never a cut-off match
    n_workers: int = 2  # processes that run queries
    ladder_only: bool = False  # leave out what stands beside the ladder, which takes most of the time
    n_timings: int = 0  # rounds that time each right prediction against its gold, for VES and R-VES
    n_instances: int = 0  # changed copies of each database on which a match must hold to be `robust`
    seed: int = 7  # of the copies
    spider: bool = False  # Spider's execution accuracy, exact set match and hardness too


class Case(NamedTuple):
    """One question to judge. `official_sql` is the text that the official script would run."""

    question: Question
    completion: Completion | None
    files: DatabaseFiles
    official_sql: str | None = None
