"""Weights into memory, and what is said of those that do not go."""

import shutil
from functools import partial

import pytest
import torch
from safetensors.torch import load_file, save_file

from groundql.config import ModelSettings
from groundql.errors import ModelMissing
from groundql.models.load import compute_dtype, load_base, load_tokenizer
from groundql.models.source import ModelSource, find_base
from tests.tiny import save_tiny, tiny_model

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def weights_dir(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("tiny") / "llama", "llama")


@pytest.fixture
def copy_of(weights_dir, tmp_path):
    """A copy of the weights to spoil."""
    return shutil.copytree(weights_dir, tmp_path / "spoilt")


def settings(**changed):
    return ModelSettings.model_validate({"name": "m", "compute_dtype": "float32", **changed})


def test_dense_weights_come_back_as_they_were_saved(weights_dir):
    loaded = load_base(find_base(str(weights_dir)), settings(quantization="none"), device=CPU)
    saved = tiny_model("llama").state_dict()
    assert all(torch.equal(value, saved[name]) for name, value in loaded.state_dict().items())
    assert not loaded.training


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
@pytest.mark.parametrize("double", [True, False])
def test_four_bit_weights_cover_the_linears_of_the_layers_and_nothing_else(weights_dir, kind, double):
    chosen = settings(quantization=kind, double_quantization=double)
    loaded = load_base(find_base(str(weights_dir)), chosen, device=CPU)
    states = {name: p.quant_state for name, p in loaded.named_parameters() if hasattr(p, "quant_state")}
    assert len(states) == 2 * 7  # layers times q, k, v, o, gate, up, down
    assert all(".layers." in name for name in states)
    assert {(state.quant_type, state.nested) for state in states.values()} == {(kind, double)}


@pytest.mark.parametrize("asked", ["float32", "bfloat16", "float16"])
def test_the_type_asked_for_is_the_type_computed_in(asked):
    assert compute_dtype(asked, CPU) == getattr(torch, asked)


def test_auto_on_a_processor_is_one_of_two_types():
    assert compute_dtype("auto", CPU) in (torch.bfloat16, torch.float32)


def test_a_tokenizer_without_a_padding_token_gets_its_end_token(weights_dir, tmp_path):
    tokenizer = load_tokenizer(find_base(str(weights_dir)))
    tokenizer.pad_token = None
    tokenizer.save_pretrained(shutil.copytree(weights_dir, tmp_path / "m", dirs_exist_ok=True))
    assert load_tokenizer(find_base(str(tmp_path / "m"))).pad_token == tokenizer.eos_token


@pytest.mark.parametrize(
    ("file", "content", "what"),
    [
        ("model.safetensors", b"\x00\x10\x00\x00\x00\x00\x00\x00{}", "weights"),  # cut short
        (
            "model.safetensors",
            b"version https://git-lfs.github.com/spec/v1\n",
            "weights",
        ),  # a pointer, not the file
        ("config.json", b'{"model_type": ', "tokenizer"),
        ("config.json", b'{"model_type": "no-such-type"}', "weights"),
        ("tokenizer.json", b'{"model": ', "tokenizer"),
        ("tokenizer.json", b"{}", "tokenizer"),
    ],
)
def test_a_broken_file_is_named_as_weights_or_tokenizer(copy_of, file, content, what):
    (copy_of / file).write_bytes(content)
    source = find_base(str(copy_of))
    load = load_tokenizer
    if what == "weights":
        load = partial(load_base, settings=settings(quantization="none"), device=CPU)
    with pytest.raises(ModelMissing) as raised:
        load(source)
    assert str(raised.value).startswith(f"{copy_of}: the {what} cannot be loaded: ")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (None, "1 of them are not there, such as model.norm.weight"),
        (torch.ones(3), "the weights cannot be loaded"),
    ],
)
def test_weights_that_lack_a_tensor_are_refused_and_not_filled_up_with_random_numbers(
    copy_of, weight, message
):
    tensors = load_file(copy_of / "model.safetensors")
    del tensors["model.norm.weight"]
    if weight is not None:
        tensors["model.norm.weight"] = weight
    save_file(tensors, copy_of / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelMissing, match=message):
        load_base(find_base(str(copy_of)), settings(quantization="none"), device=CPU)


def test_a_folder_without_a_tokenizer_says_so(copy_of):
    for path in copy_of.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(ModelMissing, match="the tokenizer cannot be loaded"):
        load_tokenizer(find_base(str(copy_of)))


def test_a_file_that_is_no_gguf_is_refused_and_leaves_nothing_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "m.gguf").write_bytes(b"GGUF, but not really")
    with pytest.raises(ModelMissing, match=r"m\.gguf cannot be turned into a dense model"):
        load_tokenizer(find_base(str(tmp_path / "m.gguf")))
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_without_a_network_a_hub_id_is_refused_at_once_with_what_would_do(monkeypatch):
    def no_address(*_):
        raise OSError(-2, "Name or service not known")

    monkeypatch.setattr("socket.getaddrinfo", no_address)
    for name in ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ModelMissing) as raised:
        load_tokenizer(ModelSource(name="no-one/nothing", hub_id="no-one/nothing"))
    assert "are not in the local hub cache and cannot be fetched here" in str(raised.value)
    assert "give a folder or a .gguf file" in str(raised.value)
