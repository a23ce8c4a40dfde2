"""What a training goes through, from lengths alone: its passes, their attention, operations and time. No torch.

A pass is one forward and backward of one batch. Packs are filled by the rule of `training.packs.make_packs` with the
same chances, so that exact lengths give the very packs of the training; a test holds the two together.
"""

import random
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from groundql.config import Config, TrainingSettings
from groundql.models.catalog import BaseModelRow

QUESTIONS_AT_ONCE = (
    8  # of a group in one piece of attention, padded to the longest: as training.attention has it
)
ALONE = 32  # packs under a dense mask get one token more where this divides their length: as training.packs has it
GROUPS_AHEAD = 128  # of the order, among which a pack looks for those that fill it
WINDOWS = {"starcoder2": 4096}  # positions that attention looks back, where it is limited (its config.json)


@dataclass(frozen=True)
class QuestionLengths:
    """Tokens of one question; questions with the same `prefix` share the prompt's first part."""

    prefix: Hashable  # any name for the shared text
    n_prefix: int
    n_suffix: int
    n_answer: int  # what carries loss, the end token with it

    @property
    def n_own(self) -> int:
        return self.n_suffix + self.n_answer

    @property
    def n_tokens(self) -> int:
        return self.n_prefix + self.n_own


@dataclass(frozen=True, kw_only=True)
class Pass:
    """Sizes of one forward and backward."""

    n_tokens: int  # through every linear, padding with them
    n_real_tokens: int
    n_logit_rows: int  # positions that go through the output head
    n_prefix: int = 0  # tokens of shared prefixes, each attended within itself (packs without a dense mask)
    n_own: int = 0  # tokens of questions, padded in their blocks (the same packs)
    n_own_scores: int = 0  # attention weights a head, of questions on themselves (the same packs)
    n_prefix_scores: int = 0  # of questions on their prefix (the same packs)
    n_mask_cells: int = 0  # of a dense mask
    n_pairs: float  # (token, token seen) a head: what attention computes


def make_passes(
    questions: Sequence[QuestionLengths], settings: TrainingSettings, *, window: int | None = None
) -> list[Pass]:
    """The passes of one epoch.

    Padded batches are drawn as the training draws them, but they are not the same ones: there the chances are torch's.
    """
    size = settings.batch_size
    if settings.packing == "none":
        rows = list(questions)
        random.Random(settings.seed).shuffle(rows)
        return [_padded(rows[i : i + size]) for i in range(0, len(rows), size)]
    packs = _fill_packs(questions, settings)
    if size == 1 and (window is None or max(q.n_tokens for q in questions) <= window):
        return [_packed(groups) for groups in packs]
    return [_masked(packs[i : i + size]) for i in range(0, len(packs), size)]


def _fill_packs(
    questions: Sequence[QuestionLengths], settings: TrainingSettings
) -> list[list[list[QuestionLengths]]]:
    """Packs of groups of questions. A question longer than a pack, which the training refuses, gets its own."""
    chance = random.Random(settings.seed)
    by_prefix: dict[Hashable, list[QuestionLengths]] = {}
    for question in questions:
        by_prefix.setdefault(question.prefix, []).append(question)
    groups = []
    for same in by_prefix.values():
        chance.shuffle(same)
        groups += _split(same, settings)
    chance.shuffle(groups)
    chosen = fill_packs([_group_tokens(group) for group in groups], settings.budget_tokens)
    return [[groups[i] for i in places] for places in chosen]


