"""groundql serve: one model and several databases behind HTTP: a web page, OpenAI's form, a plain one."""

import importlib.util
import re
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from groundql.cli import app
from groundql.cli.generate import require_torch
from groundql.cli.options import (
    Decoding,
    DecodingOption,
    MaxNewTokensOption,
    ModelOption,
    NamedDatabasesArgument,
)
from groundql.cli.progress import say
from groundql.config import GenerationSettings
from groundql.errors import AskedWrongly, DependencyMissing
from groundql.models.catalog import DEFAULT_MODEL

if TYPE_CHECKING:
    from groundql.answer import Assistant
    from groundql.serving.keys import Keys

ORIGIN = re.compile(r"https?://[\w.:\[\]-]+/?")
NAMED = re.compile(r"([\w.-]+)=(.+)", re.DOTALL)


@app.command()
def serve(
    databases: NamedDatabasesArgument,
    model: ModelOption = DEFAULT_MODEL,
    host: Annotated[
        str, typer.Option(help="Address to listen on; this machine alone by default.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any that is free.")] = 8000,
    keys: Annotated[
        Path | None, typer.Option(help="File of API keys, one a line; without it no key is asked for.")
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Listen to other machines without keys: anybody may read.")
    ] = False,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="A further name that the server goes by, as in its address.")
    ] = None,
    allow_origin: Annotated[
        list[str] | None, typer.Option(help="Another site whose pages may ask, as https://SITE.")
    ] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option(help="NAME=VALUE: another bound, such as rows=500; docs/serving.md lists them."),
    ] = None,
    max_new_tokens: MaxNewTokensOption = 256,
    decoding: DecodingOption = Decoding.GROUNDED,
    log_questions: Annotated[
        bool, typer.Option("--log-questions", help="Write questions and queries to the log; rows never are.")
    ] = False,
) -> None:
    """Serve a web page and an API on databases, read-only, until Ctrl-C."""
    require_serving()
    from groundql.answer import OpenDatabase
    from groundql.serving.limits import read_limits
    from groundql.serving.server import listening_socket

    limits = read_limits(limit or [])
    known = known_keys(keys, host, is_insecure=insecure)
    origins = checked_origins(allow_origin or [])
    places = named_places(databases)
    bound = listening_socket(host, port)
    with ExitStack() as stack:
        stack.callback(bound.close)
        opened = {name: stack.enter_context(OpenDatabase(place)) for name, place in places.items()}
        settings = GenerationSettings(max_new_tokens=max_new_tokens, decoding=decoding.value)
        assistant = stack.enter_context(loaded(model, settings))
        from groundql.serving.app import make_app
        from groundql.serving.desk import Desk
        from groundql.serving.metrics import Metrics
        from groundql.serving.server import serve as serve_until_stopped
        from groundql.serving.server import set_up_logs

        set_up_logs()
        desk = Desk(
            assistant, opened, model=model, limits=limits, metrics=Metrics(), logs_questions=log_questions
        )
        whole = make_app(desk, keys=known, hosts=[host, *(allow_host or [])], origins=origins)
        address = f"[{host}]" if ":" in host else host
        ready = f"http://{address}:{bound.getsockname()[1]} serves {', '.join(opened)}; Ctrl-C stops"
        serve_until_stopped(whole, desk, bound, say=say, ready=ready)


def loaded(model: str, settings: GenerationSettings) -> "Assistant":
    """The model, its weights read; errors as of `Assistant.load`."""
    require_torch("serve")
    from groundql.answer import Assistant

    if model == DEFAULT_MODEL:
        say(f"serving {model} untuned; --model RUN serves a tuned one")
    return Assistant.load(model, settings)


def known_keys(path: Path | None, host: str, *, is_insecure: bool) -> "Keys":
    """The keys of the file, none without one; says what is risky about them.

    Raises:
        AskedWrongly: other machines could reach `host` and no key is asked for, or the file holds none that will do.
    """
    from groundql.serving.keys import Keys, is_readable_by_others, read_keys
    from groundql.serving.server import check_bind, is_loopback

    known = read_keys(path) if path else Keys([])
    if path and is_readable_by_others(path):
        say(f"{path} can be read by other users of this machine: chmod 600 {path}")
    check_bind(host, has_keys=bool(len(known)), is_insecure=is_insecure)
    if not len(known) and not is_loopback(host):
        say(f"without keys on {host}: whoever reaches this port may read every row of these databases")
    return known


def checked_origins(origins: Sequence[str]) -> Sequence[str]:
    """The origins, each as a browser sends it.

    Raises:
        AskedWrongly: one that no browser would send, so that it would allow nobody.
    """
    for origin in origins:
        if not ORIGIN.fullmatch(origin):
            raise AskedWrongly(
                f"--allow-origin {origin} is no origin; write https://SITE, or https://SITE:PORT"
            )
    return origins


def named_places(databases: Sequence[str]) -> dict[str, str]:
    """By name what to open; a place without a name goes by its database's.

    Raises:
        AskedWrongly: two of the same name.
    """
    from groundql.databases.place import locate

    places: dict[str, str] = {}
    for text in databases:
        named = None if Path(text).exists() else NAMED.fullmatch(text)
        place = named[2] if named else text
        name = named[1] if named else locate(place).db_id
        if name in places:
            raise AskedWrongly(f"two databases go by the name {name}; write NAME=DATABASE for one of them")
        places[name] = place
    return places


def require_serving() -> None:
    """Say how to get the web server where it is missing.

    Raises:
        DependencyMissing: a package of the extra `serve` is not installed.
    """
    missing = [
        name for name in ("fastapi", "uvicorn", "prometheus_client") if importlib.util.find_spec(name) is None
    ]
    if missing:
        raise DependencyMissing(f"groundql serve needs {', '.join(missing)}: pip install 'groundql[serve]'")
