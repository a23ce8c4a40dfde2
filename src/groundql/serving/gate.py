"""What a request passes before anything reads it: host, origin, key, headers, size, share of a client; and the log.

A browser on this machine is a way in for every page that it shows. So a Host that is a name has to be one that the
server goes by (else a name that its owner lets point here, DNS rebinding, would do), an Origin has to be the server
itself, and a body has to be declared as JSON, which a plain form of another site cannot do.
"""

import asyncio
import ipaddress
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from groundql.serving.faults import Fault, fault_of
from groundql.serving.keys import Keys
from groundql.serving.limits import Limits
from groundql.serving.metrics import Metrics

LOG = logging.getLogger("groundql.serving")
OPEN_PATHS = frozenset({"/", "/health"})  # without a key: nothing of a database is there
COUNTED_PATHS = frozenset({"/ask", "/run", "/v1/chat/completions"})  # a client's share is of these
SAFE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Broken(Exception):
    """An answer that had begun and could not be ended."""


class Gate:
    """ASGI around the app. It never reads more of a body than may be, and answers each refusal itself."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        limits: Limits,
        keys: Keys,
        metrics: Metrics,
        hosts: Iterable[str] = (),
        origins: Iterable[str] = (),
    ) -> None:
        self.app, self.limits, self.keys, self.metrics = app, limits, keys, metrics
        self.hosts = {"localhost", *(host.lower() for host in hosts)}
        self.origins = {origin.lower().rstrip("/") for origin in origins}
        self._in_flight: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        start_s, seen = time.monotonic(), dict[str, int]()
        headers = Headers(scope=scope)

        async def send_safe(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen["status"] = message["status"]
                made = MutableHeaders(scope=message)
                for name, value in SAFE_HEADERS.items():
                    made.setdefault(name, value)
                self._share(headers, made)
            elif not message.get("more_body", False):
                seen["ended"] = 1
            await send(message)

        with self.metrics.in_flight.track_inprogress():
            try:
                await self._pass(scope, headers, receive, send_safe)
            except Exception as error:
                if "ended" in seen:  # told already: Starlette raises once more what its handler has answered
                    return
                fault = fault_of(error)
                if "status" in seen:  # an answer has begun: all that is left is to end the connection
                    raise Broken from None
                await fault.response({"Connection": "close"})(scope, receive, send_safe)
            finally:
                known = scope["path"] if scope["path"] in COUNTED_PATHS else "other"
                route = getattr(scope.get("route"), "path", known)
                status, elapsed_s = seen.get("status", 500), time.monotonic() - start_s
                self.metrics.requests.labels(route, str(status)).inc()
                self.metrics.request_seconds.labels(route).observe(elapsed_s)
                LOG.info("%s %s %d %.3f s", _method(scope), route, status, elapsed_s)

    async def _pass(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> None:
        self._check_host(headers)
        if self._check_origin(headers) and scope["method"] == "OPTIONS":
            return await _preflight(scope, receive, send)
        client = self._check_key(scope, headers)
        if scope["method"] in ("POST", "PUT", "PATCH"):
            self._check_body(headers)
            receive = await self._read_body(receive)
        if scope["path"] not in COUNTED_PATHS:
            return await self.app(scope, receive, send)
        if self._in_flight[client] >= self.limits.per_client:
            raise Fault(
                429,
                "too_many_requests",
                f"{self.limits.per_client} requests of yours are being answered: wait for one of them",
                retry_s=1,
            )
        self._in_flight[client] += 1
        try:
            return await self.app(scope, receive, send)
        finally:
            self._in_flight[client] -= 1
            if not self._in_flight[client]:
                del self._in_flight[client]

    def _check_host(self, headers: Headers) -> None:
        given = headers.getlist("host")
        host = host_name(given[0]) if len(given) == 1 else ""
        if not host or not (host in self.hosts or _is_address(host)):
            raise Fault(
                421, "unknown_host", "this server does not go by that host name; --allow-host NAME lets it"
            )

    def _check_origin(self, headers: Headers) -> bool:
        """Whether another site that was let in asks; Fault where one does that was not."""
        origin = headers.get("origin")
        if origin is None:
            is_foreign = headers.get("sec-fetch-site", "none") in ("cross-site", "same-site")
            is_link = (
                headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
            )
            if is_foreign and not is_link:
                raise _foreign()
            return False
        if origin.lower() in self.origins:
            return True
        scheme, _, place = origin.lower().partition("://")
        if scheme not in ("http", "https") or place != headers.get("host", "").lower():
            raise _foreign()
        return False

    def _share(self, headers: Headers, made: MutableHeaders) -> None:
        """Let a site that was let in read the answer."""
        origin = headers.get("origin", "")
        if origin.lower() in self.origins:
            made["Access-Control-Allow-Origin"] = origin
            made["Cross-Origin-Resource-Policy"] = "cross-origin"
        if self.origins:
            made.add_vary_header("Origin")

    def _check_key(self, scope: Scope, headers: Headers) -> str:
        """Who asks: the number of a key, or an address."""
        address = scope["client"][0] if scope.get("client") else "?"
        if not len(self.keys) or scope["path"] in OPEN_PATHS:
            return f"address {address}"
        scheme, _, key = headers.get("authorization", "").partition(" ")
        number = self.keys.number_of(key.strip()) if scheme.lower() == "bearer" else None
        if number is None:
            raise Fault(401, "invalid_api_key", "this server wants a key: Authorization: Bearer KEY")
        return f"key {number}"

    def _check_body(self, headers: Headers) -> None:
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise Fault(415, "not_json", "the body has to be JSON: Content-Type: application/json")
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise Fault(415, "encoded_body", "a body that is compressed is not taken")
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdigit() or int(length[:20]) > self.limits.body_bytes:
            raise self._too_long()

    async def _read_body(self, receive: Receive) -> Receive:
        """The body, whole and within bounds, as a `receive` that gives it out at once."""
        body = bytearray()
        try:
            async with asyncio.timeout(self.limits.body_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Fault(400, "gone", "the client went away before its body was there")
                    body += message.get("body", b"")
                    if len(body) > self.limits.body_bytes:
                        raise self._too_long()
                    if not message.get("more_body", False):
                        break
        except TimeoutError:
            raise Fault(408, "slow_body", f"no whole body within {self.limits.body_s:g} s") from None
        return _given(bytes(body), receive)

    def _too_long(self) -> Fault:
        return Fault(413, "body_too_long", f"a body may have {self.limits.body_bytes:,} bytes")


def host_name(header: str) -> str:
    """The name or address in a Host header, lower case, without its port; "" where it is none."""
    host = header.strip().lower()
    if host.startswith("["):
        name, bracket, port = host[1:].partition("]")
        return name if bracket and (not port or port[:1] == ":") else ""
    name, _, port = host.partition(":")
    return name.rstrip(".") if not port or port.isdigit() else ""


def _is_address(host: str) -> bool:
    """A bare address needs no name, so no name can be made to point at it."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _method(scope: Scope) -> str:
    return scope["method"] if scope["method"] in ("GET", "POST", "HEAD", "OPTIONS") else "other"


def _foreign() -> Fault:
    return Fault(403, "foreign_origin", "another site asks; --allow-origin URL lets it")


async def _preflight(scope: Scope, receive: Receive, send: Send) -> None:
    headers = {
        "Access-Control-Allow-Methods": "GET, POST",
        "Access-Control-Allow-Headers": "Authorization, Content-Type",
        "Access-Control-Max-Age": "600",
    }
    await Response(status_code=204, headers=headers)(scope, receive, send)


def _given(body: bytes, receive: Receive) -> Callable[[], Awaitable[Any]]:
    is_given = False

    async def give() -> Message:
        nonlocal is_given
        if is_given:
            return await receive()  # comes when the client hangs up
        is_given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return give
