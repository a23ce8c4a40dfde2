"""The table of training speed: its ratios, and its ways run as they would on a card, with a tiny model."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.train_speed import table

ROOT = Path(__file__).parents[2]


def test_ratios_are_to_the_first_way_that_has_a_speed_and_one_that_stopped_says_why():
    rows = [
        {"way": "trl:4096", "stopped": "out of memory"},
        {"way": "padded", "tokens_per_s": 1000.0, "questions_per_s": 2.0},
        {"way": "ours:8192", "tokens_per_s": 5000, "questions_per_s": 40.0},
    ]
    _, _, stopped, padded, ours = table(rows).splitlines()
    assert stopped.endswith("out of memory")
    assert padded.endswith("| 1.0 | 1.0 |")
    assert ours.endswith("| 5.0 | 20.0 |")


@pytest.mark.slow
def test_every_way_has_a_process_of_its_own_and_all_say_the_same_loss(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there the model is not tiny")
    out = tmp_path / "found.json"
    ways = ["padded", "ours:1200:graph", "ours:1200:0+0", "broken:1"]
    ended = subprocess.run(
        [
            sys.executable,
            "-m",
            "benchmarks.train_speed",
            "--seconds",
            "0.1",
            "--json",
            str(out),
            "--ways",
            *ways,
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=300,
        check=True,
    )
    assert "no GPU here: a tiny model" in ended.stderr
    *rows, broken = json.loads(out.read_text())["rows"]
    assert [row["way"] for row in rows] == ways[:3]
    assert all(row["questions_per_s"] > 0 for row in rows)
    assert rows[0]["first_loss"] == pytest.approx(rows[1]["first_loss"], rel=1e-2)
    assert rows[1]["first_loss"] == rows[2]["first_loss"]
    assert "failed" in broken["stopped"]
    assert ended.stdout.count("\n| ") == 5  # the head and four ways
