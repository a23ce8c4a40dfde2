"""Settings: typos are refused, overrides parsed, every setting hashed."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

import groundql
from groundql.config import Config, PromptSettings, load_config
from groundql.errors import SettingError

CONFIGS_DIR = Path(groundql.__file__).parent / "configs"
SMALLEST = {"model": {"name": "m"}, "data": {"train": "pocket#train", "dev": "pocket#dev"}}


@pytest.fixture
def toml(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text('[model]\nname = "m"\n[data]\ntrain = "pocket#train"\ndev = "pocket#dev"\n')
    return str(path)


@pytest.mark.parametrize("path", sorted(CONFIGS_DIR.glob("*.toml")), ids=lambda path: path.stem)
def test_every_shipped_config_loads_by_name_and_by_path(path):
    assert load_config(path.stem) == load_config(f"{path.stem}.toml") == load_config(str(path))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("lora.rnak=16", "lora.rnak is not a setting; did you mean lora.rank?"),
        ("trainig.epochs=1", "trainig is not a setting; did you mean training?"),
        ("prompt.schema_=false", "prompt.schema_ is not a setting; did you mean prompt.schema?"),
        ("lora.zzzzzzzzzzz=1", "lora.zzzzzzzzzzz is not a setting"),
        ("lora.rank.x=1", "lora.rank.x is not a setting; rank is a value, not a group"),
        ("lora.rank", "--set lora.rank: write it as key=value"),
        ("lora.rank=0", "lora.rank: Input should be greater than or equal to 1"),
        ("lora.targets=q_proj", "lora.targets: Input should be 'all-linear', or Input should be a valid tuple"),
        ("training.epochs=inf", "training.epochs: Input should be a finite number"),
        ("training.select_by=accuracy", "training.select_by: Input should be 'ex_strict', 'grounded', 'loss' or 'last'"),
    ],
)  # fmt: skip
def test_a_setting_that_is_none_is_named_with_the_nearest_one(toml, override, message):
    with pytest.raises(SettingError) as raised:
        load_config(toml, ["lora.rank=8", override] if override == "lora.rank.x=1" else [override])
    assert str(raised.value) == message


def test_an_unknown_key_in_the_file_is_refused_too(tmp_path):
    (tmp_path / "c.toml").write_text('[model]\nnam = "m"\n')
    with pytest.raises(SettingError, match="^model.nam is not a setting; did you mean model.name"):
        load_config(str(tmp_path / "c.toml"))


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("model.name=a/b.gguf", "a/b.gguf"),  # a bare word is a string
        ('model.name="a b"', "a b"),
        ("model.name=x=y", "x=y"),  # only the first = separates
        ("lora.rank=16", 16),
        ("training.learning_rate=2e-5", 2e-5),
        ("prompt.schema=false", False),
        ('lora.targets=["q_proj", "v_proj"]', ("q_proj", "v_proj")),
        ("lora.targets=all-linear", "all-linear"),
        ("memory_gib=6", 6.0),
    ],
)
def test_an_override_is_read_as_toml_or_as_a_bare_word(toml, written, value):
    config: Any = load_config(toml, [written])
    for part in written.partition("=")[0].split("."):
        config = getattr(config, "schema_" if part == "schema" else part)
    assert config == value


def test_a_later_override_wins(toml):
    assert load_config(toml, ["lora.rank=4", "lora.rank=5"]).lora.rank == 5


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[model\n", "is not TOML: "),
        (b"\xa1\xff\x00", "is not TOML: it is no UTF-8 text"),
        (b"", "model: Field required"),
        (b'[model]\nname = "m"\n[data]\ntrain = "pocket#train"\n', "needs data.dev, or choose 'last'"),
    ],
)
def test_a_file_that_is_no_config_is_told_in_one_line(tmp_path, content, message):
    (tmp_path / "c.toml").write_bytes(content)
    with pytest.raises(SettingError) as raised:
        load_config(str(tmp_path / "c.toml"))
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_name_that_is_nothing_lists_the_shipped_configs():
    with pytest.raises(SettingError, match="nosuch is not a file, nor a shipped config .*pocket-smollm2"):
        load_config("nosuch")


def test_the_fingerprint_changes_with_any_setting():
    config = Config.model_validate(SMALLEST)
    changed = [other for path, value in leaves(config) for other in [with_other(path, value)]]
    fingerprints = {config.fingerprint(), *(other.fingerprint() for other in changed)}
    assert len(fingerprints) == len(changed) + 1 > 40


def test_a_setting_given_at_its_default_changes_nothing():
    spelt_out = Config.model_validate(Config.model_validate(SMALLEST).model_dump(by_alias=True))
    assert spelt_out.fingerprint() == Config.model_validate(SMALLEST).fingerprint()


def test_settings_are_frozen():
    config = Config.model_validate(SMALLEST)
    for group, name in ((config, "lora"), (config.lora, "rank"), (config.prompt, "evidence")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(group, name, 1)


def test_the_settings_of_a_run_come_back_from_json():
    config = Config.model_validate({**SMALLEST, "prompt": {"schema": False}, "lora": {"targets": ["q_proj"]}})
    assert Config.model_validate_json(config.model_dump_json(by_alias=True)) == config
    assert PromptSettings.model_validate_json(config.prompt.model_dump_json(by_alias=True)) == config.prompt


def leaves(settings: BaseModel, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    """Every setting that is no group, with the value it has."""
    found = []
    for name, field in type(settings).model_fields.items():
        value, here = getattr(settings, name), (*path, field.alias or name)
        found += leaves(value, here) if isinstance(value, BaseModel) else [(here, value)]
    return found


# A second possible value, where flipping, adding one or a new text is none.
OTHER = {
    "engine": "vllm",
    "unfinished": "abstain",
    "dialect": "raw",
    "quantization": "fp4",
    "max_minutes": 5.0,
    "compute_dtype": "float16",
    "dropout": 0.5,
    "targets": ["q_proj"],
    "test": "pocket#test",
    "fraction": 0.5,
    "stratify_by": ["database"],
    "dev_limit": 3,
    "max_sql_tokens": 40,
    "packing": "none",
    "checkpointing": True,
    "cuda_graph": True,
    "optimizer": "adamw",
    "schedule": "linear",
    "warmup_ratio": 0.5,
    "save_steps": 3,
    "select_by": "loss",
    "memory_gib": 6,
    "batch_size": 3,
    "kv_tokens": 1000,
    "decoding": "grounded",
    "processes": 2,
    "pack_tokens": "auto",
}


def with_other(path: tuple[str, ...], value: Any) -> Config:
    """The smallest config with another value at `path`."""
    if path[-1] in OTHER:
        other = OTHER[path[-1]]
    elif isinstance(value, bool):
        other = not value
    else:
        other = value + 1 if isinstance(value, int | float) else f"{value}x"
    settings: dict[str, Any] = Config.model_validate(SMALLEST).model_dump(by_alias=True)
    group = settings
    for part in path[:-1]:
        group = group[part]
    group[path[-1]] = other
    return Config.model_validate(settings)
