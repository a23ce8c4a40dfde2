"""The step that a CUDA graph captures: the same tensors each time, and nothing that waits for the device."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from groundql.decoding.attention import decoding_attention
from groundql.decoding.reader import Reader
from groundql.decoding.schedule import Row, Shape
from groundql.decoding.slots import PIECE, Choosing, Slots, best_tokens
from tests.decoding.test_engine import lively_model
from tests.tiny import ARCHITECTURES

# What reads a value of the device, makes a tensor from the host's data, or has a shape that depends on values.
WAITS = (
    "_local_scalar_dense",
    "lift_fresh",
    "nonzero",
    "masked_select",
    "unique",
    "is_nonzero",
    "equal.default",
)


class Recorder(TorchDispatchMode):
    """Names of all operations."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.names.append(str(operation))
        return operation(*args, **(kwargs or {}))


def filled(model, choosing=Choosing()):  # noqa: B008 (frozen)
    prefixes = [(5, 6, 7, 8), (9, 10)]
    suffixes = [(prefixes[0], (11, 12, 13)), (prefixes[0], (14,)), (prefixes[1], (15, 16))]
    rows = [Row(prefix, suffix, 9, place + 1, place) for place, (prefix, suffix) in enumerate(suffixes)]
    reader = Reader(model, rows, tokens_at_once=100, tokens_ahead=0)
    reader.read(rows, [])
    shape = Shape(n_groups=2, n_rows=2, n_prefix=8, n_own=12)
    slots = Slots(model, shape, choosing, reader.prefix(prefixes[0]))
    for group, prefix in enumerate(prefixes):
        slots.set_prefix(group, reader.prefix(prefix))
    slots.place([0, 1, 2], rows, [reader.take(row) for row in rows])
    return slots


def state_of(slots):
    return {name: value for name, value in vars(slots).items() if isinstance(value, torch.Tensor)}


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_step_never_waits_for_the_device(architecture, window, temperature):
    model = lively_model(architecture, window=window if architecture == "starcoder2" else None)
    with torch.inference_mode(), decoding_attention(model):
        slots = filled(model, Choosing(4, temperature))
        slots.step()
        with Recorder() as recorder:
            slots.step()
    assert len(recorder.names) > 50
    assert [name for name in recorder.names if any(word in name for word in WAITS)] == []


def test_a_recorder_finds_what_would_wait():
    with Recorder() as recorder:
        torch.ones(3).sum().item()
        torch.tensor([1.0])
    assert {word for word in WAITS for name in recorder.names if word in name} >= {
        "_local_scalar_dense",
        "lift_fresh",
    }


def test_a_step_keeps_its_tensors_in_their_place():
    model = lively_model("qwen2")
    with torch.inference_mode(), decoding_attention(model):
        slots = filled(model)
        slots.step()
        kept = ("_prefix", "_own", "_prefix_lengths", "_tokens", "_at", "_first", "_seeds")
        before = {name: state_of(slots)[name].data_ptr() for name in kept}
        for _ in range(3):
            slots.step()
        slots.put_back([1], [14], [0])
        slots.step()
    assert {name: state_of(slots)[name].data_ptr() for name in kept} == before


def test_a_row_that_is_put_back_finds_what_it_found_there():
    model = lively_model("llama")
    with torch.inference_mode(), decoding_attention(model):
        slots = filled(model, Choosing(3, 1.0))
        slots.step()
        first = slots.best.clone()
        for _ in range(3):
            slots.step()
        slots.put_back([0, 2], [13, 16], [0, 0])
        slots.step(n_own=7)
        again = slots.best
    assert torch.equal(again[[0, 2], :3], first[[0, 2], :3])
    values = [some[:, 3:].view(torch.float32) for some in (again[[0, 2]], first[[0, 2]])]
    assert torch.allclose(*values, atol=1e-5)


def test_free_slots_never_leave_their_cache():
    model = lively_model("qwen2")
    with torch.inference_mode(), decoding_attention(model):
        slots = filled(model)
        for _ in range(20):  # beyond the 12 places of a row
            slots.step()
    assert state_of(slots)["_at"].max() == 11


@pytest.mark.parametrize("n_tokens", [40 * PIECE, 40 * PIECE + 1, 3 * PIECE])
@pytest.mark.parametrize("n", [1, 5])
def test_the_best_tokens_are_the_best_wherever_they_stand(n, n_tokens):
    scores = torch.stack([torch.randperm(n_tokens).float() for _ in range(7)])
    scores[0] = torch.arange(n_tokens)  # all in one piece
    scores[1] = -scores[0]
    expected = scores.argsort(-1, descending=True)[:, :n]
    assert torch.equal(best_tokens(scores, n), expected)
