"""Finds and reads what a report shows: judged predictions with their prompts, and the logs of training."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groundql.errors import DataError
from groundql.records import Completion, Prompt, Verdict, read_jsonl, read_text
from groundql.reports.comparison import verdicts_by_id

VERDICTS = "verdicts.jsonl"
LOG = "log.jsonl"
FACTS = ("run", "plan", "settings")  # JSON files of a run folder, in the order shown
BASELINES = ("untuned", "baseline", "base", "before")  # folder names that come first in a run


@dataclass(frozen=True)
class JudgedRun:
    """One verdicts.jsonl and what lies beside it."""

    label: str  # the folder's name, made longer where two folders share it
    folder: Path
    verdicts: tuple[Verdict, ...]
    prompts: dict[str, Prompt]  # by question id; empty where there is no prompts.jsonl
    completions: dict[str, Completion]  # by question id; empty where there is no predictions.jsonl of ours
    trust: tuple[str, ...] = ()  # what `groundql judge` said of questions that say who asked them


@dataclass(frozen=True)
class TrainingLog:
    """What a training run left: the loss log, and its JSON files by name; each may be empty."""

    label: str
    lines: tuple[dict[str, Any], ...]  # {"step": .., "loss": .., "epoch": ..} and evaluations
    facts: dict[str, dict[str, Any]]  # run, plan, settings: those that are there


def read_judged_runs(paths: Sequence[Path]) -> list[JudgedRun]:
    """Every verdicts.jsonl in or below `paths`, baselines first; DataError where a path holds none."""
    folders: list[Path] = []
    for path in paths:
        for folder in _verdict_folders(path):
            if folder not in folders:
                folders.append(folder)
    return [_read_judged_run(folder, label) for folder, label in zip(folders, _labels(folders), strict=True)]


def read_training_logs(paths: Sequence[Path]) -> list[TrainingLog]:
    """The log and the facts of every training run in or below `paths`."""
    folders = {found.parent for path in paths if path.is_dir() for found in path.rglob(LOG)}
    folders |= {path for path in paths if any((path / f"{name}.json").is_file() for name in FACTS)}
    ordered = sorted(folders)
    logs = []
    for folder, label in zip(ordered, _labels(ordered), strict=True):
        lines = _read_log(folder / LOG) if (folder / LOG).is_file() else ()
        facts = {name: _read_object(folder / f"{name}.json") for name in FACTS}
        logs.append(TrainingLog(label, lines, {name: fact for name, fact in facts.items() if fact}))
    return logs


def _verdict_folders(path: Path) -> list[Path]:
    if path.is_file() and path.name == VERDICTS:
        return [path.parent.resolve()]
    if not path.is_dir():
        raise DataError(f"{path} is not a folder; give the one that holds {VERDICTS}, or a run folder")
    folders = [found.parent.resolve() for found in path.rglob(VERDICTS)]
    if not folders:
        raise DataError(
            f"{path} holds no {VERDICTS}; `groundql judge PREDICTIONS --data DATA --out {path}` makes one"
        )
    return sorted(folders, key=lambda folder: (_baseline_rank(folder), str(folder)))


def _baseline_rank(folder: Path) -> int:
    return BASELINES.index(folder.name) if folder.name in BASELINES else len(BASELINES)


def _labels(folders: Sequence[Path]) -> list[str]:
    """The shortest ends of the folders' paths that tell them apart, less the run folder's own `judged`."""
    parts = [[part for part in folder.resolve().parts if part != "judged"] for folder in folders]
    for n_parts in range(1, max(map(len, parts), default=0) + 1):
        labels = ["/".join(its_parts[-n_parts:]) for its_parts in parts]
        if len(set(labels)) == len(labels):
            return labels
    return [str(folder) for folder in folders]


def _read_judged_run(folder: Path, label: str) -> JudgedRun:
    verdicts = read_jsonl(folder / VERDICTS, Verdict)
    if not verdicts:
        raise DataError(f"{folder / VERDICTS} holds no verdict")
    verdicts_by_id(verdicts, str(folder / VERDICTS))
    prompts_path, predictions_path = folder / "prompts.jsonl", folder / "predictions.jsonl"
    prompts = read_jsonl(prompts_path, Prompt) if prompts_path.is_file() else []
    completions = read_jsonl(predictions_path, Completion) if predictions_path.is_file() else []
    return JudgedRun(
        label=label,
        folder=folder,
        verdicts=tuple(verdicts),
        prompts={prompt.question_id: prompt for prompt in prompts},
        completions={completion.question_id: completion for completion in completions},
        trust=tuple(map(str, _read_object(folder / "tally.json").get("trust", ()))),
    )


def _read_log(path: Path) -> tuple[dict[str, Any], ...]:
    """The log's lines; a last line that a killed run left half-written is passed over."""
    text = read_text(path)
    lines = text.split("\n")
    found = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line, parse_constant=_no_number)
        except json.JSONDecodeError as error:
            if number == len(lines):
                break
            raise DataError(f"{path}, line {number}: {error.msg}") from None
        if not isinstance(entry, dict):
            raise DataError(f"{path}, line {number}: not an object")
        found.append(entry)
    return tuple(found)


def _read_object(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        found = json.loads(read_text(path), parse_constant=_no_number)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}, line {error.lineno}: {error.msg}") from None
    if not isinstance(found, dict):
        raise DataError(f"{path}: not an object")
    return found


def _no_number(_: str) -> None:
    """NaN and Infinity, which a loss can be and JSON cannot say."""
