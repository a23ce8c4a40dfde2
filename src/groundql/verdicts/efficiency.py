"""How cheaply right queries run: BIRD's two timed scores, and a count of steps that is the same each time.

The timed scores are mostly noise on short queries: the same SQL against itself gets a reward below 1 in half of the
trials, because R-VES steps down at a ratio of 1. They are here for comparison with papers. `step_ratio` is ours.
"""

import math
from collections.abc import Sequence

# R-VES: the least ratio of gold's time to the prediction's, and its reward
REWARDS = ((2.0, 1.25), (1.0, 1.0), (0.5, 0.75), (0.25, 0.5), (0.0, 0.25))


def mean_ratio(ratios: Sequence[float]) -> float:
    """The mean of gold's time over the prediction's, without values at or beyond 3 standard deviations.

    Where all ratios are equal the official filter keeps none, and the score is 0: so it is here.
    Source: AlibabaResearch/DAMO-ConvAI, bird/llm/src/evaluation_ves.py at 483554e.
    """
    if not ratios:
        return 0.0
    mean = sum(ratios) / len(ratios)
    deviation = math.sqrt(sum((ratio - mean) ** 2 for ratio in ratios) / len(ratios))
    kept = [ratio for ratio in ratios if mean - 3 * deviation < ratio < mean + 3 * deviation]
    return sum(kept) / len(kept) if kept else 0.0


def ves(ratios: Sequence[float]) -> float:
    """VES of one right prediction: the root of the mean ratio; 1 is as fast as gold."""
    return math.sqrt(mean_ratio(ratios))


def r_ves(ratios: Sequence[float]) -> float:
    """R-VES of one right prediction: the root of the reward of the mean ratio, at most sqrt(1.25) = 1.118.

    Source: bird-bench/mini_dev, evaluation/evaluation_ves.py at 4d970a9; its README shows the reward without the root.
    """
    return math.sqrt(reward(mean_ratio(ratios)))


def reward(ratio: float) -> float:
    """The reward that R-VES gives a ratio; 0 for 0, which stands for a wrong prediction."""
    return next((value for least, value in REWARDS if ratio >= least), 0.25) if ratio > 0 else 0.0


def step_ratio(gold_steps: int, predicted_steps: int) -> float:
    """Gold's virtual-machine steps over the prediction's: 2 is half the work; the same on every machine and run."""
    return gold_steps / predicted_steps if predicted_steps else 1.0
