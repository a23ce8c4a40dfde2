"""A server with a scripted model, in this process: over real sockets where a test is about them."""

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import uvicorn
from starlette.testclient import TestClient

from groundql.answer import OpenDatabase
from groundql.serving.app import make_app
from groundql.serving.desk import Desk
from groundql.serving.keys import Keys
from groundql.serving.limits import Limits
from groundql.serving.metrics import Metrics
from groundql.serving.server import PromptConnection, listening_socket
from tests.scripted_assistant import ScriptedAssistant
from tests.small_data import CLUB, SHOP

QUERIES: dict[str, str | None] = {
    "What costs more than 1.80?": "SELECT name, price FROM product WHERE price > 1.8 ORDER BY price",
    "How many products are there?": "SELECT COUNT(*) FROM product",
    "Amount sold of each product": (
        "SELECT T1.name, SUM(T2.amount) AS amount FROM product AS T1 JOIN sale AS T2 ON T2.product = T1.id"
        " GROUP BY T1.id"
    ),
    "Which colours are there?": "SELECT colour FROM product",
    "Endless": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT COUNT(*) FROM n",
    "What is love?": None,
}


def make_databases(folder: Path, **texts: str) -> dict[str, Path]:
    """SQLite files of SQL texts, by name; shop and club where none are given."""
    paths = {}
    for name, text in (texts or {"shop": SHOP, "club": CLUB}).items():
        paths[name] = folder / f"{name}.sqlite"
        with contextlib.closing(sqlite3.connect(paths[name])) as connection:
            connection.executescript(text)
    return paths


@contextlib.contextmanager
def desk_on(
    paths: Mapping[str, Path],
    queries: Mapping[str, str | None] = QUERIES,
    *,
    delay_s: float = 0.0,
    writes: Any = None,
    logs_questions: bool = False,
    **limits: Any,
) -> Iterator[Desk]:
    """A desk whose model writes `queries`."""
    with contextlib.ExitStack() as stack:
        opened = {name: stack.enter_context(OpenDatabase(path)) for name, path in paths.items()}
        desk = Desk(
            writes or ScriptedAssistant(queries, delay_s=delay_s),
            opened,
            model="scripted",
            limits=Limits(**limits),
            metrics=Metrics(),
            logs_questions=logs_questions,
        )
        stack.callback(desk.close, 5.0)
        yield desk


@contextlib.contextmanager
def client_of(desk: Desk, *, keys: Keys | None = None, **options: Any) -> Iterator[TestClient]:
    """Requests to the app without a socket; the app's lifespan does not begin, so the desk stays open."""
    app = make_app(desk, keys=keys, **options)
    yield TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False)


@contextlib.contextmanager
def listening(desk: Desk, *, keys: Keys | None = None, **options: Any) -> Iterator[str]:
    """The address of the app on a free port of loopback."""
    bound = listening_socket("127.0.0.1", 0)
    bound.listen(128)
    config = uvicorn.Config(
        make_app(desk, keys=keys, **options),
        log_config=None,
        log_level="critical",
        access_log=False,
        http=PromptConnection,
        timeout_graceful_shutdown=5,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[bound])))
    thread.start()
    try:
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        bound.close()
