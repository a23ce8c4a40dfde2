"""An assistant without a model: it knows the query for each question, and checks and runs it as the real one does."""

import time
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from groundql.answer import Answer, Assistant, Place, checked_answer
from groundql.config import GenerationSettings, PromptSettings
from groundql.errors import GroundqlError
from groundql.records import Completion


class ScriptedAssistant(Assistant):
    """Answers `queries[text]`; abstains where a question has none. `delay_s`: how long a batch takes to write."""

    def __init__(self, queries: Mapping[str, str | None], *, delay_s: float = 0.0) -> None:
        writer: Any = SimpleNamespace(prompt=PromptSettings())  # a writer without a model
        super().__init__(writer, GenerationSettings())
        self.queries = queries
        self.delay_s = delay_s
        self.batches: list[int] = []  # sizes of what was asked together

    def _ask(
        self, questions: Sequence[tuple[Place, str, str]], deadline_s: float | None, max_rows: int
    ) -> list[Answer | GroundqlError]:
        self.batches.append(len(questions))
        time.sleep(self.delay_s)
        answers: list[Answer | GroundqlError] = []
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
                answers.append(error)
        return answers
