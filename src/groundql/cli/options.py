"""Arguments and options that several verbs share, so that they take and say the same everywhere."""

from enum import StrEnum
from typing import Annotated

import typer


class Decoding(StrEnum):
    """How tokens are chosen."""

    FREE = "free"
    GROUNDED = "grounded"


A_DATABASE = "a SQLite file, duckdb:FILE, a .csv or .parquet file or a folder of them, or postgresql://..."

DatabaseArgument = Annotated[str, typer.Argument(help=f"What to read, and only read: {A_DATABASE}.")]
DatabasesArgument = Annotated[
    list[str], typer.Argument(metavar="DATABASE...", help=f"What to read, and only read, each {A_DATABASE}.")
]
NamedDatabasesArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="DATABASE...", help=f"Each {A_DATABASE}; NAME=DATABASE gives one another name. Read only."
    ),
]
ModelOption = Annotated[str, typer.Option(help="Run folder, catalog name, hub id, folder or .gguf.")]
DecodingOption = Annotated[
    Decoding, typer.Option(help="grounded: a query that binds to the schema, or none and why.")
]
MaxNewTokensOption = Annotated[int, typer.Option(min=1, help="Limit for each query that the model writes.")]
DeadlineOption = Annotated[float, typer.Option(min=0.1, help="Seconds that a query may run.")]
SeedOption = Annotated[int, typer.Option(help="Of what is drawn.")]
