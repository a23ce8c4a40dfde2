"""What every path of a server uses: the databases by name, the model's queue, the threads that run edited SQL."""

import json
import logging
import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from groundql.answer import Answer
from groundql.records import Outcome
from groundql.serving.asks import Ask, Asks, Database
from groundql.serving.batcher import Batcher, Timed, stopping
from groundql.serving.cells import bounded, json_rows
from groundql.serving.faults import Fault, too_busy
from groundql.serving.limits import Limits
from groundql.serving.metrics import Metrics

LOG = logging.getLogger("groundql.serving")


class Desk:
    """One model and its databases, as paths ask them."""

    def __init__(
        self,
        asks: Asks,
        databases: Mapping[str, Database],
        *,
        model: str,
        limits: Limits,
        metrics: Metrics,
        logs_questions: bool = False,
    ) -> None:
        self.databases, self.model, self.limits, self.metrics = dict(databases), model, limits, metrics
        self._logs_questions = logs_questions
        self.batcher = Batcher(
            asks, n_queue=limits.queue, n_batch=limits.batch, on_batch=metrics.saw_batch
        )
        self._runners = ThreadPoolExecutor(limits.query_workers, thread_name_prefix="query")
        self._run_places = threading.Semaphore(limits.queue)
        metrics.watch_queue(lambda: self.batcher.n_waiting)

    @property
    def is_ready(self) -> bool:
        """Whether it takes questions."""
        return self.batcher.is_alive and not self.batcher.is_closing

    def database(self, name: str) -> Database:
        """The database served under that name; Fault 404 where there is none."""
        if name not in self.databases:
            raise Fault(404, "unknown_database", "no database of that name is served", param="database")
        return self.databases[name]

    def ask(self, ask: Ask) -> "Future[Timed]":
        """The answer to come; Fault where the question is too long or the queue is full."""
        self.database(ask.database)
        for name, text, limit in (
            ("question", ask.question, self.limits.question_chars),
            ("evidence", ask.evidence, self.limits.evidence_chars),
        ):
            if len(text) > limit:
                raise Fault(422, "too_long", f"{name} may have {limit:,} characters", param=name)
        if not ask.question.strip():
            raise Fault(422, "empty_question", "there is no question", param="question")
        return self.batcher.submit(ask)

    def run(self, name: str, sql: str) -> "Future[Outcome]":
        """The outcome to come of SQL that a person wrote; Fault where it is too long or too many wait."""
        database = self.database(name)
        if len(sql) > self.limits.sql_chars:
            raise Fault(422, "too_long", f"sql may have {self.limits.sql_chars:,} characters", param="sql")
        if self.batcher.is_closing:
            raise stopping()
        if not self._run_places.acquire(blocking=False):
            raise too_busy(f"{self.limits.queue} queries wait already: try again")
        future = self._runners.submit(self._run, name, database, sql)
        future.add_done_callback(lambda _: self._run_places.release())
        return future

    def _run(self, name: str, database: Database, sql: str) -> Outcome:
        outcome = database.run(sql, deadline_s=self.limits.query_s, max_rows=self.limits.rows)
        outcome = bounded(outcome, self.limits.response_bytes)
        self.metrics.queries.labels(name, outcome.status).inc()
        if self._logs_questions:
            LOG.info("run %s", json.dumps({"database": name, "sql": sql, "status": outcome.status}))
        return outcome

    def answer_json(self, ask: Ask, timed: Timed) -> dict[str, Any]:
        """What a client is told of an answer; counts it, and logs it where that was asked for."""
        answer = timed.answer
        outcome = bounded(answer.outcome, self.limits.response_bytes) if answer.outcome else None
        kind = kind_of(answer, outcome)
        self.metrics.answers.labels(ask.database, kind).inc()
        if self._logs_questions:
            said = {"database": ask.database, "question": ask.question, "sql": answer.sql, "kind": kind}
            LOG.info("ask %s", json.dumps(said))
        reason = answer.reason
        if outcome and not reason and outcome.status != "ok":
            reason = f"the query did not end well ({outcome.status}): {outcome.error}"
        return {
            "database": ask.database,
            "question": ask.question,
            "kind": kind,
            "sql": answer.sql,
            "binds": answer.binds,
            "reason": reason,
            **outcome_json(outcome),
            "strain": answer.strain.model_dump() if answer.strain else None,
            "timing": {
                "queued_s": round(timed.queued_s, 4),
                "answered_s": round(timed.answered_s, 4),
                "batch": timed.n_batch,
            },
        }

    def close(self, limit_s: float) -> int:
        """Answer what was taken in for at most so long, then fail the rest; how many those were."""
        n_left = self.batcher.close(limit_s)
        self._runners.shutdown(wait=False, cancel_futures=True)
        return n_left


def kind_of(answer: Answer, outcome: Outcome | None) -> str:
    """What came of a question: rows, abstained (no query), unbound (a query that does not bind), failed."""
    if answer.sql is None:
        return "abstained"
    if not answer.binds:
        return "unbound"
    return "rows" if outcome and outcome.status == "ok" else "failed"


def outcome_json(outcome: Outcome | None) -> dict[str, Any]:
    """Status, rows and time of a run; status None where nothing ran."""
    if outcome is None:
        return {"status": None, "error": "", "columns": [], "rows": [], "n_rows": 0, "query_s": None}
    return {
        "status": outcome.status,
        "error": outcome.error,
        "columns": list(outcome.columns),
        "rows": json_rows(outcome.rows),
        "n_rows": len(outcome.rows),
        "query_s": round(outcome.elapsed_s, 6),
    }
