"""The fused step against transformers' own modules: same loss, same gradients of every adapter weight."""

import pytest
import torch
from transformers import BitsAndBytesConfig

from groundql.config import LoraSettings
from groundql.training import attention
from groundql.training.fused.model import FusedModel, can_fuse, install
from groundql.training.packs import (
    IGNORE,
    collate_examples,
    collate_pack,
    collate_packs,
    label_loss,
    make_packs,
)
from groundql.training.trainer import add_lora
from tests.tiny import ARCHITECTURES, save_tiny, tiny_model
from tests.training.made import some_examples

ALL = LoraSettings(rank=4, alpha=8)


def tuned(model, settings=ALL, seed=0):
    """`model` with adapters whose B is not zero: a fresh adapter would leave the gradient of A empty."""
    model = add_lora(model, settings, seed=seed)
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.05)
    return model


def loss_and_gradients(model, batches):
    """Mean label loss over all label tokens, and the gradient of every adapter weight by name."""
    model.zero_grad()
    n = sum(int((b["labels"] != IGNORE).sum()) for b in batches)
    total = 0.0
    for batch in batches:
        batch = dict(batch)
        labels = batch.pop("labels")
        loss = label_loss(model(**batch), labels, n)
        loss.backward()
        total += float(loss.detach())
    return total, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def by_transformers(model, examples):
    """The reference: every question a sequence of its own, whole logits, cross entropy by torch."""
    model.zero_grad()
    n = sum(len(e.answer) for e in examples)
    total = 0.0
    for e in examples:
        ids = torch.tensor([e.prefix + e.suffix + e.answer])
        logits = model(input_ids=ids).logits[0, -len(e.answer) - 1 : -1].float()
        loss = torch.nn.functional.cross_entropy(logits, ids[0, -len(e.answer) :], reduction="sum") / n
        loss.backward()
        total += float(loss.detach())
    return total, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same(found, expected, tolerance=1e-5):
    assert found[0] == pytest.approx(expected[0], rel=tolerance)
    assert found[1].keys() == expected[1].keys()
    for name, gradient in expected[1].items():
        assert float((found[1][name] - gradient).norm()) <= tolerance * float(gradient.norm()), name


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("kept", [(0, 0), (1, 0), (1, 1), (0, 2)])
def test_a_fused_pack_has_the_loss_and_gradients_of_separate_sequences(architecture, kept):
    examples = some_examples()
    expected = by_transformers(tuned(tiny_model(architecture)), examples)
    model = tuned(tiny_model(architecture))
    install(model, FusedModel(model, n_kept_attention=kept[0], n_kept=kept[1], ffn_tokens=17))
    packs = make_packs(examples, pack_tokens=200, group_size=2, seed=1)
    assert len(packs) > 1
    assert_same(loss_and_gradients(model, [collate_pack([pack]) for pack in packs]), expected)


