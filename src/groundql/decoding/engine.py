"""Greedy decoding in batches, each database's schema computed once and shared by its questions. Needs torch.

The result is that of transformers' own greedy `generate`, token for token, in fp32 (tested).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache

from groundql.decoding.attention import NAME, PrefixRows
from groundql.records import Prompt, Turns


@dataclass(frozen=True)
class Decoded:
    """The tokens that a model added to one prompt, the end token not among them."""

    ids: tuple[int, ...]
    n_prompt_tokens: int
    stopped: bool  # the end token came before the limit


@dataclass(frozen=True)
class _Row:
    """One prompt as token ids, by its place in the caller's order."""

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    place: int


@dataclass(frozen=True)
class _Prefix:
    """A prefix that was computed: keys and values of each layer, (1, kv_heads, P, d)."""

    n_tokens: int
    states: list[tuple[torch.Tensor, torch.Tensor]]


def decode_greedy(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    turns: Turns,
    *,
    max_new_tokens: int,
    batch_size: int,
    on_progress: Callable[[int], None] | None = None,
) -> list[Decoded]:
    """What `model` writes after each prompt, in the order of `prompts`.

    Args:
        model: a causal language model in evaluation mode.
        tokenizer: its tokenizer.
        prompts: in any order; equal prefixes are computed once a batch, and a batch may hold several.
        turns: marks; `turns.end` ends a completion, and so does the tokenizer's own end-of-text token.
        max_new_tokens: the limit for each.
        batch_size: prompts decoded together.
        on_progress: told how many prompts are done after each batch.
    """
    ends = {tokenizer.convert_tokens_to_ids(turns.end), tokenizer.eos_token_id}
    decoded: list[Decoded | None] = [None] * len(prompts)
    n_done = 0
    with torch.inference_mode(), _shared_attention(model):
        for batch in _batches(tokenizer, prompts, batch_size):
            written = _decode_batch(model, batch, ends, max_new_tokens, tokenizer.pad_token_id)
            for row, ids in zip(batch, written, strict=True):
                stopped = bool(ids) and ids[-1] in ends
                n_prompt = len(row.prefix) + len(row.suffix)
                decoded[row.place] = Decoded(tuple(ids[:-1] if stopped else ids), n_prompt, stopped)
            n_done += len(batch)
            if on_progress:
                on_progress(n_done)
    return [one for one in decoded if one is not None]


@contextmanager
def _shared_attention(model: Any) -> Iterator[None]:
    """`model` with our attention, and then with its own again: dev scores are taken in the midst of training."""
    before = model.config._attn_implementation
    model.set_attn_implementation(NAME)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def _batches(tokenizer: Any, prompts: Sequence[Prompt], batch_size: int) -> list[list[_Row]]:
    """Rows in batches, those of a prefix together, short suffixes first."""
    encoded: dict[str, tuple[int, ...]] = {}

    def ids_of(text: str) -> tuple[int, ...]:
        if text not in encoded:
            encoded[text] = tuple(tokenizer(text, add_special_tokens=False)["input_ids"])
        return encoded[text]

    rows = [_Row(ids_of(p.prefix), ids_of(p.suffix), place) for place, p in enumerate(prompts)]
    first_seen = {row.prefix: row.place for row in reversed(rows)}
    rows.sort(key=lambda row: (first_seen[row.prefix], len(row.suffix), row.place))
    return [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]


