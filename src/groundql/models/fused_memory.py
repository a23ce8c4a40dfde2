"""Memory of the fused training step by part, and how much each layer may keep for its backward. No torch.

Counts what `training.fused` allocates: its tensors follow from shapes alone, so this is arithmetic and not a fit; only
the workspace and the allocator's slack are measured (docs/performance.md). The peak is at one of four moments: the loss,
the backward of the last layer (all kept tensors are there, no gradients yet), that of the first (all gradients, little
kept), the optimizer's step.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from groundql.config import Config
from groundql.models.catalog import BaseModelRow
from groundql.models.workload import Pass

MIB = 2**20
LOGITS_AT_ONCE = 2**26  # numbers: as training.fused.head has it
FFN_TOKENS = 4096  # as training.fused.model has it
GRAPH_WORKSPACES = 64  # MiB: 32 each for forward and backward, on Hopper cards
SMALL_FFN_TOKENS = 2048  # where memory is short


class Keeps(NamedTuple):
    """How many layers keep what attention made, how many keep all, and the FFN's tokens at once."""

    attention: int
    all: int
    ffn_tokens: int


class Moment(NamedTuple):
    """What is allocated at one moment of a step besides what is always held; bytes."""

    name: str
    kept: float
    gradients: float
    working: float


def is_fused(config: Config) -> bool:
    """Whether training goes through the fused step: packs one at a time, no dropout, whole matrices to merge."""
    training = config.training
    packs = training.packing == "shared" and training.batch_size == 1
    return packs and config.lora.dropout == 0 and not training.shard_base


def scratch_bytes(row: BaseModelRow, width: int) -> float:
    """Two merged matrices: the larger of qkv and the FFN's inner ones; the larger of `out` and `down`."""
    q, kv = row.n_heads * row.head_dim, row.n_kv_heads * row.head_dim
    first = max((q + 2 * kv) * row.hidden, inner_width(row) * row.hidden)
    return width * (first + max(q * row.hidden, row.ffn * row.hidden))


def inner_width(row: BaseModelRow) -> int:
    """Of the FFN: gate and up together, or up alone."""
    return row.ffn * (1 if row.architecture == "starcoder2" else 2)


