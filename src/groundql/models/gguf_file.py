"""A model as one .gguf file for llama.cpp and Ollama: names, layout and types of its tensors, and its tokenizer.

Known are the architectures of the catalog. What a file cannot hold as it is, is refused and not approximated: a scaled
rotary embedding, a tokenizer whose way of splitting text has no name in llama.cpp.
"""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from gguf import MODEL_ARCH, GGMLQuantizationType, GGUFWriter, LlamaFileType, TokenType, get_tensor_name_map
from gguf.constants import GGML_QUANT_SIZES, GGML_QUANT_VERSION
from gguf.quants import quantize

from groundql.errors import GroundqlError
from groundql.models.exported import Precision

Array = np.ndarray[Any, Any]
ARCHITECTURES = {
    "qwen2": MODEL_ARCH.QWEN2,
    "llama": MODEL_ARCH.LLAMA,
    "starcoder2": MODEL_ARCH.STARCODER2,
}
FILE_TYPES = {"f16": LlamaFileType.MOSTLY_F16, "q8_0": LlamaFileType.MOSTLY_Q8_0}
Q8_BLOCK = 32  # weights that share a scale; a row must be whole blocks
F16_MAX = float(np.finfo(np.float16).max)

# The patterns that tell llama.cpp's pre-tokenizers apart, as tokenizer.json has them.
_QWEN2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA3 = _QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
_SPLITS = {_QWEN2: "qwen2", _LLAMA3: "llama-bpe"}


class Weight(Protocol):
    """One weight under the name that transformers gives it; `merge.Weight` says what each is."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def shape(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def values(self) -> Callable[[], Any]: ...  # noqa: D102  a torch tensor in fp32


def check_writable(config: Any, tokenizer: Any) -> None:
    """Raise where llama.cpp could not read this model as it is, before anything large is done.

    Raises:
        GroundqlError: says what has no counterpart there.
    """
    if config.model_type not in ARCHITECTURES:
        raise GroundqlError(
            f"a {config.model_type} model cannot be written as GGUF; known are {', '.join(ARCHITECTURES)}"
        )
    kind = _rope(config).get("rope_type", "default")
    if kind != "default":
        raise GroundqlError(
            f"this model scales its rotary embedding ({kind}): --to merged keeps that, GGUF does not"
        )
    pre_tokenizer_name(json.loads(tokenizer.backend_tokenizer.to_str()))


def write_gguf(
    path: Path,
    weights: Sequence[Weight],
    *,
    config: Any,
    tokenizer: Any,
    precision: Precision,
    end: str,
    name: str,
    base_model: str,
) -> None:
    """Write the file, a weight at a time.

    `end` is the token that ends an answer. llama.cpp adds no start token: the prompt's marks have one where the model
    wants it.

    Raises:
        GroundqlError: a weight that has no place in such a file, or does not fit 16 bit.
    """
    stored_names = get_tensor_name_map(ARCHITECTURES[config.model_type], config.num_hidden_layers)
    n_rows = next(weight.shape[0] for weight in weights if weight.name.endswith("embed_tokens.weight"))
    writer = GGUFWriter(path, config.model_type)
    writer.add_type("model")
    writer.add_name(name)
    writer.add_base_model_count(1)
    writer.add_base_model_name(0, base_model)
    writer.add_file_type(FILE_TYPES[precision])
    writer.add_quantization_version(GGML_QUANT_VERSION)
    _add_shape(writer, config)
    _add_tokenizer(writer, tokenizer, n_rows, end)
    for weight in weights:
        stored_name = stored_names.get_name(weight.name, try_suffixes=(".weight", ".bias"))
        if stored_name is None:
            raise GroundqlError(f"{weight.name} has no place in a {config.model_type} GGUF file")
        kind = stored_as(weight.shape, precision)
        writer.add_tensor_info(
            stored_name, weight.shape, np.dtype(np.float32), n_bytes(weight.shape, kind), kind
        )
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for weight in weights:
            values = weight.values().cpu().numpy()
            writer.write_tensor_data(_stored(weight.name, values, stored_as(weight.shape, precision), config))
    finally:
        writer.close()


def stored_as(shape: tuple[int, ...], precision: Precision) -> GGMLQuantizationType:
    """How a weight is stored: matrices as asked, vectors in fp32, rows that are no whole blocks in 16 bit."""
    if len(shape) == 1:
        return GGMLQuantizationType.F32
    if precision == "q8_0" and shape[-1] % Q8_BLOCK == 0:
        return GGMLQuantizationType.Q8_0
    return GGMLQuantizationType.F16


def n_bytes(shape: tuple[int, ...], kind: GGMLQuantizationType) -> int:
    """Bytes that a weight takes."""
    block, block_bytes = GGML_QUANT_SIZES[kind]
    return math.prod(shape) // int(block) * int(block_bytes)


def _stored(name: str, values: Array, kind: GGMLQuantizationType, config: Any) -> Array:
    """The bytes of one weight: rows in llama.cpp's order, numbers as `kind`."""
    if config.model_type == "llama" and ".self_attn." in name:
        n_heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(
            name.split(".")[-2]
        )
        if n_heads:
            values = paired_rows(values, n_heads)
    largest = float(np.abs(values).max(initial=0))
    if not math.isfinite(largest) or (kind != GGMLQuantizationType.F32 and largest > F16_MAX):
        raise GroundqlError(f"{name} has a value of {largest:g}, which 16 bit cannot hold")
    return np.ascontiguousarray(quantize(np.ascontiguousarray(values), kind))


