"""Greedy decoding against transformers' own, token for token in fp32."""

import random

import pytest
import torch

from groundql.config import GenerationSettings
from groundql.decoding import reader
from groundql.decoding.attention import decoding_attention
from groundql.decoding.batch import Pace
from groundql.decoding.engine import decode as decode_all
from groundql.decoding.schedule import Capacity, Row
from groundql.decoding.slots import Slots
from groundql.models.chat import turns_of
from groundql.records import Prompt
from groundql.training import attention
from tests.mostly_slow import first_fast
from tests.tiny import ARCHITECTURES, tiny_model, tiny_tokenizer

TOKENIZER = tiny_tokenizer()
TURNS = turns_of(TOKENIZER)
WORDS = ("SELECT", "name", "loan", "of", "each", "member", "count", "1999", "'x'", "(", ")", ",", "\n")
N_NEW = 12


def some_prompts(n=9, *, n_prefixes=3, seed=0):
    """Prompts of mixed prefixes and lengths, in mixed order."""
    chance = random.Random(seed)
    text = lambda low, high: " ".join(chance.choices(WORDS, k=chance.randint(low, high)))  # noqa: E731
    prefixes = [text(5, 40) for _ in range(n_prefixes)]
    return [
        Prompt(
            question_id=str(i),
            db_id=str(i % n_prefixes),
            prefix=TURNS.before_system + prefixes[i % n_prefixes] + TURNS.after_system,
            suffix=TURNS.before_user + text(1, 15) + TURNS.after_user,
            n_tokens=0,
        )
        for i in range(n)
    ]


def encode(text):
    return TOKENIZER(text, add_special_tokens=False)["input_ids"]


def generate_alone(model, prompt, ends, n_new=N_NEW):
    """What transformers' generate writes for one prompt, end token included."""
    ids = torch.tensor([encode(prompt.prefix) + encode(prompt.suffix)], device=model.device)
    with torch.inference_mode():
        whole = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=n_new,
            eos_token_id=sorted(ends),
            pad_token_id=TOKENIZER.pad_token_id,
        )
    return whole[0, ids.shape[1] :].tolist()


def decode(model, prompts, *, turns=TURNS, batch_size=4, n_new=N_NEW, **options):
    settings = GenerationSettings(max_new_tokens=n_new, batch_size=batch_size)
    found = decode_all(model, TOKENIZER, prompts, turns, settings=settings, **options)
    return [one for (one,) in found]


def texts(found):
    return [(one.ids, one.stopped, one.status) for one in found]


def lively_model(architecture, **options):
    """Random weights large enough that what comes next depends on what was read."""
    model = tiny_model(architecture, **options).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(4)
    return model


def common_token(model, prompts):
    """A token that some completions hold and others do not: as the end mark it ends them at different places."""
    written = [generate_alone(model, prompt, {TOKENIZER.eos_token_id}) for prompt in prompts]
    counts = {token: sum(token in ids for ids in written) for ids in written for token in ids[1:]}
    return next(token for token, count in sorted(counts.items()) if 1 < count < len(prompts))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_tokens_are_those_of_transformers_own_greedy_generate(architecture):
    model, prompts = lively_model(architecture), some_prompts()
    end = common_token(model, prompts)
    turns = TURNS.model_copy(update={"end": TOKENIZER.convert_ids_to_tokens(end)})
    ends = {end, TOKENIZER.eos_token_id}
    expected = [generate_alone(model, prompt, ends) for prompt in prompts]
    stopped = [ids[-1] in ends for ids in expected]
    assert len({tuple(ids) for ids in expected}) > 3  # or nothing is tested
    assert True in stopped
    assert False in stopped

    found = decode(model, prompts, turns=turns)
    assert [list(one.ids) for one in found] == [
        ids[:-1] if ends_there else ids for ids, ends_there in zip(expected, stopped, strict=True)
    ]
    assert [one.stopped for one in found] == stopped
    assert [one.n_prompt_tokens for one in found] == [
        len(encode(p.prefix)) + len(encode(p.suffix)) for p in prompts
    ]


@pytest.mark.parametrize("window", first_fast([16, 40]))
def test_a_sliding_window_reaches_as_far_back_as_in_generate(window):
    model, prompts = lively_model("starcoder2", window=window), some_prompts()
    ends = {TOKENIZER.eos_token_id}
    expected = [generate_alone(model, prompt, ends) for prompt in prompts]
    assert expected != [generate_alone(lively_model("starcoder2"), prompt, ends) for prompt in prompts]
    assert [list(one.ids) for one in decode(model, prompts)] == expected


