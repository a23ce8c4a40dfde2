"""Attention in the two passes of decoding: prompts being read, and one new token a row. Needs torch.

Registered with transformers as "groundql_shared": a forward pass that is given `decoding` goes through here, any other
through transformers' own SDPA. Keys and values are kept here, not in a cache of transformers.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from groundql.models.attention import bias_by_head, grouped_prefix_attention

NAME = "groundql_shared"


class DecodingPass(Protocol):
    """One forward pass: attends, layer by layer, and keeps keys and values."""

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scale: float,
        window: int | None,
    ) -> torch.Tensor:
        """(B, W, heads, d) from a query (B, heads, W, d) and new keys and values (B, kv_heads, W, d)."""


class Reading:
    """Rows of tokens are read, each after its prefix (or none), padded on the right.

    A padding token sees and is seen by nothing that counts: it stands behind its row.
    """

    def __init__(
        self,
        width: int,
        prefix: torch.Tensor | None = None,
        prefix_of: torch.Tensor | None = None,
        prefix_lengths: torch.Tensor | None = None,
    ) -> None:
        """`prefix`: (layers, 2, G, kv_heads, P, d); of rows, (B,): the group whose prefix it follows, and its length."""
        self.states: list[torch.Tensor] = []  # of each layer: (2, B, kv_heads, W, d)
        self._width = width
        self._prefix = prefix
        self._prefix_of = prefix_of
        self._prefix_lengths = prefix_lengths
        self._masks: dict[int | None, torch.Tensor | None] = {}

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scale: float,
        window: int | None,
    ) -> torch.Tensor:
        self.states.append(torch.stack([key, value]))
        if window not in self._masks:
            self._masks[window] = self._mask(window, query.device)
        mask = self._masks[window]
        if self._prefix is not None:
            keys, values = self._prefix[layer][:, self._prefix_of]
            key, value = torch.cat([keys, key], dim=2), torch.cat([values, value], dim=2)
        shared = query.shape[1] // key.shape[1]
        heads = [  # one call a key head, which its query heads read in place: repeating it would take the memory
            scaled_dot_product_attention(
                some,
                key[:, head : head + 1].expand(-1, shared, -1, -1),
                value[:, head : head + 1].expand(-1, shared, -1, -1),
                attn_mask=mask,
                is_causal=mask is None,
                scale=scale,
            )
            for head, some in enumerate(query.split(shared, dim=1))
        ]
        return torch.cat(heads, dim=1).transpose(1, 2)

    def _mask(self, window: int | None, device: torch.device) -> torch.Tensor | None:
        """(B, 1, W, P + W) bool, True where a token sees another; None: causal without more."""
        own = torch.ones(self._width, self._width, dtype=torch.bool, device=device).tril()
        index = torch.arange(self._width, device=device)
        if window is not None:
            own &= index[:, None] - index < window
        if self._prefix is None or self._prefix_lengths is None:
            return own[None, None] if window is not None and window < self._width else None
        lengths = self._prefix_lengths[:, None, None]
        place = torch.arange(self._prefix.shape[4], device=device)
        before = (place < lengths).expand(-1, self._width, -1)
        if window is not None:
            before = before & (lengths + index[:, None] - place < window)
        return torch.cat([before, own.expand(len(before), -1, -1)], dim=2)[:, None]


class Stepping:
    """One token of every row: its key and value go to the row's place in the cache, and it sees prefix and row."""

    def __init__(
        self,
        prefix: torch.Tensor,
        own: torch.Tensor,
        prefix_lengths: torch.Tensor,
        at: torch.Tensor,
        n_own: int,
    ) -> None:
        """Rows b of group g = b // (B / G).

        Args:
            prefix: (layers, 2, G, kv_heads, P, d).
            own: (layers, 2, B, kv_heads, N, d), written in place.
            prefix_lengths: (G,) int64.
            at: (B,) int64: the place of the new token among the row's own.
            n_own: of N, the places that any row has come to by now.
        """
        self._prefix = prefix
        self._own = own
        self._lengths = prefix_lengths
        self._at = at
        self._n_own = n_own
        n_rows, n_kv, n_places = own.shape[2:5]
        head = torch.arange(n_rows * n_kv, device=at.device)
        self._places = head * n_places + at[:, None].expand(-1, n_kv).reshape(
            -1
        )  # into (B * kv_heads * N, d)
        self._biases: dict[int | None, tuple[torch.Tensor, torch.Tensor]] = {}

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scale: float,
        window: int | None,
    ) -> torch.Tensor:
        own = self._own[layer]
        depth = own.shape[-1]
        own[0].view(-1, depth).index_copy_(0, self._places, key.reshape(-1, depth))
        own[1].view(-1, depth).index_copy_(0, self._places, value.reshape(-1, depth))
        if window not in self._biases:
            sees_prefix, sees_own = self._seen(window)
            self._biases[window] = bias_by_head(
                sees_prefix, sees_own, query.shape[1], key.shape[1], query.dtype
            )
        n = self._n_own
        prefix_key, prefix_value = self._prefix[layer]
        on_prefix, on_own = self._biases[window]
        out = grouped_prefix_attention(
            query[:, :, 0],
            own[0][:, :, :n],
            own[1][:, :, :n],
            prefix_key,
            prefix_value,
            on_prefix,
            on_own,
            scale,
        )
        return out[:, None]

    def _seen(self, window: int | None) -> tuple[torch.Tensor, torch.Tensor]:
        """What rows see: (G, R or 1, P) bool of the prefix, (B, N) of their own tokens."""
        n_rows = len(self._at) // len(self._lengths)
        place = torch.arange(self._prefix.shape[4], device=self._at.device)
        index = torch.arange(self._n_own, device=self._at.device)
        of_prefix = (place < self._lengths[:, None])[:, None]
        of_own = index <= self._at[:, None]
        if window is not None:
            positions = (self._lengths[:, None] + self._at.view(-1, n_rows))[:, :, None]
            of_prefix = of_prefix & (positions - place < window)
            of_own = of_own & (self._at[:, None] - index < window)
        return of_prefix, of_own


@contextmanager
def decoding_attention(model: Any) -> Iterator[None]:
    """`model` with our attention, and then with its own again: dev scores are taken in the midst of training."""
    before = model.config._attn_implementation
    model.set_attn_implementation(NAME)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def forward_pass(
    model: Any, ids: torch.Tensor, positions: torch.Tensor, decoding: DecodingPass
) -> torch.Tensor:
    """Logits after the last token of each row, (B, vocab). `ids` and `positions`: (B, W) int64."""
    output = model(
        input_ids=ids,
        attention_mask=torch.ones(  # four dimensions: transformers makes none of its own
            1, 1, 1, 1, dtype=torch.bool, device=ids.device
        ),
        position_ids=positions,
        use_cache=False,
        logits_to_keep=1,
        decoding=decoding,
    )
    logits: torch.Tensor = output.logits[:, -1]
    return logits


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    decoding: DecodingPass | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    if decoding is None:
        out, _ = sdpa_attention_forward(
            module,
            query,
            key,
            value,
            attention_mask,
            dropout=dropout,
            scaling=scaling,
            sliding_window=sliding_window,
            **kwargs,
        )
        return out, None
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    return decoding.attend(int(module.layer_idx), query, key, value, scale, sliding_window), None


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
