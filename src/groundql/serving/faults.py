"""A request that is not served: its status, and its words in OpenAI's form, which every path uses."""

import logging
import traceback
from collections.abc import Mapping
from pathlib import Path

from starlette.responses import JSONResponse

from groundql.errors import DatabaseMissing, DataError, GroundqlError, PromptTooLong

LOG = logging.getLogger("groundql.serving")
RETRY_S = 2  # what Retry-After says where the server is full
KINDS = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class Fault(Exception):
    """Why a request is not served. `code` is for programs, the message for people."""

    def __init__(
        self, status: int, code: str, message: str, *, param: str | None = None, retry_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.param, self.retry_s = status, code, param, retry_s

    def headers(self) -> dict[str, str]:
        """Retry-After, and the scheme where a key is asked for."""
        headers = {} if self.retry_s is None else {"Retry-After": str(max(1, round(self.retry_s)))}
        return headers | ({"WWW-Authenticate": "Bearer"} if self.status == 401 else {})

    def body(self) -> dict[str, dict[str, str | None]]:
        """OpenAI's error object."""
        kind = KINDS.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}

    def response(self, headers: Mapping[str, str] | None = None) -> JSONResponse:
        """The whole answer."""
        return JSONResponse(self.body(), self.status, headers={**self.headers(), **(headers or {})})


def fault_of(error: BaseException) -> Fault:
    """What a client is told of an error. One that is no fault of a request is logged, by its place alone."""
    if isinstance(error, Fault):
        return error
    if isinstance(error, PromptTooLong):
        return Fault(422, "prompt_too_long", str(error), param="question")
    if isinstance(error, (DatabaseMissing, DataError)):
        LOG.warning("%s", error)  # it names a path, which is no client's business
        return Fault(
            503, "database_unavailable", "the database is not there, or cannot be read now", retry_s=RETRY_S
        )
    if isinstance(error, GroundqlError):
        return Fault(500, "failed", str(error))
    LOG.error("%s", where(error))
    return Fault(500, "internal_error", f"the server failed ({type(error).__name__}); its log says where")


def where(error: BaseException) -> str:
    """What failed and at which lines; not its words, which may hold a question or a row."""
    lines = [f"{Path(f.filename).name}:{f.lineno}" for f in traceback.extract_tb(error.__traceback__)]
    return f"{type(error).__name__} at {' > '.join(lines[-6:])}"


def too_busy(what: str) -> Fault:
    """503: the queue is full."""
    return Fault(503, "queue_full", what, retry_s=RETRY_S)