@pytest.mark.parametrize("architecture", first_fast(ARCHITECTURES))
def test_the_batch_size_and_the_order_change_nothing(architecture):
    model, prompts = lively_model(architecture), some_prompts(7, n_prefixes=2)
    one_by_one = texts(decode(model, prompts, batch_size=1))
    for batch_size in (2, 3, 100):
        assert texts(decode(model, prompts, batch_size=batch_size)) == one_by_one
    assert texts(decode(model, prompts[::-1])) == one_by_one[::-1]


PACES = {
    "settle first": Pace(),
    "look ahead": Pace(lookahead=1),
    "as on a GPU": Pace(
        lookahead=1, refill_share=0.3, compact_share=0.3, tokens_at_once=100, reads_ahead=True
    ),
}
CAPACITIES = {
    "two slots": Capacity(2, 10_000, rows_a_group=2),
    "groups of three": Capacity(7, 10_000, rows_a_group=3),
    "little cache": Capacity(100, 260, rows_a_group=8),
    "even sizes": Capacity(8, 10_000, rows_a_group=4, multiple=16),
}


@pytest.fixture(scope="module")
def many():
    """A model, questions of four databases, an end mark that ends them at many places, and what each writes alone."""
    model, prompts = lively_model("starcoder2"), some_prompts(15, n_prefixes=4)
    ids = [one.ids for one in decode(model, prompts, batch_size=1)]
    ends = {
        token: len({some.index(token) for some in ids if token in some}) for some in ids for token in some
    }
    end = max(ends, key=lambda token: (ends[token], token))
    assert ends[end] > 2
    turns = TURNS.model_copy(update={"end": TOKENIZER.convert_ids_to_tokens(end)})
    return model, prompts, turns, texts(decode(model, prompts, turns=turns, batch_size=1))


@pytest.mark.parametrize("pace", PACES.values(), ids=PACES)
@pytest.mark.parametrize("capacity", first_fast(CAPACITIES.values(), 2), ids=CAPACITIES)
def test_refilling_compacting_and_looking_ahead_change_nothing(many, pace, capacity):
    """Rows end at different places, databases have different numbers of questions, and all share the batch."""
    model, prompts, turns, expected = many
    assert texts(decode(model, prompts, turns=turns, pace=pace, capacity=capacity)) == expected


def test_rows_of_half_empty_groups_move_together_and_write_the_same(many, monkeypatch):
    model, prompts, turns, expected = many
    moves = []
    move = Slots.move

    def counted(slots, old, new):
        moves.append(len(old))
        move(slots, old, new)

    monkeypatch.setattr(Slots, "move", counted)
    for lookahead in (0, 1):
        pace = Pace(lookahead=lookahead, compact_share=0.0, prefix_share=0.0)
        found = decode(model, prompts, turns=turns, pace=pace, capacity=Capacity(4, 10_000, rows_a_group=2))
        assert texts(found) == expected
        assert moves
        moves.clear()


def test_rows_stay_where_the_memory_does_not_take_a_second_batch(many, monkeypatch):
    model, prompts, turns, expected = many
    capacity = Capacity(8, 10_000, rows_a_group=2)
    n_tried = 0

    def full(*args):
        nonlocal n_tried
        n_tried += 1
        raise torch.OutOfMemoryError

    monkeypatch.setattr(Slots, "moved", full)
    assert texts(decode(model, prompts, turns=turns, pace=Pace(lookahead=1), capacity=capacity)) == expected
    assert n_tried == 1
    pace = Pace(lookahead=1, moving_share=0.0)
    assert texts(decode(model, prompts, turns=turns, pace=pace, capacity=capacity)) == expected
    assert n_tried == 1


def test_a_window_is_kept_where_rows_move_between_batches():
    model, prompts = lively_model("starcoder2", window=16), some_prompts(9)
    expected = [tuple(generate_alone(model, prompt, {TOKENIZER.eos_token_id})) for prompt in prompts]
    found = decode(model, prompts, pace=PACES["as on a GPU"], capacity=CAPACITIES["groups of three"])
    assert [one.ids for one in found] == expected


def test_long_rows_beside_short_ones():
    model = lively_model("qwen2")
    prompts = [*some_prompts(2), *some_prompts(2, seed=5)]
    prompts[1] = prompts[1].model_copy(
        update={"suffix": TURNS.before_user + "member " * 120 + TURNS.after_user}
    )
    prompts[2] = prompts[2].model_copy(
        update={"prefix": TURNS.before_system + "loan " * 300 + TURNS.after_system}
    )
    ends = {TOKENIZER.eos_token_id}
    expected = [tuple(generate_alone(model, prompt, ends, 40)) for prompt in prompts]
    assert [one.ids for one in decode(model, prompts, n_new=40)] == expected