@pytest.mark.parametrize("quantization", ["nf4", "fp4"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_it_has_them_over_a_4_bit_base_too(architecture, quantization, tmp_path):
    from transformers import AutoModelForCausalLM

    folder = save_tiny(tmp_path, architecture)
    bits = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=quantization,
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    )
    load = lambda: tuned(AutoModelForCausalLM.from_pretrained(folder, quantization_config=bits).eval())  # noqa: E731
    examples = some_examples()
    expected = by_transformers(load(), examples)
    model = load()
    install(model, FusedModel(model, n_kept=0))
    packs = make_packs(examples, pack_tokens=300, group_size=3, seed=1)
    assert_same(loss_and_gradients(model, [collate_pack([pack]) for pack in packs]), expected)


def test_linears_without_an_adapter_are_passed_through():
    settings = LoraSettings(rank=4, alpha=8, targets=("q_proj", "v_proj"), rslora=True)
    examples = some_examples()
    expected = by_transformers(tuned(tiny_model("qwen2"), settings), examples)
    model = tuned(tiny_model("qwen2"), settings)
    install(model, FusedModel(model, n_kept=1))
    packs = make_packs(examples, pack_tokens=300, group_size=3, seed=1)
    found = loss_and_gradients(model, [collate_pack([pack]) for pack in packs])
    assert_same(found, expected)
    assert all("q_proj" in name or "v_proj" in name for name in found[1])


def test_a_sliding_window_goes_through_a_mask():
    examples = some_examples()
    expected = by_transformers(tuned(tiny_model("starcoder2", window=8)), examples)
    model = tuned(tiny_model("starcoder2", window=8))
    install(model, FusedModel(model, n_kept=0))
    packs = make_packs(examples, pack_tokens=200, group_size=3, seed=1)
    batches = [collate_packs([pack], pad_id=0, window=8) for pack in packs]
    assert_same(loss_and_gradients(model, batches), expected)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_model_that_is_not_fused_gets_its_loss_rows_by_rows_with_the_same_gradients(architecture):
    examples = some_examples()
    expected = by_transformers(tuned(tiny_model(architecture)), examples)
    model = tuned(tiny_model(architecture))
    install(model, None)
    assert_same(loss_and_gradients(model, [collate_examples(examples, pad_id=0)]), expected)
    model.set_attn_implementation(attention.NAME)
    packs = make_packs(examples, pack_tokens=200, group_size=2, seed=1)
    assert_same(loss_and_gradients(model, [collate_pack([pack]) for pack in packs]), expected)


def test_the_loss_is_the_same_in_pieces_of_any_size(monkeypatch):
    from groundql.training.fused import head

    torch.manual_seed(0)
    weight, labels = torch.randn(50, 8), torch.randint(0, 50, (7,))
    rows = torch.randn(7, 8, requires_grad=True)
    expected = torch.nn.functional.cross_entropy(rows @ weight.t(), labels, reduction="sum")
    (gradient,) = torch.autograd.grad(expected, rows)
    for numbers in (50, 3 * 50, 10_000):
        monkeypatch.setattr(head, "LOGITS_AT_ONCE", numbers)
        loss = head.summed_loss(rows, weight, labels)
        torch.testing.assert_close(loss, expected)
        torch.testing.assert_close(torch.autograd.grad(loss, rows)[0], gradient)


def test_dropout_and_unknown_models_are_not_fused():
    assert can_fuse(tuned(tiny_model("qwen2")), dropout=0.0)
    assert not can_fuse(tuned(tiny_model("qwen2")), dropout=0.05)
    model = tuned(tiny_model("llama"))
    model.get_base_model().config.model_type = "mamba"
    assert not can_fuse(model, dropout=0.0)


def test_without_targets_the_model_answers_as_before():
    model = tuned(tiny_model("qwen2"))
    ids = torch.arange(3, 12)[None]
    before = model(input_ids=ids).logits
    install(model, FusedModel(model, n_kept=0))
    torch.testing.assert_close(model(input_ids=ids).logits, before, rtol=0, atol=0)


def test_a_batch_filled_up_to_one_size_has_the_same_loss_and_gradients():
    examples = some_examples()
    expected = by_transformers(tuned(tiny_model("llama")), examples)
    model = tuned(tiny_model("llama"))
    install(model, FusedModel(model, n_kept=0))
    packs = make_packs(examples, pack_tokens=200, group_size=2, seed=1)
    batches = [collate_pack([pack], size=(256, 100)) for pack in packs]
    assert {b["input_ids"].shape[1] for b in batches} == {256}
    assert {b["targets"].shape[1] for b in batches} == {100}
    assert_same(loss_and_gradients(model, batches), expected)


def test_what_a_pack_is_filled_up_with_is_seen_by_none_of_its_questions():
    (pack,) = make_packs(some_examples(4), pack_tokens=2000, group_size=4, seed=1)
    full = pack.filled_up(len(pack) + 5)
    assert len(full) == len(pack) + 5
    assert full.groups[: len(pack)] == pack.groups
    assert set(full.groups[len(pack) :]) == {max(pack.groups) + 1}
    assert set(full.labels[len(pack) :]) == {IGNORE}
    assert pack.filled_up(3) is pack