def moments(
    config: Config, row: BaseModelRow, one: Pass, keeps: Keeps, *, width: int, state_bytes: float
) -> Iterator[Moment]:
    """The moments at one of which the peak is.

    Args:
        config: for rank, targets and accumulation.
        row: the model.
        one: the pass.
        keeps: what layers keep.
        width: bytes of a number of the stream.
        state_bytes: of the optimizer, a weight; what its step takes besides.
    """
    t, h = one.n_tokens, row.hidden
    n_lora = row.n_lora_weights(config.lora.rank, config.lora.targets)
    a_layer = 4.0 * n_lora / row.n_layers
    of_attention = attention_bytes(row, t, width)
    of_inner = width * t * inner_width(row)
    layer_input = width * t * h
    last_keeps = 2 if keeps.all else 1 if keeps.attention else 0
    first_keeps = 2 if keeps.all == row.n_layers else 1 if sum(keeps[:2]) == row.n_layers else 0
    kept = row.n_layers * layer_input + (keeps.attention + keeps.all) * of_attention + keeps.all * of_inner
    elsewhere = t - min(t, one.n_logit_rows)  # tokens that the last layer's FFN passes over
    kept -= width * elsewhere * ((h if last_keeps else 0) + (inner_width(row) if last_keeps == 2 else 0))
    again = config.training.accumulation > 1
    rows = min(one.n_logit_rows, max(1, LOGITS_AT_ONCE // row.vocab))
    loss = width * rows * row.vocab + one.n_logit_rows * h * (3 * width + 12)
    before = 4.0 * n_lora if again else 0.0
    yield Moment("loss", kept, before, loss)
    for name, keeps_here, there, grads in (
        ("backward of the last layer", last_keeps, kept, max(before, a_layer)),
        ("backward of the first layer", first_keeps, layer_input + (of_attention if first_keeps else 0)
         + (of_inner if first_keeps == 2 else 0), 4.0 * n_lora),
    ):  # fmt: skip
        work = _backward_bytes(row, t, keeps, keeps_here, width)
        yield Moment(name, there, grads, work)
    yield Moment("optimizer step", 0.0, 4.0 * n_lora, 4.0 * n_lora if state_bytes < 8 else 0.0)


def attention_bytes(row: BaseModelRow, n_tokens: int, width: int) -> float:
    """Queries, keys, values, the result, its sums, and the stream after it, of one layer."""
    q, kv = row.n_heads * row.head_dim, row.n_kv_heads * row.head_dim
    return n_tokens * (width * (2 * q + 2 * kv + row.hidden) + 4 * row.n_heads)


def _backward_bytes(row: BaseModelRow, t: int, keeps: Keeps, keeps_here: int, width: int) -> float:
    """What a layer's backward allocates: in its FFN or in its attention, whichever is more."""
    h, q, kv = row.hidden, row.n_heads * row.head_dim, row.n_kv_heads * row.head_dim
    piece = -(-t // max(1, -(-t // keeps.ffn_tokens)))
    stream = 3 * width * t * h  # gradients of the layer's result, of the stream after attention, of its input
    made_again = 0.0 if keeps_here else attention_bytes(row, t, width)
    inner = 0 if keeps_here == 2 else inner_width(row)
    ffn = stream + made_again + width * piece * (inner + row.ffn + 3 * h)
    heads = width * t * (q + (q + 2 * kv) + 2 * q) + 4 * row.n_heads * t  # of the result, of qkv, a head's
    return max(ffn, stream + made_again + heads)


def graph_bytes(config: Config, n_lora: int) -> float:
    """What a CUDA graph takes besides: cuBLAS's workspaces of its own, and under accumulation gradients once more."""
    return GRAPH_WORKSPACES * MIB + (4.0 * n_lora if config.training.accumulation > 1 else 0.0)


def needed_bytes(
    config: Config, row: BaseModelRow, passes: Sequence[Pass], keeps: Keeps, *, width: int
) -> float:
    """The most that any moment of any of these passes takes."""
    return max(
        m.kept + m.gradients + m.working
        for one in passes
        for m in moments(
            config, row, one, keeps, width=width, state_bytes=2.0 if config.eight_bit_state else 8.0
        )
    )


def least_bytes(config: Config, row: BaseModelRow, passes: Sequence[Pass], *, width: int) -> float:
    """The same where as little is kept as can be."""
    return needed_bytes(config, row, passes, Keeps(0, 0, SMALL_FFN_TOKENS), width=width)


def choose_keeps(
    config: Config, row: BaseModelRow, passes: Sequence[Pass], free_bytes: float | None, *, width: int
) -> Keeps:
    """As much as fits: attention's tensors first, which save most time a byte, then the FFN's.

    `free_bytes` is the card's room besides what is always held, workspace and slack; None: no limit is known.
    """
    layers, asked = row.n_layers, config.training.checkpointing
    if asked is False or (asked == "auto" and free_bytes is None):
        return Keeps(0, layers, FFN_TOKENS)
    options = [Keeps(0, 0, FFN_TOKENS)]
    if asked == "auto":
        options = [Keeps(layers - n, n, FFN_TOKENS) for n in range(layers, -1, -1)]
        options += [Keeps(n, 0, FFN_TOKENS) for n in range(layers - 1, -1, -1)]
    smallest = Keeps(0, 0, SMALL_FFN_TOKENS)
    if free_bytes is None:
        return options[0]
    fitting = (
        keeps for keeps in options if needed_bytes(config, row, passes, keeps, width=width) <= free_bytes
    )
    return next(fitting, smallest)
