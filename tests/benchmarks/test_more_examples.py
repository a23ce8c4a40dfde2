"""A row's further examples: which of a model's texts become labels, and which questions stand twice."""

import pytest

pytest.importorskip("torch")

from benchmarks.more_examples import own_examples, twice
from groundql.config import PromptSettings
from groundql.encoding import encode_labels
from groundql.models.chat import turns_of
from groundql.records import Completion, DatabaseFiles, DataSet, Question
from groundql.training.examples import Example
from tests.small_data import shop_file
from tests.tiny import tiny_tokenizer

TOKENIZER = tiny_tokenizer()
TURNS = turns_of(TOKENIZER)
GOLD = "SELECT name FROM product"


@pytest.fixture
def data(tmp_path):
    question = Question(question_id="spider/0", db_id="shop", text="Which products?", gold_sql=GOLD)
    files = DatabaseFiles(db_id="shop", sqlite_path=shop_file(tmp_path))
    return DataSet(
        spec="shop", name="spider", split="train", questions=(question,), databases={"shop": files}
    )


def kept(data, *texts, limit=2):
    examples = encode_labels(data, PromptSettings(), TOKENIZER, TURNS).examples
    samples = [
        [Completion(question_id="spider/0", db_id="shop", text=text, sql=text, status="free")]
        for text in texts
    ]
    some, facts = own_examples(
        data, samples, examples, prompt=PromptSettings(), tokenizer=TOKENIZER, turns=TURNS, limit=limit, n_workers=1
    )  # fmt: skip
    return [TOKENIZER.decode(example.answer, skip_special_tokens=True) for example in some], facts


def test_a_query_that_returns_what_gold_returns_and_is_written_otherwise_is_a_label(data):
    other = "SELECT name FROM product WHERE name IS NOT NULL"
    labels, facts = kept(data, "SELECT price FROM product", other, "SELECT nothing FROM product", other)
    assert labels == [other]
    assert (facts["texts"], facts["texts_right"], facts["kept"]) == (4, 1, 1)


def test_another_spelling_of_gold_is_none(data):
    labels, facts = kept(data, "select  T1.name from product AS T1", GOLD)
    assert labels == []
    assert facts["texts_written_as_gold"] == 2


def test_no_question_gets_more_than_the_limit(data):
    texts = [f"SELECT name FROM product WHERE id > -{i}" for i in range(1, 5)]
    labels, facts = kept(data, *texts, limit=2)
    assert labels == texts[:2]
    assert facts["kept_of_questions"] == 1


def test_the_questions_of_one_data_set_stand_twice_under_their_own_ids():
    examples = [Example(name, "d", (1,), (2,), (3,)) for name in ("bird/1", "spider/1")]
    more = twice("spider")(None, examples)
    assert [e.question_id for e in more] == ["bird/1", "spider/1", "spider/1~2"]
