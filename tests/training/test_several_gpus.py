"""Two cards: the same commands as on two CPU processes, over NCCL."""

import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from tests.small_data import write_config
from tests.tiny import save_tiny

pytestmark = pytest.mark.gpu

TRAIN = ["-m", "groundql", "train"]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]


@pytest.fixture
def config(tmp_path):
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two CUDA devices")
    return write_config(tmp_path, save_tiny(tmp_path / "m", "qwen2"), epochs=4, learning_rate=0.01)


def trained(config, out, launcher, *overrides):
    sets = [part for override in overrides for part in ("--set", override)]
    ended = subprocess.run(
        [sys.executable, *launcher, *TRAIN, str(config), "--out", str(out), *sets],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    return load_file(out / "adapter" / "adapter_model.safetensors")


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_two_cards_train_what_one_trains_with_twice_the_accumulation(tmp_path, config, quantization):
    kind = f"model.quantization={quantization}"
    one = trained(config, tmp_path / "one", [], kind, "training.accumulation=2")
    two = trained(config, tmp_path / "two", TORCHRUN, kind)
    parts = trained(config, tmp_path / "parts", TORCHRUN, kind, "training.shard_base=true")
    for name, weight in one.items():
        assert torch.allclose(two[name], weight, rtol=1e-2, atol=1e-3), name
        assert torch.allclose(parts[name], weight, rtol=1e-2, atol=1e-3), name
