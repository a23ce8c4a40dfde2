"""Attention over a pack by blocks against a full mask and autograd."""

import pytest
import torch

from groundql.training.attention import layout_of
from groundql.training.fused import pack_attention
from groundql.training.fused.pack_attention import PackAttention, blocks_of


def groups_of(*groups):
    """Each token's group and question, of groups given as (prefix length, lengths of questions)."""
    of_group, of_question, question = [], [], 0
    for i, (n_prefix, lengths) in enumerate(groups):
        of_group += [i] * (n_prefix + sum(lengths))
        of_question += [-1] * n_prefix
        for length in lengths:
            of_question += [question] * length
            question += 1
    return of_group, of_question


def under_a_mask(qkv, groups, questions, n_heads, n_kv, depth):
    """The same by torch, with the definition as a (T, T) mask."""
    g, q = torch.tensor(groups), torch.tensor(questions)
    at = torch.arange(len(g))
    sees = (g[:, None] == g) & ((q[:, None] == q) | (q == -1)) & (at[:, None] >= at)
    query, key, value = qkv.view(len(g), -1, depth).transpose(0, 1).split([n_heads, n_kv, n_kv])
    key, value = (x.repeat_interleave(n_heads // n_kv, dim=0) for x in (key, value))
    scores = (query @ key.transpose(1, 2) / depth**0.5).masked_fill(~sees, float("-inf"))
    return (scores.softmax(-1) @ value).transpose(0, 1).flatten(1)


@pytest.mark.parametrize(("n_heads", "n_kv"), [(6, 2), (2, 2), (3, 1)])
@pytest.mark.parametrize("piece", [3, 128])
def test_result_and_gradient_are_those_of_a_full_mask(n_heads, n_kv, piece, monkeypatch):
    monkeypatch.setattr(pack_attention, "PREFIX_PIECE", piece)
    groups, questions = groups_of((7, [2, 5, 1]), (0, [4, 3]), (5, []), (1, [2] * 11))
    torch.manual_seed(0)
    qkv = torch.randn(len(groups), (n_heads + 2 * n_kv) * 4, dtype=torch.float64, requires_grad=True)
    expected = under_a_mask(qkv, groups, questions, n_heads, n_kv, 4)
    grad = torch.randn_like(expected)
    (of_qkv,) = torch.autograd.grad(expected, qkv, grad)
    attention = PackAttention(layout_of(groups, questions), (n_heads, n_kv, 4))
    for _ in range(2):  # what one pass leaves behind does not reach the next
        out, kept = attention.forward(qkv.detach(), keep=True)
        torch.testing.assert_close(out, expected.detach())
        torch.testing.assert_close(attention.backward(grad, qkv.detach(), out, kept), of_qkv)
    assert attention.forward(qkv.detach(), keep=False)[1] is None


def test_blocks_cover_the_pack_once_and_in_order():
    groups, questions = groups_of((200, [4] * 9), (3, [2]))
    blocks = blocks_of(layout_of(groups, questions))
    assert [(b.start, b.stop) for b in blocks] == [
        (0, 128), (128, 200), (200, 232), (232, 236), (236, 239), (239, 241),
    ]  # fmt: skip
    assert [b.n_span for b in blocks] == [0, 128, 200, 200, 0, 3]
    assert blocks[2].runs == tuple((200 + 4 * i, 4) for i in range(8))
