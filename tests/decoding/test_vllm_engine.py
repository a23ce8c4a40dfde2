"""vLLM as the engine, against a stand-in with its signatures: what it is asked, and what becomes of what it writes."""

import json
import sys

import pytest

from groundql.config import GenerationSettings
from groundql.decoding.vllm_engine import decode_with_vllm, load_vllm
from groundql.errors import AskedWrongly, DependencyMissing, ModelMissing
from groundql.generating import check_settings
from groundql.models.chat import turns_of
from groundql.records import DatabaseFiles, DataSet, Prompt
from groundql.selecting import Asked, complete
from tests.decoding.schemas import LIBRARY
from tests.decoding.vllm_stand_in import LLM, stand_in
from tests.tiny import sentencepiece_parts, tiny_tokenizer

TOKENIZER = tiny_tokenizer()
TURNS = turns_of(TOKENIZER)
GROUNDED = GenerationSettings(engine="vllm", decoding="grounded", max_new_tokens=64)


def prompt(name):
    return Prompt(
        question_id=name, db_id="library", prefix="the schema\n", suffix=name + TURNS.after_user, n_tokens=0
    )


def decoded(monkeypatch, said, settings=GROUNDED, adapter=None):
    stand_in(monkeypatch, TOKENIZER, said)
    model = load_vllm("weights", TOKENIZER, adapter, settings=settings, prompt_tokens=100)
    return decode_with_vllm(
        model, [prompt(str(i)) for i in range(len(said))], {"library": LIBRARY}, TURNS, settings=settings
    )


def test_what_binds_is_an_answer_and_what_does_not_is_an_abstention(monkeypatch):
    said = [
        [("SELECT title FROM book;", True)],
        [("SELECT T1.date FROM book AS T1", True)],  # in the grammar, in the wrong table
        [("SELECT title FROM book WHERE", False)],
    ]
    found = [one for (one,) in decoded(monkeypatch, said)]
    assert [(one.status, one.sql) for one in found] == [
        ("answer", "SELECT title FROM book"),
        ("abstained", None),
        ("abstained", None),
    ]
    assert [one.reason for one in found] == ["", "gate: no such column: T1.date", "token budget"]
    assert all(one.strain is None for one in found)


def test_prompts_of_one_schema_share_their_first_tokens_and_the_cache_is_on(monkeypatch):
    decoded(monkeypatch, [[("SELECT title FROM book", True)], [("SELECT id FROM book", True)]])
    engine = LLM.last
    assert engine.options["enable_prefix_caching"] is True
    first, second = (one["prompt_token_ids"] for one in engine.prompts)
    n_schema = len(TOKENIZER("the schema\n", add_special_tokens=False)["input_ids"])
    assert first[:n_schema] == second[:n_schema]
    assert engine.options["max_model_len"] == 100 + 64


@pytest.mark.parametrize(("rank", "slot"), [(4, 8), (16, 16), (24, 32)])
def test_a_run_s_adapter_goes_with_each_request(monkeypatch, tmp_path, rank, slot):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": rank}))
    decoded(monkeypatch, [[("SELECT title FROM book", True)]], adapter=tmp_path)
    assert LLM.last.options["max_lora_rank"] == slot
    assert LLM.last.lora_request.lora_path == str(tmp_path)


def test_free_texts_have_no_grammar_and_may_not_bind(monkeypatch):
    free = GROUNDED.model_copy(update={"decoding": "free"})
    ((one,),) = decoded(monkeypatch, [[("SELECT ghost FROM nowhere", True)]], free)
    assert (one.status, one.sql) == ("free", None)
    assert LLM.last.params[0].structured_outputs is None


def test_the_text_that_most_agree_with_is_chosen_and_the_cost_is_of_all(monkeypatch):
    settings = GROUNDED.model_copy(update={"samples": 3, "temperature": 0.7})
    said = [
        [("SELECT id FROM book", True), ("SELECT title FROM book", True), ("SELECT title FROM book", True)]
    ]
    stand_in(monkeypatch, TOKENIZER, said)
    model = load_vllm("weights", TOKENIZER, None, settings=settings, prompt_tokens=100)
    asked = Asked(
        prompts=[prompt("0")],
        schemas={"library": LIBRARY},
        databases={"library": DatabaseFiles(db_id="library")},
    )
    (completion,) = complete(model.model, model, TURNS, asked, settings=settings)
    assert completion.sql == "SELECT title FROM book"
    assert completion.n_samples == 3
    assert LLM.last.params[0].n == 3


def test_without_vllm_one_sentence_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(DependencyMissing, match=r"pip install 'groundql\[vllm\]'"):
        load_vllm("weights", TOKENIZER, None, settings=GROUNDED, prompt_tokens=100)


def test_a_tokenizer_whose_tokens_are_read_as_other_bytes_is_refused_where_a_grammar_holds_them(monkeypatch):
    mixed = sentencepiece_parts(tiny_tokenizer())
    stand_in(monkeypatch, mixed, [])
    monkeypatch.delattr(LLM, "last", raising=False)
    with pytest.raises(ModelMissing, match="cannot tell which bytes"):
        load_vllm("weights", mixed, None, settings=GROUNDED, prompt_tokens=100)
    assert not hasattr(LLM, "last")  # before any weight is loaded
    free = GROUNDED.model_copy(update={"decoding": "free"})
    assert load_vllm("weights", mixed, None, settings=free, prompt_tokens=100).tokenizer is mixed


def test_settings_of_the_own_engine_are_refused_for_vllm():
    with pytest.raises(AskedWrongly, match="kv_tokens"):
        check_settings(
            GROUNDED.model_copy(update={"kv_tokens": 5}),
            DataSet(spec="jsonl:none", name="none", split="dev", questions=(), databases={}),
        )
