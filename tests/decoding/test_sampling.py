"""Drawing tokens: from the right distribution, by the row's own seed and nothing else."""

import math

import pytest
import torch

from groundql.config import GenerationSettings
from groundql.decoding.batch import Pace
from groundql.decoding.engine import decode, seed_of
from groundql.decoding.sampling import gumbel_noise
from groundql.decoding.schedule import Capacity
from tests.decoding.test_engine import TOKENIZER, TURNS, lively_model, some_prompts

SAMPLED = GenerationSettings(max_new_tokens=6, samples=3, temperature=1.5)


def noise(n_rows=200, n_tokens=500, *, seed=1):
    seeds = torch.arange(n_rows) + seed * 1_000_003
    return gumbel_noise(seeds, torch.zeros(n_rows, dtype=torch.long), n_tokens)


def test_noise_has_the_mean_and_the_variance_of_a_gumbel_variable():
    drawn = noise()
    spread = math.pi / math.sqrt(6)
    assert drawn.mean().item() == pytest.approx(0.5772, abs=4 * spread / math.sqrt(drawn.numel()))
    assert drawn.std().item() == pytest.approx(spread, rel=0.02)


def test_neighbouring_seeds_positions_and_tokens_are_independent():
    drawn = noise(n_rows=2, n_tokens=50_000)
    later = gumbel_noise(torch.tensor([1_000_003]), torch.tensor([1]), 50_000)[0]
    pairs = [(drawn[0], drawn[1]), (drawn[0], later), (drawn[0, :-1], drawn[0, 1:])]
    for first, second in pairs:
        correlation = torch.corrcoef(torch.stack([first, second]))[0, 1].item()
        assert abs(correlation) < 4 / math.sqrt(len(first))


def test_tokens_are_drawn_as_often_as_their_probability_says():
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0, -2.0])
    n = 20_000
    drawn = (logits + noise(n, 5)).argmax(-1)
    for token, share in enumerate(torch.softmax(logits, -1).tolist()):
        deviation = math.sqrt(share * (1 - share) / n)
        assert (drawn == token).float().mean().item() == pytest.approx(share, abs=4 * deviation)


def test_samples_of_a_question_are_the_same_in_any_batch_and_differ_from_each_other():
    model, prompts = lively_model("qwen2"), some_prompts(7)

    def ids(prompts, **options):
        found = decode(model, TOKENIZER, prompts, TURNS, settings=SAMPLED, **options)
        return [[one.ids for one in some] for some in found]

    expected = ids(prompts)
    assert all(len(set(some)) == 3 for some in expected)
    assert ids(prompts[::-1])[::-1] == expected
    assert ids(prompts[3:4]) == expected[3:4]
    assert ids(prompts, pace=Pace(lookahead=1), capacity=Capacity(2, 1000)) == expected


def test_seeds_are_of_the_question_the_sample_and_the_setting():
    seeds = {seed_of(question, sample, seed) for question in "abc" for sample in range(3) for seed in (1, 2)}
    assert len(seeds) == 18
    assert all(-(2**63) <= seed < 2**63 for seed in seeds)
