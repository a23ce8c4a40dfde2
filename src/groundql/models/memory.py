"""The plan: the peak memory of a training by part, before any weight is loaded. No torch.

Packs go through the fused step, counted in `fused_memory`; padded batches, several packs at once and dropout go
through transformers' own layers under autocast, counted in `layer_memory`. The peak is that of the heaviest pass of an
epoch. Not counted: decoding between epochs, and other programs on the card. A plan that does not fit: `fitting`.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from groundql.config import Config
from groundql.models.catalog import BaseModelRow
from groundql.models.fused_memory import (
    Keeps,
    choose_keeps,
    graph_bytes,
    is_fused,
    least_bytes,
    moments,
    scratch_bytes,
)
from groundql.models.layer_memory import (
    OURS,
    Stack,
    backward_bytes,
    compute_bytes,
    is_wide,
    layer_bytes,
    loss_bytes,
    unpacked_bytes,
    weight_bits,
)
from groundql.models.workload import (
    WINDOWS,
    Duration,
    Pass,
    QuestionLengths,
    durations,
    make_passes,
    operations,
    recomputes,
)
from groundql.records import Record, write_text

MIB = 2**20
CONTEXT_MIB = 450.0  # CUDA context and loaded kernels: assumed, not measured; differs between cards
WORKSPACE_MIB = 100.0  # cuBLAS's 32 on Hopper cards, and segments rounded up: fitted to runs on an H200
SLACK = 0.04  # what the caching allocator holds in gaps, of all that changes size during a step
HEADROOM = (
    0.03  # of the card, that what layers keep leaves free: the plan was up to 1 % short where a graph starts
)
PLAN_FILE = "plan.json"


class Part(Record):
    """One use of memory. `at_peak` is False for what is freed before the peak or comes after it."""

    name: str
    mib: float
    note: str = ""
    at_peak: bool = True


class Plan(Record):
    """What a training is predicted to take; the figures of memory are MiB."""

    model: str
    config_fingerprint: str
    lengths_from: Literal["tokenizer", "characters", "assumed"]
    parts: tuple[Part, ...]
    peak_mib: float  # of the allocator: what `torch.cuda.max_memory_reserved` will say
    context_mib: float = CONTEXT_MIB
    card_mib: float | None  # memory_gib; None: no card is named
    pass_tokens: int  # of the heaviest pass
    pass_logit_rows: int
    keeps: Keeps | None = None  # of the fused step; None: transformers' own layers
    graph: bool = False  # whether the fused step runs as one CUDA graph
    n_passes: int  # of an epoch
    epoch_tokens: int
    n_steps: int  # of all epochs
    n_operations: float  # of all epochs
    durations: tuple[Duration, ...]

    @property
    def total_mib(self) -> float:
        """Peak and CUDA context: what the card must have."""
        return self.peak_mib + self.context_mib

    @property
    def fits(self) -> bool | None:
        """Whether the card has room; None where no card is named."""
        return None if self.card_mib is None else self.total_mib <= self.card_mib

    def excess(self, measured_mib: float) -> float:
        """How far the prediction is above a measured `max_memory_reserved`, as a share of it."""
        return self.peak_mib / measured_mib - 1


def plan_of(
    config: Config,
    row: BaseModelRow,
    questions: Sequence[QuestionLengths],
    *,
    lengths_from: Literal["tokenizer", "characters", "assumed"] = "tokenizer",
    stack: Stack = OURS,
) -> Plan:
    """The plan of one config on a model of this shape, trained on questions of these lengths."""
    settings = config.training
    passes = make_passes(
        questions, settings, window=None if is_fused(config) else WINDOWS.get(row.architecture)
    )
    candidates = _candidates(passes)
    keeps, graph = _keeps(config, row, candidates) if is_fused(config) else (None, False)
    heaviest, parts = max(
        (
            (
                one,
                fused_parts(config, row, one, keeps, graph=graph)
                if keeps
                else parts_of(config, row, one, stack=stack),
            )
            for one in candidates
        ),
        key=lambda found: sum_mib(found[1]),
    )
    n_operations = operations(passes, config, row) * settings.epochs
    n_passes = len(passes) * settings.epochs
    return Plan(
        model=row.name,
        config_fingerprint=config.fingerprint(),
        lengths_from=lengths_from,
        parts=parts,
        peak_mib=sum_mib(parts),
        card_mib=config.memory_gib * 1024 if config.memory_gib else None,
        pass_tokens=heaviest.n_tokens,
        pass_logit_rows=heaviest.n_logit_rows,
        keeps=keeps,
        graph=graph,
        n_passes=len(passes),
        epoch_tokens=sum(one.n_real_tokens for one in passes),
        n_steps=round(-(-len(passes) // settings.accumulation) * settings.epochs),
        n_operations=n_operations,
        durations=durations(n_operations, n_passes, config, row),
    )


def sum_mib(parts: Sequence[Part]) -> float:
    """Of the parts that are there at the peak."""
    return sum(part.mib for part in parts if part.at_peak)


def _candidates(passes: Sequence[Pass]) -> list[Pass]:
    """The few passes of which one is the heaviest: memory grows with each of these sizes and nothing else."""
    return [
        max(passes, key=lambda one: one.n_tokens),
        max(passes, key=lambda one: one.n_logit_rows),
        max(passes, key=lambda one: one.n_tokens + one.n_logit_rows),
        max(passes, key=lambda one: one.n_prefix_scores + one.n_own_scores),
        max(passes, key=lambda one: one.n_mask_cells),
    ]


def fused_parts(
    config: Config, row: BaseModelRow, one: Pass, keeps: Keeps, *, graph: bool = False
) -> tuple[Part, ...]:
    """Memory by part at the peak of one pass through the fused step."""
    width = compute_bytes(config)
    n_lora = row.n_lora_weights(config.lora.rank, config.lora.targets)
    held = [part for part in _held_parts(config, row, n_lora, width) if part.name != "LoRA gradients"]
    state = 2.1 if config.eight_bit_state else 8.0
    found = list(moments(config, row, one, keeps, width=width, state_bytes=state))
    peak = max(found, key=lambda moment: moment.kept + moment.gradients + moment.working)
    kept = f"{row.n_layers - keeps.attention - keeps.all} layers again, {keeps.attention} but for the FFN"
    moving = [
        Part(
            name="kept for backward", mib=peak.kept / MIB, note=f"{one.n_tokens:,} tokens; computed: {kept}"
        ),
        Part(name="LoRA gradients", mib=peak.gradients / MIB, note="fp32"),
        *(
            Part(
                name=m.name,
                mib=m.working / MIB,
                at_peak=m is peak,
                note="" if m is peak else "not at the peak",
            )
            for m in found
        ),
    ]
    scratch = scratch_bytes(row, width) / MIB
    gaps = SLACK * (sum(part.mib for part in moving if part.at_peak) + scratch)
    return (
        *held,
        Part(name="merged weights", mib=scratch, note="two matrices at a time"),
        *([Part(name="graph", mib=graph_bytes(config, n_lora) / MIB)] if graph else []),
        *moving,
        Part(name="workspace and gaps", mib=WORKSPACE_MIB + gaps),
    )


def _keeps(config: Config, row: BaseModelRow, passes: Sequence[Pass]) -> tuple[Keeps, bool]:
    """What layers keep for their backward under `memory_gib` less headroom, and whether a graph has room there."""
    width, asked = compute_bytes(config), config.training.cuda_graph
    free = None
    graph = asked is not False
    if config.memory_gib:
        n_lora = row.n_lora_weights(config.lora.rank, config.lora.targets)
        held = sum(p.mib for p in _held_parts(config, row, n_lora, width) if p.name != "LoRA gradients")
        scratch = scratch_bytes(row, width) / MIB * (1 + SLACK)
        card = config.memory_gib * 1024 * (1 - HEADROOM) - CONTEXT_MIB
        free = (card - WORKSPACE_MIB - held - scratch) * MIB / (1 + SLACK)
        room = free - graph_bytes(config, n_lora)
        graph = asked is True or (asked == "auto" and least_bytes(config, row, passes, width=width) <= room)
        free = room if graph else free
    return choose_keeps(config, row, passes, free, width=width), graph


def parts_of(config: Config, row: BaseModelRow, one: Pass, *, stack: Stack = OURS) -> tuple[Part, ...]:
    """Memory by part at the peak of one pass: its loss, or one layer's backward, whichever is greater."""
    width = compute_bytes(config)
    n_lora = row.n_lora_weights(config.lora.rank, config.lora.targets)
    again = recomputes(config)
    kept_layer = layer_bytes(config, row, one, stack=stack)
    casts = 2.0 * n_lora if width == 2 else 0.0
    kept: float
    if again:
        stream = 4 if is_wide(config, row, stack) else width
        kept = row.n_layers * row.hidden * stream * one.n_tokens
        casts = casts / row.n_layers
    else:
        kept = row.n_layers * kept_layer - 4 * row.hidden * one.n_tokens  # the first norm needs no gradient
    kept += (4 + width) * row.hidden * one.n_tokens  # final norm, and the embedded tokens
    loss = loss_bytes(row, one, width, stack)
    backward = backward_bytes(row, one, width)
    unpacked = unpacked_bytes(config, row, width)
    layer = backward + unpacked + (kept_layer + casts if again else 0)
    in_loss = loss >= layer
    moving = kept + (0 if again else casts) + max(loss, layer)
    label = "one layer recomputed" if again else "backward of a layer"
    return (
        *_held_parts(config, row, n_lora, width),
        *([] if again else [Part(name="16-bit LoRA copies", mib=casts / MIB)]),
        Part(
            name="layer inputs" if again else "activations", mib=kept / MIB, note=f"{one.n_tokens:,} tokens"
        ),
        Part(name="logits", mib=loss / MIB, note=f"{one.n_logit_rows:,} label positions", at_peak=in_loss),
        Part(name=label, mib=(layer - unpacked) / MIB, at_peak=not in_loss),
        Part(name="one weight unpacked", mib=unpacked / MIB, at_peak=not in_loss),
        Part(name="workspaces", mib=WORKSPACE_MIB),
        Part(
            name="allocator slack", mib=SLACK * moving / MIB, note=f"{100 * SLACK:.0f} % of what changes size"
        ),
    )


