"""The whole path for a data set: the stages in order, JSONL between them."""

from collections.abc import Callable, Sequence

from groundql.records import Completion, DataSet, Verdict


def judge_completions(
    data: DataSet,
    completions: Sequence[Completion],
    *,
    deadline_s: float = 30.0,
    max_rows: int = 100_000,
    n_workers: int = 2,
    on_verdict: Callable[[Verdict], None] | None = None,
) -> list[Verdict]:
    """One verdict per question of `data`, in its order."""
    raise NotImplementedError
