"""`groundql export`: the same numbers from adapter, merged folder and .gguf file, for each architecture; what it refuses."""

import importlib.util
import json
import shutil
import sqlite3
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gguf import GGUFReader
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from groundql import exporting
from groundql.config import PromptSettings
from groundql.decoding.constraint import Vocabulary
from groundql.errors import GroundqlError
from groundql.generating import load_writer
from groundql.models import gguf_file
from groundql.models.chat import template_of, turns_of
from groundql.models.load import load_tokenizer
from groundql.models.merge import merge_dense, merged_weights
from groundql.models.source import find_base
from groundql.prompts.render import render_prompt
from groundql.records import Question
from tests.cli.test_train import assert_refused
from tests.command import groundql
from tests.small_data import CLUB, write_config
from tests.tiny import ARCHITECTURES, save_tiny, sentencepiece_parts, tiny_tokenizer

TEXT = "CREATE TABLE city (id int, name text);\nHow many cities in 2019 have O'Brien as mayor? <|im_start|>"

# The largest difference of logits that rounding can explain, as a share of their spread: 4.5 standard deviations (18,000
# logits), times 3 (the square root of nine matrices from embedding to head), times the relative error of a weight (2^-9
# and 2^-12 evenly spread; steps of 1/127 of the largest of 32, which is 2.2 times the usual one), times 2 to be safe.
ROUNDING = {"bf16": 2**-9 / 3**0.5, "f16": 2**-12 / 3**0.5, "q8_0": 2.2 / 127 / 12**0.5}
BOUND = {precision: 2 * 4.5 * 3 * error for precision, error in ROUNDING.items()}


RUNS = [
    ("starcoder2", False),
    *(pytest.param((architecture, True), marks=pytest.mark.slow) for architecture in ARCHITECTURES),
]


@pytest.fixture(scope="module", params=RUNS)
def run(request, tmp_path_factory):
    """A finished run on NF4 weights of one architecture, with or without a chat template."""
    architecture, chat = request.param
    folder = tmp_path_factory.mktemp(architecture)
    model_dir = save_tiny(folder / architecture, architecture, chat=chat)
    config = write_config(folder, model_dir, epochs=1, learning_rate=0.02)
    ended = groundql("train", config, "--out", folder / "run", "--set", "model.quantization=nf4")
    assert ended.status == 0, ended.stderr
    return folder / "run"


@pytest.fixture(scope="module")
def plain_run(tmp_path_factory):
    """A finished run of a base model without a chat template, with a prompt that is not the default one."""
    folder = tmp_path_factory.mktemp("plain")
    config = write_config(folder, save_tiny(folder / "llama", "llama", chat=False), epochs=1)
    ended = groundql("train", config, "--out", folder / "run", "--set", "prompt.n_examples=0")
    assert ended.status == 0, ended.stderr
    return folder / "run"


def export(run_dir, to, out, *more):
    return groundql("export", run_dir, "--to", to, "--out", out, *more)


def logits_of(model, tokenizer):
    ids = torch.tensor([tokenizer(TEXT, add_special_tokens=False)["input_ids"]])
    with torch.no_grad():
        return model(ids).logits[0].float()


def from_gguf(path):
    place = {"pretrained_model_name_or_path": path.parent, "gguf_file": path.name}
    model = AutoModelForCausalLM.from_pretrained(
        **place, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
    )
    return model.eval(), AutoTokenizer.from_pretrained(**place)


def from_folder(path):
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    return model.eval(), AutoTokenizer.from_pretrained(path)


def test_logits_of_adapter_merged_and_exported_differ_by_rounding_alone(run, tmp_path):
    writer = load_writer(str(run), merge=False)
    expected = logits_of(writer.loaded.model, writer.loaded.tokenizer)
    untuned = logits_of(writer.loaded.model.unload(), writer.loaded.tokenizer)
    spread = float(expected.std())
    merged = load_writer(str(run), merge=True)
    assert float((logits_of(merged.loaded.model, merged.loaded.tokenizer) - expected).abs().max()) < 1e-5
    assert (
        float((untuned - expected).abs().max()) / spread > 2 * BOUND["q8_0"]
    )  # an export without the adapter would be seen
    for precision in ("bf16", "f16", "q8_0"):
        out = tmp_path / precision
        chosen = ("merged", out) if precision == "bf16" else ("gguf", out, "--weights", precision)
        ended = export(run, *chosen)
        assert ended.status == 0, ended.stderr
        exported = from_folder(out) if precision == "bf16" else from_gguf(out / f"model-{precision}.gguf")
        difference = float((logits_of(*exported) - expected).abs().max()) / spread
        assert difference < BOUND[precision], precision


