"""The engine as it runs on a GPU, its step captured as one CUDA graph; on a CPU the same without the graph."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from groundql.decoding import reader
from groundql.decoding.batch import Pace
from groundql.decoding.engine import gpu_capacity
from groundql.decoding.slots import Slots
from groundql.models.attention import bias_by_head, grouped_prefix_attention
from tests.decoding.test_engine import (
    TOKENIZER,
    TURNS,
    common_token,
    decode,
    generate_alone,
    lively_model,
    some_prompts,
)
from tests.decoding.test_grounded import alone, together
from tests.tiny import ARCHITECTURES

DEVICES = [pytest.param("cpu", marks=pytest.mark.slow), pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.fixture(params=DEVICES)
def device(request):
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU")
    return request.param


@pytest.fixture
def replays(monkeypatch):
    """One entry for each step that was a graph."""
    found = []
    replay = torch.cuda.CUDAGraph.replay

    def counted(graph):
        found.append(graph)
        replay(graph)

    monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", counted)
    return found


def pace_on(device, **changes):
    return replace(Pace.on(torch.device("cuda")), use_graph=device == "cuda", **changes)


def expected_of(model, prompts, n_new):
    """Turns whose end mark ends texts at different places, and what generate writes up to it."""
    end = common_token(model, prompts)
    ends = {end, TOKENIZER.eos_token_id}
    written = [generate_alone(model, prompt, ends, n_new) for prompt in prompts]
    assert len({tuple(ids) for ids in written}) > 3
    turns = TURNS.model_copy(update={"end": TOKENIZER.convert_ids_to_tokens(end)})
    return turns, [tuple(ids[:-1] if ids[-1] in ends else ids) for ids in written]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_captured_steps_write_what_generate_writes(architecture, device, replays):
    model, prompts = lively_model(architecture).to(device), some_prompts(18, n_prefixes=4)
    turns, expected = expected_of(model, prompts, 12)
    found = decode(model, prompts, turns=turns, pace=pace_on(device), capacity=gpu_capacity(64, 50_000))
    assert [one.ids for one in found] == expected
    assert bool(replays) == (device == "cuda")


def test_a_batch_that_becomes_smaller_twice_writes_what_generate_writes(device, replays, monkeypatch):
    """The long schema is done first, which cuts the prefixes; then the last rows leave half of the slots free."""
    prompts = some_prompts(17, n_prefixes=3)
    long = {"prefix": TURNS.before_system + "loan " * 150 + TURNS.after_system}
    prompts[:2] = [prompt.model_copy(update=long) for prompt in prompts[:2]]
    model = lively_model("qwen2").to(device)
    turns, expected = expected_of(model, prompts, 12)
    shapes = []
    moved = Slots.moved

    def kept(slots, shape, *args):
        shapes.append((slots.shape, shape))
        return moved(slots, shape, *args)

    monkeypatch.setattr(Slots, "moved", kept)
    found = decode(
        model,
        prompts,
        turns=turns,
        pace=pace_on(device, least_saved=0, compact_share=0.5),
        capacity=replace(gpu_capacity(64, 50_000), n_slots=8, rows_a_group=2, multiple=16),
    )
    assert [one.ids for one in found] == expected
    assert any(new.n_prefix <= old.n_prefix / 2 and new.n_slots == old.n_slots for old, new in shapes)
    assert any(new.n_slots <= old.n_slots / 2 for old, new in shapes)
    assert len(set(map(id, replays))) > 1 or device == "cpu"


def test_schemas_read_ahead_of_groups_of_four_write_what_generate_writes(device, replays, monkeypatch):
    model, prompts = lively_model("llama").to(device), some_prompts(20, n_prefixes=5)
    turns, expected = expected_of(model, prompts, 12)
    n_read, shapes = [], []
    whole, make = reader.forward_pass, Slots.__init__

    def counted(model, ids, positions, decoding):
        n_read.append(ids.shape[0])
        return whole(model, ids, positions, decoding)

    def kept(slots, model, shape, *args):
        shapes.append(shape)
        make(slots, model, shape, *args)

    monkeypatch.setattr(reader, "forward_pass", counted)
    monkeypatch.setattr(Slots, "__init__", kept)
    capacity = replace(gpu_capacity(64, 50_000), n_slots=8)
    found = decode(model, prompts, turns=turns, pace=pace_on(device), capacity=capacity)
    assert [one.ids for one in found] == expected
    assert n_read == [5, 20]
    assert (shapes[0].n_groups, shapes[0].n_rows) == (2, 4)
    assert bool(replays) == (device == "cuda")


def test_grounded_rows_of_captured_steps_are_those_of_the_plain_loop(device, replays):
    """In 64 bits: a token that is refused is followed by one nearly as likely."""
    model, prompts = lively_model("qwen2").double().to(device), some_prompts(12)
    expected = [alone(model, prompt, place).ids for place, prompt in enumerate(prompts)]
    found = together(model, prompts, pace_on(device))
    assert [one.ids for one in found] == expected
    assert bool(replays) == (device == "cuda")


@pytest.mark.parametrize("n_prefix", [64, 61])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_scores_in_place_are_plain_attention_each_time_the_graph_is_replayed(dtype, n_prefix, device):
    """Other keys, other places hidden, the same buffers: nothing of the last time is left."""
    n_groups, n_rows, n_kv, shared, n_own, depth = 3, 4, 2, 3, 32, 16
    n = n_groups * n_rows
    sizes = [
        (n, n_kv * shared, depth),
        *[(n, n_kv, n_own, depth)] * 2,
        *[(n_groups, n_kv, n_prefix, depth)] * 2,
    ]
    tensors = [torch.zeros(size, dtype=dtype, device=device) for size in sizes]
    sees = torch.ones(n_groups, 1, n_prefix, dtype=torch.bool), torch.ones(n, n_own, dtype=torch.bool)
    biases = [bias.to(device) for bias in bias_by_head(*sees, n_kv * shared, n_kv, dtype)]

    def step():
        return grouped_prefix_attention(*tensors, *biases, 0.3)

    with torch.inference_mode():
        found = step()
        if device == "cuda":
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                found = step()
        make = torch.Generator().manual_seed(0)
        for _ in range(3):
            new = [torch.randn(tensor.shape, generator=make).to(dtype) for tensor in tensors]
            sees = [torch.rand(some.shape, generator=make) < 0.5 for some in sees]
            sees[1][:, -1] = True
            for old, some in zip(tensors, new, strict=True):
                old.copy_(some)
            for old, some in zip(biases, bias_by_head(*sees, n_kv * shared, n_kv, dtype), strict=True):
                old.copy_(some)
            if device == "cuda":
                graph.replay()
            else:
                found = step()
            expected = plain(*[some.float() for some in new], *sees)
            close = 1e-4 if dtype == torch.float32 else 5e-2
            assert (found.float().cpu() - expected).abs().max() < close


def plain(query, key, value, prefix_key, prefix_value, sees_prefix, sees_own):
    """The same keys and values in one sequence a row."""
    rows = []
    for row, own in enumerate(query):
        group = row * len(prefix_key) // len(query)
        keys = torch.cat([prefix_key[group], key[row]], dim=1).repeat_interleave(3, dim=0)
        values = torch.cat([prefix_value[group], value[row]], dim=1).repeat_interleave(3, dim=0)
        seen = torch.cat([sees_prefix[group, 0], sees_own[row]])
        rows.append(scaled_dot_product_attention(own[:, None], keys, values, seen[None], scale=0.3)[:, 0])
    return torch.stack(rows)
