"""groundql export: a finished run as weights that other programs load."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from groundql.cli import app
from groundql.cli.generate import require_torch
from groundql.cli.progress import say
from groundql.errors import AskedWrongly
from groundql.models.exported import Precision


class Target(StrEnum):
    """What is written."""

    MERGED = "merged"
    GGUF = "gguf"


class Weights(StrEnum):
    """How a .gguf file holds its matrices."""

    F16 = "f16"
    Q8_0 = "q8_0"


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="A finished run folder.")],
    to: Annotated[
        Target,
        typer.Option(
            help="merged: a folder for transformers and vLLM; gguf: a file for llama.cpp and Ollama."
        ),
    ],
    out: Annotated[Path, typer.Option(help="A new folder for it.")],
    weights: Annotated[
        Weights | None,
        typer.Option(help="Of a .gguf file: 16 bit, or 8 bit at half the size. f16 if not given."),
    ] = None,
    database: Annotated[
        str | None,
        typer.Option(
            help="Of a .gguf file: a database, by path or URL, whose schema goes into the Modelfile."
        ),
    ] = None,
) -> None:
    """Write a run's model, base and adapter in one, for use without GroundQL."""
    if to is Target.MERGED and (weights is not None or database is not None):
        raise AskedWrongly("--weights and --database are for --to gguf; merged weights are bfloat16")
    require_torch("export", "bitsandbytes")  # it unpacks 4-bit weights
    from groundql.exporting import export_run

    held: dict[Weights | None, Precision] = {None: "f16", Weights.F16: "f16", Weights.Q8_0: "q8_0"}
    precision = "bf16" if to is Target.MERGED else held[weights]
    exported = export_run(run, out, precision=precision, database=database, say=say)
    n_bytes = sum(path.stat().st_size for path in out.iterdir())
    print(f"weights      {exported.n_parameters:,} as {precision}, {n_bytes / 2**20:.0f} MiB in all")
    print(f"prompt       {exported.prompt_fingerprint}, kept in {out / 'groundql.json'}")
    print(f"exported     {out / exported.weights}")
    if to is Target.GGUF:
        print(f"for Ollama   ollama create NAME -f {out / 'Modelfile'}")
