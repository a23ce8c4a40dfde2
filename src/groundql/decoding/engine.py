"""Greedy decoding in batches, each database's schema computed once and shared by its questions. Needs torch.

The result is that of transformers' own greedy `generate`, token for token, in fp32 (tested).
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache

from groundql.decoding.attention import NAME, SharedPrefix
from groundql.records import Prompt, Turns


@dataclass(frozen=True)
class Decoded:
    """The tokens that a model added to one prompt, the end token not among them."""

    ids: tuple[int, ...]
    n_prompt_tokens: int
    stopped: bool  # the end token came before the limit


@dataclass
class _Batch:
    """Prompts with the same prefix, by their place in the caller's order."""

    prefix: list[int]
    suffixes: list[list[int]]
    places: list[int]


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
        prompts: prompts in any order; equal prefixes are computed once a batch.
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
            rows = _decode_batch(model, batch, ends, max_new_tokens, tokenizer.pad_token_id)
            for place, suffix, ids in zip(batch.places, batch.suffixes, rows, strict=True):
                stopped = bool(ids) and ids[-1] in ends
                n_prompt = len(batch.prefix) + len(suffix)
                decoded[place] = Decoded(tuple(ids[:-1] if stopped else ids), n_prompt, stopped)
            n_done += len(batch.places)
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


def _batches(tokenizer: Any, prompts: Sequence[Prompt], batch_size: int) -> list[_Batch]:
    by_prefix: dict[str, list[int]] = defaultdict(list)
    for place, prompt in enumerate(prompts):
        by_prefix[prompt.prefix].append(place)
    batches = []
    for prefix, places in by_prefix.items():
        prefix_ids = list(tokenizer(prefix, add_special_tokens=False)["input_ids"])
        suffix_ids = {
            p: list(tokenizer(prompts[p].suffix, add_special_tokens=False)["input_ids"]) for p in places
        }
        places = sorted(places, key=lambda p: len(suffix_ids[p]))
        for start in range(0, len(places), batch_size):
            some = places[start : start + batch_size]
            batches.append(_Batch(prefix_ids, [suffix_ids[p] for p in some], some))
    return batches


def _decode_batch(
    model: Any, batch: _Batch, ends: set[int], max_new_tokens: int, pad_id: int
) -> list[list[int]]:
    """New token ids of each row, up to and with its end token.

    The prefix is computed once; the cache holds each row's own tokens: its suffix padded on the left, then new ones.
    """
    device = model.device
    n_rows, n_prefix = len(batch.suffixes), len(batch.prefix)
    prefix = _prefix_states(model, batch.prefix)
    cache = (
        DynamicCache()
    )  # without the config: it would drop what is beyond a sliding window, which the mask hides
    width = max(map(len, batch.suffixes))
    ids = torch.tensor([[pad_id] * (width - len(s)) + s for s in batch.suffixes], device=device)  # (B, W)
    real = torch.tensor([[0] * (width - len(s)) + [1] * len(s) for s in batch.suffixes], device=device).bool()
    sees = real[:, None, :] & torch.ones(width, width, dtype=torch.bool, device=device).tril()  # (B, W, W)
    sees |= torch.eye(
        width, dtype=torch.bool, device=device
    )  # padding sees itself: no row of a softmax is empty
    positions = n_prefix + (real.cumsum(1) - 1).clamp(min=0)
    own_positions = positions  # (B, N): of all tokens in the cache
    window = getattr(model.config, "sliding_window", None)
    rows: list[list[int]] = [[] for _ in range(n_rows)]
    alive = list(range(n_rows))  # rows of the batch that still decode, as places in `rows`
    for _ in range(max_new_tokens):
        output = model(
            input_ids=ids,
            attention_mask=_within(window, sees, positions, own_positions, n_prefix)[:, None],
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
            shared_prefix=prefix,
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
            alive = [alive[i] for i in going]
        ids, positions = new_ids[:, None], positions[:, -1:] + 1
        real = torch.cat([real, torch.ones_like(real[:, :1])], dim=1)
        own_positions = torch.cat([own_positions, positions], dim=1)
        sees = real[:, None, :]
    return rows


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


def _prefix_states(model: Any, prefix: list[int]) -> SharedPrefix:
    """Keys and values of the prefix in every layer."""
    cache = DynamicCache()
    model(
        input_ids=torch.tensor([prefix], device=model.device),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    return [(layer.keys, layer.values) for layer in cache.layers]
