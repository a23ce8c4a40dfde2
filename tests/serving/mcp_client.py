"""The official MCP client against a server of ours in a process of its own, and a server with a scripted model."""

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcp import Client, StdioServerParameters

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Reply:
    """What a tool gave."""

    is_error: bool
    text: str
    value: Any  # structured content


def started(*arguments: object, module: str = "groundql", **environment: str) -> StdioServerParameters:
    """`groundql ARGUMENTS`, or a module of the tests, as a client starts it."""
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")])
    return StdioServerParameters(
        command=sys.executable,
        args=["-m", module, *map(str, arguments)],
        env={"PYTHONPATH": paths, **environment},
    )


def call(
    server: StdioServerParameters, *calls: tuple[str, dict[str, Any]], at_once: bool = False
) -> list[Reply]:
    """The replies to calls of tools, in one session, one after the other or all at once."""

    async def session() -> list[Reply]:
        async with Client(server, read_timeout_seconds=60) as client:
            if at_once:
                return await asyncio.gather(*(one(client, *each) for each in calls))
            return [await one(client, *each) for each in calls]

    return asyncio.run(session())


def session(server: Any, *calls: tuple[str, dict[str, Any]]) -> tuple[Any, ...]:
    """Names of the tools, then the replies to calls of them, in one session."""

    async def whole() -> tuple[Any, ...]:
        async with Client(server, read_timeout_seconds=60) as client:
            names = [tool.name for tool in (await client.list_tools()).tools]
            return (names, *[await one(client, *each) for each in calls])

    return asyncio.run(whole())


async def one(client: Client, tool: str, arguments: dict[str, Any]) -> Reply:
    result = await client.call_tool(tool, arguments)
    text = "".join(getattr(part, "text", "") for part in result.content)
    value = result.structured_content
    if not result.is_error:
        assert json.loads(text) == value  # clients that read text alone get the same
    prefix = f"Error executing tool {tool}: "  # put there by the library
    return Reply(bool(result.is_error), text.removeprefix(prefix), value)


def listed(server: StdioServerParameters) -> tuple[dict[str, Any], str]:
    """The tools by name, and the server's instructions."""

    async def session() -> tuple[dict[str, Any], str]:
        async with Client(server, read_timeout_seconds=60) as client:
            tools = (await client.list_tools()).tools
            return {tool.name: tool for tool in tools}, client.instructions or ""

    return asyncio.run(session())