def _decode_batch(
    model: Any, batch: list[_Row], ends: set[int], max_new_tokens: int, pad_id: int
) -> list[list[int]]:
    """New token ids of each row, up to and with its end token.

    Each prefix is computed once; the cache holds each row's own tokens: its suffix padded on the left, then new ones.
    """
    device = model.device
    computed = {
        prefix: _compute_prefix(model, prefix) for prefix in dict.fromkeys(row.prefix for row in batch)
    }
    prefixes = [computed[row.prefix] for row in batch]  # of the rows that still decode
    cache = (
        DynamicCache()
    )  # without the config: it would drop what is beyond a sliding window, which the mask hides
    width = max(len(row.suffix) for row in batch)
    pads = [width - len(row.suffix) for row in batch]
    ids = torch.tensor(
        [[pad_id] * n + list(r.suffix) for n, r in zip(pads, batch, strict=True)], device=device
    )
    real = torch.arange(width, device=device) >= torch.tensor(pads, device=device)[:, None]  # (B, W) bool
    sees = real[:, None, :] & torch.ones(width, width, dtype=torch.bool, device=device).tril()  # (B, W, W)
    sees |= torch.eye(
        width, dtype=torch.bool, device=device
    )  # padding sees itself: no row of a softmax is empty
    n_prefix = torch.tensor([prefix.n_tokens for prefix in prefixes], device=device)[:, None]
    positions = n_prefix + (real.cumsum(1) - 1).clamp(min=0)
    own_positions = positions  # (B, N): of all tokens in the cache
    window = getattr(model.config, "sliding_window", None)
    rows: list[list[int]] = [[] for _ in batch]
    alive = list(range(len(batch)))  # rows of the batch that still decode, as places in `rows`
    for _ in range(max_new_tokens):
        output = model(
            input_ids=ids,
            attention_mask=_NO_MASK.to(device),  # four dimensions: transformers makes none of its own
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
            shared_prefixes=_prefix_rows(prefixes, window, sees, positions, own_positions),
        )
        new_ids = output.logits[:, -1].argmax(-1)  # (B,)
        for row, token in zip(alive, new_ids.tolist(), strict=True):
            rows[row].append(token)
        going = [i for i, row in enumerate(alive) if rows[row][-1] not in ends]
        if not going:
            break
        if len(going) < len(alive):  # finished rows leave the batch
            keep = torch.tensor(going, device=device)
            cache.batch_select_indices(keep)
            real, positions, new_ids = real[keep], positions[keep], new_ids[keep]
            own_positions = own_positions[keep]
            alive, prefixes = [alive[i] for i in going], [prefixes[i] for i in going]
        ids, positions = new_ids[:, None], positions[:, -1:] + 1
        real = torch.cat([real, torch.ones_like(real[:, :1])], dim=1)
        own_positions = torch.cat([own_positions, positions], dim=1)
        sees = real[:, None, :]
    return rows


_NO_MASK = torch.ones(1, 1, 1, 1, dtype=torch.bool)


def _prefix_rows(
    prefixes: list[_Prefix],
    window: int | None,
    sees: torch.Tensor,
    positions: torch.Tensor,
    own_positions: torch.Tensor,
) -> list[PrefixRows]:
    """Runs of rows with the same prefix, and what each of their tokens may not see."""
    runs: list[PrefixRows] = []
    start = 0
    for end in range(1, len(prefixes) + 1):
        if end == len(prefixes) or prefixes[end] is not prefixes[start]:
            rows, prefix = slice(start, end), prefixes[start]
            near = _within(window, sees[rows], positions[rows], own_positions[rows], prefix.n_tokens)
            runs.append(PrefixRows(prefix.states, rows, ~near[:, None]))
            start = end
    return runs


def _within(
    window: int | None,
    sees: torch.Tensor,
    positions: torch.Tensor,
    own_positions: torch.Tensor,
    n_prefix: int,
) -> torch.Tensor:
    """`sees` (B, W, N) where nothing is out of the window; else (B, W, P + N) less what is, prefix first."""
    if window is None or int(positions.max()) < window:
        return sees
    of_prefix = torch.arange(n_prefix, device=sees.device).expand(len(sees), -1)
    near = positions[:, :, None] - torch.cat([of_prefix, own_positions], dim=1)[:, None] < window
    near[..., n_prefix:] &= sees
    return near


def _compute_prefix(model: Any, prefix: tuple[int, ...]) -> _Prefix:
    """Keys and values of the prefix in every layer."""
    cache = DynamicCache()
    ids = torch.tensor([prefix], device=model.device)
    model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
    return _Prefix(len(prefix), [(layer.keys, layer.values) for layer in cache.layers])
