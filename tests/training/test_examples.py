"""What carries loss."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundql.models.chat import turns_of
from groundql.records import Prompt
from groundql.training.examples import encode_examples
from groundql.training.packs import IGNORE, collate_examples, collate_pack, collate_packs, make_packs
from groundql.training.preflight import check_labels
from tests.small_data import TRAIN
from tests.tiny import tiny_tokenizer

TOKENIZERS = {"chat": tiny_tokenizer(chat=True), "plain": tiny_tokenizer(chat=False)}
GOLDS = [sql for _, sql in TRAIN]


def encoded(kind, golds=GOLDS):
    tokenizer = TOKENIZERS[kind]
    turns = turns_of(tokenizer)
    prompts = [
        Prompt(
            question_id=str(i),
            db_id="shop",
            prefix=f"{turns.before_system}CREATE TABLE product (\nid,\n);{turns.after_system}",
            suffix=f"{turns.before_user}Question {i}?{turns.after_user}",
            n_tokens=0,
        )
        for i, _ in enumerate(golds)
    ]
    return encode_examples(prompts, golds, tokenizer, turns), turns, tokenizer


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("way", ["layout", "dense", "rows"])
def test_unmasked_labels_decode_to_exactly_the_gold_and_the_end_token(kind, way):
    examples, turns, tokenizer = encoded(kind)
    by_id = dict(zip((e.question_id for e in examples), GOLDS, strict=True))
    if way == "rows":
        batches = [(collate_examples([e], pad_id=0), [by_id[e.question_id]]) for e in examples]
    else:
        packs = make_packs(examples, pack_tokens=400, group_size=3, seed=0)
        collate = collate_pack if way == "layout" else lambda packs: collate_packs(packs, pad_id=0)
        batches = [(collate([pack]), None) for pack in packs]
    found = []
    for batch, _ in batches:
        labels = batch["labels"][0]
        text = tokenizer.decode(labels[labels != IGNORE].tolist())
        found += text.split(turns.end)[:-1]
        assert text.endswith(turns.end)
    assert sorted(found) == sorted(GOLDS)


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_logits_are_computed_at_the_place_before_each_label_and_nowhere_else(kind):
    (example,), *_ = encoded(kind, GOLDS[:1])
    batch = collate_examples([example], pad_id=0)
    ids = list(example.prefix + example.suffix + example.answer)
    places = batch["logits_to_keep"].tolist()[1:]  # the first column carries no loss
    assert [ids[place + 1] for place in places] == list(example.answer)
    assert len(places) == len(example.answer)


@pytest.mark.parametrize("kind", TOKENIZERS)
@given(gold=st.text(max_size=60))
def test_any_text_comes_back_from_its_labels_unless_it_is_refused(kind, gold):
    """Byte-level tokens hold any text; a gold that spells a special token is read as that token and decodes alike."""
    examples, turns, tokenizer = encoded(kind, [gold])
    check_labels(examples, [gold], tokenizer, turns)


def test_examples_of_one_prefix_share_its_ids():
    examples, *_ = encoded("chat")
    assert len({id(example.prefix) for example in examples}) == 1
    first = examples[0]
    assert first.n_tokens == len(first.prefix) + len(first.suffix) + len(first.answer)
