"""Attention of many rows over shared prefixes: the keys and values of a prefix are held and multiplied once.

Registered with transformers as "groundql_shared": a forward pass that is given `shared_prefixes` goes through here, any
other through transformers' own SDPA.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from groundql.models.attention import shared_prefix_attention

NAME = "groundql_shared"


@dataclass(frozen=True)
class PrefixRows:
    """Consecutive rows of a batch that share a prefix."""

    states: Sequence[tuple[torch.Tensor, torch.Tensor]]  # of each layer: keys and values, (1, kv_heads, P, d)
    rows: slice
    hidden: torch.Tensor  # (rows, 1, W, N) or (rows, 1, W, P + N) bool, as `shared_prefix_attention` takes it


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    shared_prefixes: Sequence[PrefixRows] | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    if shared_prefixes is None:
        out, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
        return out, None
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    layer = int(module.layer_idx)
    pieces = [
        shared_prefix_attention(
            query[some.rows], key[some.rows], value[some.rows], some.states[layer], some.hidden, scale
        )
        for some in shared_prefixes
    ]
    return torch.cat(pieces), None


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
