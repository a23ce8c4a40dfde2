"""The stock baseline counts what it says, on a tiny model."""

import pytest
import torch

from benchmarks.random_models import TINY, load_base_model, save_random_model
from benchmarks.stock_training import WARM_UP, Budget, in_vocabulary, stock_padded
from groundql.training.examples import Example


def test_padded_batches_count_real_tokens_questions_and_padding(tmp_path):
    examples = [  # lengths 10 and 30: any pair of unequal ones is a quarter to a half padding
        Example(str(i), "d", tuple(range(3, 3 + n - 4)), (1, 2), (5, 6)) for i, n in enumerate([10, 30] * 20)
    ]
    folder = save_random_model(TINY, tmp_path / "m")
    found = stock_padded(
        lambda: load_base_model(folder, "none").float(),
        examples,
        Budget(steps=4, seconds=60),
        learning_rate=1e-3,
    )
    assert found["stopped"] is None
    assert found["steps"] == 4
    assert found["questions_per_s"] * found["seconds"] == pytest.approx(8, rel=0.6)  # seconds are rounded
    assert 20 <= found["tokens_per_step"] <= 60
    assert 0 <= found["padding_share"] <= 1 / 3
    assert len(found["first_losses"]) == 5
    assert WARM_UP + 4 >= 5
    assert all(5 < loss < 9 for loss in found["first_losses"])  # near the logarithm of 1,000
    assert ("reserved_mib" in found) == torch.cuda.is_available()


def test_ids_are_folded_into_a_smaller_vocabulary():
    (example,) = in_vocabulary([Example("0", "d", (1500, 2), (999,), (1000, 7))], 1000)
    assert (example.prefix, example.suffix, example.answer) == ((500, 2), (999,), (0, 7))
