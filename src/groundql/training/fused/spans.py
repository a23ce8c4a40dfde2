"""What each token of a pack sees, as spans of the pack: two for a query, one for a key. No mask.

A token sees the part of its group's prefix in [prefix_start, prefix_end), and its own run from `own_start` up to
itself; for a token of the prefix the own run is the prefix and the first span is empty. A key is seen by tokens from
itself up to `last`: the end of its group if it is of a prefix, else the end of its question.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

TILE = 64  # tokens of one program of the attention kernels, for queries and keys


@dataclass(frozen=True)
class Spans:
    """int32 tensors; T tokens, n tiles of `TILE` tokens."""

    own_start: torch.Tensor  # (T,)
    prefix_start: torch.Tensor  # (T,)
    prefix_end: torch.Tensor  # (T,)
    positions: torch.Tensor  # (T,): as the model counts them, for a sliding window
    of_queries: (
        torch.Tensor
    )  # (n, 4): keys that a tile of queries sees: [0, 1) of prefixes, [2, 3) of their own
    of_keys: torch.Tensor  # (n,): end of the queries that see a tile of keys; they begin with the tile
    tile_order: torch.Tensor  # (n,): tiles of keys, those with most queries first
    tile: int  # tokens of a tile

    def to(self, device: torch.device | str, **options: Any) -> "Spans":
        """The same on another device: accelerate calls this when it moves a batch."""
        moved = {
            name: value.to(device, **options) if isinstance(value, torch.Tensor) else value
            for name, value in vars(self).items()
        }
        return Spans(**moved)


def spans_of(
    groups: Sequence[int], questions: Sequence[int], positions: Sequence[int], *, tile: int = TILE
) -> Spans:
    """The spans of one pack, from each token's group, question (-1: prefix) and position, as in `Pack`."""
    group, question = torch.tensor(groups), torch.tensor(questions)
    n = len(group)
    at = torch.arange(n)
    is_new = torch.ones(n, dtype=torch.bool)
    is_new[1:] = (group[1:] != group[:-1]) | (question[1:] != question[:-1])
    run = is_new.cumsum(0) - 1
    starts = at[is_new]
    ends = torch.cat([starts[1:], torch.tensor([n])])
    own_start = starts[run]
    group_end = torch.searchsorted(group, group, right=True)  # groups are numbered upwards
    group_start = torch.searchsorted(group, group)
    is_prefix = question == -1
    first_end = ends[run[group_start]]  # of the group's first run
    prefix_end = torch.where(is_prefix | ~is_prefix[group_start], group_start, first_end)
    last = torch.where(is_prefix, group_end, ends[run])
    some = prefix_end > group_start
    of_queries = torch.stack(
        [
            _by_tile(torch.where(some, group_start, n), n, tile).amin(1),
            _by_tile(torch.where(some, prefix_end, 0), 0, tile).amax(1),
            _by_tile(own_start, n, tile).amin(1),
            _by_tile(at + 1, 0, tile).amax(1),
        ],
        dim=1,
    )
    seen = _by_tile(last, 0, tile).amax(1)
    order = (seen - torch.arange(0, n, tile)).argsort(descending=True, stable=True)
    tensors = {
        "own_start": own_start,
        "prefix_start": group_start,
        "prefix_end": prefix_end,
        "positions": torch.tensor(positions),
        "of_queries": of_queries,
        "of_keys": seen,
        "tile_order": order,
    }
    return Spans(tile=tile, **{name: value.to(torch.int32) for name, value in tensors.items()})


def _by_tile(values: torch.Tensor, fill: int, tile: int) -> torch.Tensor:
    """(n, tile): the tokens of each tile, the last one filled up."""
    return torch.nn.functional.pad(values, (0, -len(values) % tile), value=fill).view(-1, tile)
