"""groundql mcp: databases as tools of an MCP client, such as an editor or a desktop assistant."""

from contextlib import ExitStack
from typing import Annotated

import typer

from groundql.cli import app
from groundql.cli.generate import require_torch
from groundql.cli.options import DatabasesArgument, DeadlineOption, MaxNewTokensOption
from groundql.cli.progress import say
from groundql.config import GenerationSettings
from groundql.errors import DependencyMissing


@app.command()
def mcp(
    databases: DatabasesArgument,
    model: Annotated[
        str | None,
        typer.Option(help="Also offer the tool ask, with this model: run folder, .gguf, folder, hub id."),
    ] = None,
    max_rows: Annotated[
        int, typer.Option(min=1, help="Rows of one reply; beyond, the client is told to narrow.")
    ] = 200,
    deadline_s: DeadlineOption = 30.0,
    max_new_tokens: MaxNewTokensOption = 256,
) -> None:
    """Serve databases to an MCP client on stdin and stdout: list_tables, describe_table, run_query, and ask."""
    from groundql.answer import Assistant, OpenDatabase

    try:
        from groundql.serving.mcp import ReplyLimits, build_server, named
    except ImportError as error:
        if not (error.name or "").startswith("mcp"):
            raise
        raise DependencyMissing("groundql mcp needs the package mcp: pip install 'groundql[mcp]'") from None
    load_model = None
    if model is not None:
        require_torch("mcp --model")
        from groundql.models.source import find_base, is_run

        if not is_run(model):
            find_base(model)  # a wrong name is told now, not at the first question
        settings = GenerationSettings(max_new_tokens=max_new_tokens, decoding="grounded")

        def load_model() -> Assistant:
            return Assistant.load(model, settings)

    with ExitStack() as opened:
        served = named([opened.enter_context(OpenDatabase(place)) for place in databases])
        say(f"MCP on stdio: {', '.join(f'{name} ({one.dialect})' for name, one in served.items())}")
        limits = ReplyLimits(deadline_s=deadline_s, max_rows=max_rows)
        build_server(served, load_model, limits).run("stdio")
