"""The host benchmark: what the scripted model proposes is what decoding writes, and its time is known beforehand."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import decoding_host
from tests.small_data import DEV, write_small_data
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


@pytest.mark.parametrize("way", [["--free"], ["--processes", "0"]], ids=["free", "grounded"])
def test_rows_write_their_scripts_and_the_device_takes_the_time_of_its_steps(
    way, tmp_path, monkeypatch, capsys
):
    tokenizer = tiny_tokenizer()
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    _, dev = write_small_data(tmp_path / "data")
    times = ["--step-ms", "2", "--pass-ms", "3", "--refused", "0"]
    monkeypatch.setattr(decoding_host, "N_LOGITS", len(tokenizer))
    monkeypatch.setattr(
        sys, "argv", ["decoding_host.py", str(tmp_path / "tokenizer"), "--data", dev, *times, *way]
    )
    decoding_host.main()
    found = json.loads(capsys.readouterr().out)
    assert found["as_scripted"] == len(DEV)
    assert found["abstained"] == 0
    assert found["of_device_s"] == pytest.approx(0.002 * found["steps"] + 0.003 * found["passes"], abs=0.005)
    assert found["passes"] == 2  # the schema, and all questions
    assert max(found["live"]) == len(DEV)
