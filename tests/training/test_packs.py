import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from groundql.errors import AskedWrongly
from groundql.models.workload import fill_packs
from groundql.training import attention
from groundql.training.examples import Example
from groundql.training.packs import (
    IGNORE,
    Pack,
    collate_examples,
    collate_pack,
    collate_packs,
    label_loss,
    make_packs,
)
from tests.tiny import ARCHITECTURES, tiny_model
from tests.training.made import some_examples


def loss_and_gradients(model, batches):
    """Summed label loss over all label tokens, and the gradient of every parameter."""
    model.zero_grad()
    n = sum(int((b["labels"] != IGNORE).sum()) for b in batches)
    total = 0.0
    for batch in batches:
        batch = dict(batch)
        labels = batch.pop("labels")
        batch.pop("targets")
        logits = model(**batch).logits
        summed = cross_entropy(logits.transpose(1, 2), labels, ignore_index=IGNORE, reduction="sum")
        loss = label_loss({"loss_sum": summed}, labels, n)
        loss.backward()
        total += float(loss.detach())
    return total, torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def assert_same(packed, separate):
    (loss, gradient), (expected_loss, expected) = packed, separate
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    assert float((gradient - expected).norm() / expected.norm()) < 1e-5


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("way", ["layout", "dense"])
def test_loss_and_gradients_of_a_pack_equal_those_of_separate_sequences(architecture, way):
    examples = some_examples()
    separate = loss_and_gradients(
        tiny_model(architecture), [collate_examples([e], pad_id=0) for e in examples]
    )
    packs = make_packs(examples, pack_tokens=200, group_size=2, seed=1)
    model = tiny_model(architecture)
    if way == "layout":
        model.set_attn_implementation(attention.NAME)
        batches = [collate_pack([pack]) for pack in packs]
    else:
        batches = [collate_packs(packs, pad_id=0)]
    assert len(packs) < len(examples)
    assert_same(loss_and_gradients(model, batches), separate)


def test_a_sliding_window_counts_positions_and_not_places_in_the_pack():
    examples = some_examples()
    model = tiny_model("starcoder2", window=8)
    separate = loss_and_gradients(model, [collate_examples([e], pad_id=0) for e in examples])
    packs = make_packs(examples, pack_tokens=200, group_size=3, seed=1)
    assert_same(loss_and_gradients(model, [collate_packs(packs, pad_id=0, window=8)]), separate)
    wide = loss_and_gradients(model, [collate_packs(packs, pad_id=0)])
    assert wide[0] != pytest.approx(separate[0], rel=1e-5)  # the window is felt at this length


def test_padded_rows_equal_separate_sequences_under_accumulation():
    examples = some_examples()
    model = tiny_model("llama")
    separate = loss_and_gradients(model, [collate_examples([e], pad_id=0) for e in examples])
    by_four = [collate_examples(examples[i : i + 4], pad_id=0) for i in range(0, 9, 4)]
    assert_same(loss_and_gradients(model, by_four), separate)


@pytest.mark.parametrize("length", [31, 32, 63, 64])
def test_a_dense_batch_never_has_a_length_that_32_divides(length):
    pack = Pack()
    pack.add_group([Example("0", "0", tuple(range(3, length)), (1,), (2, 2))])
    assert len(pack) == length
    assert collate_packs([pack], pad_id=0)["input_ids"].shape[1] % 32 != 0


@given(st.integers(0, 10_000), st.integers(1, 8), st.integers(100, 400))
@settings(max_examples=60, deadline=None)
def test_packs_hold_every_answer_once_within_the_budget(seed, group_size, pack_tokens):
    examples = some_examples(20, seed, n_prefixes=4)
    packs = make_packs(examples, pack_tokens=pack_tokens, group_size=group_size, seed=seed)
    assert all(len(pack) <= pack_tokens for pack in packs)
    assert sum(pack.n_questions for pack in packs) == 20
    labels = [token for pack in packs for token in pack.labels if token != IGNORE]
    assert sorted(labels) == sorted(token for e in examples for token in e.answer)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=80), st.integers(60, 200))
@settings(max_examples=60, deadline=None)
def test_every_group_is_in_one_pack_within_the_budget(sizes, pack_tokens):
    packs = fill_packs(sizes, pack_tokens)
    assert sorted(place for pack in packs for place in pack) == list(range(len(sizes)))
    assert all(sum(sizes[place] for place in pack) <= pack_tokens for pack in packs)


def test_packs_are_filled_to_the_last_token_by_the_earliest_groups_that_do_so():
    assert fill_packs([5, 4, 9, 3, 2, 7], 10) == [[0, 3, 4], [1], [2], [5]]


def test_groups_of_many_sizes_leave_no_pack_but_the_last_ones_unfilled():
    chance = random.Random(0)
    sizes = [chance.randint(300, 2500) for _ in range(400)]
    loads = [sum(sizes[place] for place in pack) for pack in fill_packs(sizes, 8192)]
    assert all(load == 8192 for load in loads[:-3])


def test_a_group_above_the_budget_has_a_pack_of_its_own():
    assert fill_packs([3, 12, 4], 8) == [[0, 2], [1]]


def test_positions_restart_at_the_end_of_the_prefix_for_every_question():
    pack = Pack()
    pack.add_group([Example("0", "d", (5, 6, 7), (8,), (9, 2)), Example("1", "d", (5, 6, 7), (8, 8), (9, 2))])
    assert pack.positions == [0, 1, 2, 3, 4, 5, 3, 4, 5, 6]
    assert pack.questions == [-1, -1, -1, 0, 0, 0, 1, 1, 1, 1]
    assert pack.labels == [IGNORE] * 4 + [9, 2] + [IGNORE] * 2 + [9, 2]


def test_the_same_seed_gives_the_same_packs_and_another_seed_another_order():
    examples = some_examples(20)
    make = lambda seed: [p.input_ids for p in make_packs(examples, pack_tokens=150, group_size=2, seed=seed)]  # noqa: E731
    assert make(1) == make(1)
    assert make(1) != make(2)


def test_an_example_longer_than_a_pack_is_refused_by_name():
    with pytest.raises(AskedWrongly, match="question 0 on 0 has"):
        make_packs(some_examples(1), pack_tokens=10, group_size=4, seed=0)
