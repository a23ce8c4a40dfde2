"""What a training does where the card's memory runs out at the first pass: it keeps less, says so, and trains the same."""

import pytest
import torch

from groundql.errors import TrainingStopped
from groundql.models.fused_memory import SMALL_FFN_TOKENS, Keeps
from groundql.training.packs import collate_pack, make_packs
from groundql.training.step import install_step, probe_until_it_fits
from tests.models.test_memory import some_config
from tests.tiny import ARCHITECTURES, tiny_model
from tests.training.made import some_examples
from tests.training.test_fused import tuned


def levels(model):
    """How much each layer keeps: 0 its input, 1 attention's too, 2 all."""
    return [keep.value for keep in model.label_loss_through.keeps]


class Card:
    """A probe of a card that has room for so much kept in the layers."""

    def __init__(self, room, error=None):
        self.room, self.error = room, error or torch.OutOfMemoryError("no room")
        self.asked = []

    def __call__(self, model, batch):
        fused = model.label_loss_through
        wanted = sum(levels(model)) + (fused.ffn_tokens > SMALL_FFN_TOKENS)
        self.asked.append(wanted)
        if wanted > self.room:
            raise self.error
        return 1000.0 + wanted


def fused_model(keeps, **changes):
    model, config = tuned(tiny_model("qwen2")), some_config(**changes)
    return model, config, install_step(model, config, keeps, graph=False)


@pytest.fixture
def said():
    return []


def test_where_it_fits_nothing_changes_and_nothing_is_said(said):
    model, config, keeps = fused_model(Keeps(1, 1, 4096))
    assert probe_until_it_fits(model, config, {}, keeps, said.append, Card(4)) == 1004
    assert (levels(model), said) == ([1, 2], [])


def test_where_it_does_not_fit_less_is_kept_until_it_does_and_one_sentence_says_so(said):
    model, config, keeps = fused_model(Keeps(0, 2, 4096))
    card = Card(2)
    assert probe_until_it_fits(model, config, {}, keeps, said.append, card) == 1001
    assert card.asked == [5, 4, 3, 1]
    assert levels(model) == [0, 0]
    (sentence,) = said
    assert (
        sentence
        == "the card's memory ran out as planned: of 2 layers, 0 keep all and 0 attention, not 2 and 0"
    )


@pytest.mark.parametrize("changes", [{}, {"checkpointing": False}, {"checkpointing": True}])
def test_where_the_least_does_not_fit_either_training_stops_with_the_setting_to_lower(said, changes):
    model, config, keeps = fused_model(None, **changes)
    with pytest.raises(TrainingStopped, match=r"lower training.pack_tokens"):
        probe_until_it_fits(model, config, {}, keeps, said.append, Card(-1))
    assert said == []


def test_layers_of_transformers_have_nothing_to_keep_less_of(said):
    model, config, keeps = fused_model(None, dropout=0.05)
    assert keeps is None

    def no_room(*_):
        raise torch.OutOfMemoryError("no room")

    with pytest.raises(TrainingStopped, match=r"lower training.pack_tokens"):
        probe_until_it_fits(model, config, {}, keeps, said.append, no_room)


def test_an_error_that_memory_has_caused_counts_and_another_does_not(said):
    """A graph's capture that runs out of memory may end with an error of its own."""
    on_top = RuntimeError("the capture was cut off")
    on_top.__context__ = torch.OutOfMemoryError("no room")
    model, config, keeps = fused_model(Keeps(1, 1, 4096))
    assert probe_until_it_fits(model, config, {}, keeps, said.append, Card(2, on_top)) == 1002
    model, config, keeps = fused_model(Keeps(1, 1, 4096))
    with pytest.raises(RuntimeError, match="a kernel is wrong"):
        probe_until_it_fits(model, config, {}, keeps, said.append, Card(2, RuntimeError("a kernel is wrong")))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_model_that_was_given_another_way_still_answers_in_both_ways(architecture):
    """Installed twice, it has to remember the forward that is its own: dev questions are answered through it."""
    model, config = tuned(tiny_model(architecture)), some_config()
    (pack,) = make_packs(some_examples(4), pack_tokens=2000, group_size=9, seed=1)
    batch = {name: value for name, value in collate_pack([pack]).items() if name != "labels"}
    ids = batch["input_ids"][:, :9]
    found = []
    for keeps in (Keeps(0, 2, 4096), Keeps(1, 0, 50)):
        install_step(model, config, keeps, graph=False)
        loss = model(**batch)["loss_sum"]
        loss.backward()
        gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        model.zero_grad()
        found.append((loss.detach(), gradient, model(input_ids=ids).logits.detach()))
    for before, after in zip(*found, strict=True):
        torch.testing.assert_close(before, after, rtol=1e-5, atol=1e-6)
