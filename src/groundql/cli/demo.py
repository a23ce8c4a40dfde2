"""groundql demo: the whole path on the shipped benchmark, before and after fine-tuning, in numbers and on a page."""

import json
import shutil
import time
from pathlib import Path
from typing import Annotated

import typer

from groundql.cli import app
from groundql.cli.generate import require_torch
from groundql.cli.progress import progress, say
from groundql.cli.train import train_run
from groundql.config import load_config
from groundql.errors import AskedWrongly
from groundql.questions.load import load_data
from groundql.records import Verdict, write_text
from groundql.reports.comparison import compare, comparison_table
from groundql.reports.page import write_report
from groundql.reports.tally import rung_table, tally

CONFIG = "pocket-smollm2"
MINUTES = 14  # measured on two busy cores of a server; docs/log.md has the run


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="The run folder; an earlier demo in it is replaced.")] = Path(
        "runs/demo"
    ),
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Override a setting: key=value. Repeatable.")
    ] = None,
) -> None:
    """Fine-tune SmolLM2-135M on the pocket benchmark, judge it before and after on databases it never saw."""
    started = time.monotonic()
    require_torch("demo")
    config = load_config(CONFIG, set_ or [])
    if config.data.test is None:
        raise AskedWrongly("the demo needs data.test")
    test = load_data(config.data.test)
    _clear(out)
    from groundql.evaluating import evaluate_model
    from groundql.generating import load_writer

    say(
        f"demo: {config.model.name} on {config.data.test}, {len(test.questions)} questions on {len(test.databases)} "
        f"databases that training never sees; about {MINUTES} minutes on 2 cores"
    )

    def judged(model: str, label: str, quantization: str | None) -> list[Verdict]:
        writer = load_writer(model, quantization=quantization, prompt=config.prompt)
        with progress(f"judge the {label} model", len(test.questions)) as advance:
            folder = out / "judged" / label
            settings = {"generation": config.generation, "judging": config.judging}
            return evaluate_model(writer, test, folder, **settings, on_progress=advance)  # type: ignore[arg-type]

    untuned = judged(config.model.name, "untuned", config.model.quantization)
    train_run(config, out)
    tuned = judged(str(out), "tuned", None)
    for label, verdicts in (("untuned", untuned), ("tuned", tuned)):
        print(f"\n{label}\n{rung_table(tally(verdicts))}", end="")
    found = compare(untuned, tuned)
    write_text(out / "comparison.json", json.dumps(found, indent=2) + "\n")
    print(f"\nuntuned (A) against tuned (B)\n{comparison_table(found)}", end="")
    page = write_report([out], out / "report")
    print(f"\npage       {page}")
    print(f"time       {time.monotonic() - started:.0f} s")


def _clear(out: Path) -> None:
    """Remove an earlier demo, and nothing else.

    Raises:
        AskedWrongly: the folder holds something that is no run.
    """
    if not out.exists():
        return
    if any(out.iterdir()) and not (out / "run.json").is_file() and not (out / "judged").is_dir():
        raise AskedWrongly(f"{out} exists and is no earlier demo; give another --out")
    shutil.rmtree(out)
