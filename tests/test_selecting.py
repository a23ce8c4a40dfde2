"""Several texts of a question and one repair: which is returned, and what it cost."""

import time

import pytest

from groundql import selecting
from groundql.config import GenerationSettings, PromptSettings
from groundql.databases.binding import prepare
from groundql.databases.schema import read_schema
from groundql.models.chat import turns_of
from groundql.models.load import LoadedModel
from groundql.prompts.budget import fit_prompt
from groundql.records import DatabaseFiles, Question
from groundql.selecting import Asked, complete
from tests.mostly_slow import first_fast
from tests.scripted import ScriptedModel
from tests.small_data import shop_file
from tests.tiny import tiny_model, tiny_tokenizer

TOKENIZER = tiny_tokenizer()
TURNS = turns_of(TOKENIZER)
GOOD, BAD = "SELECT name FROM product", "SELECT colour FROM product"


@pytest.fixture
def asked(tmp_path):
    files = DatabaseFiles(db_id="shop", sqlite_path=shop_file(tmp_path))
    schema = read_schema(files, n_examples=0)
    prompts = [
        fit_prompt(
            Question(question_id=str(i), db_id="shop", text=text),
            schema,
            settings=PromptSettings(),
            turns=TURNS,
            count_tokens=len,
        )
        for i, text in enumerate(["What is there?", "How many?"])
    ]
    return Asked(prompts=prompts, schemas={"shop": schema}, databases={"shop": files})


class Scripts(ScriptedModel):
    """Writes the first text, then the second, and so on; the last again and again."""

    def __init__(self, *texts):
        super().__init__(texts[0], TOKENIZER, TURNS.end)
        self.scripts = [ScriptedModel(text, TOKENIZER, TURNS.end).ids for text in texts]
        self.config.vocab_size = len(TOKENIZER)

    def __call__(self, input_ids, position_ids, **rest):
        if input_ids.shape[1] == 1 and self.first in (None, position_ids[0, 0]):  # a text begins
            self.ids = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
        return super().__call__(input_ids, position_ids, **rest)


def completed(model, asked, **settings):
    loaded = LoadedModel(model=model, tokenizer=TOKENIZER, dtype=model.dtype, device=model.device)
    return complete(model, loaded, TURNS, asked, settings=GenerationSettings(max_new_tokens=60, **settings))


def first(asked):
    return Asked(prompts=asked.prompts[:1], schemas=asked.schemas, databases=asked.databases)


def test_a_query_that_fails_is_written_once_more_and_the_second_is_returned_where_it_runs(asked):
    (one,) = completed(Scripts(BAD, GOOD), first(asked), repair=True)
    assert one.sql == GOOD
    assert one.n_samples == 2
    assert one.n_new_tokens == len(Scripts(BAD).ids) + len(Scripts(GOOD).ids) - 2


def test_a_second_try_that_fails_too_leaves_the_first_and_its_cost_is_told(asked):
    (one,) = completed(Scripts(BAD, "SELECT size FROM product"), first(asked), repair=True)
    assert one.sql == BAD
    assert one.n_samples == 2


def test_a_query_that_runs_is_not_written_again(asked):
    (one,) = completed(Scripts(GOOD, BAD), first(asked), repair=True)
    assert (one.sql, one.n_samples) == (GOOD, 1)


@pytest.mark.parametrize("decoding", first_fast(["grounded", "free"]))
def test_samples_are_counted_and_chosen_the_same_each_time(asked, decoding):
    model = tiny_model("qwen2").eval()
    sampled = {"decoding": decoding, "samples": 4, "temperature": 1.0}
    found = completed(model, asked, **sampled)
    assert found == completed(model, asked, **sampled)
    assert [one.n_samples for one in found] == [4, 4]
    for one in found:
        assert one.n_new_tokens >= 4
        if decoding == "grounded":
            assert (one.sql is None) == (one.status == "abstained")
            assert one.sql is None or prepare(asked.schemas["shop"], one.sql) is None


@pytest.mark.parametrize(
    ("texts", "chosen"),
    [
        # two spellings of one result against another
        (["SELECT COUNT(*) FROM sale WHERE day IS NULL", "SELECT COUNT(*) FROM product", "SELECT COUNT(name) FROM product"], 1),
        # what does not run has no vote, though two texts agree
        ([BAD, BAD, GOOD], 2),
        # the order of rows does not part them
        ([BAD, f"{GOOD} ORDER BY price", f"{GOOD} ORDER BY price DESC"], 1),
    ],
)  # fmt: skip
def test_a_vote_goes_by_the_rows_that_queries_return(asked, texts, chosen):
    (one,) = completed(Scripts(*texts), first(asked), samples=3, temperature=0.01, batch_size=1)
    assert one.sql == texts[chosen]
    assert one.n_samples == 3


def test_texts_that_never_end_are_stopped_and_have_no_vote_though_they_agree(asked, monkeypatch):
    monkeypatch.setattr(selecting, "DEADLINE_S", 0.2)
    away = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i FROM n) SELECT COUNT(*) FROM n"
    started = time.monotonic()
    (one,) = completed(Scripts(away, away, GOOD), first(asked), samples=3, temperature=0.01, batch_size=1)
    assert one.sql == GOOD
    assert time.monotonic() - started < 10


def test_without_rows_the_texts_vote(asked):
    files = DatabaseFiles(db_id="shop", tables_path=None, rows="none")
    bare = Asked(prompts=asked.prompts[:1], schemas=asked.schemas, databases={"shop": files})
    texts = ["SELECT id FROM sale", GOOD, GOOD]
    (one,) = completed(Scripts(*texts), bare, samples=3, temperature=0.01, batch_size=1)
    assert one.sql == GOOD
