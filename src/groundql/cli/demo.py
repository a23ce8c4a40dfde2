"""groundql demo: the whole path on the shipped benchmark, before and after fine-tuning, in numbers and on a page."""

import json
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

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

if TYPE_CHECKING:
    from groundql.generating import Writer

CONFIG = "pocket-smollm2"
MINUTES = 13  # 767 s without --grounded, with training.max_minutes of 6.5, on two cores (docs/log.md)
COLUMNS = {  # what each judged model is; the second less the first is tuning, the third less the second is grounding
    "untuned": "the model as it comes, decoding free",
    "tuned": "fine-tuned, decoding free",
    "tuned-grounded": "fine-tuned, and held to the schema while it writes",
}
COMPARISONS = {
    "comparison.json": ("untuned", "tuned"),
    "comparison-grounding.json": ("tuned", "tuned-grounded"),
    "comparison-both.json": ("untuned", "tuned-grounded"),
}


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="The run folder; an earlier demo in it is replaced.")] = Path(
        "runs/demo"
    ),
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Override a setting: key=value. Repeatable.")
    ] = None,
    grounded: Annotated[
        bool, typer.Option("--grounded", help="Judge grounded decoding too: minutes more on a CPU.")
    ] = False,
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

    def judged(writer: "Writer", label: str, decoding: Literal["free", "grounded"]) -> list[Verdict]:
        settings = config.generation.model_copy(update={"decoding": decoding})
        with progress(f"judge {label}", len(test.questions)) as advance:
            return evaluate_model(
                writer,
                test,
                out / "judged" / label,
                generation=settings,
                judging=config.judging,
                on_progress=advance,
            )

    quantization = config.model.quantization
    base = load_writer(config.model.name, quantization=quantization, prompt=config.prompt, merge=True)
    untuned = judged(base, "untuned", "free")
    del base
    train_run(config, out)
    writer = load_writer(str(out), merge=True)  # merged: NF4 would be unpacked anew for every token
    tuned = judged(writer, "tuned", "free")
    columns = {"untuned": untuned, "tuned": tuned}
    if grounded:
        columns["tuned-grounded"] = judged(writer, "tuned-grounded", "grounded")
    for label, verdicts in columns.items():
        print(f"\n{label}: {COLUMNS[label]}\n{rung_table(tally(verdicts))}", end="")
    for name, (a, b) in COMPARISONS.items():
        if b not in columns:
            continue
        found = compare(columns[a], columns[b])
        write_text(out / name, json.dumps(found, indent=2) + "\n")
        print(f"\n{a} (A) against {b} (B)\n{comparison_table(found)}", end="")
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