def test_the_probability_of_a_text_is_that_of_its_tokens_one_by_one():
    model, (prompt,) = lively_model("qwen2"), some_prompts(1)
    (one,) = decode(model, [prompt], n_new=5)
    ids = encode(prompt.prefix) + encode(prompt.suffix)
    with torch.inference_mode():
        logits = model(torch.tensor([ids + list(one.ids)])).logits[0].log_softmax(-1)
    steps = [logits[len(ids) - 1 + i, token].item() for i, token in enumerate(one.ids)]
    assert one.log_probability == pytest.approx(sum(steps), abs=1e-4)


@pytest.fixture
def n_read(monkeypatch):
    """Texts that each pass over prompts reads."""
    found = []
    whole = reader.forward_pass

    def counted(model, ids, positions, decoding):
        found.append(ids.shape[0])
        return whole(model, ids, positions, decoding)

    monkeypatch.setattr(reader, "forward_pass", counted)
    return found


def test_equal_prefixes_and_suffixes_are_read_once(n_read):
    """Samples of a question share its suffix, questions of a database its schema."""
    settings = GenerationSettings(max_new_tokens=2, samples=4, temperature=1.0, batch_size=100)
    decode_all(lively_model("llama"), TOKENIZER, some_prompts(6, n_prefixes=2), TURNS, settings=settings)
    assert sum(n_read) == 2 + 6


def test_schemas_are_read_ahead_in_the_pass_of_the_first(n_read):
    pace = Pace(tokens_at_once=1000, reads_ahead=True)
    decode(lively_model("llama"), some_prompts(6, n_prefixes=3), pace=pace, capacity=Capacity(1, 10_000))
    assert n_read == [3, 6]


def test_nothing_is_read_ahead_while_enough_is_held():
    model = lively_model("llama")
    rows = [Row((place, *[7] * 9), (5, 6), 3, 0, place) for place in range(10)]
    with torch.inference_mode(), decoding_attention(model):
        some = reader.Reader(model, rows, tokens_at_once=30, tokens_ahead=20)
        some.read(rows[:1], rows[1:])  # reads three schemas, 30 tokens, and their questions
        assert [some.prefix(row.prefix).shape[3] for row in rows[:3]] == [10] * 3
        some.read(rows[3:4], rows[4:])
        assert some.prefix(rows[3].prefix).shape[3] == 10
        with pytest.raises(KeyError):
            some.prefix(rows[4].prefix)


def test_a_mark_inside_a_question_ends_no_turn_and_the_text_is_decoded_all_the_same():
    model = lively_model("qwen2")
    prompt = some_prompts(1)[0]
    sly = prompt.model_copy(update={"suffix": TURNS.before_user + "a<|im_end|>b" + TURNS.after_user})
    (one,) = decode(model, [sly])
    assert one.n_prompt_tokens > len(encode(sly.prefix)) + len(encode(sly.suffix))


def test_nothing_of_one_batch_is_left_for_the_next():
    """The same prompts decode the same after others, in the same call and in a later one."""
    model, prompts, others = lively_model("llama"), some_prompts(4, seed=1), some_prompts(6, seed=2)
    alone = texts(decode(model, prompts))
    assert texts(decode(model, [*others, *prompts])[6:]) == alone
    assert texts(decode(model, prompts)) == alone


def test_transformers_own_generate_is_the_same_before_and_after():
    model, prompts = lively_model("qwen2"), some_prompts(2)
    ends = {TOKENIZER.eos_token_id}
    before = [generate_alone(model, prompt, ends) for prompt in prompts]
    decode(model, prompts)
    assert [generate_alone(model, prompt, ends) for prompt in prompts] == before


def test_the_attention_that_a_model_was_given_for_training_is_still_there_afterwards():
    model = lively_model("qwen2")
    for name in ("sdpa", attention.NAME):
        model.set_attn_implementation(name)
        decode(model, some_prompts(2))
        assert model.config._attn_implementation == name


def test_a_completion_is_cut_at_the_limit_and_says_so():
    found = decode(lively_model("llama"), some_prompts(3), n_new=1)
    assert [(len(one.ids), one.stopped) for one in found] == [(1, False)] * 3


def test_progress_counts_prompts_up_to_all():
    told = []
    decode(
        lively_model("llama"), some_prompts(7, n_prefixes=2), batch_size=3, n_new=2, on_progress=told.append
    )
    assert told == sorted(set(told))
    assert told[-1] == 7


def test_no_prompts_give_no_completions():
    assert decode(lively_model("llama"), []) == []
