"""The plan against the peak that torch reports for our own trainer, on random weights in each catalog shape."""

import gc
import random
from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM

from groundql.config import Config, DataSettings, LoraSettings, ModelSettings, TrainingSettings
from groundql.models.catalog import CATALOG
from groundql.models.memory import plan_of
from groundql.models.workload import QuestionLengths
from groundql.training.examples import Example
from groundql.training.trainer import add_lora, train_adapter
from tests.models.test_catalog import config_of

SEGMENTS_MIB = 64  # a few of the allocator's segments: of a small model that is more than a tenth
RECIPES = {
    "packs that keep nothing": {"pack_tokens": 4096, "checkpointing": True, "cuda_graph": False},
    "large packs that keep nothing": {"pack_tokens": 8192, "checkpointing": True, "cuda_graph": False},
    "packs that keep all": {"pack_tokens": 2048, "checkpointing": False, "cuda_graph": False},
    "packs as one graph": {"pack_tokens": 2048, "checkpointing": True, "cuda_graph": True},
    "packs that keep what fits 12 GiB": {"pack_tokens": 4096},
    "padded pairs with checkpointing": {"packing": "none", "batch_size": 2, "checkpointing": True},
}


@pytest.mark.gpu
@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("name", CATALOG)
def test_the_measured_peak_is_within_10_percent_of_the_plan(name, recipe, tmp_path):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    config = Config(
        model=ModelSettings(name=name),
        lora=LoraSettings(rank=32),
        data=DataSettings(train="pocket"),
        training=TrainingSettings(epochs=1, select_by="last", optimizer="adamw_8bit", **RECIPES[recipe]),
        memory_gib=12 if "12 GiB" in recipe else None,
    )
    examples = some_examples(96)
    plan = plan_of(config, CATALOG[name], lengths_of(examples))
    device = torch.device("cuda", 0)
    measured_mib = train_peak_mib(CATALOG[name], config, examples, tmp_path, device, plan)
    print(f"{name}, {recipe}: planned {plan.peak_mib:,.0f} MiB, measured {measured_mib:,.0f}")
    off_mib = abs(plan.peak_mib - measured_mib)
    assert off_mib < max(0.10 * measured_mib, SEGMENTS_MIB)


def test_the_measurement_itself_runs_where_there_is_no_gpu(tmp_path):
    row = replace(
        CATALOG["SmolLM2-135M-Instruct"],
        n_layers=1,
        hidden=64,
        n_heads=2,
        n_kv_heads=1,
        head_dim=32,
        ffn=64,
        vocab=600,
    )
    config = Config(
        model=ModelSettings(name="tiny", compute_dtype="float32"),
        data=DataSettings(train="pocket"),
        training=TrainingSettings(epochs=1, select_by="last", pack_tokens=4096),
    )
    examples = some_examples(2)
    plan = plan_of(config, row, lengths_of(examples))
    peak_mib = train_peak_mib(row, config, examples, tmp_path, torch.device("cpu"), plan)
    assert (peak_mib is None) == (not torch.cuda.is_available())


def some_examples(n):
    """Four databases of 655 tokens, questions and SQL about as long as BIRD's."""
    chance = random.Random(0)

    def ids(low, high):
        return tuple(chance.randrange(3, 500) for _ in range(chance.randint(low, high)))

    prefixes = [ids(655, 655) for _ in range(4)]
    return [
        Example(
            question_id=str(i),
            db_id=str(i % 4),
            prefix=prefixes[i % 4],
            suffix=ids(30, 70),
            answer=ids(20, 90),
        )
        for i in range(n)
    ]


def lengths_of(examples):
    return [QuestionLengths(e.prefix, len(e.prefix), len(e.suffix), len(e.answer)) for e in examples]


def train_peak_mib(row, config, examples, run_dir, device, plan):
    """`max_memory_reserved` of a training by our trainer with what the plan chose; None without CUDA."""
    gc.collect()  # a model refers to itself: the one of the test before is still there
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    with device:
        model = AutoModelForCausalLM.from_config(config_of(row), dtype=dtype)
    quantize(model, dtype, device)
    model = add_lora(model, config.lora, seed=1)
    if device.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()  # what loading has left behind is none of the training's
    result = train_adapter(
        model,
        examples,
        [],
        config=config,
        run_dir=run_dir,
        pad_id=0,
        keeps=plan.keeps,
        graph=plan.graph,
    )
    return result.peak_mib


def quantize(model, dtype, device):
    """Put NF4 linears in place of the decoder's."""
    import bitsandbytes as bnb

    for name, module in list(model.named_modules()):
        if not isinstance(module, torch.nn.Linear) or name == "lm_head":
            continue
        linear = bnb.nn.Linear4bit(
            module.in_features,
            module.out_features,
            bias=module.bias is not None,
            compute_dtype=dtype,
            quant_type="nf4",
            device="meta",
        )
        linear.weight = bnb.nn.Params4bit(
            module.weight.data.cpu(), requires_grad=False, quant_type="nf4", module=linear
        ).to(device)
        if module.bias is not None:
            linear.bias = torch.nn.Parameter(module.bias.data, requires_grad=False)
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, linear)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    model.is_loaded_in_4bit = True
