"""Models of the exact shape of a catalog row with random weights: true memory and speed without a download."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import bitsandbytes as bnb
import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, LlamaConfig, Qwen2Config, Starcoder2Config

from groundql.models.catalog import CATALOG, BaseModelRow

CONFIGS = {"qwen2": Qwen2Config, "llama": LlamaConfig, "starcoder2": Starcoder2Config}
# Stands in for a real shape on a machine without a GPU; ids are folded into its vocabulary.
TINY = replace(
    CATALOG["Qwen2.5-Coder-1.5B-Instruct"],
    name="tiny",
    hidden=64,
    n_layers=2,
    n_heads=4,
    n_kv_heads=2,
    head_dim=16,
    ffn=128,
    vocab=1000,
)


def row_of(name: str) -> BaseModelRow:
    """The catalog row of that name, or `tiny`."""
    return TINY if name == "tiny" else CATALOG[name]


def save_random_model(row: BaseModelRow, folder: Path, *, seed: int = 0) -> Path:
    """A folder with a config and weights drawn from `seed`, in bfloat16; kept where it is there already."""
    if (folder / "config.json").is_file():
        return folder
    torch.manual_seed(seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(_config(row), dtype=torch.bfloat16)
    model.save_pretrained(folder)
    del model
    if device == "cuda":
        torch.cuda.empty_cache()
    return folder


def load_base_model(folder: Path, quantization: str) -> Any:
    """The base model in `folder` by transformers' own loading: "nf4", "fp4" (double-quantised) or "none"."""
    dtype = torch.bfloat16
    options: dict[str, Any] = {"dtype": dtype, "device_map": {"": 0 if torch.cuda.is_available() else "cpu"}}
    if quantization != "none":
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=quantization,
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    return AutoModelForCausalLM.from_pretrained(folder, **options)


def random_base_model(row: BaseModelRow) -> Any:
    """The same shape in NF4 straight on the device, without a file: for many models in little time."""
    on_cuda = torch.cuda.is_available()
    device = torch.device("cuda", torch.cuda.current_device()) if on_cuda else torch.device("cpu")
    torch.manual_seed(0)
    with device:
        model = AutoModelForCausalLM.from_config(_config(row), dtype=torch.bfloat16)
    for name, module in list(model.named_modules()):
        if isinstance(module, torch.nn.Linear) and name != "lm_head":
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, _in_nf4(module))
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    model.is_loaded_in_4bit = True
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return model


def _in_nf4(module: torch.nn.Linear) -> Any:
    linear = bnb.nn.Linear4bit(
        module.in_features,
        module.out_features,
        bias=module.bias is not None,
        compute_dtype=torch.bfloat16,
        quant_type="nf4",
        device="meta",
    )
    weight = module.weight.data
    linear.weight = bnb.nn.Params4bit(weight, requires_grad=False, quant_type="nf4", module=linear).to(
        weight.device
    )
    linear.bias = module.bias
    return linear


def _config(row: BaseModelRow) -> Any:
    starcoder = {"residual_dropout": 0.0, "embedding_dropout": 0.0, "sliding_window": 4096}
    return CONFIGS[row.architecture](
        hidden_size=row.hidden,
        intermediate_size=row.ffn,
        num_hidden_layers=row.n_layers,
        num_attention_heads=row.n_heads,
        num_key_value_heads=row.n_kv_heads,
        head_dim=row.head_dim,
        vocab_size=row.vocab,
        tie_word_embeddings=row.tied,
        max_position_embeddings=row.max_positions,
        bos_token_id=0,
        eos_token_id=0,
        **(starcoder if row.architecture == "starcoder2" else {}),
    )
