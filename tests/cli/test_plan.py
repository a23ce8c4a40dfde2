"""`groundql plan` as a user meets it."""

import json
from importlib import resources

import pytest

from groundql.cli import plan as plan_verb
from groundql.config import load_config
from groundql.models.catalog import CATALOG
from groundql.models.memory import plan_of
from tests.command import groundql
from tests.mostly_slow import first_fast
from tests.small_data import write_small_data

SHIPPED = sorted(
    path.name.removesuffix(".toml")
    for path in (resources.files("groundql") / "configs").iterdir()
    if path.name.endswith(".toml")
)
SMALL = (
    "training.select_by=last",
    "training.packing=shared",
    "training.pack_tokens=1024",
    "lora.rank=8",
)


@pytest.fixture
def config_path(tmp_path):
    """A config on two small databases for a catalog model that is not on this machine."""
    train, _ = write_small_data(tmp_path / "data")
    path = tmp_path / "mine.toml"
    path.write_text(f'[model]\nname = "Qwen2.5-Coder-1.5B-Instruct"\n[data]\ntrain = "{train}"\n')
    return path


@pytest.fixture
def without_tokenizers(monkeypatch):
    monkeypatch.setattr(plan_verb, "_find_tokenizer", lambda source: None)


def plan(config_path, *overrides):
    pairs = [argument for override in (*SMALL, *overrides) for argument in ("--set", override)]
    return groundql("plan", config_path, *pairs)


@pytest.mark.usefixtures("without_tokenizers")
@pytest.mark.parametrize("shipped", first_fast(SHIPPED, 2))
def test_every_catalog_model_is_planned_with_every_shipped_config(shipped):
    config = load_config(shipped)
    lengths = plan_verb.read_lengths(config, plan_verb.find_base(config.model.name))
    peaks = {name: plan_of(config, row, lengths.questions).peak_mib for name, row in CATALOG.items()}
    assert min(peaks, key=peaks.__getitem__) == "SmolLM2-135M-Instruct"
    assert peaks["Qwen2.5-Coder-3B-Instruct"] > peaks["Qwen2.5-Coder-0.5B-Instruct"]


@pytest.mark.usefixtures("without_tokenizers")
def test_the_breakdown_adds_up_and_the_verdict_is_there(config_path):
    ended = plan(config_path, "memory_gib=24")
    assert ended.status == 0, ended.stderr
    lines = {line[:22].strip(): line for line in ended.stdout.splitlines()}
    table = [name for name, line in lines.items() if " MiB " in f"{line} "]

    def mib(name):
        return float(lines[name][22:].split()[0].replace(",", ""))

    at_peak = [name for name in table[: table.index("peak")] if "(" not in lines[name][22:34]]
    assert sum(map(mib, at_peak)) == pytest.approx(mib("peak"), abs=1)
    assert mib("total") == pytest.approx(mib("peak") + mib("CUDA context"), abs=0.2)
    assert lines["total"].endswith("of 24,576: fits")
    assert "frozen linears" in lines
    assert "an estimate: 2.6 characters a token" in ended.stdout
    assert "estimated" in next(line for line in ended.stdout.splitlines() if "H200" in line)


@pytest.mark.usefixtures("without_tokenizers")
def test_what_does_not_fit_is_refused_up_front_with_the_way_out_and_the_way_out_works(config_path):
    wide = ("training.packing=none", "training.batch_size=16", "training.checkpointing=false")
    refused = plan(config_path, *wide, "memory_gib=2.2")
    assert refused.status == 1
    assert "does not fit" in refused.stdout
    assert "memory_gib = 2.2 gives 2,253; --set " in refused.stderr
    way_out = refused.stderr.split("; ")[1].split(" makes it fit")[0].replace("--set ", "").split()
    assert plan(config_path, *wide, "memory_gib=2.2", *way_out).status == 0


