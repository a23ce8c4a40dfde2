"""The Triton kernels against torch: on CUDA, or in Triton's interpreter where TRITON_INTERPRET=1 and it is installed."""

import importlib.util
import os

import bitsandbytes as bnb
import pytest
import torch

from groundql.training.fused import plain
from groundql.training.fused.spans import spans_of

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1" and importlib.util.find_spec("triton") is not None
pytestmark = (
    []
    if INTERPRETED
    else [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]
)
DEVICE = "cpu" if INTERPRETED else "cuda"
DTYPES = [torch.float32] if INTERPRETED else [torch.float32, torch.bfloat16, torch.float16]
TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 8e-3, torch.float16: 1e-3}


def close(found, expected, dtype, factor=1.0):
    error = (found.float() - expected.float()).norm() / expected.float().norm()
    assert float(error.detach()) < factor * TOLERANCE[dtype]


def numbers(*shape, dtype, seed=0, **options):
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(*shape, generator=generator, **options).to(DEVICE, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("is_layer_norm", [False, True])
@pytest.mark.parametrize("width", [96, 1536])
def test_norms(dtype, is_layer_norm, width):
    from groundql.training.fused import kernels

    x, w, g, r = (numbers(7, width, dtype=dtype, seed=s) for s in range(4))
    w, bias = w[0], (g[1] if is_layer_norm else None)
    close(kernels.norm_forward(x, w, bias, 1e-5), plain.norm_forward(x, w, bias, 1e-5), dtype)
    options = {"is_layer_norm": is_layer_norm, "eps": 1e-5, "residual": r}
    found, expected = torch.empty_like(x), torch.empty_like(x)
    kernels.norm_backward(g, x, w, out=found, **options)
    plain.norm_backward(g, x, w, out=expected, **options)
    close(found, expected, dtype)


@pytest.mark.parametrize("is_layer_norm", [False, True])
def test_the_backward_of_a_norm_is_that_of_torch(is_layer_norm):
    x = torch.randn(5, 24, requires_grad=True)
    w, bias, g, r = (
        torch.randn(24),
        torch.randn(24) if is_layer_norm else None,
        torch.randn(5, 24),
        torch.randn(5, 24),
    )
    if bias is None:
        normed = torch.nn.functional.rms_norm(x, (24,), w, 1e-5)
    else:
        normed = torch.nn.functional.layer_norm(x, (24,), w, bias, 1e-5)
    normed.backward(g)
    found = torch.empty(5, 24)
    plain.norm_backward(g, x.detach(), w, is_layer_norm=is_layer_norm, eps=1e-5, residual=r, out=found)
    torch.testing.assert_close(found, x.grad + r)


@pytest.mark.parametrize("dtype", DTYPES)
def test_rotations_and_back(dtype):
    from groundql.training.fused import kernels

    angles = numbers(9, 16, dtype=torch.float32).repeat(1, 2)
    cos, sin = angles.cos().to(dtype), angles.sin().to(dtype)
    mine, theirs = numbers(9, 5 * 32, dtype=dtype), numbers(9, 5 * 32, dtype=dtype)
    before = mine.clone()
    kernels.rotate_(mine, cos, sin, 3)
    plain.rotate_(theirs, cos, sin, 3)
    close(mine, theirs, dtype)
    assert torch.equal(mine[:, 3 * 32 :], before[:, 3 * 32 :])
    kernels.rotate_(mine, cos, sin, 3, back=True)
    close(mine, before, dtype, 2)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("width", [40, 1500])
def test_gates(dtype, gated, width):
    from groundql.training.fused import kernels

    inner, grad = numbers(6, width * (1 + gated), dtype=dtype), numbers(6, width, dtype=dtype, seed=1)
    close(kernels.gate_forward(inner, width), plain.gate_forward(inner, width), dtype)
    exact, grad_exact = inner.float(), grad.float()
    plain.gate_backward_(exact, grad_exact)
    kernels.gate_backward_(inner, grad)
    close(inner, exact, dtype)
    close(grad, grad_exact, dtype)


@pytest.mark.parametrize("gated", [False, True])
def test_the_backward_of_a_gate_is_that_of_torch(gated):
    inner = torch.randn(6, 20 * (1 + gated), requires_grad=True)
    grad = torch.randn(6, 20)
    result = plain.gate_forward(inner.clone(), 20)
    result.backward(grad)
    found, also = inner.detach().clone(), grad.clone()
    plain.gate_backward_(found, also)
    torch.testing.assert_close(found, inner.grad)
    torch.testing.assert_close(also, result.detach())


def test_rows_without_a_label_have_no_loss_and_no_gradient():
    logits = torch.randn(3, 10)
    labels = torch.tensor([2, -100, 9])
    expected = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    found = plain.cross_entropy_(logits, labels)
    torch.testing.assert_close(found, expected)
    assert logits[1].abs().sum() == 0
    assert logits[0].abs().sum() > 0


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("vocab", [100, 20_000])
def test_cross_entropy(dtype, vocab):
    from groundql.training.fused import kernels

    logits = numbers(5, vocab, dtype=dtype) * 4
    labels = torch.tensor([0, -100, vocab - 1, 50, 7], device=DEVICE)
    exact = logits.float().requires_grad_()
    expected = torch.nn.functional.cross_entropy(exact, labels, reduction="none", ignore_index=-100)
    expected.sum().backward()
    close(kernels.cross_entropy_(logits, labels), expected.detach(), torch.float32, 5)
    close(logits, exact.grad, dtype)


@pytest.mark.parametrize("quant_type", ["nf4", "fp4"])
@pytest.mark.parametrize(("double", "n_in"), [(False, 192), (True, 192), (True, 96)])
@pytest.mark.parametrize("rank", [0, 8, 32])
@pytest.mark.parametrize("dtype", DTYPES)
def test_unpacked_weights_with_their_adapter(quant_type, double, n_in, rank, dtype):
    from groundql.training.fused.unpack import merge_4bit, merge_dense

    weight = numbers(50, n_in, dtype=dtype)
    packed, state = bnb.functional.quantize_4bit(weight, quant_type=quant_type, compress_statistics=double)
    frozen = bnb.functional.dequantize_4bit(packed, state)
    a, b = (numbers(*s, dtype=dtype).float() for s in ((rank, n_in), (50, rank)))
    adapter = (a, b, 0.5) if rank else None
    out = torch.empty_like(weight)
    merge_4bit(packed, state, adapter, out)
    added = 0.5 * b @ a if rank else 0
    if not rank:
        close(
            out, frozen, torch.float32 if dtype == torch.float32 else dtype, 0.1
        )  # the same but for a fused add
    close(out, frozen.float() + added, dtype)
    merge_dense(weight, adapter, out)
    close(out, weight.float() + added, dtype)


PACKS = {
    "mixed": [(70, [20, 33, 5]), (10, [9, 8]), (0, [12, 30]), (130, [7] * 12)],
    "one token": [(1, [1])],
    "no prefix": [(0, [100])],
    "at tile edges": [(64, [64, 64]), (65, [63])],
    "long": [(300, [40] * 9), (200, [64, 128, 5])],
}


def tokens_of(groups):
    of_group, of_question, positions, n = [], [], [], 0
    for g, (prefix, questions) in enumerate(groups):
        of_group += [g] * (prefix + sum(questions))
        of_question += [-1] * prefix
        positions += range(prefix)
        for length in questions:
            of_question += [n] * length
            positions += range(prefix, prefix + length)
            n += 1
    return of_group, of_question, positions


@pytest.mark.parametrize("name", PACKS)
@pytest.mark.parametrize("window", [0, 24])
@pytest.mark.parametrize(
    "shape", [(4, 2, 16), (6, 1, 64)] if INTERPRETED else [(4, 2, 64), (12, 2, 128), (8, 4, 256)]
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_attention_over_a_pack(name, window, shape, dtype):
    from groundql.training.fused.flash import attend, attend_backward

    n_heads, n_kv, depth = shape
    of_group, of_question, positions = tokens_of(PACKS[name])
    g, q, p = (torch.tensor(x, device=DEVICE) for x in (of_group, of_question, positions))
    n = len(g)
    sees = torch.ones(n, n, dtype=torch.bool, device=DEVICE).tril()
    sees &= (g[:, None] == g[None]) & ((q[None] == -1) | (q[:, None] == q[None]))
    if window:
        sees &= p[:, None] - p[None] < window
    qkv, grad = (
        numbers(n, (n_heads + 2 * n_kv) * depth, dtype=dtype),
        numbers(n, n_heads * depth, dtype=dtype, seed=1),
    )
    exact = qkv.double().requires_grad_()
    heads = exact.view(n, -1, depth).transpose(0, 1).split([n_heads, n_kv, n_kv])
    keys, values = (x.repeat_interleave(n_heads // n_kv, 0) for x in heads[1:])
    scores = (heads[0] @ keys.transpose(1, 2) * depth**-0.5).masked_fill(~sees, float("-inf"))
    expected = (scores.softmax(-1) @ values).transpose(0, 1).reshape(n, -1)
    expected.backward(grad.double())
    spans = spans_of(of_group, of_question, positions).to(DEVICE)
    out, log_sums = attend(qkv, spans, n_heads, n_kv, depth, window)
    close(out, expected.detach(), dtype)
    close(attend_backward(grad, qkv, out, log_sums, spans, shape, window), exact.grad, dtype, 2)
