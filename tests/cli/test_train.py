"""`groundql train` and `groundql generate` on tiny models of each family, through the real code."""

import json
from dataclasses import replace

import pytest
import torch
from peft import get_peft_model_state_dict
from safetensors.torch import load_file

from groundql import encoding, tuning
from groundql.config import GenerationSettings
from groundql.generating import load_writer, write_completions
from groundql.questions.load import load_data
from groundql.records import Completion, read_jsonl
from groundql.training.run_folder import read_run, read_settings, write_run
from tests.command import groundql
from tests.mostly_slow import first_fast
from tests.small_data import TRAIN, write_config
from tests.tiny import ARCHITECTURES, save_tiny

N_NEW = 10


@pytest.fixture
def trained(monkeypatch):
    """The models that `groundql train` trains in this process, as they are in memory."""
    models = []
    add_lora = tuning.add_lora

    def spy(*arguments, **options):
        models.append(add_lora(*arguments, **options))
        return models[-1]

    monkeypatch.setattr(tuning, "add_lora", spy)
    return models


@pytest.fixture(scope="module")
def tiny_dir(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("tiny") / "llama", "llama")


@pytest.fixture
def config(tmp_path, tiny_dir):
    return write_config(tmp_path, tiny_dir)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_dir):
    """A finished run and its config, for tests that only read."""
    folder = tmp_path_factory.mktemp("finished")
    path = write_config(folder, tiny_dir, epochs=1)
    assert groundql("train", path, "--out", folder / "run").status == 0
    return folder / "run", path


def completions(model, dev, out):
    ended = groundql("generate", model, "--data", dev, "--out", out, "--max-new-tokens", N_NEW)
    assert ended.status == 0, ended.stderr
    return read_jsonl(out, Completion)


@pytest.mark.parametrize(
    ("architecture", "chat", "quantization"),
    first_fast(
        [
            ("qwen2", True, "nf4"),
            ("starcoder2", False, "fp4"),
            *((architecture, chat, "none") for architecture in ARCHITECTURES for chat in (True, False)),
        ]
    ),
)
def test_a_trained_adapter_writes_from_disk_what_it_writes_in_memory(
    tmp_path, trained, architecture, chat, quantization
):
    model_dir = save_tiny(tmp_path / architecture, architecture, chat=chat)
    config, run_dir = write_config(tmp_path, model_dir, learning_rate=0.3), tmp_path / "run"
    override = ("--set", f"model.quantization={quantization}", "--set", "model.double_quantization=false")
    ended = groundql("train", config, "--out", run_dir, *override)
    assert ended.status == 0, ended.stderr
    (in_memory,) = trained
    dev = f"jsonl:{tmp_path / 'dev.jsonl'}"
    from_disk = completions(run_dir, dev, tmp_path / "tuned" / "predictions.jsonl")

    writer = load_writer(str(run_dir))
    saved = get_peft_model_state_dict(writer.loaded.model)
    assert all(torch.equal(saved[name], w) for name, w in get_peft_model_state_dict(in_memory).items())
    assert any(w.any() for name, w in saved.items() if "lora_B" in name)  # it has learnt something
    states = [p.quant_state for p in writer.loaded.model.parameters() if hasattr(p, "quant_state")]
    assert {(s.quant_type, s.nested) for s in states} == ({(quantization, False)} if states else set())
    assert bool(states) == (quantization != "none")

    writer = replace(writer, loaded=replace(writer.loaded, model=in_memory.eval()))
    settings = GenerationSettings(max_new_tokens=N_NEW)
    _, expected = write_completions(in_memory, writer, load_data(dev), settings=settings)
    assert from_disk == expected
    assert from_disk != completions(model_dir, dev, tmp_path / "base" / "predictions.jsonl")


