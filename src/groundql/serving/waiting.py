"""Waits for an answer that a thread makes, no longer than the client does."""

import asyncio
from concurrent.futures import Future
from typing import Any, TypeVar

from starlette.requests import Request

from groundql.serving.faults import Fault
from groundql.serving.metrics import Metrics

Made = TypeVar("Made")


async def answered(future: "Future[Made]", request: Request, *, limit_s: float, metrics: Metrics) -> Made:
    """What the future gives; a future that has not begun is cancelled where nobody waits any more.

    Raises:
        Fault: 504 after `limit_s`, 499 where the client has hung up (nobody reads it).
    """
    coming = asyncio.wrap_future(future)
    gone = asyncio.create_task(hung_up(request))
    both: set[asyncio.Future[Any]] = {coming, gone}
    try:
        done, _ = await asyncio.wait(both, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        if coming in done:
            return coming.result()
        metrics.given_up.labels("gone" if gone in done else "timeout").inc()
        if gone in done:
            raise Fault(499, "gone", "the client hung up")
        raise too_late(limit_s)
    finally:
        coming.cancel()
        gone.cancel()


async def hung_up(request: Request) -> None:
    """Comes back when the client has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def too_late(limit_s: float) -> Fault:
    """504: it took too long."""
    return Fault(504, "timeout", f"no answer within {limit_s:g} s", retry_s=5)
