"""An assistant without a model: it knows the query for each question, and checks and runs it as the real one does."""

import time
from collections.abc import Mapping, Sequence

from groundql.answer import Answer, OpenDatabase, Place, checked_answer
from groundql.errors import GroundqlError
from groundql.records import Completion


class ScriptedAssistant:
    """Answers `queries[text]`; abstains where a question has none. `delay_s`: how long a batch takes to write."""

    def __init__(self, queries: Mapping[str, str | None], *, delay_s: float = 0.0) -> None:
        self.queries = queries
        self.delay_s = delay_s
        self.batches: list[int] = []  # sizes of what was asked together
        self._databases: dict[str, OpenDatabase] = {}

    def open(self, database: Place) -> OpenDatabase:
        if isinstance(database, OpenDatabase):
            return database
        if str(database) not in self._databases:
            self._databases[str(database)] = OpenDatabase(database)
        return self._databases[str(database)]

    def ask(
        self,
        database: Place,
        text: str,
        *,
        evidence: str = "",
        deadline_s: float = 30.0,
        max_rows: int = 1000,
    ) -> Answer:
        self.open(database)
        return self.ask_many([(database, text, evidence)], deadline_s=deadline_s, max_rows=max_rows)[0]

    def ask_many(
        self, questions: Sequence[tuple[Place, str, str]], *, deadline_s: float = 30.0, max_rows: int = 1000
    ) -> list[Answer]:
        self.batches.append(len(questions))
        time.sleep(self.delay_s)
        answers = []
        for place, text, _ in questions:
            sql = self.queries.get(text)
            completion = Completion(
                question_id="0",
                db_id="",
                text=sql or "",
                sql=sql,
                status="answer" if sql else "abstained",
                reason="" if sql else "dead end",
            )
            try:
                answers.append(
                    checked_answer(
                        self.open(place), text, completion, deadline_s=deadline_s, max_rows=max_rows
                    )
                )
            except GroundqlError as error:
                answers.append(
                    Answer(question=text, status="not_asked", sql=None, binds=False, reason=str(error))
                )
        return answers

    def close(self) -> None:
        while self._databases:
            self._databases.popitem()[1].close()

    def __enter__(self) -> "ScriptedAssistant":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
