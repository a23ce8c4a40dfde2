"""Each check stands for a way in which fine-tuning silently goes wrong."""

from dataclasses import replace

import pytest

from groundql.errors import AskedWrongly
from groundql.records import DataSet, Question
from groundql.training.preflight import check_labels, check_splits, without_leaks
from tests.tiny import tiny_tokenizer
from tests.training.test_examples import GOLDS, encoded


def questions(*pairs):
    return tuple(
        Question(question_id=str(i), db_id=db_id, text=text) for i, (db_id, text) in enumerate(pairs)
    )


def data(*db_ids):
    return DataSet(
        spec="s", name="jsonl", split="x", questions=questions(*((d, "?") for d in db_ids)), databases={}
    )


def test_labels_as_encoded_pass():
    examples, turns, tokenizer = encoded("chat")
    check_labels(examples, GOLDS, tokenizer, turns)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda ids, _: ids[:-1],  # no end token: the model would never learn to stop
        lambda ids, _: ids[1:],  # the first token of the SQL is masked
        lambda ids, _: (ids[0], *ids),
        lambda ids, end: (*ids, end),  # a second end token
        lambda ids, _: ids[:3] + ids[-1:],  # cut in silence
    ],
)
def test_labels_that_are_not_gold_and_end_token_are_refused_with_both(spoil):
    examples, turns, tokenizer = encoded("chat")
    end = tokenizer.convert_tokens_to_ids(turns.end)
    spoilt = replace(examples[2], answer=spoil(examples[2].answer, end))
    with pytest.raises(
        AskedWrongly, match=r"question 2: the labels decode to .*, the gold is 'SELECT name FROM product'"
    ):
        check_labels([*examples[:2], spoilt], GOLDS[:3], tokenizer, turns)


@pytest.mark.parametrize("unknown", [None, "<|endoftext|>"])
def test_an_end_mark_that_is_no_single_token_is_refused(unknown):
    examples, turns, _ = encoded("chat")
    tokenizer = tiny_tokenizer()
    tokenizer.unk_token = unknown
    with pytest.raises(
        AskedWrongly, match="'<end>' is no token of this tokenizer: the model could not learn to stop"
    ):
        check_labels(examples, GOLDS, tokenizer, turns.model_copy(update={"end": "<end>"}))


def test_an_end_mark_that_is_the_unknown_token_as_well_passes():
    """StarCoder2's tokenizer has one special token for both."""
    examples, turns, _ = encoded("plain")
    tokenizer = tiny_tokenizer(chat=False)
    tokenizer.unk_token = turns.end
    check_labels(examples, GOLDS, tokenizer, turns)


def test_a_database_in_two_parts_is_refused_and_named():
    with pytest.raises(AskedWrongly, match=r"train and test share 2 database\(s\), such as club"):
        check_splits({"train": data("shop", "club", "zoo"), "dev": data("farm"), "test": data("zoo", "club")})


def test_parts_without_a_common_database_pass():
    check_splits({"train": data("shop", "club"), "dev": data("farm")})


def test_a_question_asked_in_an_evaluated_part_leaves_training_whatever_its_case_and_spaces():
    train = questions(("shop", "How many pens?"), ("shop", "Who?"), ("shop", "how  MANY pens? "))
    kept, n_left_out = without_leaks(train, questions(("club", "How many pens?")))
    assert [q.text for q in kept] == ["Who?"]
    assert n_left_out == 2
