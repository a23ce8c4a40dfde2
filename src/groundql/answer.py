"""The whole path for questions on one page: schema, prompt, model, SQL, check, rows."""

import hashlib
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from groundql.config import GenerationSettings
from groundql.databases.open_database import OpenDatabase
from groundql.errors import GroundqlError
from groundql.generating import Writer, find_values, load_writer
from groundql.prompts.budget import fit_prompt
from groundql.records import Completion, Outcome, Prompt, Question, Record, Schema, Strain
from groundql.selecting import Asked, complete

__all__ = ["Answer", "Assistant", "OpenDatabase", "Place", "checked_answer", "run_answer"]

Place = str | Path | OpenDatabase
AnswerStatus = Literal["answered", "abstained", "no_query", "does_not_bind", "not_run", "not_asked"]


class Answer(Record):
    """What came of one question."""

    question: str
    status: AnswerStatus
    sql: str | None  # in the engine's own SQL; None: nothing like a query was written, or none that binds
    binds: bool  # the engine prepares it on this schema
    reason: str = ""  # why there are no rows, in one sentence
    outcome: Outcome | None = None  # rows, or what stopped the query
    strain: Strain | None = None  # of a grounded query: how hard the constraint pulled
    n_samples: int = 1  # texts that were written
    n_agreeing: int | None = None  # of these, how many have the result that was chosen; None: no vote
    n_prompt_tokens: int = 0
    n_new_tokens: int = 0
    shrunk: tuple[str, ...] = ()  # what the prompt left out to fit
    writing_s: float = 0.0  # until all queries of the batch were written
    closed_at: int | None = None  # token from which the end of a query was forced; None: it ended by itself


class Assistant:
    """A loaded model that is asked; its weights serve one batch at a time, its queries run beside. A context manager."""

    def __init__(self, writer: Writer, settings: GenerationSettings) -> None:
        self.writer = writer
        self.settings = settings
        self._databases: dict[str, OpenDatabase] = {}
        self._model_lock = threading.Lock()
        self._lock = threading.Lock()

    @classmethod
    def load(cls, model: str, settings: GenerationSettings) -> Self:
        """The model called `model` (run folder, catalog name, hub id, folder or .gguf), its weights read once.

        Raises:
            ModelMissing: nothing of that name, or no weights there.
            AskedWrongly: an adapter whose prompt this version does not render.
        """
        return cls(load_writer(model), settings)

    def open(self, database: Place) -> OpenDatabase:
        """The database at a path or URL, opened once and kept; errors as of `OpenDatabase`."""
        if isinstance(database, OpenDatabase):
            return database
        with self._lock:
            key = str(database)
            if key not in self._databases:
                self._databases[key] = OpenDatabase(database, n_examples=self.writer.prompt.n_examples)
            return self._databases[key]

    def ask(
        self,
        database: Place,
        text: str,
        *,
        evidence: str = "",
        deadline_s: float = 30.0,
        max_rows: int = 1000,
    ) -> Answer:
        """The model's SQL for one question, run read-only if it binds.

        Raises:
            DatabaseMissing, DataError: the database cannot be opened.
            PromptTooLong: a schema that does not fit the prompt even in its barest form.
        """
        (answer,) = self._ask([(database, text, evidence)], deadline_s, max_rows)
        if isinstance(answer, GroundqlError):
            raise answer
        return answer

    def ask_many(
        self, questions: Sequence[tuple[Place, str, str]], *, deadline_s: float = 30.0, max_rows: int = 1000
    ) -> list[Answer]:
        """Answers to (database, text, evidence), in order, decoded as one batch.

        What keeps one question from being asked (a database that is gone, a prompt that does not fit) is in the answer
        to that one: status "not_asked".
        """
        return [
            Answer(question=text, status="not_asked", sql=None, binds=False, reason=str(answer))
            if isinstance(answer, GroundqlError)
            else answer
            for answer, (_, text, _) in zip(
                self._ask(questions, deadline_s, max_rows), questions, strict=True
            )
        ]

    def write_many(self, questions: Sequence[tuple[Place, str, str]]) -> list[Answer | GroundqlError]:
        """As `ask_many`, but nothing is run yet: `run_answer` gives the rows of an answer that binds.

        So a server can write the next batch while queries of this one run. An error concerns its own question alone.
        """
        return self._ask(questions, None, 0)

    def close(self) -> None:
        """End the processes that run queries."""
        with self._lock:
            while self._databases:
                self._databases.popitem()[1].close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(
        self, questions: Sequence[tuple[Place, str, str]], deadline_s: float | None, max_rows: int
    ) -> list[Answer | GroundqlError]:
        """`deadline_s` None: nothing is run."""
        answers: list[Answer | GroundqlError | None] = [None] * len(questions)
        prompts: dict[int, tuple[OpenDatabase, Prompt]] = {}
        asked = Asked(prompts=[], schemas={}, databases={}, dialect=self.writer.prompt.dialect)
        for i, (place, text, evidence) in enumerate(questions):
            try:
                database = self.open(place)
                schema = database.schema
                prompts[i] = database, self._prompt(database, schema, text, evidence)
            except GroundqlError as error:
                answers[i] = error
                continue
            asked.prompts.append(prompts[i][1])
            asked.schemas[prompts[i][1].db_id] = schema
            asked.databases[prompts[i][1].db_id] = database.files
            if database.dialect != "sqlite":
                asked.binders[prompts[i][1].db_id] = database.prepare
        start_s = time.monotonic()
        with self._model_lock:
            completions = complete(
                self.writer.loaded.model, self.writer.loaded, self.writer.turns, asked, settings=self.settings
            )
        writing_s = time.monotonic() - start_s
        for (i, (database, _)), completion in zip(prompts.items(), completions, strict=True):
            try:
                answers[i] = checked_answer(
                    database,
                    questions[i][1],
                    completion,
                    deadline_s=deadline_s,
                    max_rows=max_rows,
                    writing_s=writing_s,
                )
            except GroundqlError as error:
                answers[i] = error
        return [answer for answer in answers if answer is not None]

    def _prompt(self, database: OpenDatabase, schema: Schema, text: str, evidence: str) -> Prompt:
        """The prompt; its id is of the question, so that what is drawn for it does not depend on its batch."""
        digest = hashlib.sha256(f"{text}\0{evidence}".encode()).hexdigest()[:16]
        place = str(database.place)  # names alone may be the same
        question = Question(question_id=digest, db_id=place, text=text, evidence=evidence)
        return fit_prompt(
            question,
            schema,
            settings=self.writer.prompt,
            turns=self.writer.turns,
            count_tokens=self.writer.count_tokens,
            values=find_values(question, schema, database.files, self.writer.prompt),
        )


