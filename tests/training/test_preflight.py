"""Each check stands for a way in which fine-tuning silently goes wrong."""

import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundql.config import Config, load_config
from groundql.errors import AskedWrongly
from groundql.models.catalog import CATALOG
from groundql.models.source import find_base
from groundql.records import DataSet, Prompt, Question
from groundql.training.packs import IGNORE, collate_examples, collate_pack, collate_packs, make_packs
from groundql.training.preflight import (
    check_batches,
    check_disk,
    check_labels,
    check_positions,
    check_prompts,
    check_splits,
    normal_sql,
    rate_warning,
    shown_labels,
    suited_rate,
    without_leaks,
)
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
    kept, counts = without_leaks(train, questions(("club", "How many pens?")))
    assert [q.text for q in kept] == ["Who?"]
    assert counts == {"asked": 2, "written": 0}


def golds(*pairs):
    return [
        Question(question_id=str(i), db_id="d", text=text, gold_sql=sql)
        for i, (text, sql) in enumerate(pairs)
    ]


def test_a_gold_that_stands_in_an_evaluated_part_leaves_training_whatever_its_layout_but_not_its_literals():
    evaluated = golds(("a", "SELECT name FROM member WHERE joined = 1815 AND city = 'Rome'"))
    train = golds(
        ("b", "select  NAME from member\nwhere joined=1815 and city='Rome' ;"),
        ("c", "SELECT name FROM member WHERE joined = 1906 AND city = 'Rome'"),
        ("d", "SELECT name FROM member WHERE joined = 1815 AND city = 'rome'"),
        ("A ", "SELECT 1"),
    )
    kept, counts = without_leaks(train, evaluated)
    assert [q.text for q in kept] == ["c", "d"]
    assert counts == {"asked": 1, "written": 1}


@given(
    st.lists(
        st.sampled_from(["SELECT", "a", "'x  Y'", '"Q"', "`b c`", "=", "(", ")", ",", "1.5", "<="]),
        max_size=12,
    )
)
def test_layout_and_case_outside_quotes_never_tell_two_queries_apart(tokens):
    plain = " ".join(tokens)
    odd = "\n\t ".join(t if t[0] in "'\"`" else t.swapcase() for t in tokens) + " ;"
    assert normal_sql(plain) == normal_sql(odd)


def test_prompts_that_decode_to_themselves_pass_and_a_cut_or_changed_one_is_refused_at_its_place():
    examples, turns, tokenizer = encoded("chat")
    prompts = prompts_of(examples, tokenizer)
    check_prompts(examples, prompts, tokenizer)
    cut = replace(examples[0], prefix=examples[0].prefix[:-3])
    with pytest.raises(AskedWrongly, match=r"question 0: the prompt's tokens read .* where the prompt has"):
        check_prompts([cut, *examples[1:]], prompts, tokenizer)
    cut = replace(examples[0], suffix=examples[0].suffix[:-2])
    with pytest.raises(AskedWrongly, match="this tokenizer does not hold the prompt"):
        check_prompts([cut, *examples[1:]], prompts, tokenizer)


def prompts_of(examples, tokenizer):
    return [
        Prompt(
            question_id=e.question_id,
            db_id=e.db_id,
            prefix=tokenizer.decode(list(e.prefix)),
            suffix=tokenizer.decode(list(e.suffix)),
            n_tokens=0,
        )
        for e in examples
    ]


def test_some_labels_are_shown_as_they_will_be_written():
    examples, turns, tokenizer = encoded("chat")
    lines = shown_labels(examples, tokenizer)
    assert lines == [
        f"trained to write, question {i} on shop: {GOLDS[i]}{turns.end}" for i in (0, len(GOLDS) // 2)
    ]
    assert len(shown_labels(examples[:1], tokenizer)) == 1


def test_an_example_longer_than_the_model_s_positions_is_refused():
    example = encoded("chat")[0][0]
    row = replace(CATALOG["Falcon3-1B-Base"], max_positions=example.n_tokens)
    check_positions([example], row)
    check_positions([example], None)
    with pytest.raises(
        AskedWrongly, match=rf"{example.n_tokens} tokens, .* knows {example.n_tokens - 1} positions"
    ):
        check_positions([example], replace(row, max_positions=example.n_tokens - 1))


@pytest.mark.parametrize("way", ["layout", "dense", "rows"])
def test_batches_as_they_are_trained_on_pass(way):
    examples, *_ = encoded("chat")
    packs = make_packs(examples, pack_tokens=400, group_size=3, seed=0)
    batches = {
        "layout": [collate_pack([pack]) for pack in packs],
        "dense": [collate_packs(packs, pad_id=0)],
        "rows": [collate_examples(examples, pad_id=0)],
    }[way]
    check_batches(batches, examples)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda batch: batch["logits_to_keep"].add_(1), "a batch has label"),  # off by one
        (lambda batch: batch["labels"][0, 1].fill_(IGNORE), "no whole answer"),  # the first token of an answer masked
        (lambda batch: batch["labels"][0, -1].fill_(IGNORE), "no whole answer"),  # the end token masked
        (lambda batch: batch["labels"][0, 1].add_(1), "a batch has label"),
    ],
)  # fmt: skip
def test_a_batch_whose_labels_are_shifted_or_cut_is_refused(spoil, message):
    examples, *_ = encoded("chat")
    (pack,) = make_packs(examples, pack_tokens=2000, group_size=20, seed=0)
    batch = collate_pack([pack])
    spoil(batch)
    with pytest.raises(AskedWrongly, match=message):
        check_batches([batch], examples)


