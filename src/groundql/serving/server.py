"""Runs the app under uvicorn: where it may listen, and how it stops."""

import asyncio
import errno
import ipaddress
import logging
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from groundql.errors import AskedWrongly, GroundqlError
from groundql.serving.desk import Desk
from groundql.serving.limits import Limits

HEAD_S = 15.0  # for the head of a request, from connecting or from the request before
GRACE_S = 2  # after the drain, for answers on their way out


def check_bind(host: str, *, has_keys: bool, is_insecure: bool) -> None:
    """Raise AskedWrongly where strangers could reach a server that asks for no key."""
    if has_keys or is_insecure or is_loopback(host):
        return
    raise AskedWrongly(
        f"{host} can be reached from other machines, and without keys everybody there could read your databases: "
        "give --keys FILE, or say --insecure if that is what you want"
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach that address."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def listening_socket(host: str, port: int) -> socket.socket:
    """A socket bound to the address; port 0 takes any that is free.

    Raises:
        GroundqlError: the address is taken, or is none of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named because asyncio looks for it before it sets TCP_NODELAY; without that each answer waits
    # 40 ms for the client's delayed acknowledgement.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host.strip("[]"), port))
    except OSError as error:
        bound.close()
        is_about_port = error.errno in (errno.EADDRINUSE, errno.EACCES)
        advice = "--port takes another" if is_about_port else "--host takes an address of this machine"
        raise GroundqlError(f"{host}, port {port}: {error.strerror or error}; {advice}") from None
    bound.set_inheritable(False)
    return bound


class PromptConnection(H11Protocol):
    """A connection that is closed where the head of a request is not there `HEAD_S` after it was due."""

    _due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Wait for the first head."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Bytes of a head do not put off when it is due."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is due any more."""
        self._unwatch()
        super().connection_lost(exc)

    def _watch(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._unwatch()
        elif self._due is None:
            self._due = asyncio.get_running_loop().call_later(HEAD_S, self._close_late)

    def _unwatch(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None

    def _close_late(self) -> None:
        self._due = None
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()


class Server(uvicorn.Server):
    """uvicorn, which on the first signal lets the desk drain: no new question, and an answer for each that is in."""

    def __init__(self, config: uvicorn.Config, desk: Desk, say: Callable[[str], None], ready: str) -> None:
        super().__init__(config)
        self._desk, self._tell, self._ready = desk, say, ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        self._say(self._ready)

    def _say(self, text: str) -> None:
        with suppress(OSError):  # a terminal that is gone or a full disk stops nothing
            self._tell(text)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop; a second signal stops at once. Both end with exit status 0."""
        if self.should_exit:
            self.force_exit = True
            return
        self.should_exit = True
        desk = self._desk
        self._say(f"stopping: {desk.batcher.n_open} open questions get {desk.limits.drain_s:g} s")
        threading.Thread(target=desk.close, args=(desk.limits.drain_s,), daemon=True).start()


def serve(app: ASGIApp, desk: Desk, bound: socket.socket, *, say: Callable[[str], None], ready: str) -> None:
    """Serve until a signal to stop, and drain; says `ready` when it answers and can be stopped."""
    limits: Limits = desk.limits
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        limit_concurrency=limits.connections,
        timeout_keep_alive=int(HEAD_S),
        timeout_graceful_shutdown=int(limits.drain_s) + GRACE_S,
        h11_max_incomplete_event_size=32 * 1024,
        http=PromptConnection,
    )
    server = Server(config, desk, say, ready)
    asyncio.run(server.serve(sockets=[bound]))


def set_up_logs() -> None:
    """One line a request on stderr. A log that cannot be written, on a full disk say, stops nothing."""
    logging.raiseExceptions = False
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    for name, level in (("groundql.serving", logging.INFO), ("uvicorn", logging.CRITICAL)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)
