"""Intervals and paired tests: how far a number of questions carries a claim.

A count of questions is a rate with a Wilson interval; a mean that is no rate gets a bootstrap interval; two runs on
the same questions get McNemar's exact test and a paired bootstrap. All intervals hold 95 %. No questions is an error,
not 0.0.
"""

import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Z_95 = 1.959964  # standard normal quantile at 97.5 %
N_RESAMPLES = 10_000  # the end of an interval then moves by under 2 % of its width from seed to seed
_CELLS_AT_ONCE = 1_000_000  # draws held in memory: 8 MB
_FEW_UNITS = 256  # up to here it is faster to draw how often each unit comes up than to draw units


class Interval(NamedTuple):
    """Ends of a 95 % interval."""

    low: float
    high: float

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2


def wilson(count: int, n: int, z: float = Z_95) -> Interval:
    """The Wilson score interval of a rate of `count` in `n`; inside [0, 1] also at 0 and at n.

    Source: E. B. Wilson, J. Am. Stat. Assoc. 22 (1927), 209-212.

    >>> [round(100 * end, 1) for end in wilson(231, 500)]
    [41.9, 50.6]
    """
    if not 0 <= count <= n or n == 0:
        raise ValueError(f"{count} of {n} is not a rate")
    rate, zz = count / n, z * z
    centre = (rate + zz / (2 * n)) / (1 + zz / n)
    half = z / (1 + zz / n) * math.sqrt(rate * (1 - rate) / n + zz / (4 * n * n))
    return Interval(0.0 if count == 0 else centre - half, 1.0 if count == n else centre + half)


def mcnemar_p(only_a: int, only_b: int) -> float:
    """Exact two-sided p of "A and B are equally good", from the questions on which just one of them is right.

    Questions that both get right or both get wrong carry no information. Source: Q. McNemar, Psychometrika 12
    (1947); the exact form is the sign test.

    >>> round(mcnemar_p(10, 25), 3)
    0.017
    """
    n = only_a + only_b
    ways = n_ways = 1  # ways to choose i of n, and their sum so far
    for i in range(min(only_a, only_b)):
        ways = ways * (n - i) // (i + 1)
        n_ways += ways
    return min(1.0, 2 * n_ways / (1 << n))


def bootstrap_mean(values: Sequence[float], *, seed: int = 0, n_resamples: int = N_RESAMPLES) -> Interval:
    """The percentile bootstrap interval of a mean over questions; the same for the same seed.

    For two runs on the same questions give the differences: the interval is then paired.
    """
    if not values:
        raise ValueError("no values, no mean")
    distinct, repeats = np.unique(np.asarray(values, dtype=np.float64), return_counts=True)
    return _ratio_interval(distinct, np.ones(len(distinct)), repeats, seed, n_resamples)


def bootstrap_over_groups(
    values: Sequence[float], groups: Sequence[Hashable], *, seed: int = 0, n_resamples: int = N_RESAMPLES
) -> Interval:
    """The interval of the mean when whole groups (databases) are drawn, not single questions.

    Questions of one database are alike, so this is wider, and more honest about a database never seen.
    """
    if not values or len(values) != len(groups):
        raise ValueError(f"{len(values)} values in {len(groups)} groups have no mean")
    place = {group: index for index, group in enumerate(dict.fromkeys(groups))}
    index = np.array([place[group] for group in groups])
    sums = np.bincount(index, weights=np.asarray(values, dtype=np.float64)).astype(np.float64)
    sizes = np.bincount(index).astype(np.float64)
    return _ratio_interval(sums, sizes, np.ones(len(sums), dtype=np.int64), seed, n_resamples)


def _ratio_interval(
    sums: NDArray[np.float64],
    sizes: NDArray[np.float64],
    repeats: NDArray[np.int64],
    seed: int,
    n_resamples: int,
) -> Interval:
    """The 2.5 % and 97.5 % points of sum/size over resamples; unit i is there `repeats[i]` times."""
    generator = np.random.default_rng(seed)
    n = int(repeats.sum())
    is_few = len(sums) <= _FEW_UNITS
    n_at_once = max(1, _CELLS_AT_ONCE // (len(sums) if is_few else n))
    units = np.repeat(np.arange(len(sums)), repeats)
    ratios: list[NDArray[np.float64]] = []
    for n_done in range(0, n_resamples, n_at_once):
        n_now = min(n_at_once, n_resamples - n_done)
        if is_few:
            times = generator.multinomial(n, repeats / n, size=n_now)  # (n_now, units) int64
            ratios.append((times @ sums) / (times @ sizes))
        else:
            drawn = units[generator.integers(0, n, size=(n_now, n))]  # (n_now, n) int64
            ratios.append(sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1))
    low, high = np.quantile(np.concatenate(ratios), [0.025, 0.975])
    return Interval(float(low), float(high))
