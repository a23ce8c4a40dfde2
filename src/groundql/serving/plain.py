"""The plain paths: ask, run edited SQL, look at a schema, health and metrics."""

from typing import Any, TypeVar

from fastapi import FastAPI
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from groundql import __version__
from groundql.records import Schema, first_fault
from groundql.serving.asks import Ask
from groundql.serving.desk import Desk, answer_json, outcome_json
from groundql.serving.faults import Fault
from groundql.serving.metrics import CONTENT_TYPE
from groundql.serving.waiting import answered

Body = TypeVar("Body", bound=BaseModel)


class AskBody(BaseModel):
    """Body of POST /ask."""

    model_config = ConfigDict(extra="forbid")
    database: str
    question: str
    evidence: str = ""


class RunBody(BaseModel):
    """Body of POST /run."""

    model_config = ConfigDict(extra="forbid")
    database: str
    sql: str


async def read_body(request: Request, kind: type[Body]) -> Body:
    """The body as a `kind`; Fault 422 that names the field and not its value."""
    try:
        return kind.model_validate_json(await request.body())
    except ValidationError as error:
        fault = error.errors(include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise Fault(422, "wrong_body", first_fault(error), param=where or None) from None


def described(kind: type[BaseModel]) -> dict[str, Any]:
    """The body's shape for /openapi.json, since the body is read by `read_body`."""
    schema = kind.model_json_schema(ref_template="#/components/schemas/{model}")
    for name, part in schema.pop("$defs", {}).items():
        schema.setdefault("x-parts", {})[name] = part
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def add_plain_paths(app: FastAPI, desk: Desk) -> None:
    """Add them to the app."""
    limits, metrics = desk.limits, desk.metrics

    @app.post("/ask", openapi_extra=described(AskBody))
    async def ask(request: Request) -> Response:
        """SQL, rows, reason, strain and timing for one question."""
        body = await read_body(request, AskBody)
        asked = Ask(body.database, body.question, body.evidence)
        timed = await answered(desk.ask(asked), request, limit_s=limits.answer_s, metrics=metrics)
        return JSONResponse(answer_json(asked, timed))

    @app.post("/run", openapi_extra=described(RunBody))
    async def run(request: Request) -> Response:
        """Rows of SQL that a person wrote or edited, under the same guards."""
        body = await read_body(request, RunBody)
        outcome = await answered(
            desk.run(body.database, body.sql), request, limit_s=limits.answer_s, metrics=metrics
        )
        return JSONResponse({"database": body.database, "sql": body.sql, "outcome": outcome_json(outcome)})

    @app.get("/databases")
    def databases() -> Response:
        """The model and the databases that it is served with."""
        named = [{"name": name, "dialect": one.dialect} for name, one in desk.databases.items()]
        return JSONResponse({"model": desk.model, "databases": named, "limits": limits.model_dump()})

    @app.get("/schema/{database:path}")
    def schema(database: str) -> Response:
        """Tables, columns, types, keys, descriptions and example values, as the model is shown them."""
        served = desk.database(database)
        return JSONResponse({"dialect": served.dialect, **schema_json(served.schema, database)})

    @app.get("/health")
    def health() -> Response:
        """200 where questions are taken, 503 where the server is being stopped or its model has died."""
        state = desk.state
        return JSONResponse({"status": state, "version": __version__}, 200 if state == "ok" else 503)

    @app.get("/metrics")
    def numbers() -> Response:
        """Counts and times, as Prometheus reads them."""
        return Response(metrics.text(), media_type=CONTENT_TYPE)


def schema_json(schema: Schema, name: str) -> dict[str, Any]:
    """The schema under the name that it is served by."""
    return {**schema.model_dump(mode="json"), "db_id": name}
