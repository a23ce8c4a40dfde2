"""An adapter and its 4-bit base as plain 16-bit linears, for use. Needs torch."""

import copy
from typing import Any

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
