"""The device's side of a batch: slots in groups, each group on one prefix, and the step that all slots take together.

All tensors keep their shape and address for the life of a `Slots`, so that its step can be captured as one CUDA graph;
without a graph the same step runs as it is. Needs torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from groundql.decoding.attention import Stepping, forward_pass
from groundql.decoding.sampling import gumbel_noise
from groundql.decoding.schedule import Row, Shape

PIECE = 64  # tokens of the vocabulary whose maximum is taken together


@dataclass(frozen=True)
class Choosing:
    """How the device ranks tokens."""

    n_best: int = 1  # tokens offered for each row; more are fetched when all are refused
    temperature: float = 0.0  # 0: by probability; else drawn, with Gumbel noise


class Slots:
    """`shape.n_slots` rows with their caches. Rows are computed whether taken or not; a free one harms nothing."""

    def __init__(self, model: Any, shape: Shape, choosing: Choosing, layers: torch.Tensor) -> None:
        """`layers`: any (layers, 2, kv_heads, P, d) states of this model, for their shape and type."""
        n_layers, _, n_kv, _, depth = layers.shape
        device = model.device
        self.shape = shape
        self._model = model
        self._choosing = choosing
        size = (n_layers, 2, shape.n_groups, n_kv, shape.n_prefix, depth)
        self._prefix = layers.new_zeros(size)
        self._own = layers.new_zeros(n_layers, 2, shape.n_slots, n_kv, shape.n_own, depth)
        self._prefix_lengths = torch.zeros(shape.n_groups, dtype=torch.long, device=device)
        self._tokens = torch.zeros(shape.n_slots, dtype=torch.long, device=device)  # each row's last
        self._at = torch.zeros(
            shape.n_slots, dtype=torch.long, device=device
        )  # its place among the row's own
        self._first = torch.zeros(
            shape.n_slots, dtype=torch.long, device=device
        )  # place of the suffix's last
        self._seeds = torch.zeros(shape.n_slots, dtype=torch.long, device=device)
        self._scores = self._log_probabilities = torch.empty(0)  # (B, vocab), of the last step
        self.best = torch.empty(0)  # (B, 2 * n_best) int32: ids, then the bits of float32 log-probabilities

    def set_prefix(self, group: int, states: torch.Tensor) -> None:
        """Give `group` a prefix: (layers, 2, kv_heads, P, d)."""
        n = states.shape[3]
        self._prefix[:, :, group, :, :n] = states
        self._prefix_lengths[group] = n

    def place(self, slots: Sequence[int], rows: Sequence[Row], suffixes: Sequence[torch.Tensor]) -> None:
        """Give `slots` new rows. `suffixes`: (layers, 2, kv_heads, W, d) of each, its last token left to the next step."""
        for slot, states in zip(slots, suffixes, strict=True):
            self._own[:, :, slot, :, : states.shape[3]] = states
        columns = [
            slots,
            [row.suffix[-1] for row in rows],
            [len(row.suffix) - 1 for row in rows],
            [row.seed for row in rows],
        ]
        index, tokens, at, seed = self._upload(columns)
        self._tokens.index_copy_(0, index, tokens)
        self._at.index_copy_(0, index, at)
        self._first.index_copy_(0, index, at)
        self._seeds.index_copy_(0, index, seed)

    def put_back(self, slots: Sequence[int], tokens: Sequence[int], n_ids: Sequence[int]) -> None:
        """The next step of `slots` reads these tokens, each the row's `n_ids`-th of its own making."""
        index, token, n = self._upload([slots, tokens, n_ids])
        self._tokens.index_copy_(0, index, token)
        self._at.index_copy_(0, index, self._first[index] + n)

    def step(self, n_own: int | None = None) -> None:
        """Every row reads its token; `best` says what may follow, and the best of it is each row's next token.

        `n_own`: places that any row has come to, where the caller knows; less is then attended to.
        """
        shape = self.shape
        positions = (self._prefix_lengths[:, None] + self._at.view(-1, shape.n_rows)).view(-1)
        stepping = Stepping(self._prefix, self._own, self._prefix_lengths, self._at, n_own or shape.n_own)
        scores = forward_pass(self._model, self._tokens[:, None], positions[:, None], stepping)
        log_probabilities = scores.float().log_softmax(-1)  # several passes fewer than logsumexp
        if self._choosing.temperature:
            noise = gumbel_noise(self._seeds, self._at - self._first, scores.shape[-1])
            scores = scores.float() / self._choosing.temperature + noise
        ids = best_tokens(scores, self._choosing.n_best)
        self._scores, self._log_probabilities = scores, log_probabilities
        of_best = log_probabilities.gather(1, ids)
        self.best = torch.cat([ids.to(torch.int32), of_best.view(torch.int32)], dim=1)
        self._tokens.copy_(ids[:, 0])
        self._at.add_(1).clamp_(max=shape.n_own - 1)  # a free slot goes on: no further than its own cache

    def whole_rows(self, slots: Sequence[int]) -> torch.Tensor:
        """Scores and log-probabilities of the last step over the whole vocabulary: (2, len(slots), vocab)."""
        (index,) = self._upload([slots])
        return torch.stack([self._scores[index].float(), self._log_probabilities[index]])

    def move(self, old: Sequence[int], new: Sequence[int]) -> None:
        """Rows change to free slots whose groups have the same prefix."""
        from_, to = self._upload([old, new])
        self._own[:, :, to] = self._own[:, :, from_]
        for of_slot in (self._tokens, self._at, self._first, self._seeds):
            of_slot.index_copy_(0, to, of_slot[from_])

    def moved(self, shape: Shape, groups: Sequence[int], slots: dict[int, int]) -> "Slots":
        """A `Slots` of another shape with `groups` as its first groups; `slots` (old to new) keep their rows.

        Both caches are held at once; what is copied goes layer by layer, so that it is not held a third time.
        """
        other = Slots(self._model, shape, self._choosing, self._own[:, :, 0])
        old_groups = self._upload([groups])[0]
        n_prefix = min(shape.n_prefix, self.shape.n_prefix)
        for of_layer, of_old in zip(other._prefix, self._prefix, strict=True):
            of_layer[:, : len(groups), :, :n_prefix] = of_old[:, old_groups, :, :n_prefix]
        other._prefix_lengths[: len(groups)] = self._prefix_lengths[old_groups]
        old, new = self._upload([list(slots), list(slots.values())])
        n_own = min(shape.n_own, self.shape.n_own)
        for of_layer, of_old in zip(other._own, self._own, strict=True):
            of_layer[:, new, :, :n_own] = of_old[:, old, :, :n_own]
        for name in ("_tokens", "_at", "_first", "_seeds"):
            getattr(other, name).index_copy_(0, new, getattr(self, name)[old])
        return other

    def _upload(self, columns: Sequence[Sequence[int]]) -> torch.Tensor:
        """(columns, n) int64 on the device, without waiting for it."""
        table = torch.tensor(columns, dtype=torch.long)
        if self._tokens.is_cuda:
            return table.pin_memory().to(self._tokens.device, non_blocking=True)
        return table


def best_tokens(scores: torch.Tensor, n: int) -> torch.Tensor:
    """(B, n) int64: the tokens with the highest of `scores`, (B, vocab), the highest first.

    The `n` best stand in the `n` pieces of the vocabulary with the highest maxima, so `scores` is read once and not, as
    `topk` does it, once for every 8 bits of a number.
    """
    if n == 1:
        return scores.argmax(-1, keepdim=True)
    n_rows, n_tokens = scores.shape
    n_pieces = n_tokens // PIECE
    if n_tokens % PIECE or n_pieces < 2 * n:
        return scores.topk(n).indices
    pieces = scores.reshape(n_rows, n_pieces, PIECE)
    places = pieces.amax(-1).topk(n).indices
    some = pieces.gather(1, places[:, :, None].expand(-1, -1, PIECE)).flatten(1)
    at = some.topk(n).indices
    return places.gather(1, at // PIECE) * PIECE + at % PIECE
