"""The benchmark of speed runs, and what it compares is the same work."""

import json
import sys

from benchmarks import decoding_speed
from tests.small_data import DEV, write_small_data
from tests.tiny import save_tiny


def test_free_texts_are_those_of_stock_and_the_numbers_are_written(tmp_path, monkeypatch, capsys):
    model = save_tiny(tmp_path / "tiny", "qwen2")
    _, dev = write_small_data(tmp_path / "data")
    out = tmp_path / "numbers.json"
    options = [str(model), "--data", dev, "--max-new-tokens", "6", "--processes", "0", "--json", str(out)]
    options += ["--ways", "stock", "free", "grounded", "free-64", "voted", "repaired", "values", "free"]
    options += ["--texts", str(tmp_path / "texts")]
    monkeypatch.setattr(sys, "argv", ["decoding_speed.py", *options])
    decoding_speed.main()
    found = json.loads(out.read_text())
    assert found["command"].startswith("python benchmarks/decoding_speed.py")
    rows = {row["way"]: row for row in found["rows"]}
    assert set(rows) == set(decoding_speed.WAYS) - {"grounded-64"}
    assert len(list((tmp_path / "texts").iterdir())) == 8
    assert rows["voted"]["texts"] == 8 * len(DEV)
    assert rows["repaired"]["texts"] >= len(DEV)
    assert all(row["questions"] == len(DEV) and row["new_tokens"] > 0 for row in rows.values())
    assert rows["free"]["same"] == 1.0
    assert rows["grounded"]["abstained"] <= len(DEV)
    assert '"times_stock"' in capsys.readouterr().out
