"""Bytes that transformers' own layers take: of a number, a weight, a layer's saved tensors, the loss. No torch."""

from dataclasses import dataclass

from groundql.config import Config
from groundql.models.catalog import BaseModelRow
from groundql.models.fused_memory import LOGITS_AT_ONCE
from groundql.models.workload import Pass


@dataclass(frozen=True, kw_only=True)
class Stack:
    """Properties of the program that trains. The defaults are ours; tests put those of measured programs."""

    dropout_mask_bytes: int = 1  # a number that dropout passes: a bool on CUDA, a 16-bit number on CPU
    widens_layer_norm: bool = True  # autocast on CUDA computes LayerNorm, and what follows from it, in fp32
    bytes_a_logit: int = 14  # in backward: three fp32 numbers, and a 16-bit block that the allocator holds
    logits_at_once: int | None = LOGITS_AT_ONCE  # numbers; None: all in one piece


OURS = Stack()


def compute_bytes(config: Config) -> int:
    """Of a number in the compute type: 2, or 4 for float32. "auto" is taken for a card: 16 bits."""
    return 4 if config.model.compute_dtype == "float32" else 2


def weight_bits(config: Config) -> float:
    """Bits that a frozen linear's weight takes.

    NF4 and FP4: 4 bits and a scale a block of 64: 32 bits, or 8 bits and a 32-bit scale of 256 scales, with
    code tables. 4.1276 was measured on bitsandbytes 0.50.2; arXiv:2305.14314, section 3, has 4.127.
    """
    if config.model.quantization == "none":
        return 8.0 * compute_bytes(config)
    return 4.1276 if config.model.double_quantization else 4 + 32 / 64


def layer_bytes(config: Config, row: BaseModelRow, one: Pass, *, stack: Stack = OURS) -> float:
    """What backward needs of one decoder layer, in bytes for the whole pass.

    A count of the tensors that autograd saves, in `hidden` h, `ffn` f, query and key widths q and kv, at 2
    bytes: two norms 8h; gated FFN 6f, plain 2f (4f in fp32); attention at least 4q + 4kv; each distinct input of
    a LoRA pair, at most 4h + 2q + 2f, and 2 rank a pair. Dropout gives each pair its own input, with a mask.

    Source: the project's performance reference, 2.1: bytes measured on bitsandbytes 0.50.2 and peft 0.21.2 for 5
    models (Qwen 0.5B, 1.5B, 3B, Falcon3-1B, StarCoder2-3B) x 3 settings (q and v; all-linear; all-linear with
    dropout 0.05). Error: below 0.2 %, the last digit of that table.
    """
    return one.n_tokens * (
        _norm_and_ffn_bytes(config, row, stack) + lora_input_bytes(config, row, stack)
    ) + _attention_bytes(config, row, one, stack)


def _norm_and_ffn_bytes(config: Config, row: BaseModelRow, stack: Stack) -> float:
    width = compute_bytes(config)
    if row.architecture != "starcoder2":
        return 2 * (4 * row.hidden + 4) + 3 * width * row.ffn
    ffn = 4 if is_wide(config, row, stack) else width
    return 2 * ((4 if _widens(config, row, stack) else width) * row.hidden + 8) + ffn * row.ffn


def _widens(config: Config, row: BaseModelRow, stack: Stack) -> bool:
    """Whether autocast computes the norms in fp32 and hands fp32 on."""
    return row.architecture == "starcoder2" and stack.widens_layer_norm and compute_bytes(config) == 2


def is_wide(config: Config, row: BaseModelRow, stack: Stack) -> bool:
    """Whether fp32 runs on through the layer: a 4-bit linear answers in the type that it was asked in."""
    return _widens(config, row, stack) and config.model.quantization != "none"


def lora_input_bytes(config: Config, row: BaseModelRow, stack: Stack = OURS) -> float:
    """Bytes a token and layer that LoRA pairs keep: their inputs, shared or each its own, and the rank's.

    The input of `o_proj` is counted with attention, except where dropout makes a copy.
    """
    width, lora = compute_bytes(config), config.lora
    inputs = row.linears()
    chosen = [name for name in inputs if lora.targets == "all-linear" or name in lora.targets]
    if lora.dropout:
        kept = sum((width + stack.dropout_mask_bytes) * inputs[name][0] for name in chosen)
    elif _widens(config, row, stack):  # autocast casts an fp32 input for each pair anew
        kept = sum(width * inputs[name][0] for name in chosen if name != "o_proj")
    else:
        kept = sum({_input_of(name): width * inputs[name][0] for name in chosen if name != "o_proj"}.values())
    return kept + width * lora.rank * len(chosen)


def _input_of(name: str) -> str:
    """Which tensor a linear reads."""
    if name in ("gate_proj", "up_proj", "c_fc"):
        return "ffn in"
    return "ffn out" if name in ("down_proj", "c_proj") else "attention in"


def _attention_bytes(config: Config, row: BaseModelRow, one: Pass, stack: Stack) -> float:
    """Queries, keys, values and results that attention keeps, with its masks, weights or sums."""
    width = compute_bytes(config)
    q, kv, heads = row.n_heads * row.head_dim, row.n_kv_heads * row.head_dim, row.n_heads
    if one.n_prefix:  # packs: prefixes through SDPA with repeated heads, questions by plain products
        wide = is_wide(config, row, stack)
        whole = 0 if wide else width * (q + 2 * kv) * one.n_tokens  # views keep the whole projection
        prefix = (width * (4 * q + 2 * kv if wide else 3 * q) + 4 * heads) * one.n_prefix
        own = width * (2 * q + 2 * kv) * one.n_own
        has_o = config.lora.targets == "all-linear" or "o_proj" in config.lora.targets
        joined = width * q * one.n_tokens if has_o and not config.lora.dropout else 0
        copies = width if wide else 2 * width  # of an fp32 softmax; a view keeps the whole of the 16-bit one
        scores = (4 + width) * one.n_own_scores + (4 + copies) * one.n_prefix_scores
        return whole + prefix + own + joined + heads * scores
    repeated = q if one.n_mask_cells else kv  # a mask makes transformers repeat the keys' heads
    tokens = (width * (2 * q + 2 * repeated) + 4 * heads) * one.n_tokens
    return tokens + (width + 1 / row.n_layers) * one.n_mask_cells


def backward_bytes(row: BaseModelRow, one: Pass, width: int) -> float:
    """Gradients in flight in the FFN's backward: two of its inner width, two of the stream's."""
    return width * (2 * row.ffn + 2 * row.hidden) * one.n_tokens


def unpacked_bytes(config: Config, row: BaseModelRow, width: int) -> float:
    """The largest 4-bit weight in the compute type, with its scales in fp32."""
    if config.model.quantization == "none":
        return 0
    largest = max(inputs * outputs for inputs, outputs in row.linears().values())
    return largest * (width + 4 / 64)


def loss_bytes(row: BaseModelRow, one: Pass, width: int, stack: Stack) -> float:
    """All logits and what their loss makes of them, or a few rows at a time and what the head reads."""
    if stack.logits_at_once is None:
        return stack.bytes_a_logit * one.n_logit_rows * row.vocab
    rows = min(one.n_logit_rows, max(1, stack.logits_at_once // row.vocab))
    return width * rows * row.vocab + one.n_logit_rows * row.hidden * (2 * width + 12)
