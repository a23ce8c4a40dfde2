"""Dense masks and packs whose length 32 divides: on CUDA, memory-efficient attention in bfloat16 gave gradients that were
not a number there, under a finite loss. A batch is never that long, and one that would be trains without a dropped step.
"""

import pytest
import torch

from groundql.config import LoraSettings
from groundql.training.packs import collate_packs, make_packs
from groundql.training.trainer import add_lora
from tests.mostly_slow import first_fast
from tests.tiny import tiny_model
from tests.training.made import some_examples
from tests.training.test_trainer import log, train

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def examples_that_fill(length):
    """Examples that together make one pack of exactly `length` tokens."""
    examples = some_examples(40, n_prefixes=1)
    (pack,) = make_packs(examples, pack_tokens=10**6, group_size=100, seed=0)
    last = examples[-1]
    missing = length - len(pack)
    assert missing > 0
    return [
        *examples[:-1],
        type(last)(last.question_id, last.db_id, last.prefix, last.suffix + (5,) * missing, last.answer),
    ]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("length", first_fast([992, 1024]))
def test_a_pack_whose_length_32_divides_has_finite_gradients_under_a_dense_mask(device, length, tmp_path):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    examples = examples_that_fill(length)
    (pack,) = make_packs(examples, pack_tokens=length, group_size=100, seed=0)
    assert len(pack) == length
    assert length % 32 == 0
    assert collate_packs([pack], pad_id=0)["input_ids"].shape[1] == length + 1
    model = tiny_model("qwen2").to(device, torch.bfloat16)
    model = add_lora(model, LoraSettings(rank=2, alpha=4, dropout=0.1), seed=1)
    run_dir = tmp_path / "run"
    options = {"epochs": 3, "pack_tokens": length, "group_size": 100, "batch_size": 2}  # two: the dense mask
    _, result = train(run_dir, examples=examples, model=model, **options)
    assert result.n_steps == 3
    assert result.n_dropped_steps == 0
    assert all(line["grad_norm"] > 0 for line in log(run_dir) if "loss" in line)
