"""Attention of many rows over one shared prefix: its keys and values are held and multiplied once, not once a row.

Registered with transformers as "groundql_shared": a forward pass that is given `shared_prefix` goes through here, any
other through transformers' own SDPA.
"""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from groundql.models.attention import shared_prefix_attention

NAME = "groundql_shared"

SharedPrefix = Sequence[
    tuple[torch.Tensor, torch.Tensor]
]  # of each layer: keys and values, (1, kv_heads, P, d)


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    shared_prefix: SharedPrefix | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    if shared_prefix is None or attention_mask is None:
        out, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
        return out, None
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    layer = int(module.layer_idx)
    return shared_prefix_attention(query, key, value, shared_prefix[layer], ~attention_mask, scale), None


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
