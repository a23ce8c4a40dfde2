"""A run folder: settings, fingerprints, versions, the loss log, the adapter. Written whole or not at all.

runs/NAME/
├── settings.json     every setting, and their hash
├── run.json          base model, prompt marks and fingerprint, data fingerprints, counts, versions, time, peak memory
├── log.jsonl         loss, learning rate and gradient norm every few steps; dev scores each epoch
├── tensorboard/      the same curves
├── checkpoints/      to resume from; the best is copied to adapter/
├── adapter/          the trained LoRA weights: its presence says that the run is finished
└── judged/LABEL/     predictions.jsonl, prompts.jsonl, verdicts.jsonl, tally.json
"""

import importlib.metadata
import json
import platform
import shutil
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from groundql.config import Config, PromptSettings
from groundql.errors import AskedWrongly, DataError
from groundql.records import Record, Turns, first_fault, read_text, write_text

PACKAGES = ("groundql", "torch", "transformers", "peft", "bitsandbytes", "accelerate", "apsw", "sqlglot")


class RunInfo(Record):
    """run.json: what a later load must know and check."""

    base_model: str
    quantization: str
    double_quantization: bool
    turns: Turns
    prompt: PromptSettings
    prompt_fingerprint: str
    config_fingerprint: str
    data_fingerprints: dict[str, str]
    counts: dict[str, int]
    versions: dict[str, str]
    results: dict[str, float] = {}  # seconds, tokens a second, peak MiB, best step: filled at the end


def versions() -> dict[str, str]:
    """Versions of what a result depends on; packages that are not installed are left out."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def start_run(run_dir: Path, config: Config, info: RunInfo, *, resume: bool) -> None:
    """Write settings and info of a new run, or check that a resumed one has the same.

    Raises:
        AskedWrongly: a new run in a folder that holds one, or a resumed run whose settings or data changed.
    """
    settings_path = run_dir / "settings.json"
    if resume:
        before = read_run(run_dir)
        if before.config_fingerprint != info.config_fingerprint:
            raise AskedWrongly(
                f"{run_dir} was started with other settings; start a new run, or undo the change"
            )
        if (
            before.data_fingerprints != info.data_fingerprints
            or before.prompt_fingerprint != info.prompt_fingerprint
        ):
            raise AskedWrongly(f"{run_dir} was started with other data or another prompt; start a new run")
        return
    if settings_path.exists():
        raise AskedWrongly(
            f"{run_dir} already holds a run; `groundql train --resume {run_dir}` goes on with it"
        )
    write_text(settings_path, config.model_dump_json(indent=2, by_alias=True) + "\n")
    write_run(run_dir, info)


def read_run(run_dir: Path) -> RunInfo:
    """run.json of a run folder."""
    path = run_dir / "run.json"
    try:
        return RunInfo.model_validate_json(read_text(path))
    except ValidationError as error:
        raise DataError(f"{path}: {first_fault(error)}") from None


def read_settings(run_dir: Path) -> Config:
    """The settings that a run was started with."""
    path = run_dir / "settings.json"
    try:
        return Config.model_validate_json(read_text(path))
    except ValidationError as error:
        raise DataError(f"{path}: {first_fault(error)}") from None


def write_run(run_dir: Path, info: RunInfo) -> None:
    """Write run.json."""
    write_text(run_dir / "run.json", info.model_dump_json(indent=2, by_alias=True) + "\n")


def append_log(run_dir: Path, entry: dict[str, Any]) -> None:
    """Add one line to log.jsonl."""
    with (run_dir / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")


def cut_log(run_dir: Path, last_step: int) -> None:
    """Drop log lines after `last_step`: a resumed run writes them again."""
    path = run_dir / "log.jsonl"
    if path.exists():
        lines = [line for line in read_text(path).splitlines() if line.endswith("}")]
        kept = [line for line in lines if json.loads(line)["step"] <= last_step]
        write_text(path, "".join(line + "\n" for line in kept))


def last_checkpoint(run_dir: Path) -> Path | None:
    """The newest whole checkpoint: one whose trainer_state.json, written last, is there."""
    found = [
        p for p in (run_dir / "checkpoints").glob("checkpoint-*") if (p / "trainer_state.json").is_file()
    ]
    return max(found, key=lambda p: int(p.name.split("-")[1]), default=None)


def finish_run(run_dir: Path, saved_dir: Path) -> None:
    """Move the freshly saved adapter into its place; from then on the run counts as finished."""
    target = run_dir / "adapter"
    shutil.rmtree(target, ignore_errors=True)
    saved_dir.rename(target)
