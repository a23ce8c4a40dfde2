"""The shape of a base model: its catalog row, or one read from a folder's config.json. No torch."""

import json
from pathlib import Path
from typing import Any

from groundql.errors import ModelMissing
from groundql.models.catalog import CATALOG, BaseModelRow
from groundql.models.source import ModelSource
from groundql.records import read_text

KNOWN = ("qwen2", "llama", "starcoder2")  # `model_type` of config.json


def read_shape(source: ModelSource) -> BaseModelRow:
    """The row of a model: of the catalog, else from the config.json of its folder.

    Raises:
        ModelMissing: there is no config.json to read, or it is of an architecture whose memory is not known.
    """
    if source.row:
        return source.row
    if source.folder:
        return _row_of(source.name, source.folder / "config.json")
    what = "a .gguf file" if source.gguf_path else "a hub id that is not in the catalog"
    raise ModelMissing(
        f"{source.name} is {what}: the plan needs the model's shape; give a folder with its config.json, or one of "
        f"{', '.join(CATALOG)}"
    )


def _row_of(name: str, path: Path) -> BaseModelRow:
    try:
        shape: Any = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise ModelMissing(f"{path} is not JSON: {error}") from None
    if not isinstance(shape, dict):
        raise ModelMissing(f"{path} is no JSON object")
    architecture = shape.get("model_type")
    if architecture not in KNOWN:
        raise ModelMissing(f"{path} is of type {architecture!r}; the plan knows {', '.join(KNOWN)}")
    try:
        hidden, n_heads = int(shape["hidden_size"]), int(shape["num_attention_heads"])
        return BaseModelRow(
            name=name,
            hub_id="",
            architecture=architecture,
            hidden=hidden,
            n_layers=int(shape["num_hidden_layers"]),
            n_heads=n_heads,
            n_kv_heads=int(shape.get("num_key_value_heads") or n_heads),
            head_dim=int(shape.get("head_dim") or hidden // n_heads),
            ffn=int(shape["intermediate_size"]),
            vocab=int(shape["vocab_size"]),
            tied=bool(shape.get("tie_word_embeddings", architecture == "starcoder2")),
            max_positions=int(shape["max_position_embeddings"]),
        )
    except KeyError as error:
        raise ModelMissing(f"{path} has no {error.args[0]}") from None
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise ModelMissing(f"{path} has a size that is no number: {error}") from None
