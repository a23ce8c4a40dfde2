"""Attention over one pack by matrix products on a CPU, and its gradient written out: no padding, few copies.

A block is a run of tokens of which each sees a common span before it, and itself with what precedes it in its own run:
the questions of a group (their span is the prefix), or a piece of a prefix (its span is the prefix before the piece).
Scores of a block are one product against the span and a small one for each run; one softmax goes over both. Query
heads that share a key head are rows of one product.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from groundql.training.attention import GroupLayout, PackLayout

PREFIX_PIECE = 128  # tokens: scores above the diagonal are computed within a piece only


@dataclass(frozen=True)
class Block:
    """Tokens [start, stop) of the pack, cut into `runs`; all of them see [span, span + n_span)."""

    start: int
    stop: int
    span: int
    n_span: int
    runs: tuple[tuple[int, int], ...]  # start and length of each, in order; they cover the block

    @property
    def width(self) -> int:
        """Columns of its scores: the span, then a run's own tokens."""
        return self.n_span + max(length for _, length in self.runs)


def blocks_of(layout: PackLayout) -> list[Block]:
    """The blocks of a pack; they cover its tokens, each once."""
    return [block for group in layout.groups for block in _of_group(group)]


def _of_group(group: GroupLayout) -> Iterator[Block]:
    end = group.start + group.n_prefix
    for start in range(group.start, end, PREFIX_PIECE):
        stop = min(start + PREFIX_PIECE, end)
        yield Block(start, stop, group.start, start - group.start, ((start, stop - start),))
    for block in group.blocks:
        lengths = block.valid.sum(1).tolist()
        runs = tuple(zip(block.index[:, 0].tolist(), lengths, strict=True))
        yield Block(runs[0][0], runs[-1][0] + runs[-1][1], group.start, group.n_prefix, runs)


