"""`groundql sample`: fewer questions with the same distribution, and splits by database."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from groundql.cli import app
from groundql.errors import SettingError
from groundql.records import DataSet, Question

SPLIT_NAMES = {2: ("train", "dev"), 3: ("train", "dev", "test")}


@app.command()
def sample(
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="The whole: pocket, bird:DIR#train, jsonl:FILE ...")
    ],
    out: Annotated[Path, typer.Option(help="JSONL file to write; `jsonl:FILE` reads it.")],
    fraction: Annotated[
        float | None,
        typer.Option(help="Share of the questions to keep, such as 0.45; all where only splitting."),
    ] = None,
    by: Annotated[
        str,
        typer.Option(
            help="Keep the distribution of these, comma-separated: evidence, database, difficulty, complexity."
        ),
    ] = "evidence",
    seed: Annotated[int, typer.Option(help="The same seed gives the same sample.")] = 7,
    split_databases: Annotated[
        str | None,
        typer.Option(
            help="Shares such as 0.8,0.1,0.1: write FILE.train, .dev, .test; no database in two of them."
        ),
    ] = None,
) -> None:
    """Keep a part of the questions with the distribution of the whole; print how far the two are apart."""
    from groundql.questions.load import load_data
    from groundql.questions.sample import split_by_database, stratified_sample

    if fraction is None and split_databases is None:
        raise SettingError("say how much to keep: --fraction 0.45, or --split-databases 0.8,0.1,0.1")
    keys = [key.strip() for key in by.split(",") if key.strip()]
    shares = _shares(split_databases) if split_databases is not None else []
    whole = load_data(data, needs_schemas=False)
    _refuse_lost_schemas(whole)
    kept: Sequence[Question] = whole.questions
    if fraction is not None:
        kept = stratified_sample(whole.questions, fraction, by=keys, seed=seed)
    n_kept, n_all = len(kept), len(whole.questions)
    typer.echo(
        f"questions   {n_kept:,} of {n_all:,}   {100 * n_kept / n_all:.1f} %   {whole.name} {whole.split}, seed {seed}"
    )
    if fraction is not None:
        _print_distances(kept, whole.questions, keys)
    parts = split_by_database(kept, shares, seed=seed) if shares else (kept,)
    paths = (
        [out.with_name(f"{out.stem}.{name}{out.suffix}") for name in SPLIT_NAMES[len(shares)]]
        if shares
        else [out]
    )
    for path, part in zip(paths, parts, strict=True):
        _write(path, part, whole)


def _shares(text: str) -> list[float]:
    try:
        shares = [float(part) for part in text.split(",")]
    except ValueError:
        raise SettingError(f"--split-databases takes numbers such as 0.8,0.1,0.1, not {text!r}") from None
    if len(shares) not in SPLIT_NAMES:
        raise SettingError(
            f"--split-databases takes two shares (train, dev) or three (train, dev, test), not {len(shares)}"
        )
    return shares


def _refuse_lost_schemas(whole: DataSet) -> None:
    from groundql.questions.layout import has_schema

    if not all(has_schema(files) for files in whole.databases.values()):
        raise SettingError(
            f"{whole.spec} comes without schemas, and so would its sample; write bird:hub@DIR#train, "
            "where DIR is BIRD's train folder"
        )


def _print_distances(kept: Sequence[Question], whole: Sequence[Question], keys: list[str]) -> None:
    from groundql.questions.sample import KEYS, distance

    for key in KEYS:
        found = distance(kept, whole, key)
        line = f"{key:<12}total variation {found.total_variation:.4f} over {found.n_strata} strata"
        if found.kolmogorov_smirnov is not None:
            line += f", Kolmogorov-Smirnov {found.kolmogorov_smirnov:.4f}"
        typer.echo(line + ("" if key in keys else "   (left to chance)"))


def _write(path: Path, questions: Sequence[Question], whole: DataSet) -> None:
    from groundql.questions.jsonl import databases_path, write_questions

    write_questions(path, questions, whole.databases)
    n_databases = len({question.db_id for question in questions})
    typer.echo(f"wrote       {path}   {len(questions):,} questions, {n_databases} databases")
    typer.echo(f"            {databases_path(path)}   where the databases lie; keep it beside")