def test_a_finished_run_holds_what_a_reader_needs(finished):
    run_dir, config = finished
    names = {path.name for path in run_dir.iterdir()}
    assert names == {
        "settings.json",
        "run.json",
        "plan.json",
        "log.jsonl",
        "tensorboard",
        "checkpoints",
        "adapter",
    }
    info = read_run(run_dir)
    assert info.config_fingerprint == read_settings(run_dir).fingerprint()
    assert set(info.data_fingerprints) == {"train", "dev"}
    assert info.counts == {
        "train_questions": len(TRAIN),
        "train_questions_too_long": 0,
        "train_questions_not_in_dialect": 0,
    }
    assert info.results["n_steps"] == info.results["best_step"] == 2
    assert {"torch", "transformers", "peft", "groundql"} <= set(info.versions)
    log = [json.loads(line) for line in (run_dir / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log if "loss" in line] == [1, 2]
    assert [line["step"] for line in log if "eval_loss" in line] == [2]


@pytest.mark.parametrize(
    ("dialect", "label"),
    [
        ("raw", "select NAME from product p where p.price > 2"),
        ("canonical", "SELECT name FROM product WHERE price > 2"),
        ("from_first", "FROM product WHERE price > 2 SELECT name"),
    ],
)
def test_labels_are_golds_in_the_dialect_of_the_settings(tmp_path, config, monkeypatch, dialect, label):
    gold = "select NAME from product p where p.price > 2"
    ask(tmp_path / "train.jsonl", "Which products cost more than 2?", gold)
    labels = []
    encode = encoding.encode_examples
    monkeypatch.setattr(
        encoding,
        "encode_examples",
        lambda prompts, golds, *rest: labels.append(golds) or encode(prompts, golds, *rest),
    )
    ended = groundql("train", config, "--out", tmp_path / "run", "--set", f"prompt.dialect={dialect}")
    assert ended.status == 0, ended.stderr
    assert label in labels[0]
    assert (gold in labels[0]) == (dialect == "raw")


def test_a_gold_that_is_not_in_the_dialect_is_left_out_counted_and_said(tmp_path, config):
    gold = "SELECT product.name FROM product FULL JOIN sale ON sale.product = product.id"
    ask(tmp_path / "train.jsonl", "Products and sales?", gold)
    ended = groundql("train", config, "--out", tmp_path / "run")
    assert "left out: 1 whose gold is not in the canonical dialect: 1 a FULL join" in ended.stderr
    counts = read_run(tmp_path / "run").counts
    assert counts["train_questions"] == len(TRAIN)
    assert counts["train_questions_not_in_dialect"] == 1
    ended = groundql("train", config, "--out", tmp_path / "raw", "--set", "prompt.dialect=raw")
    assert "left out" not in ended.stderr
    assert read_run(tmp_path / "raw").counts["train_questions"] == len(TRAIN) + 1


def ask(path, text, sql):
    """One more question in a JSONL file on the shop."""
    line = {"question": text, "sql": sql, "db_id": "shop", "database": "shop.sql"}
    with path.open("a") as file:
        file.write(json.dumps(line) + "\n")


def test_the_same_config_trains_the_same_adapter_in_another_folder(tmp_path, config):
    for name in ("a", "b"):
        torch.manual_seed(len(name))  # what came before must not matter
        torch.rand(3 if name == "a" else 5)
        assert groundql("train", config, "--out", tmp_path / name).status == 0
    first, second = (load_file(tmp_path / name / "adapter" / "adapter_model.safetensors") for name in "ab")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_pack_size_that_the_plan_chooses_trains_and_the_settings_still_say_auto(tmp_path, config):
    auto = ("--set", "training.pack_tokens=auto", "--set", "memory_gib=1")
    ended = groundql("train", config, "--out", tmp_path / "run", *auto)
    assert ended.status == 0, ended.stderr
    assert read_settings(tmp_path / "run").training.pack_tokens == "auto"
    facts = json.loads((tmp_path / "run" / "plan.json").read_text())
    assert facts["n_passes"] == 1  # 8,192 tokens hold all eight questions; at 512 they take two packs
    assert read_run(tmp_path / "run").results["n_steps"] == 2  # one an epoch


def test_dev_scores_by_executed_sql_choose_the_checkpoint(tmp_path, config):
    ended = groundql("train", config, "--out", tmp_path / "run", "--set", "training.select_by=ex_strict")
    assert ended.status == 0, ended.stderr
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    scores = [(line["eval_grounded"], line["eval_ex_strict"]) for line in lines if "eval_loss" in line]
    assert scores == [(0.0, 0.0)] * 2  # random weights answer nothing
    assert "best step    2   by ex_strict" in ended.stdout  # a tie: the first epoch


def test_a_stopped_run_resumes_through_the_command(tmp_path, config, monkeypatch):
    assert groundql("train", config, "--out", tmp_path / "whole").status == 0
    train_adapter = tuning.train_adapter

    def interrupted(*arguments, on_step, **options):
        def stop(step, n_steps, loss):
            on_step(step, n_steps, loss)
            if step == 3:
                raise KeyboardInterrupt

        return train_adapter(*arguments, on_step=stop, **options)

    with monkeypatch.context() as patch:
        patch.setattr(tuning, "train_adapter", interrupted)
        ended = groundql("train", config, "--out", tmp_path / "run")
    assert (ended.status, ended.stderr.splitlines()[-1]) == (1, "error: interrupted")
    assert not (tmp_path / "run" / "adapter").exists()
    again = groundql("train", config, "--out", tmp_path / "run")
    assert_refused(again, f"`groundql train --resume {tmp_path / 'run'}` goes on with it")

    assert groundql("train", "--resume", tmp_path / "run").status == 0
    first, second = (
        load_file(tmp_path / name / "adapter" / "adapter_model.safetensors") for name in ("whole", "run")
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


# Asked wrongly: exit status 2, one sentence, no traceback, and no run folder left behind


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("lora.rnak=3", "lora.rnak is not a setting; did you mean lora.rank?"),
        ('lora.targets=["Wqkv"]', "lora.targets: this model has no Wqkv"),
        ("model.name=SmolLM2-135-Instruct", "did you mean SmolLM2-135M-Instruct?"),
        ("data.train=pocket#tarin", "pocket has no split 'tarin'; did you mean"),
        ("data.dev={train}", "train and dev share 1 database(s), such as shop"),
        ("data.test={train}", "train and test share 1 database(s), such as shop"),
        ("prompt.max_tokens=64", "fits prompt.max_tokens (now 64); raise it"),
        ("training.pack_tokens=64", "tokens; raise training.pack_tokens (now 64)"),
        ("training.pack_tokens=auto", "training.pack_tokens = 'auto' needs memory_gib and a known model; or give a number"),
        ("training.epochs=inf", "training.epochs: Input should be a finite number"),
    ],
)  # fmt: skip
def test_a_setting_that_cannot_work_is_told_in_one_sentence_and_claims_no_folder(
    tmp_path, config, setting, message
):
    setting = setting.format(train=f"jsonl:{tmp_path / 'train.jsonl'}")
    ended = groundql("train", config, "--out", tmp_path / "run", "--set", setting)
    assert_refused(ended, message)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("removed", ["model.safetensors", "config.json"])
