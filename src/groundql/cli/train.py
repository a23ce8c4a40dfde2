"""groundql train: QLoRA as a config says, into a run folder."""

from pathlib import Path
from typing import Annotated

import typer

from groundql.cli import app
from groundql.cli.generate import require_torch
from groundql.cli.progress import progress, say
from groundql.config import Config, load_config
from groundql.errors import AskedWrongly


@app.command()
def train(
    config: Annotated[
        str | None, typer.Argument(help="A .toml file, or the name of a shipped config.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Override a setting: key=value. Repeatable.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The run folder; runs/CONFIG-HASH where none is given.")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with this run folder, as if it had not stopped.")
    ] = None,
) -> None:
    """Fine-tune a base model and leave an adapter, its loss log and its fingerprints in a run folder."""
    if resume is None and config is None:
        raise AskedWrongly("give a config (groundql train configs/pocket-smollm2.toml), or --resume RUN")
    require_torch("train")
    from groundql.training.run_folder import read_settings

    if resume is not None:
        if config is not None or set_:
            raise AskedWrongly("--resume takes the settings of the run itself; leave CONFIG and --set out")
        if (resume / "adapter").is_dir():
            raise AskedWrongly(f"{resume} is finished; nothing is left to resume")
        settings, run_dir = read_settings(resume), resume
    else:
        settings = load_config(str(config), set_ or [])
        run_dir = out or Path("runs") / f"{Path(str(config)).stem}-{settings.fingerprint()}"
    train_run(settings, run_dir, resume=resume is not None)


def train_run(settings: Config, run_dir: Path, *, resume: bool = False) -> None:
    """Train with progress on stderr and the closing numbers on stdout."""
    from groundql.training.processes import is_first, n_processes
    from groundql.tuning import tune

    if not is_first():  # the first of several processes speaks for all
        tune(settings, run_dir, resume=resume, say=say)
        return
    if n_processes() > 1:
        say(f"{n_processes()} processes, each with its share of the packs of a step")
    say(f"train {settings.model.name} on {settings.data.train} into {run_dir}")
    with progress("train", 1) as advance:

        def on_step(step: int, n_steps: int, loss: float | None) -> None:
            advance.set_total(n_steps)
            advance(step)
            if loss is not None:
                advance.note(f"loss {loss:.3f}")

        info = tune(settings, run_dir, resume=resume, say=say, on_step=on_step)
    results = info.results
    planned = f" of {results['n_planned_steps']:.0f}: training.max_minutes"
    cut = planned if results["n_steps"] < results["n_planned_steps"] else ""
    print(
        f"steps        {results['n_steps']:.0f}{cut}   {results['n_dropped_steps']:.0f} dropped as non-finite"
    )
    print(f"best step    {results['best_step']:.0f}   by {settings.training.select_by}")
    print(
        f"tokens       {results['trained_tokens']:.0f}   {results['trained_tokens'] / results['elapsed_s']:.0f} a second"
    )
    print(f"time         {results['elapsed_s']:.0f} s, dev scores included")
    if "peak_mib" in results:
        planned_mib = (
            f"; planned {results['predicted_peak_mib']:.0f}" if "predicted_peak_mib" in results else ""
        )
        print(
            f"peak         {results['peak_mib']:.0f} MiB reserved on the card, CUDA context not included{planned_mib}"
        )
    print(f"adapter      {run_dir / 'adapter'}")
