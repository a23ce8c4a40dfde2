"""The whole server as an ASGI app: paths inside, the gate around them."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from groundql import __version__
from groundql.errors import GroundqlError
from groundql.serving.chat import add_chat_paths
from groundql.serving.desk import Desk
from groundql.serving.faults import Fault, fault_of
from groundql.serving.gate import Gate
from groundql.serving.keys import Keys
from groundql.serving.page import page_response
from groundql.serving.plain import add_plain_paths

WORDS = {404: ("not_found", "nothing is served at this path"), 405: ("wrong_method", "not by this method")}


def make_app(
    desk: Desk, *, keys: Keys | None = None, hosts: Iterable[str] = (), origins: Iterable[str] = ()
) -> ASGIApp:
    """The app; `hosts` are further names that it goes by, `origins` other sites whose pages may ask it."""
    keys = keys or Keys([])

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        desk.close(0.0)

    app = FastAPI(title="GroundQL", version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan)

    @app.exception_handler(Fault)
    @app.exception_handler(GroundqlError)
    @app.exception_handler(Exception)
    async def on_error(request: Request, error: Exception) -> Response:
        return fault_of(error).response()

    @app.exception_handler(HTTPException)
    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        code, words = WORDS.get(error.status_code, ("refused", str(error.detail)))
        return Fault(error.status_code, code, words).response(error.headers)

    @app.get("/", include_in_schema=False)
    def page() -> Response:
        """The web page."""
        return page_response()

    add_plain_paths(app, desk)
    add_chat_paths(app, desk)
    return Gate(app, limits=desk.limits, keys=keys, metrics=desk.metrics, hosts=hosts, origins=origins)
