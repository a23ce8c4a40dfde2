"""Schema-shared packs: a schema is computed once for the questions that are asked of it, with exact gradients.

A pack holds groups; a group is one prefix and k questions, each `suffix + answer`. Positions restart at the prefix's
end for every question, and a question sees the prefix and itself: every token attends to exactly what it would in a
sequence of its own, so loss and gradients are those of separate sequences.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from groundql.errors import AskedWrongly
from groundql.models.workload import fill_packs
from groundql.training.attention import layout_of
from groundql.training.examples import Example
from groundql.training.fused.spans import spans_of

IGNORE = -100  # the label that carries no loss
ALONE = 32  # on CUDA, packs of a multiple of this length gave NaN gradients under a dense mask: one token is added


@dataclass
class Pack:
    """Token ids with, for each, its position, its group and its question (-1: the group's prefix)."""

    input_ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    groups: list[int] = field(default_factory=list)
    questions: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)  # the token itself where it carries loss, else IGNORE
    n_questions: int = 0

    def __len__(self) -> int:
        return len(self.input_ids)

    def add_group(self, examples: Sequence[Example]) -> None:
        """Append one prefix and the questions that share it."""
        group = self.groups[-1] + 1 if self.groups else 0
        prefix = examples[0].prefix
        examples = sorted(
            examples, key=lambda e: e.n_tokens
        )  # their order changes nothing but padding in attention
        self._extend(prefix, range(len(prefix)), group, -1, [IGNORE] * len(prefix))
        for example in examples:
            ids = example.suffix + example.answer
            start = len(prefix)
            labels = [IGNORE] * len(example.suffix) + list(example.answer)
            self._extend(ids, range(start, start + len(ids)), group, self.n_questions, labels)
            self.n_questions += 1

    def filled_up(self, n_tokens: int) -> "Pack":
        """This pack with a last group of tokens that mean nothing, so that it has `n_tokens`."""
        n = n_tokens - len(self)
        if n <= 0:
            return self
        full = Pack(
            list(self.input_ids),
            list(self.positions),
            list(self.groups),
            list(self.questions),
            list(self.labels),
            self.n_questions,
        )
        full._extend([0] * n, range(n), self.groups[-1] + 1, -1, [IGNORE] * n)
        return full

    def _extend(
        self, ids: Sequence[int], positions: range, group: int, question: int, labels: list[int]
    ) -> None:
        self.input_ids.extend(ids)
        self.positions.extend(positions)
        self.groups.extend([group] * len(ids))
        self.questions.extend([question] * len(ids))
        self.labels.extend(labels)


def make_packs(examples: Sequence[Example], *, pack_tokens: int, group_size: int, seed: int) -> list[Pack]:
    """Packs of at most `pack_tokens` tokens that hold every example once, in a seeded, mixed order.

    A group takes at most `group_size` questions: where that fills less than a pack, the pack mixes databases.

    Raises:
        AskedWrongly: an example alone is longer than the budget.
    """
    check_lengths(examples, pack_tokens)
    chance = random.Random(seed)
    by_prefix: dict[tuple[int, ...], list[Example]] = {}
    for example in examples:
        by_prefix.setdefault(example.prefix, []).append(example)
    groups = []
    for same in by_prefix.values():
        chance.shuffle(same)
        groups += _split_group(same, pack_tokens, group_size)
    chance.shuffle(groups)
    packs = []
    for places in fill_packs([_group_tokens(group) for group in groups], pack_tokens):
        pack = Pack()
        for place in places:
            pack.add_group(groups[place])
        packs.append(pack)
    chance.shuffle(packs)
    return packs


def check_lengths(examples: Sequence[Example], pack_tokens: int) -> None:
    """Every example fits a pack of its own.

    Raises:
        AskedWrongly: names the first one that does not.
    """
    for example in examples:
        if example.n_tokens > pack_tokens:
            raise AskedWrongly(
                f"question {example.question_id} on {example.db_id} has {example.n_tokens} tokens; raise "
                f"training.pack_tokens (now {pack_tokens}) or lower prompt.max_tokens"
            )


