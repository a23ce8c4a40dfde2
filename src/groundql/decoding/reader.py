"""Reads prompts before they are decoded: each schema once, each question once, many in one forward pass. Needs torch."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from groundql.decoding.attention import Reading, forward_pass
from groundql.decoding.schedule import Prefix, Row

Kind = tuple[
    Prefix, tuple[int, ...]
]  # a prefix, and a suffix but for its last token, which the first step reads


class Reader:
    """Keys and values of prefixes and suffixes, kept for as long as rows need them."""

    def __init__(self, model: Any, rows: Sequence[Row], *, tokens_at_once: int, tokens_ahead: int) -> None:
        """`tokens_at_once` bounds one forward pass, padding counted, and passes are filled up with rows to come.

        But no suffix while so many as `tokens_ahead` of suffixes are held, no prefix while so many of both; 0: never.
        """
        self._model = model
        self._tokens_at_once = tokens_at_once
        self._tokens_ahead = tokens_ahead
        self._prefixes: dict[Prefix, torch.Tensor] = {}
        self._suffixes: dict[Kind, torch.Tensor] = {}
        self._n_left = Counter(map(_kind, rows))  # rows that are not taken

    def prefix(self, prefix: Prefix) -> torch.Tensor:
        """(layers, 2, kv_heads, P, d) of a prefix that was read."""
        return self._prefixes[prefix]

    def take(self, row: Row) -> torch.Tensor:
        """(layers, 2, kv_heads, W, d) of the suffix of a row that was read, its last token left out."""
        kind = _kind(row)
        self._n_left[kind] -= 1
        if not kind[1]:
            return self._prefixes[row.prefix][:, :, :, :0]
        return self._suffixes[kind] if self._n_left[kind] else self._suffixes.pop(kind)

    def read(self, rows: Sequence[Row], coming: Iterable[Row]) -> None:
        """Compute what `rows` need, and of `coming` what fits the same passes."""
        n_prefixes, n_suffixes = _n_tokens(self._prefixes), _n_tokens(self._suffixes)
        coming = list(coming) if n_suffixes < self._tokens_ahead else []
        self._read_prefixes(rows, coming if n_prefixes + n_suffixes < self._tokens_ahead else [])
        kinds = dict.fromkeys(kind for row in rows if (kind := _kind(row))[1] and kind not in self._suffixes)
        if not kinds:
            return
        width = max(len(suffix) for _, suffix in kinds)
        for row in coming:
            kind = _kind(row)
            width = max(width, len(kind[1]))
            if (len(kinds) + 1) * width > self._tokens_at_once:
                break
            if kind[1] and kind not in self._suffixes and row.prefix in self._prefixes:
                kinds[kind] = None
        self._read_suffixes(sorted(kinds, key=lambda kind: len(kind[1])))

    def forget(self, waiting: Iterable[Prefix]) -> None:
        """Drop prefixes that no row waits for."""
        kept = set(waiting)
        self._prefixes = {prefix: states for prefix, states in self._prefixes.items() if prefix in kept}

    def _read_prefixes(self, rows: Sequence[Row], coming: Sequence[Row]) -> None:
        """Compute the prefixes of `rows`, and where there are new ones, of `coming` what fits the same pass."""
        new = dict.fromkeys(row.prefix for row in rows if row.prefix not in self._prefixes)
        if not new:
            return
        width = max(map(len, new))
        for prefix in dict.fromkeys(row.prefix for row in coming if row.prefix not in self._prefixes):
            width = max(width, len(prefix))
            if (len(new) + 1) * width > self._tokens_at_once:
                break
            new[prefix] = None
        unread = sorted(new, key=len)
        while unread:
            chunk, unread = self._chunk(unread, [len(prefix) for prefix in unread])
            states = self._states(chunk, Reading(max(1, len(chunk[-1]))), [0] * len(chunk))
            for i, prefix in enumerate(chunk):
                self._prefixes[prefix] = states[:, :, i, :, : len(prefix)].clone()

    def _read_suffixes(self, unread: list[Kind]) -> None:
        while unread:
            chunk, unread = self._chunk(unread, [len(suffix) for _, suffix in unread])
            prefixes = list(dict.fromkeys(prefix for prefix, _ in chunk))
            longest = max(prefixes, key=len)
            size = self._prefixes[longest].shape
            padded = self._prefixes[longest].new_zeros(
                *size[:2], len(prefixes), size[2], max(1, size[3]), size[4]
            )
            for i, prefix in enumerate(prefixes):
                padded[:, :, i, :, : len(prefix)] = self._prefixes[prefix]
            of_row = torch.tensor([prefixes.index(prefix) for prefix, _ in chunk], device=padded.device)
            starts = [len(prefix) for prefix, _ in chunk]
            reading = Reading(len(chunk[-1][1]), padded, of_row, torch.tensor(starts, device=padded.device))
            states = self._states([suffix for _, suffix in chunk], reading, starts)
            for i, kind in enumerate(chunk):
                self._suffixes[kind] = states[
                    :, :, i, :, : len(kind[1])
                ].clone()  # else it holds all of the pass

    def _states(
        self, texts: Sequence[tuple[int, ...]], reading: Reading, starts: Sequence[int]
    ) -> torch.Tensor:
        """Read texts, the longest last, that begin at positions `starts`: (layers, 2, texts, kv_heads, W, d)."""
        device = self._model.device
        width = max(1, len(texts[-1]))
        ids = torch.tensor([[*text, *[0] * (width - len(text))] for text in texts], device=device)
        positions = torch.tensor(starts, device=device)[:, None] + torch.arange(width, device=device)
        forward_pass(self._model, ids, positions, reading)
        if not reading.states:  # a model without attention
            return torch.zeros(0, 2, len(texts), 1, width, 1, device=device)
        return torch.stack(reading.states)

    def _chunk(self, unread: list[Any], lengths: Sequence[int]) -> tuple[list[Any], list[Any]]:
        """The first of `unread`, shortest first, that fit one pass (at least one), and the rest."""
        n = 1
        while n < len(unread) and (n + 1) * lengths[n] <= self._tokens_at_once:
            n += 1
        return unread[:n], unread[n:]


def _n_tokens(held: Mapping[Any, torch.Tensor]) -> int:
    return sum(states.shape[3] for states in held.values())


def _kind(row: Row) -> Kind:
    return row.prefix, row.suffix[:-1]
