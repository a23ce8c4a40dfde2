"""How one batch becomes a loss: the fused step where the model is known, transformers' own layers elsewhere."""

import ctypes
import sys
from collections.abc import Sequence
from typing import Any

import torch

from groundql.config import Config
from groundql.errors import TrainingStopped
from groundql.models.fused_memory import FFN_TOKENS, Keeps, is_fused
from groundql.training.fused.model import FusedModel, can_fuse, install, wants_spans
from groundql.training.packs import IGNORE, Pack

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h


def install_step(model: Any, config: Config, keeps: Keeps | None, *, graph: bool) -> None:
    """Give `model` its way from a batch to the summed loss. Without a plan, layers keep all or nothing.

    `graph`: as one CUDA graph, where the kernels for that run.
    """
    if not is_fused(config) or not can_fuse(model, dropout=config.lora.dropout):
        install(model, None)
        return
    n_layers = model.get_base_model().config.num_hidden_layers
    chosen = keeps or Keeps(0, 0 if config.training.checkpointing is True else n_layers, FFN_TOKENS)
    fused = FusedModel(
        model, n_kept=chosen.all, n_kept_attention=chosen.attention, ffn_tokens=chosen.ffn_tokens
    )
    install(model, fused)
    allowed = graph and config.training.cuda_graph is not False and not config.training.shard_base
    if allowed and wants_spans(model, model.device):
        fused.use_graph()


def fixed_size(model: Any, packs: Sequence[Pack]) -> tuple[int, int] | None:
    """Tokens and label positions that every batch is filled up to, so that one graph takes all; None without a graph."""
    if model.label_loss_through is None or model.label_loss_through.graphed is None or not packs:
        return None
    n_labels = max(sum(label != IGNORE for label in pack.labels) for pack in packs)
    return max(map(len, packs)), n_labels + 1


def uses_spans(model: Any) -> bool:
    """Whether batches are for the attention kernels."""
    return model.label_loss_through is not None and wants_spans(model, model.device)


def probe_peak_mib(model: Any, batch: dict[str, Any]) -> float | None:
    """MiB that the allocator holds at most in one forward and backward of `batch`; None on a CPU.

    Nothing is changed: gradients are dropped, and no random number is drawn.

    Raises:
        TrainingStopped: it does not fit.
    """
    if model.device.type != "cuda":
        return None
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    inputs = {name: value.to(model.device) for name, value in batch.items() if name != "labels"}
    was_training = model.training
    model.train()
    try:
        with torch.autocast("cuda", dtype=model.dtype, enabled=model.dtype != torch.float32):
            loss = model(**inputs)["loss_sum"]
        loss.backward()
    except torch.OutOfMemoryError:
        raise TrainingStopped(
            "the largest pack does not fit the memory that training may use; lower training.pack_tokens"
        ) from None
    finally:
        model.train(was_training)
        for parameter in model.parameters():
            parameter.grad = None
    peak_mib: float = torch.cuda.max_memory_reserved() / 2**20
    del loss, inputs
    torch.cuda.empty_cache()
    return peak_mib


def cap_memory(card_mib: float, context_mib: float) -> None:
    """Keep this process to a card of that size, though the real one be larger: what does not fit fails here too."""
    if torch.cuda.is_available():
        total_mib = torch.cuda.get_device_properties(0).total_memory / 2**20
        torch.cuda.set_per_process_memory_fraction(min(1.0, (card_mib - context_mib) / total_mib))


def hold_freed_memory() -> None:
    """Let glibc keep what a step's tensors free for the next one, in this process; elsewhere nothing happens.

    Else every step on a CPU asks the kernel for gigabytes of fresh pages, a twentieth to a tenth of its time.
    """
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_MMAP_THRESHOLD, 2**25)  # the most that glibc takes
