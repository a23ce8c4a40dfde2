"""A model on a data set, from prompts to verdicts, as a folder that `groundql report` and `compare` read."""

import json
from collections.abc import Callable
from pathlib import Path

from groundql.config import GenerationSettings, JudgingSettings
from groundql.generating import Writer, write_completions
from groundql.pipeline import judge_completions
from groundql.records import DataSet, Verdict, write_jsonl, write_text
from groundql.reports.tally import tally


def evaluate_model(
    writer: Writer,
    data: DataSet,
    folder: Path,
    *,
    generation: GenerationSettings,
    judging: JudgingSettings,
    on_progress: Callable[[int], None] | None = None,
) -> list[Verdict]:
    """Verdicts on every question of `data`; prompts, predictions, verdicts and tally are left in `folder`."""
    prompts, completions = write_completions(
        writer.loaded.model, writer, data, settings=generation, on_progress=on_progress
    )
    write_jsonl(folder / "prompts.jsonl", prompts)
    write_jsonl(folder / "predictions.jsonl", completions)
    verdicts = judge_completions(data, completions, deadline_s=judging.deadline_s, max_rows=judging.max_rows)
    write_jsonl(folder / "verdicts.jsonl", verdicts)
    write_text(folder / "tally.json", json.dumps(tally(verdicts), indent=2) + "\n")
    return verdicts