def test_a_model_folder_without_weights_is_refused(tmp_path, removed):
    model_dir = save_tiny(tmp_path / "m", "llama")
    config = write_config(tmp_path, model_dir)
    (model_dir / removed).unlink()
    what = "no config.json" if removed == "config.json" else "a config.json but no weights"
    assert_refused(groundql("train", config, "--out", tmp_path / "run"), f"{model_dir} holds {what}")


def test_a_malformed_line_of_data_is_named_with_its_number(tmp_path, config):
    with (tmp_path / "train.jsonl").open("a") as file:
        file.write('{"question": "?", "db_id": \n')
    ended = groundql("train", config, "--out", tmp_path / "run")
    assert_refused(ended, f"{tmp_path / 'train.jsonl'}, line {len(TRAIN) + 1}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give a config (groundql train configs/pocket-smollm2.toml), or --resume RUN"),
        (["nosuch"], "nosuch is not a file, nor a shipped config"),
        (["--resume", "{run}"], "run is finished; nothing is left to resume"),
        (["--resume", "{run}/nowhere"], "nowhere/settings.json is not there"),
        (["{config}", "--resume", "{run}"], "--resume takes the settings of the run itself"),
        (["{config}", "--out", "{run}"], "run already holds a run; `groundql train --resume"),
    ],
)
def test_a_run_that_cannot_start_says_why(finished, arguments, message):
    run_dir, config = finished
    ended = groundql("train", *(text.format(run=run_dir, config=config) for text in arguments))
    assert_refused(ended, message)


def test_a_run_whose_data_changed_does_not_resume(tmp_path, config):
    assert groundql("train", config, "--out", tmp_path / "run").status == 0
    (tmp_path / "run" / "adapter").rename(tmp_path / "adapter")
    text = (tmp_path / "train.jsonl").read_text()
    (tmp_path / "train.jsonl").write_text(text.replace("ink cost", "ink really cost"))
    assert_refused(
        groundql("train", "--resume", tmp_path / "run"), "was started with other data or another prompt"
    )


def test_an_adapter_is_refused_by_a_version_that_renders_another_prompt(finished, tmp_path, monkeypatch):
    run_dir, config = finished
    data = f"jsonl:{config.parent / 'dev.jsonl'}"
    with monkeypatch.context() as patch:
        patch.setattr("groundql.prompts.render.INSTRUCTION", "Please write a query.")
        ended = groundql("generate", run_dir, "--data", data, "--out", tmp_path / "predictions.jsonl")
    known = read_run(run_dir).prompt_fingerprint
    assert_refused(ended, f"{run_dir} was trained with prompt {known}, this version renders ")
    assert not (tmp_path / "predictions.jsonl").exists()


def test_an_adapter_whose_stored_fingerprint_is_another_is_refused(finished, tmp_path):
    run_dir, config = finished
    info = read_run(run_dir)
    (tmp_path / "run").mkdir()
    for name in ("adapter", "settings.json"):
        (tmp_path / "run" / name).symlink_to(run_dir / name)
    write_run(tmp_path / "run", info.model_copy(update={"prompt_fingerprint": "0" * 16}))
    data = f"jsonl:{config.parent / 'dev.jsonl'}"
    ended = groundql("generate", tmp_path / "run", "--data", data, "--out", tmp_path / "predictions.jsonl")
    assert_refused(ended, f"was trained with prompt {'0' * 16}")


def assert_refused(ended, message):
    """Exit status 2, and one sentence on stderr below what was said before."""
    assert ended.status == 2, ended.stderr
    *said, last = ended.stderr.splitlines()
    assert last.startswith("error: ")
    assert message in last
    assert not any(line.startswith("error") or "Traceback" in line for line in said)
    assert ended.stdout == ""