def config(rate=2e-4, **lora):
    return Config.model_validate(
        {
            "model": {"name": "m"},
            "data": {"train": "-"},
            "lora": lora,
            "training": {"learning_rate": rate, "select_by": "last"},
        }
    )


@pytest.mark.parametrize(
    ("name", "suited"),
    [  # Tinker's formula at alpha 32, as the reference works it out
        ("Qwen2.5-Coder-1.5B-Instruct", 5.1e-4),
        ("Qwen2.5-Coder-0.5B-Instruct", 5.3e-4),
        ("Falcon3-1B-Base", 4.9e-4),
        ("SmolLM2-360M-Instruct", 8.9e-4),
    ],
)
def test_the_rate_that_suits_lora_is_the_published_formula(name, suited):
    assert suited_rate(config(rank=32, alpha=32), CATALOG[name]) == pytest.approx(suited, rel=0.01)
    assert suited_rate(config(rank=8, alpha=32), CATALOG[name]) == pytest.approx(suited, rel=0.01)
    assert suited_rate(config(rank=32, alpha=64), CATALOG[name]) == pytest.approx(suited / 2, rel=0.01)
    # rsLoRA at rank 16 scales by alpha / 4 where the formula has 32 / 16
    rs = suited_rate(config(rank=16, alpha=32, rslora=True), CATALOG[name])
    assert rs == pytest.approx(suited / 4, rel=0.01)


def test_the_paper_s_rate_is_warned_of_by_name_and_number_and_a_usual_one_is_not():
    row = CATALOG["Qwen2.5-Coder-1.5B-Instruct"]
    warning = rate_warning(config(2e-5), row)  # alpha 64 at rank 32
    assert warning.startswith(
        "warning: training.learning_rate 2e-05 is 13 times below what suits LoRA here, about 0.00026"
    )
    assert "the paper's choice" in warning
    assert "paper" not in rate_warning(config(1e-5), row)
    assert "times above" in rate_warning(config(1e-2), row)
    assert rate_warning(config(2e-4), row) is None
    assert rate_warning(config(1e-3), row) is None


def test_of_a_model_of_unknown_shape_only_rates_beyond_any_model_are_told():
    assert rate_warning(config(1e-5), None) is None
    assert rate_warning(config(5e-3), None) is None
    assert "200 times below" in rate_warning(config(1e-6), None)
    assert "times above" in rate_warning(config(6e-3), None)


def test_shipped_recipes_other_than_the_paper_s_have_a_rate_that_passes():
    for name in ("recommended", "pocket-smollm2"):
        shipped = load_config(name)
        assert rate_warning(shipped, find_base(shipped.model.name).row) is None, name


def test_a_disk_that_is_too_full_is_refused_with_both_numbers_before_the_folder_exists(tmp_path, monkeypatch):
    row = CATALOG["Qwen2.5-Coder-1.5B-Instruct"]
    # 36.93M adapter weights, 12 bytes each in 5 checkpoints and 4 in the adapter, and 16 MiB: 2,270 MiB
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2400 * 2**20))
    assert check_disk(config(), row, tmp_path / "runs" / "x").startswith(
        "disk: up to 2,270 MiB for checkpoints"
    )
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2200 * 2**20))
    with pytest.raises(
        AskedWrongly, match=r"2,200 MiB free, the checkpoints of this run need 2,270.*lora.rank"
    ):
        check_disk(config(), row, tmp_path / "runs" / "x")
    assert not (tmp_path / "runs").exists()
