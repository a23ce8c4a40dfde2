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
import math
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
        was, now = (one.counts.get("processes", 1) for one in (before, info))
        if was != now:
            raise AskedWrongly(
                f"{run_dir} was started in {was} process(es), this is {now}: the steps would be others"
            )
        return
    check_free(run_dir)
    write_run(run_dir, info)
    settings = config.model_dump_json(indent=2, by_alias=True) + "\n"
    write_text(run_dir / "settings.json", settings)  # last: it claims the folder


def check_free(run_dir: Path) -> None:
    """No run was started in `run_dir`.

    Raises:
        AskedWrongly: one was; says how to go on with it.
    """
    if (run_dir / "settings.json").exists():
        raise AskedWrongly(
            f"{run_dir} already holds a run; `groundql train --resume {run_dir}` goes on with it"
        )


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
    """Add one line to log.jsonl; a number that is not finite becomes null, which JSON has."""
    finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in entry.items()}
    with (run_dir / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(finite) + "\n")


def cut_log(run_dir: Path, last_step: int) -> None:
    """Drop log lines after `last_step`: a resumed run writes them again."""
    path = run_dir / "log.jsonl"
    if path.exists():
        lines = [line for line in read_text(path).splitlines() if line.endswith("}")]
        kept = [line for line in lines if json.loads(line)["step"] <= last_step]
        write_text(path, "".join(line + "\n" for line in kept))


def last_checkpoint(run_dir: Path) -> Path | None:
    """The newest whole checkpoint: one whose trainer_state.json, written last, is there."""
    found = [p for p in (run_dir / "checkpoints").glob("checkpoint-*") if _is_whole(p)]
    return max(found, key=lambda p: int(p.name.split("-")[1]), default=None)


def _is_whole(checkpoint_dir: Path) -> bool:
    """Whether the file that is written last is there, and to its end."""
    path = checkpoint_dir / "trainer_state.json"
    return path.is_file() and read_text(path).rstrip().endswith("}")


def n_dropped_steps(run_dir: Path) -> int:
    """Steps of this run, sittings before a kill too, whose gradient was not finite."""
    path = run_dir / "log.jsonl"
    return read_text(path).count('"dropped":') if path.exists() else 0


def finish_run(run_dir: Path, saved_dir: Path) -> None:
    """Move the freshly saved adapter into its place; from then on the run counts as finished."""
    target = run_dir / "adapter"
    shutil.rmtree(target, ignore_errors=True)
    saved_dir.rename(target)
