"""The plan's count of activations against what autograd really saves in our own training path, on CPU.

Where attention, peft or transformers come to save other tensors, these tests fail: then `models.layer_memory` is to follow.
"""

import random

import pytest
import torch
from transformers import AutoModelForCausalLM

from groundql.config import Config, DataSettings, LoraSettings, ModelSettings, TrainingSettings
from groundql.models.layer_memory import OURS, Stack, layer_bytes
from groundql.models.load import load_base
from groundql.models.shape import read_shape
from groundql.models.source import ModelSource
from groundql.models.workload import QuestionLengths, make_passes
from groundql.training import attention
from groundql.training.examples import Example
from groundql.training.packs import collate_examples, collate_pack, collate_packs, layout_of, make_packs
from groundql.training.trainer import add_lora
from tests.mostly_slow import first_fast
from tests.tiny import ARCHITECTURES, tiny_model

ON_CPU = Stack(dropout_mask_bytes=2, widens_layer_norm=False)


def some_examples(n, n_databases, seed=0):
    chance = random.Random(seed)

    def ids(low, high):
        return tuple(chance.randrange(3, 500) for _ in range(chance.randint(low, high)))

    prefixes = [ids(40, 90) for _ in range(n_databases)]
    return [
        Example(
            question_id=str(i),
            db_id=str(i % n_databases),
            prefix=prefixes[i % n_databases],
            suffix=ids(4, 12),
            answer=ids(4, 20),
        )
        for i in range(n)
    ]


def lengths_of(examples):
    return [QuestionLengths(e.prefix, len(e.prefix), len(e.suffix), len(e.answer)) for e in examples]


@pytest.mark.parametrize("seed", range(5))
def test_the_plan_fills_the_very_packs_of_the_training(seed):
    examples = some_examples(120, 7, seed)
    settings = TrainingSettings(pack_tokens=300, group_size=5, seed=seed, select_by="last")
    packs = make_packs(examples, pack_tokens=300, group_size=5, seed=seed)
    planned = make_passes(lengths_of(examples), settings)
    counted = sorted((p.n_tokens, p.n_logit_rows, p.n_prefix, p.n_own, p.n_prefix_scores) for p in planned)
    assert counted == sorted(_sizes(pack) for pack in packs)


def _sizes(pack):
    """Of a real pack: tokens, logit rows, prefix tokens, padded question tokens, their scores on prefixes."""
    layout = layout_of(pack.groups, pack.questions)
    blocks = [(group.n_prefix, block.index.numel()) for group in layout.groups for block in group.blocks]
    return (
        len(pack),
        len(collate_pack([pack])["logits_to_keep"]),
        sum(group.n_prefix for group in layout.groups),
        sum(n for _, n in blocks),
        sum(n_prefix * n for n_prefix, n in blocks),
    )


@pytest.mark.parametrize("quantization", first_fast(["nf4", "none"]))
@pytest.mark.parametrize("layout", first_fast(["packed", "masked", "alone", "padded"], 2))
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_layer_saves_what_the_plan_counts(architecture, layout, quantization, tmp_path):
    config = some_config(layout, quantization)
    assert_counted(architecture, layout, config, tmp_path, ON_CPU)


@pytest.mark.parametrize("targets", ["all-linear", ("q_proj", "v_proj"), ("o_proj", "up_proj")])
@pytest.mark.parametrize("dropout", [0.0, 0.05])
def test_a_layer_saves_what_the_plan_counts_whatever_the_adapter(targets, dropout, tmp_path):
    config = some_config("packed", "nf4", LoraSettings(rank=8, targets=targets, dropout=dropout))
    assert_counted("llama", "packed", config, tmp_path, ON_CPU)


@pytest.mark.parametrize("quantization", ["none", "nf4"])
@pytest.mark.parametrize("layout", ["packed", "alone"])
def test_a_layer_norm_in_fp32_costs_what_the_plan_counts(layout, quantization, tmp_path, monkeypatch):
    """CUDA's autocast runs layer_norm in fp32, CPU's does not: here it is made to."""
    narrow = torch.nn.functional.layer_norm

    def widened(x, shape, weight, bias, eps):
        return narrow(x.float(), shape, weight.float(), bias.float(), eps)

    monkeypatch.setattr(torch.nn.functional, "layer_norm", widened)
    assert_counted("starcoder2", layout, some_config(layout, quantization), tmp_path, OURS, rel=0.03)


def some_config(layout, quantization, lora=None):
    return Config(
        model=ModelSettings(name="tiny", quantization=quantization, compute_dtype="bfloat16"),
        lora=lora or LoraSettings(rank=8),
        data=DataSettings(train="pocket"),
        training=TrainingSettings(
            packing="shared" if layout in ("packed", "masked") else "none",
            pack_tokens=400,
            batch_size={"packed": 1, "alone": 1, "padded": 3, "masked": 2}[layout],
            select_by="last",
        ),
    )


def assert_counted(architecture, layout, config, tmp_path, stack, rel=0.01):
    """The saved bytes of one decoder layer, from models with 2 and 3 of them, against the plan's."""
    examples = some_examples(
        *{"packed": (12, 2), "masked": (24, 4), "alone": (1, 1), "padded": (3, 3)}[layout]
    )
    saved = [saved_bytes(architecture, n, layout, config, examples, tmp_path / str(n)) for n in (2, 3)]
    row = read_shape(ModelSource(name="tiny", folder=tmp_path / "3"))
    (one,) = make_passes(lengths_of(examples), config.training)
    a_shared_mask = one.n_mask_cells / row.n_layers  # the boolean one: of all layers together
    copies = 2 * row.n_lora_weights(config.lora.rank, config.lora.targets) / row.n_layers
    counted = layer_bytes(config, row, one, stack=stack) - a_shared_mask + copies
    assert counted == pytest.approx(saved[1] - saved[0], rel=rel)


def saved_bytes(architecture, n_layers, layout, config, examples, folder):
    """Bytes of all storages that one forward pass keeps for backward, less parameters and buffers."""
    tiny = tiny_model(architecture).config
    shape = type(tiny)(**tiny.to_dict() | {"num_hidden_layers": n_layers, "layer_types": None})
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(shape).save_pretrained(folder)
    model = load_base(ModelSource(name="tiny", folder=folder), config.model, device=torch.device("cpu"))
    model = add_lora(model, config.lora, seed=1).train()
    batch = as_batch(model, layout, config, examples)
    batch.pop("labels")
    fixed = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    kept = {}

    def note(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in fixed:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16),
    ):
        outputs = model(**batch)
    assert outputs.logits.requires_grad  # and the graph is alive until here
    return sum(kept.values())


def as_batch(model, layout, config, examples):
    if layout in ("alone", "padded"):
        return collate_examples(examples, pad_id=0)
    packs = make_packs(
        examples,
        pack_tokens=config.training.pack_tokens,
        group_size=config.training.group_size,
        seed=config.training.seed,
    )
    if layout == "masked":
        return collate_packs(packs, pad_id=0)
    model.set_attn_implementation(attention.NAME)
    return collate_pack(packs)