def test_a_merged_weight_is_the_unpacked_one_plus_lora_s_product_rounded_once(run, tmp_path):
    assert export(run, "merged", tmp_path / "merged").status == 0
    model = load_writer(str(run), merge=False).loaded.model
    stored = load_file(tmp_path / "merged" / "model.safetensors")
    weights = {weight.name: weight for weight in merged_weights(model)}
    assert set(stored) == set(weights)
    dense = merge_dense(model).state_dict()  # in fp32
    for name, tensor in stored.items():
        assert tensor.dtype == torch.bfloat16
        assert tuple(tensor.shape) == weights[name].shape
        assert torch.equal(tensor, dense[name].to(torch.bfloat16)), name


def write_f16(path, model, tokenizer):
    gguf_file.write_gguf(
        path,
        merged_weights(model),
        config=model.config,
        tokenizer=tokenizer,
        precision="f16",
        end="<|im_end|>",
        name="m",
        base_model="m",
    )


def test_llama_rows_in_transformers_order_would_be_seen(tmp_path, monkeypatch):
    model_dir = save_tiny(tmp_path / "llama", "llama")
    model, tokenizer = from_folder(model_dir)
    differences = []
    for order in (gguf_file.paired_rows, lambda values, n_heads: values):
        monkeypatch.setattr(gguf_file, "paired_rows", order)
        path = tmp_path / f"{len(differences)}.gguf"
        write_f16(path, model, tokenizer)
        expected = logits_of(model, tokenizer)
        differences.append(float((logits_of(*from_gguf(path)) - expected).abs().max() / expected.std()))
    assert differences[0] < BOUND["f16"]
    assert differences[1] > 10 * BOUND["f16"]


