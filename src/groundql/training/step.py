"""How one batch becomes a loss: the fused step where the model is known, transformers' own layers elsewhere."""

import ctypes
import gc
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch

from groundql.config import Config
from groundql.errors import TrainingStopped
from groundql.models.fused_memory import FFN_TOKENS, Keeps, is_fused, smaller_choices
from groundql.training.fused.graph import clear_workspaces
from groundql.training.fused.model import FusedModel, can_fuse, install, wants_spans
from groundql.training.packs import IGNORE, Pack

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h


def install_step(model: Any, config: Config, keeps: Keeps | None, *, graph: bool) -> Keeps | None:
    """Give `model` its way from a batch to the summed loss. Without a plan, layers keep all or nothing.

    `graph`: as one CUDA graph, where the kernels for that run. Returns what layers keep; None: transformers' own layers.
    """
    if not is_fused(config) or not can_fuse(model, dropout=config.lora.dropout):
        install(model, None)
        return None
    n_layers = model.get_base_model().config.num_hidden_layers
    chosen = keeps or Keeps(0, 0 if config.training.checkpointing is True else n_layers, FFN_TOKENS)
    fused = FusedModel(
        model, n_kept=chosen.all, n_kept_attention=chosen.attention, ffn_tokens=chosen.ffn_tokens
    )
    install(model, fused)
    allowed = graph and config.training.cuda_graph is not False and not config.training.shard_base
    if allowed and wants_spans(model, model.device):
        fused.use_graph()
    return chosen


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

    Nothing is changed: gradients are dropped, and no random number is drawn. Raises what torch raises where memory runs out.
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
    finally:
        model.train(was_training)
        for parameter in model.parameters():
            parameter.grad = None
    peak_mib: float = torch.cuda.max_memory_reserved() / 2**20
    del loss, inputs
    torch.cuda.empty_cache()
    return peak_mib


def probe_until_it_fits(
    model: Any,
    config: Config,
    batch: dict[str, Any],
    keeps: Keeps | None,
    say: Callable[[str], None],
    probe: Callable[[Any, dict[str, Any]], float | None] = probe_peak_mib,
) -> float | None:
    """The `probe` of `batch`; where the memory runs out, with less kept in `model`, of which one sentence is said.

    Raises:
        TrainingStopped: the least does not fit either.
    """
    peak_mib, fits = _probe(probe, model, batch)
    if fits:
        return peak_mib
    if keeps is not None:
        n_layers = model.get_base_model().config.num_hidden_layers
        graph = model.label_loss_through.graphed is not None
        for fewer, as_graph in smaller_choices(config, n_layers, keeps, graph):
            _let_go(model)
            install_step(model, config, fewer, graph=as_graph)
            peak_mib, fits = _probe(probe, model, batch)
            if fits:
                say(
                    f"the card's memory ran out as planned: of {n_layers} layers, {fewer.all} keep all and {fewer.attention} "
                    f"attention, not {keeps.all} and {keeps.attention}"
                    + (", without a CUDA graph" if graph and not as_graph else "")
                )
                return peak_mib
    raise TrainingStopped(
        "the largest pack does not fit the memory that training may use; lower training.pack_tokens"
    )


def _probe(probe: Callable[[Any, Any], float | None], model: Any, batch: Any) -> tuple[float | None, bool]:
    """What the probe says, and whether the memory sufficed."""
    try:
        return probe(model, batch), True
    except RuntimeError as error:  # a capture that ran out of memory may end with an error of its own on top
        if not any(isinstance(one, torch.OutOfMemoryError) for one in (error, error.__context__)):
            raise
    return None, False


def _let_go(model: Any) -> None:
    """Free the fused layers with their graph, half made or whole."""
    model.label_loss_through = None
    gc.collect()  # a graph and its model refer to each other
    if model.device.type == "cuda":
        clear_workspaces()


def release_graph(model: Any) -> None:
    """Give back the memory of the graph, for evaluation: the next training step captures it anew."""
    fused = model.label_loss_through
    if fused is not None and fused.graphed is not None and fused.graphed.graph is not None:
        fused.graphed.release()
        clear_workspaces()


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