def checked_answer(
    database: OpenDatabase,
    text: str,
    completion: Completion,
    *,
    deadline_s: float | None,
    max_rows: int,
    writing_s: float = 0.0,
) -> Answer:
    """The query of `completion`, prepared by the engine and, where it binds and there is a deadline, run."""
    sql = completion.sql
    status: AnswerStatus = "answered"
    reason = ""
    if completion.status == "abstained":
        sql, status = None, "abstained"
        reason = f"no query was found that binds to this schema ({completion.reason})"
    elif sql is None:
        status, reason = "no_query", f"the model wrote no query: {completion.text.strip()!r}"
    elif (refusal := database.prepare(sql)) is not None:
        status, reason = "does_not_bind", f"the query does not bind: {refusal}"
    answer = Answer(
        question=text,
        status=status,
        sql=sql,
        binds=status == "answered",
        reason=reason,
        strain=completion.strain,
        n_samples=completion.n_samples,
        n_agreeing=completion.n_agreeing,
        n_prompt_tokens=completion.n_prompt_tokens,
        n_new_tokens=completion.n_new_tokens,
        shrunk=completion.shrunk,
        writing_s=writing_s,
        closed_at=completion.closed_at,
    )
    if deadline_s is None:
        return answer
    return run_answer(database, answer, deadline_s=deadline_s, max_rows=max_rows)


def run_answer(database: OpenDatabase, answer: Answer, *, deadline_s: float, max_rows: int) -> Answer:
    """The answer with the rows of its query, or why there are none; as it is where it has no query that binds.

    Raises:
        DatabaseMissing: the file is not there any more.
    """
    if not answer.binds or answer.sql is None:
        return answer
    outcome = database.run(answer.sql, deadline_s=deadline_s, max_rows=max_rows)
    if outcome.status == "ok":
        return answer.model_copy(update={"outcome": outcome})
    reason = f"the query did not end well ({outcome.status}): {outcome.error}".rstrip(": ")
    return answer.model_copy(update={"outcome": outcome, "status": "not_run", "reason": reason})
