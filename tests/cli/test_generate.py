"""`groundql generate`: what it writes, and what it refuses."""

import shutil

import pytest

from groundql.config import GenerationSettings, PromptSettings
from groundql.databases.binding import prepare
from groundql.databases.schema import read_schema
from groundql.generating import load_writer, write_completions
from groundql.questions.load import load_data
from groundql.records import Completion, Prompt, read_jsonl
from tests.cli.test_train import assert_refused
from tests.command import groundql
from tests.small_data import DEV, shop_file, write_small_data
from tests.tiny import save_tiny, sentencepiece_parts, tiny_tokenizer


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("tiny") / "qwen2", "qwen2")


@pytest.fixture
def dev(tmp_path):
    return write_small_data(tmp_path)[1]


def generate(model, data, out, *more):
    return groundql("generate", model, "--data", data, "--out", out, "--max-new-tokens", 4, *more)


def test_a_line_for_every_question_in_their_order_and_the_prompts_beside(model_dir, dev, tmp_path):
    out = tmp_path / "judged" / "predictions.jsonl"
    ended = generate(model_dir, dev, out)
    assert ended.status == 0
    assert ended.stdout.splitlines()[0] == f"questions    {len(DEV)}"
    assert f"at the limit {len(DEV)}   of 4 new tokens" in ended.stdout
    written = read_jsonl(out, Completion)
    prompts = read_jsonl(out.parent / "prompts.jsonl", Prompt)
    assert [one.question_id for one in written] == [one.question_id for one in prompts] == ["0", "1", "2"]
    assert [DEV[i][0] in prompt.suffix for i, prompt in enumerate(prompts)] == [True] * len(DEV)
    assert [one.n_prompt_tokens for one in written] == [prompt.n_tokens for prompt in prompts]


def test_the_same_each_time_and_whatever_the_batch_size(model_dir, dev, tmp_path):
    generate(model_dir, dev, tmp_path / "a.jsonl")
    generate(model_dir, dev, tmp_path / "b.jsonl", "--batch-size", 1)
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()


def test_grounded_every_query_binds_or_there_is_none_and_a_reason(model_dir, dev, tmp_path):
    ended = generate(model_dir, dev, tmp_path / "a.jsonl", "--decoding", "grounded", "--max-new-tokens", 30)
    assert ended.status == 0
    written = read_jsonl(tmp_path / "a.jsonl", Completion)
    n_abstained = sum(one.status == "abstained" for one in written)
    assert f"abstained    {n_abstained} " in ended.stdout
    club = read_schema(load_data(dev).databases["club"], n_examples=0)
    for one in written:
        assert one.status in ("answer", "abstained")
        assert (one.status == "abstained") == (one.sql is None)
        assert bool(one.reason) == (one.status == "abstained" or one.closed_at is not None)
        assert one.sql is None or prepare(club, one.sql) is None
        assert one.strain is not None


def test_a_tokenizer_whose_bytes_are_not_known_is_refused_for_grounded_decoding_alone(dev, tmp_path):
    mixed = save_tiny(tmp_path / "mixed", "llama")
    sentencepiece_parts(tiny_tokenizer()).save_pretrained(mixed)
    message = "cannot tell which bytes this model's tokens write"
    out = tmp_path / "a.jsonl"
    assert_refused(generate(mixed, dev, out, "--decoding", "grounded"), message)
    assert not out.exists()
    asked = groundql("ask", shop_file(tmp_path), "How many products?", "--model", mixed)
    assert_refused(asked, message)
    assert generate(mixed, dev, out).status == 0


def test_what_does_not_end_is_closed_or_not_as_is_asked(model_dir, dev, tmp_path):
    options = ("--decoding", "grounded", "--max-new-tokens", 30, "--unfinished", "abstain")
    ended = generate(model_dir, dev, tmp_path / "a.jsonl", *options)
    written = read_jsonl(tmp_path / "a.jsonl", Completion)
    assert "closed       0 " in ended.stdout
    assert all(one.closed_at is None for one in written)
    assert all(bool(one.reason) == (one.status == "abstained") for one in written)


def test_samples_are_written_to_one_line_with_their_cost(model_dir, dev, tmp_path):
    ended = generate(model_dir, dev, tmp_path / "a.jsonl", "--samples", 3, "--temperature", 1)
    assert ended.status == 0
    written = read_jsonl(tmp_path / "a.jsonl", Completion)
    assert [(one.n_samples, one.n_new_tokens) for one in written] == [(3, 12)] * len(DEV)


def test_samples_without_a_temperature_are_refused_before_any_weight_is_loaded(dev, tmp_path):
    ended = generate("no-such-model", dev, tmp_path / "a.jsonl", "--samples", 2)
    assert_refused(ended, "several samples need a temperature above 0")


def test_predictions_of_before_there_was_grounded_decoding_are_still_read(tmp_path):
    line = '{"question_id":"0","db_id":"club","text":"SELECT 1","sql":"SELECT 1","n_prompt_tokens":9,"n_new_tokens":3}'
    (tmp_path / "old.jsonl").write_text(line + "\n")
    (one,) = read_jsonl(tmp_path / "old.jsonl", Completion)
    assert (one.status, one.reason, one.strain, one.n_samples) == ("free", "", None, 1)


def test_a_limit_takes_the_first_questions(model_dir, dev, tmp_path):
    assert generate(model_dir, dev, tmp_path / "a.jsonl", "--limit", 2).status == 0
    assert [one.question_id for one in read_jsonl(tmp_path / "a.jsonl", Completion)] == ["0", "1"]


def test_a_question_that_does_not_fit_gets_an_empty_completion_that_says_so(model_dir, dev):
    writer = load_writer(str(model_dir), prompt=PromptSettings(max_tokens=64))
    prompts, written = write_completions(
        writer.loaded.model, writer, load_data(dev), settings=GenerationSettings(max_new_tokens=2)
    )
    assert prompts == []
    assert [(one.text, one.sql, one.shrunk) for one in written] == [("", None, ("too long",))] * len(DEV)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("nothing", "nothing is no folder, .gguf file, hub id or catalog name"),
        ("{tmp}/none.gguf", "none.gguf is not there"),
        ("{tmp}", "holds no config.json: it is no model folder, and no run folder with an adapter"),
        ("{tmp}/weightless", "holds a config.json but no weights"),
        ("{tmp}/cut", "the weights cannot be loaded"),
    ],
)
def test_a_model_that_is_none_is_refused(model_dir, dev, tmp_path, model, message):
    for name in ("weightless", "cut"):
        shutil.copytree(model_dir, tmp_path / name)
    (tmp_path / "weightless" / "model.safetensors").unlink()
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert_refused(generate(model.format(tmp=tmp_path), dev, tmp_path / "out.jsonl"), message)
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize("option", ["--limit", "--batch-size", "--max-new-tokens"])
def test_a_number_below_one_is_refused(model_dir, dev, tmp_path, option):
    ended = generate(model_dir, dev, tmp_path / "out.jsonl", option, 0)
    assert ended.status == 2
    assert option in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_malformed_line_of_data_is_named_with_its_number(model_dir, dev, tmp_path):
    path = tmp_path / "dev.jsonl"
    path.write_text(path.read_text() + "[]\n")
    assert_refused(generate(model_dir, dev, tmp_path / "out.jsonl"), f"{path}, line {len(DEV) + 1}")
