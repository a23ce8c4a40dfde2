"""Settings: frozen pydantic models filled from TOML, overridden by --set, hashed into the run folder.

An unknown key is refused with the nearest name. The reason for a shipped number stands beside it in `configs/*.toml`;
the defaults here are our recommended recipe.
"""

import difflib
import hashlib
import tomllib
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from groundql.errors import SettingError


class Settings(BaseModel):
    """Base of all settings: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ModelSettings(Settings):
    """Which base model, and how its frozen weights are held."""

    name: str  # a catalog name, a hub id, a local folder or a .gguf file
    quantization: Literal["nf4", "fp4", "none"] = "nf4"
    double_quantization: bool = True
    compute_dtype: Literal["auto", "bfloat16", "float16", "float32"] = (
        "auto"  # auto: what the machine computes fast
    )


class LoraSettings(Settings):
    """The adapter's shape."""

    rank: int = Field(32, ge=1)
    alpha: float = Field(64, gt=0)
    dropout: float = Field(0.0, ge=0, lt=1)
    rslora: bool = False  # scale alpha / sqrt(rank) in place of alpha / rank
    targets: Literal["all-linear"] | tuple[str, ...] = "all-linear"


class DataSettings(Settings):
    """Which questions are trained on, chosen on and reported on."""

    train: str  # DATA as on the command line: pocket#train, bird:DIR#train, jsonl:FILE
    dev: str | None = None  # for choosing the checkpoint
    test: str | None = None  # for the report; looked at once
    same_databases: bool = (
        False  # True: one database of your own is trained on and asked; scores hold for it alone
    )
    fraction: float = Field(1.0, gt=0, le=1)  # of the training questions
    stratify_by: tuple[Literal["evidence", "database", "difficulty", "complexity"], ...] = ("evidence",)
    # Train only on questions whose SQL, with the end mark, has at most so many tokens. Dev and test keep all of theirs.
    max_sql_tokens: int | None = Field(None, ge=2)
    # Training prompts list a schema's tables in so many random orders, each for a share of its questions. In use: as they are.
    table_orders: int = Field(1, ge=1, le=64)
    dev_limit: int | None = Field(
        None, ge=1
    )  # at most so many dev questions, spread evenly over the databases


OutputDialect = Literal["raw", "canonical", "from_first"]


