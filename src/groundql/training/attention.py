"""Attention over schema-shared packs without a quadratic mask: each group's prefix once, its questions against it.

Registered with transformers as the attention "groundql_packs": a forward pass that is given a `pack_layout` goes
through here, any other through transformers' own SDPA. Exact: a token attends to what it would see alone.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from groundql.models.attention import shared_prefix_attention

NAME = "groundql_packs"
QUESTIONS_AT_ONCE = 8  # of one group, of similar length: bounds the padding and the copies of the prefix


@dataclass(frozen=True)
class QuestionBlock:
    """Some questions of a group: where their tokens lie in the pack, padded to the longest."""

    index: torch.Tensor  # (k, s) int64; padding repeats the question's first token
    valid: torch.Tensor  # (k, s) bool
    sees: torch.Tensor  # (s, prefix + s) bool: the whole prefix, itself causally


@dataclass(frozen=True)
class GroupLayout:
    """One group of a pack: its prefix is at [start, start + n_prefix), its questions follow in order."""

    start: int
    n_prefix: int
    blocks: tuple[QuestionBlock, ...]


@dataclass(frozen=True)
class PackLayout:
    """All groups of one pack, in order: they cover its tokens."""

    groups: tuple[GroupLayout, ...]

    def to(self, device: torch.device | str, **_: Any) -> "PackLayout":
        """The same on another device: accelerate calls this when it moves a batch."""

        def moved(block: QuestionBlock) -> QuestionBlock:
            return QuestionBlock(block.index.to(device), block.valid.to(device), block.sees.to(device))

        groups = (GroupLayout(g.start, g.n_prefix, tuple(map(moved, g.blocks))) for g in self.groups)
        return PackLayout(tuple(groups))


def layout_of(groups: list[int], questions: list[int]) -> PackLayout:
    """The layout of one pack, from each token's group and question (-1: prefix), as in `Pack`."""
    layouts = []
    at, length = 0, len(groups)
    while at < length:
        end = at
        while end < length and groups[end] == groups[at]:
            end += 1
        n_prefix = sum(q == -1 for q in questions[at:end])
        runs: list[tuple[int, int]] = []  # (start, length) of each question
        for place in range(at + n_prefix, end):
            if place == at + n_prefix or questions[place] != questions[place - 1]:
                runs.append((place, 0))
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        blocks = [
            _block(runs[i : i + QUESTIONS_AT_ONCE], n_prefix) for i in range(0, len(runs), QUESTIONS_AT_ONCE)
        ]
        layouts.append(GroupLayout(at, n_prefix, tuple(blocks)))
        at = end
    return PackLayout(tuple(layouts))


def _block(runs: list[tuple[int, int]], n_prefix: int) -> QuestionBlock:
    width = max(n for _, n in runs)
    steps = torch.arange(width)
    starts, lengths = (torch.tensor(values)[:, None] for values in zip(*runs, strict=True))
    valid = steps[None] < lengths
    own = torch.ones(width, width, dtype=torch.bool).tril()
    sees = torch.cat([torch.ones(width, n_prefix, dtype=torch.bool), own], dim=1)
    index = torch.where(valid, starts + steps, starts)
    return QuestionBlock(index, valid, sees)


def packed_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    layout: PackLayout,
    scale: float | None,
    *,
    with_matmul: bool,
) -> torch.Tensor:
    """Attention of one pack.

    Args:
        query: (1, heads, T, d).
        key: (1, kv_heads, T, d).
        value: (1, kv_heads, T, d). Grouped heads are folded into the query's length, not copied.
        layout: of the pack; covers all T tokens.
        scale: of the scores; None: 1 / sqrt(d).
        with_matmul: questions by plain matrix products against the one prefix (faster on a CPU, where the fused
            kernel's backward is slow; keeps the weights), else by SDPA against a copy of the prefix for each.

    Returns:
        (1, T, heads, d).
    """
    n_heads, n_kv = query.shape[1], key.shape[1]
    shared = n_heads // n_kv
    q, k, v = query[0], key[0], value[0]  # (heads, T, d)
    pieces = []
    for group in layout.groups:
        prefix = slice(group.start, group.start + group.n_prefix)
        k_prefix, v_prefix = k[None, :, prefix], v[None, :, prefix]  # (1, kv, P, d)
        if group.n_prefix:
            k_all, v_all = (x.repeat_interleave(shared, dim=1) for x in (k_prefix, v_prefix))
            out = scaled_dot_product_attention(q[None, :, prefix], k_all, v_all, is_causal=True, scale=scale)
            pieces.append(out[0].transpose(0, 1))  # (P, heads, d)
        for block in group.blocks:
            n, width = block.index.shape
            q_own = q[:, block.index].transpose(0, 1)  # (n, heads, s, d)
            k_own, v_own = k[:, block.index].transpose(0, 1), v[:, block.index].transpose(0, 1)
            if with_matmul:
                prefix_kv, hidden = (k_prefix, v_prefix), ~block.sees[None, None, :, group.n_prefix :]
                factor = scale if scale is not None else query.shape[-1] ** -0.5
                out = shared_prefix_attention(q_own, k_own, v_own, prefix_kv, hidden, factor)
            else:
                keys = torch.cat([k_prefix.expand(n, -1, -1, -1), k_own], dim=2)  # (n, kv, P + s, d)
                values = torch.cat([v_prefix.expand(n, -1, -1, -1), v_own], dim=2)
                folded = q_own.reshape(n, n_kv, shared * width, -1)
                sees = block.sees.repeat(shared, 1)[None, None]
                out = scaled_dot_product_attention(folded, keys, values, attn_mask=sees, scale=scale)
                out = out.reshape(n, n_heads, width, -1).transpose(1, 2)  # (n, s, heads, d)
            pieces.append(out[block.valid])
    return torch.cat(pieces)[None]


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    pack_layout: PackLayout | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    if pack_layout is None:
        out, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
        return out, None
    with_matmul = query.device.type == "cpu"
    return packed_attention(query, key, value, pack_layout, scaling, with_matmul=with_matmul), None


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
