"""A server process on loopback and a bare HTTP client to it, for `serve_load`."""

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
OPEN = "queue=512,per_client=512"  # so that speed is measured and not the limits
LIMIT_S = 60.0  # a request that takes longer counts as lost
Found = dict[str, Any]


@contextlib.asynccontextmanager
async def server(command: list[str], **options: Any) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """A process that says on stdout or stderr where it listens, and its port."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, cwd=options.pop("cwd", ROOT), stdout=subprocess.PIPE, **options
    )
    assert process.stdout is not None
    try:
        while line := (await process.stdout.readline()).decode():
            if line.startswith("ready "):
                yield process, int(line.split()[1])
                return
            if line.startswith("http://"):
                yield process, int(line.split()[0].rpartition(":")[2])
                return
        raise RuntimeError("the server ended before it listened")
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def echo(path: Path, *, port: int = 0, delay_s: float = 0.0, limits: str = OPEN) -> list[str]:
    return ["-m", "tests.serving.process", str(port), str(delay_s), limits, str(path)]


class Client:
    """One connection that asks one question at a time, and is opened again where it was closed."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None

    async def send(self, path: str, body: Found | None) -> None:
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        data = json.dumps(body).encode() if body is not None else b""
        method = "GET" if body is None else "POST"
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        self.writer.write(head.encode() + data)
        await self.writer.drain()

    async def receive(self) -> tuple[int, bytes]:
        assert self.reader is not None
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
        body = await self.reader.readexactly(length)
        if "connection: close" in head:
            self.close()
        return int(head.split()[1]), body

    async def ask(self, path: str, body: Found | None) -> tuple[int, bytes]:
        try:
            async with asyncio.timeout(LIMIT_S):
                await self.send(path, body)
                return await self.receive()
        except (OSError, EOFError, TimeoutError):
            self.close()
            raise

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
        self.reader = self.writer = None
