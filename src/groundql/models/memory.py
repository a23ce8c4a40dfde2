"""The plan: the peak memory of a training by part, before any weight is loaded. No torch.

Packs go through the fused step, counted in `fused_memory`; padded batches, several packs at once and dropout go
through transformers' own layers under autocast, counted here. The peak is that of the heaviest pass of an epoch. Not
counted: decoding between epochs, and other programs on the card. Longer than our limit: parts, plan and the way
out of a plan that does not fit refer to each other.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from groundql.config import Config
from groundql.errors import GroundqlError, SettingError
from groundql.models.catalog import BaseModelRow
from groundql.models.fused_memory import (
    LOGITS_AT_ONCE,
    Keeps,
    choose_keeps,
    graph_bytes,
    is_fused,
    least_bytes,
    moments,
    scratch_bytes,
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
PLAN_FILE = "plan.json"
LARGEST_PACK = 8192  # tokens, that pack_tokens = "auto" takes


@dataclass(frozen=True, kw_only=True)
class Stack:
    """Properties of the program that trains. The defaults are ours; tests put those of measured programs."""

    dropout_mask_bytes: int = 1  # a number that dropout passes: a bool on CUDA, a 16-bit number on CPU
    widens_layer_norm: bool = True  # autocast on CUDA computes LayerNorm, and what follows from it, in fp32
    bytes_a_logit: int = 14  # in backward: three fp32 numbers, and a 16-bit block that the allocator holds
    logits_at_once: int | None = LOGITS_AT_ONCE  # numbers; None: all in one piece


OURS = Stack()


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
    """What layers keep for their backward under `memory_gib`, and whether a graph has room there."""
    width, asked = compute_bytes(config), config.training.cuda_graph
    free = None
    graph = asked is not False
    if config.memory_gib:
        n_lora = row.n_lora_weights(config.lora.rank, config.lora.targets)
        held = sum(p.mib for p in _held_parts(config, row, n_lora, width) if p.name != "LoRA gradients")
        scratch = scratch_bytes(row, width) / MIB * (1 + SLACK)
        free = (config.memory_gib * 1024 - CONTEXT_MIB - WORKSPACE_MIB - held - scratch) * MIB / (1 + SLACK)
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
        stream = 4 if _is_wide(config, row, stack) else width
        kept = row.n_layers * row.hidden * stream * one.n_tokens
        casts = casts / row.n_layers
    else:
        kept = row.n_layers * kept_layer - 4 * row.hidden * one.n_tokens  # the first norm needs no gradient
    kept += (4 + width) * row.hidden * one.n_tokens  # final norm, and the embedded tokens
    loss = _loss_bytes(row, one, width, stack)
    backward = _backward_bytes(row, one, width)
    unpacked = _unpacked_bytes(config, row, width)
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


def _loss_bytes(row: BaseModelRow, one: Pass, width: int, stack: Stack) -> float:
    """All logits and what their loss makes of them, or a few rows at a time and what the head reads."""
    if stack.logits_at_once is None:
        return stack.bytes_a_logit * one.n_logit_rows * row.vocab
    rows = min(one.n_logit_rows, max(1, stack.logits_at_once // row.vocab))
    return width * rows * row.vocab + one.n_logit_rows * row.hidden * (2 * width + 12)


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


def compute_bytes(config: Config) -> int:
    """Of a number in the compute type: 2, or 4 for float32. "auto" is taken for a card: 16 bits."""
    return 4 if config.model.compute_dtype == "float32" else 2


def weight_bits(config: Config) -> float:
    """Bits that a frozen linear's weight takes.

    NF4 and FP4: 4 bits and a scale a block of 64: 32 bits, or 8 bits and a 32-bit scale of 256 scales, with
    code tables. 4.1276 was measured on bitsandbytes 0.50.2; arXiv:2305.14314, section 3, has 4.127.
    """
    if config.model.quantization == "none":
        return 8.0 * compute_bytes(config)
    return 4.1276 if config.model.double_quantization else 4 + 32 / 64


def layer_bytes(config: Config, row: BaseModelRow, one: Pass, *, stack: Stack = OURS) -> float:
    """What backward needs of one decoder layer, in bytes for the whole pass.

    A count of the tensors that autograd saves, in `hidden` h, `ffn` f, query and key widths q and kv, at 2
    bytes: two norms 8h; gated FFN 6f, plain 2f (4f in fp32); attention at least 4q + 4kv; each distinct input of
    a LoRA pair, at most 4h + 2q + 2f, and 2 rank a pair. Dropout gives each pair its own input, with a mask.

    Source: the project's performance reference, 2.1: bytes measured on bitsandbytes 0.50.2 and peft 0.21.2 for 5
    models (Qwen 0.5B, 1.5B, 3B, Falcon3-1B, StarCoder2-3B) x 3 settings (q and v; all-linear; all-linear with
    dropout 0.05). Error: below 0.2 %, the last digit of that table.
    """
    return one.n_tokens * (
        _norm_and_ffn_bytes(config, row, stack) + lora_input_bytes(config, row, stack)
    ) + _attention_bytes(config, row, one, stack)


def _norm_and_ffn_bytes(config: Config, row: BaseModelRow, stack: Stack) -> float:
    width = compute_bytes(config)
    if row.architecture != "starcoder2":
        return 2 * (4 * row.hidden + 4) + 3 * width * row.ffn
    ffn = 4 if _is_wide(config, row, stack) else width
    return 2 * ((4 if _widens(config, row, stack) else width) * row.hidden + 8) + ffn * row.ffn


def _widens(config: Config, row: BaseModelRow, stack: Stack) -> bool:
    """Whether autocast computes the norms in fp32 and hands fp32 on."""
    return row.architecture == "starcoder2" and stack.widens_layer_norm and compute_bytes(config) == 2


def _is_wide(config: Config, row: BaseModelRow, stack: Stack) -> bool:
    """Whether fp32 runs on through the layer: a 4-bit linear answers in the type that it was asked in."""
    return _widens(config, row, stack) and config.model.quantization != "none"


def lora_input_bytes(config: Config, row: BaseModelRow, stack: Stack = OURS) -> float:
    """Bytes a token and layer that LoRA pairs keep: their inputs, shared or each its own, and the rank's.

    The input of `o_proj` is counted with attention, except where dropout makes a copy.
    """
    width, lora = compute_bytes(config), config.lora
    inputs = row.linears()
    chosen = [name for name in inputs if lora.targets == "all-linear" or name in lora.targets]
    if lora.dropout:
        kept = sum((width + stack.dropout_mask_bytes) * inputs[name][0] for name in chosen)
    elif _widens(config, row, stack):  # autocast casts an fp32 input for each pair anew
        kept = sum(width * inputs[name][0] for name in chosen if name != "o_proj")
    else:
        kept = sum({_input_of(name): width * inputs[name][0] for name in chosen if name != "o_proj"}.values())
    return kept + width * lora.rank * len(chosen)


def _input_of(name: str) -> str:
    """Which tensor a linear reads."""
    if name in ("gate_proj", "up_proj", "c_fc"):
        return "ffn in"
    return "ffn out" if name in ("down_proj", "c_proj") else "attention in"


def _attention_bytes(config: Config, row: BaseModelRow, one: Pass, stack: Stack) -> float:
    """Queries, keys, values and results that attention keeps, with its masks, weights or sums."""
    width = compute_bytes(config)
    q, kv, heads = row.n_heads * row.head_dim, row.n_kv_heads * row.head_dim, row.n_heads
    if one.n_prefix:  # packs: prefixes through SDPA with repeated heads, questions by plain products
        wide = _is_wide(config, row, stack)
        whole = 0 if wide else width * (q + 2 * kv) * one.n_tokens  # views keep the whole projection
        prefix = (width * (4 * q + 2 * kv if wide else 3 * q) + 4 * heads) * one.n_prefix
        own = width * (2 * q + 2 * kv) * one.n_own
        has_o = config.lora.targets == "all-linear" or "o_proj" in config.lora.targets
        joined = width * q * one.n_tokens if has_o and not config.lora.dropout else 0
        copies = width if wide else 2 * width  # of an fp32 softmax; a view keeps the whole of the 16-bit one
        scores = (4 + width) * one.n_own_scores + (4 + copies) * one.n_prefix_scores
        return whole + prefix + own + joined + heads * scores
    repeated = q if one.n_mask_cells else kv  # a mask makes transformers repeat the keys' heads
    tokens = (width * (2 * q + 2 * repeated) + 4 * heads) * one.n_tokens
    return tokens + (width + 1 / row.n_layers) * one.n_mask_cells


def _backward_bytes(row: BaseModelRow, one: Pass, width: int) -> float:
    """Gradients in flight in the FFN's backward: two of its inner width, two of the stream's."""
    return width * (2 * row.ffn + 2 * row.hidden) * one.n_tokens


def _unpacked_bytes(config: Config, row: BaseModelRow, width: int) -> float:
    """The largest 4-bit weight in the compute type, with its scales in fp32."""
    if config.model.quantization == "none":
        return 0
    largest = max(inputs * outputs for inputs, outputs in row.linears().values())
    return largest * (width + 4 / 64)


_Changes = list[tuple[str, Any]]


class Change(NamedTuple):
    """Settings, as `--set` takes them, with which a training fits the card, and its peak then."""

    settings: tuple[str, ...]
    total_mib: float


def find_change(config: Config, row: BaseModelRow, questions: Sequence[QuestionLengths]) -> Change | None:
    """The smallest change that makes it fit `memory_gib`; None where no tried one does.

    One setting where one is enough, in this order: checkpointing, the largest smaller batch or pack (a quarter at
    the least), rank; then checkpointing with a smaller batch or pack, and with a lower rank too.
    """
    is_packed = config.training.packing == "shared"
    sizes = _smaller_packs(config, questions) if is_packed else []
    batches = [[("training.batch_size", n)] for n in range(config.training.batch_size - 1, 0, -1)]
    packs = [[("training.pack_tokens", tokens)] for tokens in sizes]
    near = sum(4 * tokens >= config.training.budget_tokens for tokens in sizes) if is_packed else 0
    ranks = [[("lora.rank", rank)] for rank in (128, 64, 32, 16, 8, 4) if rank < config.lora.rank]
    again: _Changes = [] if recomputes(config) else [("training.checkpointing", True)]
    both = [again + smaller for smaller in batches + packs]
    least = both[-1] if both else again
    tried = (again, *batches, *packs[:near], *ranks, *both, *packs[near:], *(least + rank for rank in ranks))
    for changes in tried:
        if not changes:
            continue
        plan = plan_of(with_settings(config, changes), row, questions)
        if plan.fits:
            texts = tuple(f"{key}={str(value).lower()}" for key, value in changes)
            return Change(texts, plan.total_mib)
    return None


def with_pack(config: Config, row: BaseModelRow | None, questions: Sequence[QuestionLengths]) -> Config:
    """`config` with a number for `pack_tokens`: for "auto" the largest that fits, else what it says.

    Larger than `LARGEST_PACK` takes steps away; whether it gains speed was not measured. Where nothing fits it is what
    the longest question needs, and `check_fits` refuses it.
    """
    if config.training.packing == "none" or config.training.pack_tokens != "auto":
        return config
    if row is None or config.memory_gib is None:
        raise SettingError(
            "training.pack_tokens = 'auto' needs memory_gib and a known model; or give a number"
        )
    least = -(-max(question.n_tokens for question in questions) // 256) * 256
    sizes = range(max(LARGEST_PACK, least), least - 1, -256)
    tried = (with_settings(config, [("training.pack_tokens", size)]) for size in sizes)
    smallest = with_settings(config, [("training.pack_tokens", least)])
    return next((one for one in tried if plan_of(one, row, questions).fits), smallest)


def _smaller_packs(config: Config, questions: Sequence[QuestionLengths]) -> list[int]:
    """Pack sizes below the config's, an eighth less each, down to what the longest question needs."""
    least = -(-max(question.n_tokens for question in questions) // 16) * 16
    sizes = [config.training.budget_tokens]
    while sizes[-1] > least:
        sizes.append(max(least, sizes[-1] * 7 // 128 * 16))
    return sizes[1:]


def with_settings(config: Config, changes: Sequence[tuple[str, Any]]) -> Config:
    """`config` with some `group.setting` of it changed."""
    for key, value in changes:
        group, setting = key.split(".")
        changed = getattr(config, group).model_copy(update={setting: value})
        config = config.model_copy(update={group: changed})
    return config


def check_fits(plan: Plan, config: Config, row: BaseModelRow, questions: Sequence[QuestionLengths]) -> None:
    """The named card has room for the plan; nothing is checked where none is named.

    Raises:
        GroundqlError: it has not; names the smallest change with which it would.
    """
    if plan.fits is not False:
        return
    change = find_change(config, row, questions)
    way_out = "no smaller pack or batch, rank or checkpointing makes it fit: take a smaller model"
    if change:
        settings = " ".join(f"--set {setting}" for setting in change.settings)
        way_out = f"{settings} makes it fit, with {change.total_mib:,.0f}"
    raise GroundqlError(
        f"{plan.model} needs {plan.total_mib:,.0f} MiB for this training, CUDA context included, and memory_gib = "
        f"{config.memory_gib:g} gives {plan.card_mib:,.0f}; {way_out}"
    )


def write_plan(run_dir: Path, plan: Plan) -> None:
    """plan.json into a run folder, whole or not at all."""
    write_text(run_dir / PLAN_FILE, plan.model_dump_json(indent=2) + "\n")