class PackAttention:
    """Of one pass over one pack; see `layer.Attention`."""

    def __init__(self, layout: PackLayout, shape: tuple[int, int, int]) -> None:
        """`shape`: query heads, key heads, depth."""
        self.blocks = blocks_of(layout)
        n_heads, self.n_kv, self.depth = shape
        self.shared = n_heads // self.n_kv  # query heads a key head
        self.scores: torch.Tensor | None = None  # flat scratch, all finite
        self.hidden = [self._hidden(block) for block in self.blocks]

    @cached_property
    def _n_scores(self) -> int:
        return max(self.n_kv * (b.stop - b.start) * self.shared * b.width for b in self.blocks)

    def forward(self, qkv: torch.Tensor, *, keep: bool) -> tuple[torch.Tensor, Any]:
        """The result (T, heads * d), and scaled queries with the weights of each block where `keep`."""
        q, k, v = self._split(qkv)
        q = self._by_kv(q, self.depth**-0.5)
        by_kv = torch.empty_like(q)
        kept = []
        for block, hidden in zip(self.blocks, self.hidden, strict=True):
            weights = self._weights(q, k, block, hidden)
            self._apply(weights, v, block, by_kv)
            if keep:
                kept.append(weights)
        return self._by_token(by_kv), (q, kept) if keep else None

    def backward(self, grad: torch.Tensor, qkv: torch.Tensor, out: torch.Tensor, kept: Any) -> torch.Tensor:
        """The gradient of `qkv`."""
        _, k, v = self._split(qkv)
        q, all_weights = kept
        g = self._by_kv(self._split_result(grad), 1.0)
        of_q = torch.empty_like(q)
        of_k, of_v = (torch.zeros(self.n_kv, len(qkv), self.depth, dtype=qkv.dtype) for _ in range(2))
        for block, weights in zip(self.blocks, all_weights, strict=True):
            rows, span, n = self._rows(block), slice(block.span, block.span + block.n_span), block.n_span
            scores = self._scratch(block, qkv)
            torch.bmm(g[:, rows], v[:, span].transpose(1, 2), out=scores[..., :n])
            for own, keys in self._runs(block):
                part = scores[
                    :, own.start - rows.start : own.stop - rows.start, n : n + keys.stop - keys.start
                ]
                torch.bmm(g[:, own], v[:, keys].transpose(1, 2), out=part)
            of_scores = torch._softmax_backward_data(scores, weights, -1, weights.dtype)
            of_v[:, span].baddbmm_(weights[..., :n].transpose(1, 2), g[:, rows])
            of_k[:, span].baddbmm_(of_scores[..., :n].transpose(1, 2), q[:, rows])
            torch.bmm(of_scores[..., :n], k[:, span], out=of_q[:, rows])
            for own, keys in self._runs(block):
                some = slice(own.start - rows.start, own.stop - rows.start)
                columns = slice(n, n + keys.stop - keys.start)
                of_v[:, keys].baddbmm_(weights[:, some, columns].transpose(1, 2), g[:, own])
                of_k[:, keys].baddbmm_(of_scores[:, some, columns].transpose(1, 2), q[:, own])
                of_q[:, own].baddbmm_(of_scores[:, some, columns], k[:, keys])
        of_q *= self.depth**-0.5
        of_qkv = torch.empty_like(qkv)
        for part, value in zip(
            self._split(of_qkv), (of_q.view(self.n_kv, -1, self.shared, self.depth), of_k, of_v), strict=True
        ):
            part.copy_(value)
        return of_qkv

    def _weights(self, q: torch.Tensor, k: torch.Tensor, block: Block, hidden: torch.Tensor) -> torch.Tensor:
        """(kv, rows * shared, width): 0 where nothing is seen."""
        rows, n = self._rows(block), block.n_span
        scores = self._scratch(block, q)
        torch.bmm(q[:, rows], k[:, block.span : block.span + n].transpose(1, 2), out=scores[..., :n])
        for own, keys in self._runs(block):
            part = scores[:, own.start - rows.start : own.stop - rows.start, n : n + keys.stop - keys.start]
            torch.bmm(q[:, own], k[:, keys].transpose(1, 2), out=part)
        scores[..., n:].masked_fill_(hidden, torch.finfo(scores.dtype).min)
        return torch.softmax(scores, dim=-1)

    def _apply(self, weights: torch.Tensor, v: torch.Tensor, block: Block, out: torch.Tensor) -> None:
        rows, n = self._rows(block), block.n_span
        torch.bmm(weights[..., :n], v[:, block.span : block.span + n], out=out[:, rows])
        for own, keys in self._runs(block):
            part = weights[:, own.start - rows.start : own.stop - rows.start, n : n + keys.stop - keys.start]
            out[:, own].baddbmm_(part, v[:, keys])

    def _rows(self, block: Block) -> slice:
        return slice(block.start * self.shared, block.stop * self.shared)

    def _runs(self, block: Block) -> Iterator[tuple[slice, slice]]:
        """Rows and keys of each run."""
        for start, length in block.runs:
            yield slice(start * self.shared, (start + length) * self.shared), slice(start, start + length)

    def _hidden(self, block: Block) -> torch.Tensor:
        """(rows * shared, width - span) bool: own tokens that come later, and columns beyond a shorter run."""
        columns = torch.arange(block.width - block.n_span)
        place = torch.cat([torch.arange(length) for _, length in block.runs])
        return (columns > place[:, None]).repeat_interleave(self.shared, dim=0)

    def _scratch(self, block: Block, like: torch.Tensor) -> torch.Tensor:
        """(kv, rows * shared, width) with finite numbers."""
        if self.scores is None:
            self.scores = torch.zeros(self._n_scores, dtype=like.dtype)
        n_rows = (block.stop - block.start) * self.shared
        return self.scores[: self.n_kv * n_rows * block.width].view(self.n_kv, n_rows, block.width)

    def _split(self, qkv: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Views by key head: queries (kv, T, shared, d), keys and values (kv, T, d)."""
        n = self.n_kv * self.depth
        q, k, v = qkv.split([self.shared * n, n, n], dim=1)
        k, v = (x.unflatten(1, (self.n_kv, self.depth)).transpose(0, 1) for x in (k, v))
        return self._split_result(q), k, v

    def _split_result(self, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(1, (self.n_kv, self.shared, self.depth)).transpose(0, 1)

    def _by_kv(self, x: torch.Tensor, factor: float) -> torch.Tensor:
        """(kv, T, shared, d) to (kv, T * shared, d), in one piece, times `factor`."""
        out = torch.empty(x.shape, dtype=x.dtype)
        torch.mul(x, factor, out=out)
        return out.flatten(1, 2)

    def _by_token(self, x: torch.Tensor) -> torch.Tensor:
        """(kv, T * shared, d) to (T, heads * d)."""
        return x.view(self.n_kv, -1, self.shared * self.depth).transpose(0, 1).flatten(1)
