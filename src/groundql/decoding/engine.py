"""Decoding in batches: each schema is computed once and shared by its questions and their samples. Needs torch.

Greedy and free, the result is that of transformers' own `generate`, token for token, in fp32 (tested). Grounded, each
row is held to a constraint (`grounded_row.py`); sampled, each row has a random stream of its own. No result depends on
what else is in the batch.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from groundql.config import GenerationSettings
from groundql.decoding.attention import decoding_attention
from groundql.decoding.batch import Batch, Pace
from groundql.decoding.closing import N_OFFERED
from groundql.decoding.crew import Crew, LocalCrew
from groundql.decoding.rows import Decoded, FreeRow, Written, seed_of
from groundql.decoding.schedule import Capacity, Row
from groundql.decoding.slots import Choosing
from groundql.models.chat import encode_part
from groundql.records import Prompt, Turns

CPU_KV_TOKENS = 65_536
CPU_BATCH_SIZE, GPU_BATCH_SIZE = 32, 256


def ends_of(tokenizer: Any, turns: Turns) -> frozenset[int]:
    """The tokens that end a text: the mark of the model's turn, and the tokenizer's own end-of-text token."""
    return frozenset({tokenizer.convert_tokens_to_ids(turns.end), tokenizer.eos_token_id})


def decode(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    turns: Turns,
    *,
    settings: GenerationSettings,
    crew: Crew | None = None,
    on_progress: Callable[[int], None] | None = None,
    pace: Pace | None = None,
    capacity: Capacity | None = None,
) -> list[tuple[Decoded, ...]]:
    """What `model` writes after each prompt, `settings.samples` texts each, in the order of `prompts`.

    Args:
        model: a causal language model in evaluation mode.
        tokenizer: its tokenizer.
        prompts: in any order.
        turns: marks around prompts, and the end of a text.
        settings: limits, samples, temperature.
        crew: what chooses for the rows, by place: sample s of prompt p is row p * samples + s. None: free rows.
        on_progress: told how many prompts are done whenever some are.
        pace: how the loop is run; None: as suits the device.
        capacity: None: as suits settings and device.
    """
    if not prompts:
        return []
    ends = ends_of(tokenizer, turns)
    rows = _rows(tokenizer, prompts, turns, settings)
    written: list[Written | None] = [None] * len(rows)
    left = [settings.samples] * len(prompts)
    n_done = 0

    def keep(row: Row, one: Written) -> None:
        nonlocal n_done
        written[row.place] = one
        left[row.place // settings.samples] -= 1
        if not left[row.place // settings.samples]:
            n_done += 1
            if on_progress:
                on_progress(n_done)

    choosing = Choosing(N_OFFERED if crew else 1, settings.temperature)
    with torch.inference_mode(), decoding_attention(model):
        Batch(
            model,
            rows,
            crew or LocalCrew(lambda _: FreeRow(ends, settings.max_new_tokens)),
            choosing=choosing,
            capacity=capacity or capacity_of(model, settings),
            pace=pace or Pace.on(model.device),
            on_written=keep,
        ).run()
    decoded = [
        Decoded(**vars(one), n_prompt_tokens=len(row.prefix) + len(row.suffix))
        for row, one in zip(rows, written, strict=True)
        if one is not None
    ]
    n = settings.samples
    return [tuple(decoded[start : start + n]) for start in range(0, len(decoded), n)]


def capacity_of(model: Any, settings: GenerationSettings) -> Capacity:
    """Rows and cache as `settings` says; else what is usual on a CPU, or what a GPU's free memory holds."""
    if model.device.type != "cuda":
        return Capacity(settings.batch_size or CPU_BATCH_SIZE, settings.kv_tokens or CPU_KV_TOKENS)
    tokens = settings.kv_tokens or int(0.4 * _free_bytes(model.device) / _bytes_a_token(model))
    return gpu_capacity(settings.batch_size or GPU_BATCH_SIZE, tokens)


def gpu_capacity(n_slots: int, kv_tokens: int) -> Capacity:
    """Small groups are full more often; large ones read a schema's keys for more rows at once."""
    return Capacity(n_slots, kv_tokens, rows_a_group=min(8, max(1, n_slots // 16)), multiple=64)


def _free_bytes(device: torch.device) -> int:
    """Bytes of GPU memory that this process may still take: what is free, or what a cap leaves."""
    free, total = torch.cuda.mem_get_info(device)
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    share = getattr(torch.cuda, "get_per_process_memory_fraction", lambda _: 1.0)(device)
    return int(min(free + unused, share * total - torch.cuda.memory_allocated(device)))


def _bytes_a_token(model: Any) -> int:
    """Bytes of keys and values of one token in all layers."""
    config = model.config
    depth = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    n_kv = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    return int(config.num_hidden_layers * 2 * n_kv * depth * model.dtype.itemsize)


def _rows(tokenizer: Any, prompts: Sequence[Prompt], turns: Turns, settings: GenerationSettings) -> list[Row]:
    """A row for each sample of each prompt; equal texts are tokenised once."""
    encoded: dict[str, tuple[int, ...]] = {}

    def ids_of(text: str) -> tuple[int, ...]:
        if text not in encoded:
            encoded[text] = tuple(encode_part(tokenizer, text, turns))
        return encoded[text]

    rows: list[Row] = []
    for prompt in prompts:
        prefix, suffix = ids_of(prompt.prefix), ids_of(prompt.suffix)
        if not suffix:  # the step reads at least one token
            prefix, suffix = prefix[:-1], prefix[-1:]
        for sample in range(settings.samples):
            seed = seed_of(prompt.question_id, sample, settings.seed)
            rows.append(Row(prefix, suffix, settings.max_new_tokens, seed, len(rows)))
    return rows
