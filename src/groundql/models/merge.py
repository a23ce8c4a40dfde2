"""An adapter and its 4-bit base as plain 16-bit linears, for use. Needs torch."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import bitsandbytes as bnb
import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer


def merge_dense(model: Any) -> Any:
    """`model` with 4-bit weights and adapter as plain 16-bit linears, for use: the NF4 values, plus LoRA's product.

    The sum is taken in fp32 and rounded once. `model` itself is left as it was; modules without weights of their own
    are shared with it.
    """
    dense = copy.deepcopy(model)
    if isinstance(dense, PeftModel):
        for name, module in list(dense.named_modules()):
            if isinstance(module, LoraLayer):
                _replace(dense, name, _merged_linear(module))
        dense = dense.get_base_model()
    for name, module in list(dense.named_modules()):
        if isinstance(module, bnb.nn.Linear4bit):
            _replace(dense, name, _plain_linear(module))
    return dense.eval()


class Weight(NamedTuple):
    """One weight of a merged model: named as transformers saves it, its numbers made when they are asked for."""

    name: str
    shape: tuple[int, ...]
    values: Callable[[], torch.Tensor]  # fp32


def merged_weights(model: Any) -> list[Weight]:
    """Every weight of `model` with 4-bit values unpacked and LoRA's product added, the sum taken in fp32.

    One after the other can be made and dropped, so that a large model is never held in fp32 as a whole. An output head
    that is the embedding is left out, as in a saved model.
    """
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    head = base.get_output_embeddings()
    is_tied = head.weight is base.get_input_embeddings().weight
    found: list[Weight] = []
    tuned: list[str] = []
    for name, module in base.named_modules():
        if name.startswith(tuple(f"{one}." for one in tuned)):
            continue
        is_tuned = isinstance(module, LoraLayer)
        if is_tuned:
            tuned.append(name)
        plain = module.get_base_layer() if is_tuned else module
        for last, parameter in plain.named_parameters(recurse=False):
            if is_tied and module is head and last == "weight":
                continue
            state = getattr(parameter, "quant_state", None)
            merge = (
                partial(_merged_weight, module)
                if is_tuned and last == "weight"
                else partial(_values, parameter)
            )
            found.append(Weight(f"{name}.{last}", tuple(state.shape if state else parameter.shape), merge))
    return found


def _merged_weight(layer: Any) -> torch.Tensor:
    """The weight of a linear with its adapter, in fp32."""
    weight = _values(layer.get_base_layer().weight)
    for adapter in layer.active_adapters:
        weight = weight + layer.get_delta_weight(adapter).float()
    return weight


def _values(parameter: torch.nn.Parameter) -> torch.Tensor:
    """A weight in fp32: one in 4 bit is unpacked, as in each of its forward passes."""
    state = getattr(parameter, "quant_state", None)
    values = bnb.functional.dequantize_4bit(parameter.data, state) if state is not None else parameter.data
    return values.float()


def _merged_linear(layer: Any) -> torch.nn.Linear:
    linear = _plain_linear(layer.get_base_layer())
    weight = linear.weight.data.float()
    for adapter in layer.active_adapters:
        weight += layer.get_delta_weight(adapter).float()
    linear.weight.data = weight.to(linear.weight.dtype)
    return linear


def _plain_linear(layer: torch.nn.Linear) -> torch.nn.Linear:
    """A linear of the same values with dense weights."""
    weight = layer.weight.data
    if isinstance(layer, bnb.nn.Linear4bit):
        weight = bnb.functional.dequantize_4bit(weight, layer.weight.quant_state).to(layer.compute_dtype)
    plain = torch.nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
    plain.weight = torch.nn.Parameter(weight, requires_grad=False)
    if layer.bias is not None:
        plain.bias = torch.nn.Parameter(layer.bias.data, requires_grad=False)
    return plain


def _replace(model: torch.nn.Module, name: str, module: torch.nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)