@pytest.mark.parametrize("to", ["merged", "gguf"])
def test_what_is_exported_is_asked_with_the_prompt_of_the_run(plain_run, tmp_path, to, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    ended = export(plain_run, to, tmp_path / "out")
    assert ended.status == 0, ended.stderr
    model = ended.stdout.splitlines()[2].split(maxsplit=1)[1]
    data = f"jsonl:{plain_run.parent / 'dev.jsonl'}"
    for name, folder in ((plain_run, "run"), (model, "exported")):
        out = tmp_path / folder / "predictions.jsonl"
        ended = groundql("generate", name, "--data", data, "--out", out, "--max-new-tokens", 4)
        assert ended.status == 0, ended.stderr
    prompts = [(tmp_path / folder / "prompts.jsonl").read_bytes() for folder in ("run", "exported")]
    assert prompts[0] == prompts[1]


def test_a_wording_that_changed_since_the_export_is_refused(plain_run, tmp_path):
    assert export(plain_run, "merged", tmp_path / "out").status == 0
    path = tmp_path / "out" / "groundql.json"
    written = json.loads(path.read_text()) | {"prompt_fingerprint": "0" * 16}
    path.write_text(json.dumps(written))
    ended = groundql("generate", tmp_path / "out", "--data", "pocket#dev", "--out", tmp_path / "p.jsonl")
    assert_refused(ended, "was trained with prompt 0000000000000000")
    path.write_text("{")
    ended = groundql("generate", tmp_path / "out", "--data", "pocket#dev", "--out", tmp_path / "p.jsonl")
    assert_refused(ended, "groundql.json")


@pytest.mark.parametrize("chat", [True, False])
def test_a_template_made_of_the_marks_gives_the_marks_back(chat):
    tokenizer = tiny_tokenizer(chat=chat)
    turns = turns_of(tokenizer)
    tokenizer.chat_template = template_of(turns)
    assert turns_of(tokenizer) == turns


def test_the_modelfile_renders_the_very_prompt(plain_run, tmp_path):
    connection = sqlite3.connect(tmp_path / "club.sqlite")
    connection.executescript(CLUB)
    connection.close()
    ended = export(plain_run, "gguf", tmp_path / "out", "--database", tmp_path / "club.sqlite")
    assert ended.status == 0, ended.stderr
    text = (tmp_path / "out" / "Modelfile").read_text()
    template = text.split('TEMPLATE """')[1].split('"""')[0]
    system = text.split('SYSTEM """')[1].split('"""')[0]
    writer = load_writer(str(plain_run))
    with exporting.OpenDatabase(tmp_path / "club.sqlite", n_examples=0) as database:
        question = Question(question_id="0", db_id="club", text="How many members are there?")
        prompt = render_prompt(
            question, database.schema, settings=writer.prompt, turns=writer.turns, count_tokens=None
        )
    asked = template.replace("{{ .System }}", system).replace("{{ .Prompt }}", question.text)
    assert asked == prompt.prefix + prompt.suffix
    assert f'PARAMETER stop "{writer.turns.end}"' in text
    assert "FROM ./model-f16.gguf" in text


def test_the_gguf_file_says_what_llama_cpp_must_know(plain_run, tmp_path):
    assert export(plain_run, "gguf", tmp_path / "out", "--weights", "q8_0").status == 0
    reader = GGUFReader(tmp_path / "out" / "model-q8_0.gguf")
    tokenizer = tiny_tokenizer(chat=False)
    known = {name: field.contents() for name, field in reader.fields.items()}
    assert known["general.architecture"] == "llama"
    assert known["tokenizer.ggml.model"] == "gpt2"
    assert known["tokenizer.ggml.pre"] == "gpt-2"
    assert known["tokenizer.ggml.tokens"] == tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    assert known["tokenizer.ggml.tokens"][known["tokenizer.ggml.eos_token_id"]] == "<|endoftext|>"
    assert known["tokenizer.ggml.token_type"][:4] == [3, 3, 3, 1]  # three control tokens, then common ones
    assert known["tokenizer.ggml.add_bos_token"] is False
    assert known["llama.rope.freq_base"] == 10000.0
    stored = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
    assert stored["blk.0.attn_q.weight"] == stored["token_embd.weight"] == "Q8_0"
    assert stored["blk.1.ffn_norm.weight"] == "F32"
    assert "output.weight" in stored  # this model's head is its own


def test_the_tokenizer_read_from_an_exported_file_is_the_run_s_however_transformers_rebuilds_it(
    plain_run, tmp_path, monkeypatch
):
    assert export(plain_run, "gguf", tmp_path / "out").status == 0
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rebuilt = AutoTokenizer.from_pretrained

    def with_other_parts(*places, **options):
        tokenizer = rebuilt(*places, **options)
        return sentencepiece_parts(tokenizer) if "gguf_file" in options else tokenizer

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", with_other_parts)
    again, own = (
        load_tokenizer(find_base(str(tmp_path / "out" / "model-f16.gguf"))),
        tiny_tokenizer(chat=False),
    )
    pieces = [Vocabulary(one, {one.eos_token_id}).piece for one in (again, own)]
    assert [pieces[0](i) for i in range(len(own))] == [pieces[1](i) for i in range(len(own))]
    assert again(TEXT)["input_ids"] == own(TEXT)["input_ids"]
    assert (again.eos_token, again.pad_token) == (own.eos_token, own.pad_token)


def test_rows_without_a_token_are_named_and_marked_as_unused(tmp_path):
    model, tokenizer = from_folder(save_tiny(tmp_path / "qwen2", "qwen2"))
    model.resize_token_embeddings(640)
    write_f16(tmp_path / "m.gguf", model, tokenizer)
    known = {name: field.contents() for name, field in GGUFReader(tmp_path / "m.gguf").fields.items()}
    assert known["tokenizer.ggml.tokens"][600:602] == ["[PAD600]", "[PAD601]"]
    assert len(known["tokenizer.ggml.tokens"]) == 640
    assert set(known["tokenizer.ggml.token_type"][600:]) == {5}


def steps(*parts):
    return {"model": {"type": "BPE"}, "pre_tokenizer": {"type": "Sequence", "pretokenizers": list(parts)}}


BYTES = {"type": "ByteLevel", "use_regex": False}
BYTES_AND_WORDS = {"type": "ByteLevel", "use_regex": True}
QWEN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        (steps({"type": "Split", "pattern": {"Regex": QWEN}}, BYTES), "qwen2"),
        (steps({"type": "Split", "pattern": {"Regex": QWEN.replace(r"|\p{N}|", r"|\p{N}{1,3}|")}}, BYTES), "llama-bpe"),
        (steps({"type": "Digits", "individual_digits": True}, BYTES_AND_WORDS), "starcoder"),
        ({"model": {"type": "BPE"}, "pre_tokenizer": BYTES_AND_WORDS}, "gpt-2"),
        (steps({"type": "Split", "pattern": {"Regex": "x+"}}, BYTES), None),
        (steps({"type": "Metaspace"}), None),
        ({"model": {"type": "Unigram"}, "pre_tokenizer": BYTES_AND_WORDS}, None),
        ({"model": {"type": "BPE"}, "pre_tokenizer": None}, None),
    ],
)  # fmt: skip
def test_a_way_of_splitting_text_is_named_as_llama_cpp_does_or_refused(parts, name):
    if name:
        assert gguf_file.pre_tokenizer_name(parts) == name
    else:
        with pytest.raises(GroundqlError, match="--to merged keeps it as it is"):
            gguf_file.pre_tokenizer_name(parts)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"model_type": "phi3"}, "a phi3 model cannot be written as GGUF"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, r"scales its rotary embedding \(yarn\)"),
    ],
)  # fmt: skip
def test_what_gguf_cannot_hold_is_refused_before_anything_is_written(changed, message):
    config = SimpleNamespace(**{"model_type": "llama", "rope_parameters": {"rope_type": "default"}} | changed)
    with pytest.raises(GroundqlError, match=message):
        gguf_file.check_writable(config, tiny_tokenizer())


