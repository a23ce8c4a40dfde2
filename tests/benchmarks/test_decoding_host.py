"""The host benchmark: what the scripted model proposes is what decoding writes, free and grounded."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny import tiny_tokenizer

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("way", [["--free"], ["--processes", "1"]])
def test_golds_come_out_as_scripted_in_no_more_steps_than_tokens(tmp_path, way):
    tiny_tokenizer().save_pretrained(tmp_path)
    command = [
        sys.executable,
        "benchmarks/decoding_host.py",
        str(tmp_path),
        "--data",
        "pocket#dev",
        "--limit",
        "6",
    ]
    ended = subprocess.run(
        [*command, "--step-ms", "0.1", "--refused", "0", *way],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-2000:]
    facts = json.loads(ended.stdout.splitlines()[-1])
    assert facts["as_scripted"] == 6
    assert facts["abstained"] == 0
    assert 0 < facts["steps"] <= facts["new_tokens"] + 6  # a step more for the end of each
