"""What every path of a server uses: the databases by name, the model's queue, the threads that run edited SQL."""

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from groundql.answer import Answer, OpenDatabase, run_answer
from groundql.records import Outcome
from groundql.serving.asks import Ask, Writes
from groundql.serving.batcher import Batcher, Timed, stopping
from groundql.serving.cells import bounded, json_rows
from groundql.serving.faults import Fault, too_busy
from groundql.serving.limits import Limits
from groundql.serving.metrics import Metrics

Made = TypeVar("Made")
LOCK_STEP_S = 0.025
LOG = logging.getLogger("groundql.serving")


class Desk:
    """One model and its databases, as paths ask them."""

    def __init__(
        self,
        writes: Writes,
        databases: Mapping[str, OpenDatabase],
        *,
        model: str,
        limits: Limits,
        metrics: Metrics,
        logs_questions: bool = False,
    ) -> None:
        self.databases, self.model, self.limits, self.metrics = dict(databases), model, limits, metrics
        self._writes, self._logs_questions = writes, logs_questions
        self.batcher = Batcher(
            self._write,
            self._run_answer,
            n_open=limits.queue,
            n_batch=limits.batch,
            n_runners=limits.query_threads,
            gather_s=limits.gather_s,
            on_batch=metrics.saw_batch,
        )
        self._runners = ThreadPoolExecutor(limits.query_threads, thread_name_prefix="queries")
        self._run_places = threading.Semaphore(limits.queue)
        metrics.watch_queue(lambda: self.batcher.n_open)

    @property
    def state(self) -> str:
        """In a word or three; "ok" where it takes questions."""
        if self.batcher.is_closing:
            return "stopping"
        return "ok" if self.batcher.is_alive else "model thread ended"

    def database(self, name: str) -> OpenDatabase:
        """The database served under that name; Fault 404 where there is none."""
        if name not in self.databases:
            raise Fault(404, "unknown_database", "no database of that name is served", param="database")
        return self.databases[name]

    def ask(self, ask: Ask) -> "Future[Timed]":
        """The answer to come; Fault where the question is too long or too many wait."""
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

    def close(self, limit_s: float) -> int:
        """Answer what was taken in for at most so long, then fail the rest; how many those were."""
        n_left = self.batcher.close(limit_s)
        self._runners.shutdown(wait=False, cancel_futures=True)
        return n_left

    def _write(self, asks: Sequence[Ask]) -> Sequence[Answer | Exception]:
        return self._writes.write_many([(self.databases[a.database], a.question, a.evidence) for a in asks])

    def _run_answer(self, ask: Ask, answer: Answer) -> Answer:
        limits, database = self.limits, self.databases[ask.database]

        def run() -> Answer:
            return run_answer(database, answer, deadline_s=limits.query_s, max_rows=limits.rows)

        ran = self._unlocked(run, lambda made: made.outcome)
        if ran.outcome is not None and ran.outcome.status == "ok":
            outcome = bounded(ran.outcome, limits.response_bytes)
            if outcome.status != "ok":
                words = {"status": "not_run", "reason": f"the query did not end well: {outcome.error}"}
                ran = ran.model_copy(update={"outcome": outcome, **words})
        self.metrics.answers.labels(ask.database, ran.status).inc()
        if self._logs_questions:
            said = {"database": ask.database, "question": ask.question, "sql": ran.sql, "status": ran.status}
            LOG.info("ask %s", json.dumps(said))
        return ran

    def _unlocked(self, run: Callable[[], Made], outcome_of: Callable[[Made], Outcome | None]) -> Made:
        """What a run makes, once no writer keeps it out or `lock_s` is over."""
        ends_s = time.monotonic() + self.limits.lock_s
        while is_locked(outcome_of(made := run())) and time.monotonic() < ends_s:
            time.sleep(LOCK_STEP_S)
        return made

    def _run(self, name: str, database: OpenDatabase, sql: str) -> Outcome:
        limits = self.limits

        def run() -> Outcome:
            return database.run(sql, deadline_s=limits.query_s, max_rows=limits.rows)

        outcome = self._unlocked(run, lambda made: made)
        if outcome.status == "ok" and not outcome.columns:
            outcome = Outcome(
                status="error", error="this is no query"
            )  # blank, or a statement without effect
        outcome = bounded(outcome, self.limits.response_bytes)
        self.metrics.queries.labels(name, outcome.status).inc()
        if self._logs_questions:
            LOG.info("run %s", json.dumps({"database": name, "sql": sql, "status": outcome.status}))
        return outcome


def is_locked(outcome: Outcome | None) -> bool:
    """Whether a writer kept the query out, as one of SQLite does for as long as its commit takes."""
    return outcome is not None and outcome.status == "error" and "database is locked" in outcome.error


def answer_json(ask: Ask, timed: Timed) -> dict[str, Any]:
    """What a client is told of an answer."""
    answer = timed.answer
    return {
        "database": ask.database,
        "question": answer.question,
        "status": answer.status,
        "sql": answer.sql,
        "binds": answer.binds,
        "reason": answer.reason,
        "outcome": outcome_json(answer.outcome) if answer.outcome else None,
        "strain": answer.strain.model_dump() if answer.strain else None,
        "n_samples": answer.n_samples,
        "n_agreeing": answer.n_agreeing,
        "shrunk": list(answer.shrunk),
        "timing": {
            "queued_s": round(timed.queued_s, 4),
            "writing_s": round(timed.writing_s, 4),
            "query_s": round(answer.outcome.elapsed_s, 4) if answer.outcome else None,
            "batch": timed.n_batch,
        },
    }


def outcome_json(outcome: Outcome) -> dict[str, Any]:
    """Status, rows and time of a query that ran."""
    return {
        "status": outcome.status,
        "error": outcome.error,
        "columns": list(outcome.columns),
        "rows": json_rows(outcome.rows),
        "n_rows": len(outcome.rows),
        "elapsed_s": round(outcome.elapsed_s, 6),
    }