@pytest.mark.usefixtures("without_tokenizers")
@pytest.mark.parametrize("data", [None, "bird:nowhere#train"])
def test_auto_is_planned_with_the_size_it_comes_to_and_asked_wrongly_without_a_card(config_path, data):
    auto = ("training.pack_tokens=auto", *([f"data.train={data}"] if data else []))
    ended = plan(config_path, *auto, "memory_gib=24")
    assert ended.status == 0, ended.stderr
    assert "packs of 8,192 tokens" in ended.stdout
    refused = plan(config_path, *auto)
    assert refused.status == 2
    assert refused.stderr.splitlines()[-1] == (
        "error: training.pack_tokens = 'auto' needs memory_gib and a known model; or give a number"
    )


@pytest.mark.usefixtures("without_tokenizers")
def test_json_holds_the_same_facts_and_the_change(config_path):
    wide = (
        "training.packing=none",
        "training.batch_size=16",
        "training.checkpointing=false",
        "memory_gib=2.2",
    )
    pairs = [argument for override in (*SMALL, *wide) for argument in ("--set", override)]
    ended = groundql("plan", config_path, "--json", *pairs)
    facts = json.loads(ended.stdout)
    assert ended.status == 1
    assert facts["fits"] is False
    assert facts["change"]
    assert facts["lengths_from"] == "characters"
    assert facts["total_mib"] == pytest.approx(facts["peak_mib"] + facts["context_mib"])
    assert sum(part["mib"] for part in facts["parts"] if part["at_peak"]) == pytest.approx(facts["peak_mib"])


@pytest.mark.usefixtures("without_tokenizers")
def test_data_that_are_not_there_are_stood_in_for_and_it_is_said(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('[model]\nname = "Falcon3-1B-Base"\n[data]\ntrain = "bird:nowhere#train"\n')
    ended = plan(path)
    assert ended.status == 0
    assert "nowhere" in ended.stderr
    assert "assumed: like BIRD train" in ended.stdout
    assert "time        not known without the data" in ended.stdout


def test_a_folder_with_a_config_needs_no_weights_and_its_tokenizer_is_used(tmp_path, config_path):
    from tests.tiny import save_tiny

    folder = save_tiny(tmp_path / "tiny", "qwen2")
    for path in folder.glob("*.safetensors"):
        path.unlink()
    ended = plan(config_path, f"model.name={folder}")
    assert ended.status == 0, ended.stderr
    assert "the tokenizer's" in ended.stdout


def test_a_question_longer_than_a_pack_is_asked_wrongly_where_the_tokenizer_counted(tmp_path, config_path):
    from tests.tiny import save_tiny

    folder = save_tiny(tmp_path / "tiny", "llama")
    ended = plan(config_path, f"model.name={folder}", "training.pack_tokens=64")
    assert ended.status == 2
    assert "raise training.pack_tokens (now 64)" in ended.stderr


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("some-one/some-model", "give a folder with its config.json, or one of SmolLM2-135M-Instruct"),
        ("Qwen2.5-Coder-2B", "did you mean"),
    ],
)
def test_a_model_without_a_shape_is_asked_wrongly(config_path, name, message):
    ended = plan(config_path, f"model.name={name}")
    assert ended.status == 2
    assert message in ended.stderr


def test_no_question_that_fits_is_asked_wrongly(config_path, without_tokenizers):
    ended = plan(config_path, "prompt.max_tokens=64")
    assert ended.status == 2
    assert "no question with a gold fits prompt.max_tokens" in ended.stderr


@pytest.mark.slow
def test_bird_train_is_planned_by_estimate_in_seconds(shared_data, tmp_path, without_tokenizers):
    path = tmp_path / "bird.toml"
    path.write_text(
        '[model]\nname = "Qwen2.5-Coder-1.5B-Instruct"\n'
        f'[data]\ntrain = "bird:{shared_data}/bird/train#train"\n[training]\ncheckpointing = true\n'
        'select_by = "last"\npack_tokens = 8192\n'
    )
    ended = groundql("plan", path)
    assert ended.status == 0
    assert "questions, longest" in ended.stdout
