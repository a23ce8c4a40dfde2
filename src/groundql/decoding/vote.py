"""Chooses among several texts for one question by what their queries return. Pure: the caller runs them."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Candidate:
    """One text of a question."""

    result: Hashable | None  # equal for equal results; None: no query, or one that did not run to its end
    log_probability: float  # of its tokens and the end, by the model alone
    n_tokens: int  # those, so that a long text is not worse for its length

    @property
    def mean_log_probability(self) -> float:
        """Per token."""
        return self.log_probability / max(1, self.n_tokens)


@dataclass(frozen=True)
class Vote:
    """Which text was chosen, and how clearly."""

    chosen: int  # among the candidates
    n_agreeing: int  # candidates with the chosen one's result, itself among them; 0 where no query ran


def vote(candidates: Sequence[Candidate]) -> Vote:
    """The candidate of the largest group with one result; ties, and the choice in a group, by mean log-probability.

    Where no query ran the most probable text is chosen. Equal candidates: the first.

    >>> vote([Candidate("a", -1.0, 2), Candidate("b", -0.1, 2), Candidate("a", -0.5, 2)])
    Vote(chosen=2, n_agreeing=2)
    """
    groups: dict[Hashable, list[int]] = {}
    for i, candidate in enumerate(candidates):
        if candidate.result is not None:
            groups.setdefault(candidate.result, []).append(i)

    def likeliest(some: Sequence[int]) -> int:
        return max(some, key=lambda i: (candidates[i].mean_log_probability, -i))

    if not groups:
        return Vote(likeliest(range(len(candidates))), 0)
    best = max(
        groups.values(),
        key=lambda some: (len(some), candidates[likeliest(some)].mean_log_probability, -some[0]),
    )
    return Vote(likeliest(best), len(best))