def paired_rows(values: Array, n_heads: int) -> Array:
    """Rows of a Llama query or key as llama.cpp turns them: it rotates neighbours, transformers rotates halves.

    >>> paired_rows(np.array([0, 1, 2, 3, 10, 11, 12, 13]), 2).tolist()
    [0, 2, 1, 3, 10, 12, 11, 13]
    """
    halves = values.reshape(n_heads, 2, values.shape[0] // n_heads // 2, *values.shape[1:])
    return halves.swapaxes(1, 2).reshape(values.shape)


def _rope(config: Any) -> dict[str, Any]:
    return dict(getattr(config, "rope_parameters", None) or {})


def _add_shape(writer: GGUFWriter, config: Any) -> None:
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_freq_base(float(_rope(config)["rope_theta"]))
    writer.add_vocab_size(config.vocab_size)
    if config.model_type == "starcoder2":
        writer.add_layer_norm_eps(config.norm_epsilon)
    else:
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)


def _add_tokenizer(writer: GGUFWriter, tokenizer: Any, n_rows: int, end: str) -> None:
    """Vocabulary, merges, special tokens and template; rows of the embedding without a token get a name that is unused."""
    parts = json.loads(tokenizer.backend_tokenizer.to_str())
    added = {token["id"]: token for token in parts["added_tokens"]}
    texts = {i: text for text, i in parts["model"]["vocab"].items()} | {
        i: t["content"] for i, t in added.items()
    }
    kinds = [
        TokenType.UNUSED
        if i not in texts
        else TokenType.NORMAL
        if i not in added
        else TokenType.CONTROL
        if added[i]["special"]
        else TokenType.USER_DEFINED
        for i in range(n_rows)
    ]
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in parts["model"]["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre_tokenizer_name(parts))
    writer.add_token_list([texts.get(i, f"[PAD{i}]") for i in range(n_rows)])
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    writer.add_eos_token_id(tokenizer.convert_tokens_to_ids(end))
    for text, add in (
        (tokenizer.bos_token, writer.add_bos_token_id),
        (tokenizer.unk_token, writer.add_unk_token_id),
        (tokenizer.pad_token, writer.add_pad_token_id),
    ):
        if text is not None:
            add(tokenizer.convert_tokens_to_ids(text))
    writer.add_add_bos_token(False)
    writer.add_add_space_prefix(False)
    writer.add_chat_template(tokenizer.chat_template)


def pre_tokenizer_name(parts: dict[str, Any]) -> str:
    """What llama.cpp calls the way in which this tokenizer.json splits text before it merges.

    Raises:
        GroundqlError: it is no byte-level BPE, or splits in a way that is not known here.
    """
    before = parts.get("pre_tokenizer") or {}
    steps = before.get("pretokenizers", [before])
    kinds = [step.get("type") for step in steps]
    if (
        parts["model"]["type"] == "BPE"
        and not parts["model"].get("byte_fallback")
        and kinds[-1:] == ["ByteLevel"]
    ):
        uses_own_split = steps[-1].get("use_regex", True)
        if kinds == ["ByteLevel"] and uses_own_split:
            return "gpt-2"
        if kinds == ["Digits", "ByteLevel"] and steps[0].get("individual_digits") and uses_own_split:
            return "starcoder"  # SmolLM2 and StarCoder2: every digit on its own
        if kinds == ["Split", "ByteLevel"] and not uses_own_split:
            name = _SPLITS.get(steps[0].get("pattern", {}).get("Regex", ""))
            if name:
                return name
    raise GroundqlError(
        f"this tokenizer splits text by {' and '.join(map(str, kinds))} in a way that has no name known here in llama.cpp; "
        "--to merged keeps it as it is"
    )