class PromptSettings(Settings):
    """What the prompt carries and in which form the answer comes. Stored with the adapter through a fingerprint."""

    max_tokens: int = Field(4096, ge=64)  # prompt without the SQL; beyond it parts shrink in the stated order
    schema_: bool = Field(True, alias="schema")  # False: the seed paper's prompt as we read it
    evidence: bool = True
    descriptions: bool = True
    n_examples: int = Field(2, ge=0, le=5)  # example values a column
    values: int = Field(0, ge=0, le=20)  # at most so many values of the rows that the question mentions
    dialect: OutputDialect = "canonical"  # of the SQL that the model learns; raw: golds as they are

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class TrainingSettings(Settings):
    """The optimisation."""

    epochs: float = Field(3.0, gt=0)
    packing: Literal["shared", "none"] = "shared"  # shared: one schema, many questions; none: padded batches
    # Token budget of a pack (shared). "auto": the largest that memory_gib takes, up to 8,192.
    pack_tokens: Literal["auto"] | Annotated[int, Field(ge=64)] = 2048
    group_size: int = Field(16, ge=1)  # questions a schema at most, before the pack takes another database
    batch_size: int = Field(1, ge=1)  # rows a forward pass: packs (shared) or questions (none)
    accumulation: int = Field(1, ge=1)
    learning_rate: float = Field(2e-4, gt=0)
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    warmup_ratio: float = Field(0.03, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    shard_base: bool = False  # several processes: the frozen base in parts, for one that does not fit a card
    # Compute again in backward what a layer made: less memory, up to a third more time. "auto": as much as memory_gib
    # needs, nothing where no card is named.
    checkpointing: Literal["auto"] | bool = "auto"
    # Whole passes as one CUDA graph: the host's time to start kernels is saved, gradients are held once more. "auto":
    # where the card has room for that.
    cuda_graph: Literal["auto"] | bool = "auto"
    optimizer: Literal["auto", "adamw", "adamw_8bit"] = "auto"  # auto: 8-bit state where a card is named
    logging_steps: int = Field(10, ge=1)
    save_steps: int | None = Field(None, ge=1)  # besides every epoch, so that a kill loses less
    max_minutes: float | None = Field(None, gt=0)  # of optimisation: then it stops where it is, and says so
    select_by: Literal["ex_strict", "grounded", "loss", "last"] = "ex_strict"  # which checkpoint is kept
    seed: int = 7

    @property
    def budget_tokens(self) -> int:
        """`pack_tokens` as a number; for "auto" `models.fitting.with_pack` puts one in its place first."""
        if self.pack_tokens == "auto":
            raise SettingError("training.pack_tokens = 'auto' needs a plan: set memory_gib, or give a number")
        return self.pack_tokens


class GenerationSettings(Settings):
    """How completions are decoded."""

    engine: Literal["own", "vllm"] = (
        "own"  # vllm: without the scope tracker; what does not bind is abstained from
    )
    max_new_tokens: int = Field(256, ge=1)
    batch_size: int | None = Field(None, ge=1)  # texts decoded together; None: as suits the device
    kv_tokens: int | None = Field(
        None, ge=1
    )  # tokens in the cache at once; None: what fits beside the weights
    decoding: Literal["free", "grounded"] = (
        "free"  # grounded: what does not bind to the schema is never written
    )
    # Of a grounded query that does not end by itself: brought to an end that binds, and marked; or given up.
    unfinished: Literal["close", "abstain"] = "close"
    samples: int = Field(1, ge=1)  # texts a question
    temperature: float = Field(0.0, ge=0)  # 0: the best token each time; else drawn
    seed: int = 7  # of what is drawn
    repair: bool = False  # one more text, with the engine's message, for a query that does not run
    processes: int | None = Field(
        None, ge=0
    )  # that check constraints beside the model; None: as suits the machine


class JudgingSettings(Settings):
    """How predicted SQL is run and compared."""

    deadline_s: float = Field(30.0, gt=0)  # per query; the default of BIRD's own script
    max_rows: int = Field(100_000, ge=1)  # beyond this the outcome is "too_large", never a cut-off match


class Config(Settings):
    """One run."""

    model: ModelSettings
    data: DataSettings
    lora: LoraSettings = LoraSettings()
    prompt: PromptSettings = PromptSettings()
    training: TrainingSettings = TrainingSettings()
    generation: GenerationSettings = GenerationSettings()
    judging: JudgingSettings = JudgingSettings()
    memory_gib: float | None = Field(None, gt=0)  # the card to fit; None: whatever is there

    @property
    def eight_bit_state(self) -> bool:
        """Whether the optimizer holds its moments in 8 bit (on CUDA; not with float16, whose scaler needs its own)."""
        if self.model.compute_dtype == "float16":
            return False
        asked = self.training.optimizer
        return self.memory_gib is not None if asked == "auto" else asked == "adamw_8bit"

    @model_validator(mode="after")
    def _selection_needs_dev(self) -> "Config":
        if self.training.select_by in ("ex_strict", "grounded") and self.data.dev is None:
            raise ValueError(
                f"training.select_by = {self.training.select_by!r} needs data.dev, or choose 'last'"
            )
        return self

    def fingerprint(self) -> str:
        """12 hex digits over every setting."""
        return hashlib.sha256(self.model_dump_json(by_alias=True).encode()).hexdigest()[:12]


def load_config(name: str, overrides: Sequence[str] = ()) -> Config:
    """The config in file `name`, or the shipped one of that name, with `key=value` overrides.

    Raises:
        SettingError: no such file, broken TOML, an unknown key (with the nearest one) or an impossible value.
    """
    settings = _read_toml(name)
    for override in overrides:
        key, sign, value = override.partition("=")
        if not sign:
            raise SettingError(f"--set {override}: write it as key=value")
        _set(settings, key.strip(), _parse_value(value.strip()))
    for key in _unknown_keys(settings, Config):
        nearest = difflib.get_close_matches(key, list(_all_keys(Config)), n=1)
        hint = f"; did you mean {nearest[0]}?" if nearest else ""
        raise SettingError(f"{key} is not a setting{hint}")
    try:
        return Config.model_validate(settings)
    except ValidationError as error:
        first = _where(error.errors()[0]["loc"])
        reasons = [fault["msg"] for fault in error.errors() if _where(fault["loc"]) == first]
        raise SettingError(
            f"{first or name}: {', or '.join(reasons).removeprefix('Value error, ')}"
        ) from None


def _where(loc: tuple[int | str, ...]) -> str:
    """The setting that a fault is about; the forms that it may take (a literal, a tuple) are no part of its name."""
    return ".".join(str(part) for part in loc if "[" not in str(part))


def _read_toml(name: str) -> dict[str, Any]:
    path = Path(name)
    if path.is_file():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise SettingError(f"{name} is not TOML: it is no UTF-8 text") from None
    else:
        shipped = resources.files("groundql") / "configs" / f"{name.removesuffix('.toml')}.toml"
        if "/" in name or not shipped.is_file():
            names = sorted(
                p.name.removesuffix(".toml") for p in (resources.files("groundql") / "configs").iterdir()
            )
            raise SettingError(f"{name} is not a file, nor a shipped config ({', '.join(names)})")
        text = shipped.read_text(encoding="utf-8")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingError(f"{name} is not TOML: {error}") from None


def _parse_value(text: str) -> Any:
    """A TOML value; bare words count as strings."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _set(settings: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        settings = settings.setdefault(parent, {})
        if not isinstance(settings, dict):
            raise SettingError(f"{key} is not a setting; {parent} is a value, not a group")
    settings[last] = value


def _fields(model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel] | None]]:
    """Each key as it is written, with its group's model if it is one."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        yield field.alias or name, kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _all_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, group in _fields(model):
        yield prefix + name
        if group:
            yield from _all_keys(group, f"{prefix}{name}.")


def _unknown_keys(settings: dict[str, Any], model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    fields = dict(_fields(model))
    for key, value in settings.items():
        if key not in fields:
            yield prefix + key
        elif (group := fields[key]) and isinstance(value, dict):
            yield from _unknown_keys(value, group, f"{prefix}{key}.")
