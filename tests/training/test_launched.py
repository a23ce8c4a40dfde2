"""`torchrun -m groundql train` in two real processes: the run folder, a kill of one of them, and the resumed run."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.command import groundql
from tests.small_data import write_config
from tests.tiny import save_tiny

pytestmark = pytest.mark.slow

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
TRAIN = ["-m", "groundql", "train"]


def launch(*arguments):
    return subprocess.Popen(
        [*TORCHRUN, *TRAIN, *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process):
    out, err = process.communicate(timeout=240)
    return process.returncode, out, err


def weights(run_dir):
    return load_file(run_dir / "adapter" / "adapter_model.safetensors")


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def workers(process):
    """Process ids of the two trainings, by rank."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rsplit(")", 1)[1].split()[1])
            if parent == process.pid:
                environment = (path / "environ").read_bytes().split(b"\0")
                (rank,) = [int(e[5:]) for e in environment if e.startswith(b"RANK=")]
                found[rank] = int(path.name)
        except (OSError, ValueError):
            continue
    return found


def test_two_launched_processes_leave_one_run_like_that_of_one_with_twice_the_accumulation(tmp_path):
    config = write_config(tmp_path, save_tiny(tmp_path / "m", "qwen2"), epochs=4, learning_rate=0.01)
    status, out, err = ended(launch(config, "--out", tmp_path / "two"))
    assert status == 0, err
    assert out.count("adapter ") == 1  # one process speaks
    assert err.count("training on 8 questions") == 1
    assert "2 processes, each with its share of the packs of a step" in err
    run = json.loads((tmp_path / "two" / "run.json").read_text())
    assert run["counts"]["processes"] == 2
    assert (
        groundql("train", config, "--out", tmp_path / "one", "--set", "training.accumulation=2").status == 0
    )
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    for name, weight in one.items():
        assert torch.allclose(two[name], weight, rtol=1e-3, atol=1e-5), name
    lines = [(path / "log.jsonl").read_text().count("\n") for path in (tmp_path / "one", tmp_path / "two")]
    assert lines[0] == lines[1]


def test_a_process_that_is_killed_ends_both_with_status_1_and_the_run_resumes_to_the_same_bits(tmp_path):
    recipe = {"epochs": 20, "learning_rate": 0.01, "save_steps": 1}
    config = write_config(tmp_path, save_tiny(tmp_path / "m", "qwen2"), **recipe)
    assert ended(launch(config, "--out", tmp_path / "whole"))[0] == 0

    process = launch(config, "--out", tmp_path / "killed")
    waited_until = time.monotonic() + 120
    while not list((tmp_path / "killed").glob("checkpoints/*/trainer_state.json")):
        assert process.poll() is None
        assert time.monotonic() < waited_until
        time.sleep(0.02)
    both = workers(process)
    assert set(both) == {0, 1}
    os.kill(both[1], signal.SIGKILL)
    status, _, err = ended(process)
    assert status == 1
    assert "error: process 1 of 2: stopped because another process ended" in err or "SIGTERM" in err
    assert "Signal 9 (SIGKILL)" in err  # the launcher says which
    assert not any(Path(f"/proc/{pid}").exists() for pid in both.values())
    assert not (tmp_path / "killed" / "adapter").exists()

    status, _, err = ended(launch("--resume", tmp_path / "killed"))
    assert status == 0, err
    assert same(weights(tmp_path / "killed"), weights(tmp_path / "whole"))
    assert (tmp_path / "killed" / "log.jsonl").read_text() == (tmp_path / "whole" / "log.jsonl").read_text()


def test_data_that_is_refused_is_refused_once_and_ends_both_with_status_1(tmp_path):
    config = write_config(tmp_path, save_tiny(tmp_path / "m", "qwen2"))
    (tmp_path / "dev.jsonl").write_text((tmp_path / "train.jsonl").read_text())
    status, _, err = ended(launch(config, "--out", tmp_path / "run"))
    assert status == 1
    assert err.count("error: process 1 of 2: train and dev share 1 database(s)") == 1
    assert not (tmp_path / "run").exists()