def _held_parts(config: Config, row: BaseModelRow, n_lora: int, width: int) -> Iterator[Part]:
    """What stays from the first step to the last."""
    bits = weight_bits(config)
    n_linear = row.n_linear_weights()
    n_head = 0 if row.tied else row.vocab * row.hidden
    n_embedding = row.n_embedding_weights() - n_head
    n_small = row.n_parameters() - n_linear - n_embedding - n_head
    yield Part(name="frozen linears", mib=n_linear * bits / 8 / MIB, note=f"{bits:.4g} bits a weight")
    yield Part(name="embedding", mib=n_embedding * width / MIB, note=f"{8 * width} bits")
    if n_head:
        yield Part(name="output head", mib=n_head * width / MIB, note=f"{8 * width} bits")
    yield Part(name="norms and biases", mib=n_small * width / MIB)
    yield Part(name="LoRA weights", mib=4 * n_lora / MIB, note=f"{n_lora:,} in fp32")
    yield Part(name="LoRA gradients", mib=4 * n_lora / MIB, note="fp32")
    if config.eight_bit_state:
        yield Part(name="AdamW state", mib=(2 + 8 / 256) * n_lora / MIB, note="two moments in 8 bit")
    else:
        yield Part(name="AdamW state", mib=8 * n_lora / MIB, note="two moments in fp32")


def write_plan(run_dir: Path, plan: Plan) -> None:
    """plan.json into a run folder, whole or not at all."""
    write_text(run_dir / PLAN_FILE, plan.model_dump_json(indent=2) + "\n")