def _split_group(examples: list[Example], pack_tokens: int, group_size: int) -> list[list[Example]]:
    """Runs of at most `group_size` questions that fit a pack, of near-equal sizes."""
    prefix = len(examples[0].prefix)
    groups: list[list[Example]] = [[]]
    used = prefix
    n_groups = -(-len(examples) // group_size)
    even_size = -(-len(examples) // n_groups)
    for example in examples:
        size = len(example.suffix) + len(example.answer)
        if groups[-1] and (len(groups[-1]) >= even_size or used + size > pack_tokens):
            groups.append([])
            used = prefix
        groups[-1].append(example)
        used += size
    return groups


def _group_tokens(group: Sequence[Example]) -> int:
    return len(group[0].prefix) + sum(len(e.suffix) + len(e.answer) for e in group)


def collate_pack(
    packs: Sequence[Pack], *, with_spans: bool = False, size: tuple[int, int] | None = None
) -> dict[str, Any]:
    """One pack as a batch: no quadratic mask, no padding but up to `size` where every batch is to have one shape.

    Args:
        packs: one.
        with_spans: for `fused.flash`.
        size: tokens and label positions to fill up to; what is added carries no loss and is seen by no question.

    Returns:
        input_ids, position_ids: (1, T) int64. logits_to_keep: (K,) and labels: (1, K) as `collate_packs`.
        pack_layout: for `attention.packed_attention`; spans in its place, for `fused.flash`, where `with_spans`.
        attention_mask: (1, 1, 1, 1), which keeps transformers from making its own.
        targets: `labels` once more: the Trainer counts those and keeps them from the model.
    """
    (pack,) = packs
    if size:
        pack = pack.filled_up(size[0])
    labels = torch.tensor([pack.labels])
    kept = (labels != IGNORE).any(0).nonzero().squeeze(1)
    kept = torch.cat([kept[:1], kept])
    targets = labels[:, kept].clone()
    targets[:, 0] = IGNORE
    if size:
        n_more = size[1] - len(kept)
        kept = torch.nn.functional.pad(kept, (0, n_more), value=1)
        targets = torch.nn.functional.pad(targets, (0, n_more), value=IGNORE)
    return {
        "input_ids": torch.tensor([pack.input_ids]),
        "position_ids": torch.tensor([pack.positions]),
        "attention_mask": torch.ones(1, 1, 1, 1, dtype=torch.bool),
        **_sight(pack, with_spans),
        "logits_to_keep": kept - 1,
        "labels": targets,
        "targets": targets,
    }


def _sight(pack: Pack, with_spans: bool) -> dict[str, Any]:
    """What each token sees, for the one attention or the other."""
    if with_spans:
        return {"spans": spans_of(pack.groups, pack.questions, pack.positions)}
    return {"pack_layout": layout_of(pack.groups, pack.questions)}


def collate_packs(
    packs: Sequence[Pack], *, pad_id: int, window: int | None = None
) -> dict[str, torch.Tensor]:
    """Packs as one batch for a causal language model that is given its own mask.

    `logits_to_keep` are the positions before a label: only there are logits computed. `labels` stand for these
    positions; their first column is IGNORE, so that counting them shifted or unshifted gives the same.

    Args:
        packs: B of them.
        pad_id: fills up shorter packs; such tokens see only themselves.
        window: the sliding window of the model's attention, in positions.

    Returns:
        input_ids, position_ids: (B, T) int64. attention_mask: (B, 1, T, T) bool, True where row may see column.
        logits_to_keep: (K,) int64. labels: (B, K) int64.
    """
    length = max(len(pack) for pack in packs)
    length += length % ALONE == 0
    shape = (len(packs), length)
    input_ids = torch.full(shape, pad_id)
    positions = torch.zeros(shape, dtype=torch.int64)
    groups = torch.full(shape, -1)
    questions = torch.full(shape, -1)
    labels = torch.full(shape, IGNORE)
    for row, pack in enumerate(packs):
        n = len(pack)
        input_ids[row, :n] = torch.tensor(pack.input_ids)
        positions[row, :n] = torch.tensor(pack.positions)
        groups[row, :n] = torch.tensor(pack.groups)
        questions[row, :n] = torch.tensor(pack.questions)
        labels[row, :n] = torch.tensor(pack.labels)
    kept = (labels != IGNORE).any(0).nonzero().squeeze(1)
    kept = torch.cat([kept[:1], kept])  # a first column that carries no loss
    targets = labels[:, kept].clone()
    targets[:, 0] = IGNORE
    return {
        "input_ids": input_ids,
        "position_ids": positions,
        "attention_mask": _sees(groups, questions, positions, window).unsqueeze(1),
        "logits_to_keep": kept - 1,
        "labels": targets,
        "targets": targets,
    }


def _sees(
    groups: torch.Tensor, questions: torch.Tensor, positions: torch.Tensor, window: int | None
) -> torch.Tensor:
    """(B, T, T) bool: same group, the prefix or the same question, not later, within the window; self always."""
    length = groups.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    same_group = groups[:, :, None] == groups[:, None, :]
    of_prefix = questions[:, None, :] == -1
    same_question = questions[:, :, None] == questions[:, None, :]
    sees = causal & same_group & (of_prefix | same_question) & (groups[:, None, :] >= 0)
    if window:
        sees &= positions[:, :, None] - positions[:, None, :] < window
    return sees | torch.eye(length, dtype=torch.bool)


def collate_examples(examples: Sequence[Example], *, pad_id: int) -> dict[str, torch.Tensor]:
    """Questions as separate rows, padded on the right: the stock way, for the paper's recipe and as a reference.

    Returns:
        input_ids, attention_mask: (B, T) int64. logits_to_keep, labels: as `collate_packs`.
    """
    rows = [example.prefix + example.suffix + example.answer for example in examples]
    length = max(map(len, rows))
    input_ids = torch.full((len(rows), length), pad_id)
    mask = torch.zeros((len(rows), length), dtype=torch.int64)
    labels = torch.full((len(rows), length), IGNORE)
    for i, (row, example) in enumerate(zip(rows, examples, strict=True)):
        input_ids[i, : len(row)] = torch.tensor(row)
        mask[i, : len(row)] = 1
        labels[i, len(row) - len(example.answer) : len(row)] = torch.tensor(example.answer)
    kept = (labels != IGNORE).any(0).nonzero().squeeze(1)
    kept = torch.cat([kept[:1], kept])
    targets = labels[:, kept].clone()
    targets[:, 0] = IGNORE
    return {
        "input_ids": input_ids,
        "attention_mask": mask,
        "logits_to_keep": kept - 1,
        "labels": targets,
        "targets": targets,
    }


def label_loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
    """The loss of one batch, divided by the label tokens of the whole optimizer step.

    Args:
        outputs: what a model with `fused.model.install` answers.
        labels: (B, K) int64, IGNORE where there is none.
        num_items_in_batch: label tokens over all accumulated batches and devices; None: of this batch.
    """
    n = num_items_in_batch if num_items_in_batch is not None else (labels != IGNORE).sum()
    loss: torch.Tensor = outputs["loss_sum"] / n
    return loss
