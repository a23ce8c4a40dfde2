"""The way out of a plan that does not fit: the smallest change of settings with which a training fits its card."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from groundql.config import Config
from groundql.errors import GroundqlError, SettingError
from groundql.models.catalog import BaseModelRow
from groundql.models.memory import Plan, plan_of
from groundql.models.workload import QuestionLengths, recomputes

LARGEST_PACK = 8192  # tokens, that pack_tokens = "auto" takes

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
