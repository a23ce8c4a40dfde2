"""The frozen base over several processes: each holds a part of every layer and borrows the rest while it computes it.

Only where the base does not fit one card: a pass then waits for the other processes in every layer. The adapter stays
whole in each process, so that gradients, optimizer and checkpoints are those of plain data parallelism.
"""

from typing import Any

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from groundql.errors import SettingError
from groundql.training import processes

INTEGERS_SINCE = (
    2,
    13,
)  # torch before it (2.11 was tried) makes every part a tensor that may want a gradient


def shard_base(model: Any, device: torch.device) -> Any:
    """`model` (from `add_lora`) with the frozen weights of its decoder layers in parts, by FSDP2; alone: as it is.

    Embeddings, norms at the end and head stay whole: the loss reads the head's weight itself. Of 4-bit weights the
    packed bytes are split; their scales, a sixteenth of that, stay whole in each process.

    Raises:
        SettingError: 4-bit weights, and a torch that splits no integers.
    """
    n = processes.n_processes()
    if n == 1:
        return model
    mesh = init_device_mesh(device.type, (n,))
    decoder = model.get_base_model().model
    in_layers = {parameter for layer in decoder.layers for parameter in layer.parameters()}
    if not splits_integers() and not all(parameter.is_floating_point() for parameter in in_layers):
        raise SettingError(
            f"training.shard_base with 4-bit weights needs torch 2.13, here is {torch.__version__}: update it, or set "
            "model.quantization = 'none'"
        )
    trainable = {parameter for parameter in model.parameters() if parameter.requires_grad}
    for layer in decoder.layers:
        fully_shard(layer, mesh=mesh, reshard_after_forward=True, ignored_params=trainable)
    whole = {parameter for parameter in decoder.parameters() if parameter not in in_layers}
    fully_shard(decoder, mesh=mesh, reshard_after_forward=True, ignored_params=trainable | whole)
    return model


def splits_integers() -> bool:
    """Whether this torch's FSDP2 takes parameters that are packed 4-bit weights."""
    return tuple(int(part) for part in torch.__version__.split(".")[:2]) >= INTEGERS_SINCE


def is_sharded(model: Any) -> bool:
    """Whether a forward pass of `model` needs all processes."""
    return any(isinstance(parameter, DTensor) for parameter in model.parameters())
