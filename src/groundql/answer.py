"""The whole path for one question on one page: schema, prompt, model, SQL, check, rows."""

from pathlib import Path

from groundql.config import GenerationSettings
from groundql.databases.binding import prepare
from groundql.databases.executor import Executor
from groundql.databases.schema import read_schema
from groundql.errors import DatabaseMissing
from groundql.generating import Writer, find_values
from groundql.prompts.budget import fit_prompt
from groundql.records import DatabaseFiles, Outcome, Question, Record, Schema, Strain
from groundql.selecting import Asked, complete


class Answer(Record):
    """What came of one question."""

    question: str
    sql: str | None  # None: nothing like a query was written, or none that binds
    binds: bool  # the engine prepares it on this schema
    reason: str = ""  # why there are no rows, in one sentence
    outcome: Outcome | None = None  # rows, or what stopped the query
    strain: Strain | None = None  # of a grounded query: how hard the constraint pulled
    closed_at: int | None = (
        None  # of a query that did not end by itself: the token from which on its end was forced
    )


def answer_question(
    writer: Writer,
    database_path: Path,
    text: str,
    *,
    evidence: str = "",
    settings: GenerationSettings,
    deadline_s: float = 30.0,
    max_rows: int = 1000,
) -> Answer:
    """Ask `writer` for SQL on the SQLite file, and run it read-only if it binds.

    Raises:
        DatabaseMissing: no file there.
        PromptTooLong: a schema that does not fit the prompt even in its barest form.
    """
    schema = read_one(database_path, writer.prompt.n_examples)
    question = Question(question_id="0", db_id=schema.db_id, text=text, evidence=evidence)
    files = DatabaseFiles(db_id=schema.db_id, sqlite_path=database_path)
    prompt = fit_prompt(
        question,
        schema,
        settings=writer.prompt,
        turns=writer.turns,
        count_tokens=writer.count_tokens,
        values=find_values(question, schema, files, writer.prompt),
    )
    asked = Asked(
        prompts=[prompt],
        schemas={schema.db_id: schema},
        databases={schema.db_id: files},
        dialect=writer.prompt.dialect,
    )
    (completion,) = complete(writer.loaded.model, writer.loaded, writer.turns, asked, settings=settings)
    if completion.status == "abstained":
        reason = f"no query was found that binds to this schema ({completion.reason})"
        return Answer(question=text, sql=None, binds=False, reason=reason, strain=completion.strain)
    sql = completion.sql
    if sql is None:
        reason = f"the model wrote no query: {completion.text.strip()!r}"
        return Answer(question=text, sql=None, binds=False, reason=reason)
    refusal = prepare(schema, sql)
    if refusal is not None:
        return Answer(question=text, sql=sql, binds=False, reason=f"the query does not bind: {refusal}")
    with Executor() as executor:
        outcome = executor.run(database_path, sql, deadline_s=deadline_s, max_rows=max_rows)
    reason = (
        "" if outcome.status == "ok" else f"the query did not end well ({outcome.status}): {outcome.error}"
    )
    return Answer(
        question=text,
        sql=sql,
        binds=True,
        reason=reason.rstrip(": "),
        outcome=outcome,
        strain=completion.strain,
        closed_at=completion.closed_at,
    )


def read_one(database_path: Path, n_examples: int) -> Schema:
    """The schema of one SQLite file.

    Raises:
        DatabaseMissing: the file is not there or holds no table.
    """
    if not database_path.is_file():
        raise DatabaseMissing(f"{database_path} is not there")
    if database_path.stat().st_size == 0:
        raise DatabaseMissing(f"{database_path} holds no table: it is empty")
    schema = read_schema(
        DatabaseFiles(db_id=database_path.stem, sqlite_path=database_path), n_examples=n_examples
    )
    if not schema.tables:
        raise DatabaseMissing(f"{database_path} holds no table")
    return schema