def fill_packs(sizes: Sequence[int], pack_tokens: int) -> list[list[int]]:
    """Which groups make a pack together, as places in `sizes`: each pack as full as can be, the order nearly kept.

    A pack takes the first group that is left and, of those after it, the earliest that fill it to the last token
    (a subset sum, by bits of one number), or nearly so where none do. A group above the budget gets its own pack.
    """
    left = list(range(len(sizes)))
    packs = []
    while left:
        first, *others = left[: GROUPS_AHEAD + 1]
        room = max(0, pack_tokens - sizes[first])
        mask = (1 << (room + 1)) - 1
        sums = [1]  # bit n: some of the candidates so far have n tokens together
        candidates: list[int] = []
        for place in others:
            if sums[-1] >> room:
                break
            candidates.append(place)
            sums.append(sums[-1] | (sums[-1] << sizes[place] & mask if sizes[place] <= room else 0))
        total = sums[-1].bit_length() - 1
        chosen = {first}
        for place, before in zip(reversed(candidates), reversed(sums[:-1]), strict=True):
            if not before >> total & 1:  # not without this one
                chosen.add(place)
                total -= sizes[place]
        packs.append(sorted(chosen))
        left = [place for place in left[: GROUPS_AHEAD + 1] if place not in chosen] + left[GROUPS_AHEAD + 1 :]
    return packs


