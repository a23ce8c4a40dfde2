"""The fused step on a CUDA card: exact in fp32 with every kernel of ours in it, close in 16 bit."""

import gc

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from groundql.models.fused_memory import Keeps
from groundql.training.fused.model import FusedModel, install
from groundql.training.packs import IGNORE, collate_pack, make_packs
from groundql.training.step import install_step, probe_peak_mib, probe_until_it_fits, release_graph
from tests.models.test_memory import some_config
from tests.tiny import ARCHITECTURES, tiny_model
from tests.training.made import some_examples
from tests.training.test_fused import assert_same, by_transformers, loss_and_gradients, tuned

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]


def on_gpu(batch):
    return {name: value.to("cuda") for name, value in batch.items()}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("kept", [(0, 0), (1, 1)])
@pytest.mark.parametrize("window", [None, 8])
def test_a_pack_on_the_card_has_the_loss_and_gradients_of_separate_sequences(architecture, kept, window):
    if window and architecture != "starcoder2":
        pytest.skip("only StarCoder2 has a window")
    examples = some_examples(40)
    expected = by_transformers(tuned(tiny_model(architecture, window=window)), examples)
    model = tuned(tiny_model(architecture, window=window)).to("cuda")
    install(model, FusedModel(model, n_kept_attention=kept[0], n_kept=kept[1], ffn_tokens=17))
    packs = make_packs(examples, pack_tokens=250, group_size=4, seed=1)
    found = loss_and_gradients(model, [on_gpu(collate_pack([p], with_spans=True)) for p in packs])
    on_cpu = found[0], {name: g.cpu() for name, g in found[1].items()}
    assert_same(on_cpu, expected, 1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_sixteen_bits_are_as_near_to_fp32_as_transformers_own_are(architecture):
    examples = some_examples(40)
    exact = by_transformers(tuned(tiny_model(architecture)), examples)
    packs = make_packs(examples, pack_tokens=250, group_size=4, seed=1)

    def error_of(fused):
        model = tuned(tiny_model(architecture)).to("cuda", torch.bfloat16)
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.data = parameter.data.float()
        install(model, FusedModel(model, n_kept=0) if fused else None)
        batches = [on_gpu(collate_pack([p], with_spans=fused)) for p in packs]
        if not fused:
            model.set_attn_implementation("groundql_packs")
        with torch.autocast("cuda", dtype=torch.bfloat16):
            _, found = loss_and_gradients(model, batches)
        mine = torch.cat([found[name].float().cpu().flatten() for name in exact[1]])
        true = torch.cat([g.flatten() for g in exact[1].values()])
        return float((mine - true).norm() / true.norm())

    assert error_of(True) < 1.25 * error_of(False)


def test_a_graph_gives_every_batch_its_own_loss_and_gradients():
    examples = some_examples(40)
    expected = by_transformers(tuned(tiny_model("qwen2")), examples)
    model = tuned(tiny_model("qwen2")).to("cuda")
    fused = FusedModel(model, n_kept=1)
    install(model, fused)
    fused.use_graph()
    packs = make_packs(examples, pack_tokens=250, group_size=4, seed=1)
    batches = [on_gpu(collate_pack([p], with_spans=True, size=(256, 120))) for p in packs]
    assert len(batches) > 2
    found = loss_and_gradients(model, batches)
    assert fused.graphed.graph is not None
    assert_same((found[0], {name: g.cpu() for name, g in found[1].items()}), expected, 1e-5)


def cloned(found):
    """Apart from the graph's memory."""
    return found[0], {name: gradient.clone() for name, gradient in found[1].items()}


def middling_model():
    """Of a size that its tensors outweigh what the allocator rounds up: 12 layers, 16 bit, with adapters."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=600,
        hidden_size=256,
        intermediate_size=4096,
        num_hidden_layers=12,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=8192,
    )
    model = tuned(LlamaForCausalLM(config)).to("cuda", torch.bfloat16)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.float()
    return model


def test_a_graph_for_which_the_card_has_no_room_keeps_less_and_computes_the_same():
    model, config, everything = middling_model(), some_config(), Keeps(0, 12, 4096)
    (pack, *_) = make_packs(some_examples(400), pack_tokens=4096, group_size=8, seed=1)
    n_labels = sum(label != IGNORE for label in pack.labels)
    batch = on_gpu(collate_pack([pack], with_spans=True, size=(len(pack), n_labels + 1)))
    install_step(model, config, everything, graph=True)
    whole_mib = probe_peak_mib(model, batch)
    expected = cloned(loss_and_gradients(model, [batch]))
    release_graph(model)
    total_mib = torch.cuda.get_device_properties(0).total_memory / 2**20
    said = []
    try:
        torch.cuda.set_per_process_memory_fraction((whole_mib - 250) / total_mib)
        install_step(model, config, everything, graph=True)
        less_mib = probe_until_it_fits(model, config, batch, everything, said.append)
        found = loss_and_gradients(model, [batch])
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert less_mib <= whole_mib - 250
    assert len(said) == 1
    assert model.label_loss_through.graphed.graph is not None
    assert_same(found, expected, 1e-2)


def test_a_graph_gives_its_memory_back_and_is_captured_anew():
    model, config = middling_model(), some_config()
    (pack, *_) = make_packs(some_examples(400), pack_tokens=4096, group_size=8, seed=1)
    batch = on_gpu(
        collate_pack([pack], with_spans=True, size=(len(pack), 1 + sum(x != IGNORE for x in pack.labels)))
    )
    install_step(model, config, Keeps(0, 12, 4096), graph=True)
    expected = cloned(loss_and_gradients(model, [batch]))
    model.zero_grad()
    held = torch.cuda.memory_reserved()
    release_graph(model)
    assert torch.cuda.memory_reserved() < held - 500 * 2**20
    assert_same(loss_and_gradients(model, [batch]), expected, 1e-6)


def test_a_graph_that_is_dropped_leaves_no_memory_behind():
    """Whoever trains twice in one process has as much for the second training as for the first."""
    packs = make_packs(some_examples(40), pack_tokens=250, group_size=4, seed=1)
    batch = on_gpu(collate_pack([packs[0]], with_spans=True, size=(256, 120)))

    def reserved_after_a_training():
        model = tuned(tiny_model("qwen2")).to("cuda")
        fused = FusedModel(model, n_kept=1)
        install(model, fused)
        fused.use_graph()
        loss_and_gradients(model, [batch, batch])
        assert fused.graphed.graph is not None
        del model, fused
        gc.collect()
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        return torch.cuda.memory_reserved()

    first = reserved_after_a_training()
    assert max(reserved_after_a_training() for _ in range(3)) <= first
