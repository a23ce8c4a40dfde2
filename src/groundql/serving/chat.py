"""OpenAI's chat completions, as far as a question and its SQL go.

The last user message is the question, system and developer messages are its evidence; earlier turns are not read. The
content is SQL alone, so that a tool may run it; where there is none it is an SQL comment that says why, and `refusal`
holds the reason. Rows and timing are beside it, under `groundql`.

A stream sends nothing of a query before the whole of it is known to bind: comments keep the connection open until then.
"""

import asyncio
import json
import re
import time
import uuid
from collections.abc import Iterator
from typing import Any, Literal

from fastapi import FastAPI
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from groundql.answer import Answer
from groundql.serving.asks import Ask
from groundql.serving.batcher import Timed
from groundql.serving.desk import Desk, answer_json
from groundql.serving.faults import Fault, fault_of
from groundql.serving.plain import described, read_body
from groundql.serving.waiting import answered

PREFIX = "groundql/"  # of a model id; the rest is a database's name
ALIVE_S = 5.0  # between comments in a stream that waits
PIECE = re.compile(r"\s*\S+\s*")


class Part(BaseModel):
    """A part of a message."""

    type: str
    text: str = ""


class ChatMessage(BaseModel):
    """One message."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[Part] | None = None


class Format(BaseModel):
    """What `response_format` asks for."""

    type: str = "text"


class StreamOptions(BaseModel):
    """What a stream shall hold beside the text."""

    include_usage: bool = False


class ChatBody(BaseModel):
    """Body of POST /v1/chat/completions; what is not named here (temperature, max_tokens, ...) is passed over."""

    model: str
    messages: list[ChatMessage]
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    n: int | None = 1
    tools: list[Any] | None = None
    functions: list[Any] | None = None
    logprobs: bool | None = False
    response_format: Format | None = None


def add_chat_paths(app: FastAPI, desk: Desk) -> None:
    """Add them to the app."""
    created = int(time.time())

    def entry(name: str) -> dict[str, Any]:
        return {"id": PREFIX + name, "object": "model", "created": created, "owned_by": desk.model}

    @app.get("/v1/models")
    def models() -> Response:
        """One id for each database: groundql/NAME."""
        return JSONResponse({"object": "list", "data": [entry(name) for name in desk.databases]})

    @app.get("/v1/models/{model_id:path}")
    def model(model_id: str) -> Response:
        """One of them."""
        return JSONResponse(entry(database_of(model_id, desk)))

    @app.post("/v1/chat/completions", openapi_extra=described(ChatBody))
    async def complete(request: Request) -> Response:
        """SQL for the last user message."""
        try:
            body = await read_body(request, ChatBody)
            asked = ask_of(body, desk)
            future = desk.ask(asked)
        except Fault as fault:
            if fault.status == 422:  # OpenAI says 400
                raise Fault(400, fault.code, str(fault), param=fault.param) from None
            raise
        coming = answered(future, request, limit_s=desk.limits.answer_s, metrics=desk.metrics)
        head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": body.model}
        if body.stream:
            has_usage = body.stream_options is not None and body.stream_options.include_usage
            return EventStream(asyncio.ensure_future(coming), head, asked, has_usage=has_usage)
        return JSONResponse(completion_json(head, asked, await coming))


def database_of(model_id: str, desk: Desk) -> str:
    """The database that a model id names; Fault 404 where it names none."""
    name = model_id.removeprefix(PREFIX)
    if not model_id.startswith(PREFIX) or name not in desk.databases:
        raise Fault(404, "model_not_found", "no such model; GET /v1/models lists them", param="model")
    return name


def ask_of(body: ChatBody, desk: Desk) -> Ask:
    """The question of a chat; Fault 400 for what cannot be done."""
    unable = {
        "n": body.n not in (None, 1),
        "tools": bool(body.tools),
        "functions": bool(body.functions),
        "logprobs": bool(body.logprobs),
        "response_format": body.response_format is not None and body.response_format.type != "text",
    }
    for name, is_asked in unable.items():
        if is_asked:
            raise Fault(400, "unsupported_value", f"{name} is not done here", param=name)
    database = database_of(body.model, desk)
    texts = {"user": "", "system": ""}
    for message in body.messages:
        if message.role == "user":
            texts["user"] = text_of(message)
        elif message.role in ("system", "developer"):
            texts["system"] = f"{texts['system']}\n{text_of(message)}".strip()
    return Ask(database, texts["user"], texts["system"])


def text_of(message: ChatMessage) -> str:
    """The message as text; Fault 400 where it holds anything else."""
    if message.content is None or isinstance(message.content, str):
        return message.content or ""
    if any(part.type != "text" for part in message.content):
        raise Fault(400, "unsupported_value", "a message may hold text alone", param="messages")
    return "\n".join(part.text for part in message.content)


def message_json(answer: Answer) -> dict[str, Any]:
    """The assistant's message: SQL, or why there is none."""
    if answer.sql is None:
        comment = "-- no query: " + " ".join(answer.reason.split())
        return {"role": "assistant", "content": comment, "refusal": answer.reason}
    return {"role": "assistant", "content": answer.sql, "refusal": None}


def usage_json(answer: Answer) -> dict[str, int]:
    """Tokens read and written."""
    read, written = answer.n_prompt_tokens, answer.n_new_tokens
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def completion_json(head: dict[str, Any], asked: Ask, timed: Timed) -> dict[str, Any]:
    """A chat completion."""
    message = message_json(timed.answer)
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    return {
        **head,
        "object": "chat.completion",
        "choices": [choice],
        "usage": usage_json(timed.answer),
        "groundql": answer_json(asked, timed),
    }


class EventStream(Response):
    """Server-sent events: comments while the answer is made, then the query in pieces, then its rows, then [DONE]."""

    def __init__(
        self, coming: "asyncio.Future[Timed]", head: dict[str, Any], asked: Ask, *, has_usage: bool
    ) -> None:
        super().__init__(media_type="text/event-stream")
        self.coming, self.head, self.asked, self.has_usage = coming, head, asked, has_usage

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it. Where the client hangs up, `coming` ends with a Fault that nobody reads."""

        async def write(text: str, *, is_last: bool = False) -> None:
            await send({"type": "http.response.body", "body": text.encode(), "more_body": not is_last})

        try:
            headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"x-accel-buffering", b"no")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await write(self._chunk({"role": "assistant", "content": ""}))
            while not (await asyncio.wait({self.coming}, timeout=ALIVE_S))[0]:
                await write(": the query is being written\n\n")
            try:
                timed = self.coming.result()
            except Exception as error:
                await write(f"data: {json.dumps(fault_of(error).body())}\n\n", is_last=True)
                return
            for text in self._texts(timed):
                await write(text)
            await write("data: [DONE]\n\n", is_last=True)
        finally:
            self.coming.cancel()

    def _texts(self, timed: Timed) -> Iterator[str]:
        message = message_json(timed.answer)
        for piece in PIECE.findall(message["content"]):
            yield self._chunk({"content": piece})
        last = {} if message["refusal"] is None else {"refusal": message["refusal"]}
        yield self._chunk(last, finish_reason="stop", groundql=answer_json(self.asked, timed))
        if self.has_usage:
            body = {"object": "chat.completion.chunk", "choices": [], "usage": usage_json(timed.answer)}
            yield f"data: {json.dumps({**self.head, **body})}\n\n"

    def _chunk(self, delta: dict[str, Any], *, finish_reason: str | None = None, **more: Any) -> str:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        chunk = {**self.head, "object": "chat.completion.chunk", "choices": [choice], **more}
        return f"data: {json.dumps(chunk)}\n\n"