def test_a_value_beyond_16_bit_is_refused_and_names_its_weight():
    with pytest.raises(GroundqlError, match=r"model\.norm\.x has a value of 70000, which 16 bit cannot hold"):
        gguf_file._stored(
            "model.norm.x", np.full((2, 2), 7e4), gguf_file.GGMLQuantizationType.F16, SimpleNamespace(model_type="qwen2")
        )  # fmt: skip


def spoil(run_dir, tmp_path):
    return shutil.copytree(run_dir, tmp_path / "spoilt")


def test_asked_wrongly_is_one_sentence(plain_run, tmp_path):
    (tmp_path / "there").mkdir()
    assert_refused(export(plain_run, "merged", tmp_path / "there"), "there is there already")
    assert_refused(export(tmp_path / "none", "gguf", tmp_path / "out"), "none is no folder")
    assert_refused(export(tmp_path / "there", "gguf", tmp_path / "out"), "holds no adapter/")
    assert_refused(
        export(plain_run, "merged", tmp_path / "out", "--weights", "f16"), "--weights and --database are for"
    )
    assert_refused(
        export(plain_run, "gguf", tmp_path / "out", "--database", tmp_path / "no.sqlite"), "no.sqlite"
    )
    unfinished = spoil(plain_run, tmp_path)
    shutil.rmtree(unfinished / "adapter")
    assert_refused(export(unfinished, "gguf", tmp_path / "out"), "is not finished; `groundql train --resume")
    assert not (tmp_path / "out").exists()


def test_a_missing_package_is_named_with_how_to_get_it(tmp_path, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *_: None if name == "bitsandbytes" else find_spec(name)
    )
    ended = export(tmp_path / "run", "merged", tmp_path / "out")
    assert ended.status == 1
    assert "groundql export needs bitsandbytes" in ended.stderr


def test_an_adapter_that_is_cut_or_of_another_base_is_refused(plain_run, tmp_path):
    cut = spoil(plain_run, tmp_path)
    weights = cut / "adapter" / "adapter_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:100])
    assert_refused(export(cut, "merged", tmp_path / "out"), "the adapter cannot be loaded")
    weights.write_bytes(whole)
    run = json.loads((cut / "run.json").read_text())
    for base, message in (
        (
            save_tiny(tmp_path / "starcoder2", "starcoder2", chat=False),
            "the adapter is of another base model",
        ),
        (tmp_path / "gone", "gone is no folder"),
    ):
        (cut / "run.json").write_text(json.dumps(run | {"base_model": str(base)}))
        assert_refused(export(cut, "merged", tmp_path / "out"), message)


def test_a_full_disk_is_told_with_both_numbers_before_anything_is_written(plain_run, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting.shutil, "disk_usage", lambda _: SimpleNamespace(free=2**20))
    ended = export(plain_run, "gguf", tmp_path / "new" / "out")
    assert ended.status == 1
    assert "has 1 MiB free, the export takes 64 MiB" in ended.stderr
    assert not (tmp_path / "new").exists()


def test_an_export_that_fails_half_way_leaves_nothing(plain_run, tmp_path, monkeypatch):
    def fails(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gguf_file.GGUFWriter, "write_tensor_data", fails)
    ended = export(plain_run, "gguf", tmp_path / "out")
    assert ended.status == 1
    assert "No space left on device" in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_schema_that_fits_only_in_part_is_no_system_text(plain_run, tmp_path):
    writer = load_writer(str(plain_run))
    narrow = exporting.Writer(loaded=writer.loaded, turns=writer.turns, prompt=PromptSettings(max_tokens=128))
    connection = sqlite3.connect(tmp_path / "wide.sqlite")
    connection.execute(f"CREATE TABLE t ({', '.join(f'column_{i} TEXT' for i in range(90))})")
    connection.close()
    with exporting.OpenDatabase(tmp_path / "wide.sqlite") as database:
        schema = database.schema
    with pytest.raises(GroundqlError, match="does not fit prompt.max_tokens"):
        exporting.system_text(narrow, schema)