def _split(same: list[QuestionLengths], settings: TrainingSettings) -> list[list[QuestionLengths]]:
    groups: list[list[QuestionLengths]] = [[]]
    used = same[0].n_prefix
    even_size = -(-len(same) // -(-len(same) // settings.group_size))
    for question in same:
        if groups[-1] and (len(groups[-1]) >= even_size or used + question.n_own > settings.budget_tokens):
            groups.append([])
            used = same[0].n_prefix
        groups[-1].append(question)
        used += question.n_own
    return groups


def _group_tokens(group: Sequence[QuestionLengths]) -> int:
    return group[0].n_prefix + sum(question.n_own for question in group)


def _packed(groups: Sequence[Sequence[QuestionLengths]]) -> Pass:
    """One pack in `training.attention.packed_attention`."""
    n_own = n_own_scores = n_prefix_scores = 0
    n_pairs = 0.0
    for group in groups:
        prefix = group[0].n_prefix
        own = sorted(question.n_own for question in group)
        n_pairs += prefix**2 / 2 + sum(n * prefix + n**2 / 2 for n in own)
        for i in range(0, len(own), QUESTIONS_AT_ONCE):
            block = own[i : i + QUESTIONS_AT_ONCE]
            n_block = len(block) * block[-1]
            n_own += n_block
            n_own_scores += n_block * block[-1]
            n_prefix_scores += n_block * prefix
    n_tokens = sum(map(_group_tokens, groups))
    return Pass(
        n_tokens=n_tokens,
        n_real_tokens=n_tokens,
        n_logit_rows=1 + sum(question.n_answer for group in groups for question in group),
        n_prefix=sum(group[0].n_prefix for group in groups),
        n_own=n_own,
        n_own_scores=n_own_scores,
        n_prefix_scores=n_prefix_scores,
        n_pairs=n_pairs,
    )


def _masked(packs: Sequence[Sequence[Sequence[QuestionLengths]]]) -> Pass:
    """Several packs, or one that a sliding window cuts, under a dense mask."""
    sizes = [sum(map(_group_tokens, groups)) for groups in packs]
    length = max(sizes) + (max(sizes) % ALONE == 0)
    n_answers = [sum(q.n_answer for group in groups for q in group) for groups in packs]
    return _rows_of(length, sizes, n_answers)


def _padded(batch: Sequence[QuestionLengths]) -> Pass:
    """Questions as separate rows; one row alone needs no mask."""
    sizes = [question.n_tokens for question in batch]
    return _rows_of(max(sizes), sizes, [question.n_answer for question in batch], needs_mask=len(batch) > 1)


def _rows_of(length: int, sizes: list[int], n_answers: list[int], *, needs_mask: bool = True) -> Pass:
    """Logits are computed in every row where any row has a label; at worst these places are all different."""
    cells = len(sizes) * length**2
    return Pass(
        n_tokens=len(sizes) * length,
        n_real_tokens=sum(sizes),
        n_logit_rows=len(sizes) * min(length, 1 + sum(n_answers)),
        n_mask_cells=cells if needs_mask else 0,
        n_pairs=cells
        if needs_mask
        else cells / 2,  # a dense mask keeps attention from passing over what it hides
    )


def recomputes(config: Config) -> bool:
    """Whether layers compute again in backward; "auto": where a card is named that they must fit."""
    asked = config.training.checkpointing
    return config.memory_gib is not None if asked == "auto" else asked


def operations(passes: Iterable[Pass], config: Config, row: BaseModelRow) -> float:
    """Floating-point operations of these passes, forward and backward.

    A frozen weight costs 2 a token forward and 2 for the input's gradient, 2 more where layers are recomputed; a LoRA
    weight 6 or 8; the head 4 at each of its rows; a pair of tokens 4 a query weight, 3.5 times for both directions,
    4.5 with recomputation.

    >>> from groundql.models.catalog import CATALOG
    >>> from groundql.config import DataSettings, LoraSettings, ModelSettings
    >>> config = Config(model=ModelSettings(name="Qwen2.5-Coder-1.5B-Instruct"), lora=LoraSettings(targets=()),
    ...     data=DataSettings(train="pocket"), training=TrainingSettings(select_by="last"))
    >>> token = Pass(n_tokens=1, n_real_tokens=1, n_logit_rows=0, n_pairs=0)
    >>> operations([token], config, CATALOG["Qwen2.5-Coder-1.5B-Instruct"]) / 1e9   # 4 times 1.31e9 weights
    5.240782848
    """
    again = recomputes(config)
    n_lora = row.n_lora_weights(config.lora.rank, config.lora.targets)
    a_token = (6 if again else 4) * row.n_linear_weights() + (8 if again else 6) * n_lora
    a_pair = 4 * (4.5 if again else 3.5) * row.n_heads * row.head_dim * row.n_layers
    a_logit_row = 4 * row.vocab * row.hidden
    return float(
        sum(a_token * p.n_tokens + a_pair * p.n_pairs + a_logit_row * p.n_logit_rows for p in passes)
    )


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What a machine is known to do, in 1e12 operations a second."""

    name: str
    peak: tuple[float, float] | None  # dense 16-bit, of its maker or measured on plain products
    sustained: tuple[float, float]  # of QLoRA trainings like ours, slowest and fastest known
    launch_s: float  # a layer and pass at least, however few tokens: starting kernels; twice that with recomputation
    source: str


MACHINES = (
    Machine(
        name="2 CPU cores",
        peak=None,
        sustained=(0.12, 0.15),
        launch_s=0,
        source="SmolLM2-135M in NF4 at 260 to 300 tokens/s",
    ),
    Machine(
        name="6 GB laptop card",
        peak=(20, 35),  # not verified: RTX 3050 to RTX 4050 class
        sustained=(3.0, 5.5),
        launch_s=0,
        source="Qwen2.5-1.5B on an RTX 4060 at 500 to 628 tokens/s, arXiv:2509.12229",
    ),
    Machine(
        name="H200",
        peak=(790, 790),
        sustained=(150, 190),
        launch_s=0.0085,
        source="the 1.5B shape in eager PyTorch: 16,400 to 17,400 tokens/s, and 470 ms a pass at least",
    ),
)


@dataclass(frozen=True, kw_only=True)
class Duration:
    """Seconds on a machine. `bound`: no program is faster there; `estimate`: fastest and slowest to expect."""

    machine: str
    bound_s: float | None
    estimate_s: tuple[float, float]
    source: str


def durations(
    n_operations: float, n_passes: float, config: Config, row: BaseModelRow
) -> tuple[Duration, ...]:
    """Bounds and estimates, not measurements: nothing here was run with this config."""
    found = []
    for machine in MACHINES:
        launches_s = machine.launch_s * row.n_layers * n_passes * (2 if recomputes(config) else 1)
        slow, fast = (n_operations / (rate * 1e12) for rate in machine.sustained)
        found.append(
            Duration(
                machine=machine.name,
                bound_s=n_operations / (machine.peak[1] * 1e12) if machine.peak else None,
                estimate_s=(max(fast, launches_s), max(slow, launches_s)),
                source=machine.source,
            )
        )
    return tuple(found)
