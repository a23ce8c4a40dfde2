"""Runs what a set of verdicts needs, each distinct query once, and judges every question as soon as it can."""

import functools
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import apsw

from groundql.databases.binding import Twin, twin_of
from groundql.databases.executor import Executor, Job
from groundql.databases.files import has_rows, sqlite_file
from groundql.databases.guard import open_guarded, run_guarded
from groundql.databases.schema import read_schema
from groundql.records import Completion, DatabaseFiles, Outcome, Question, Schema, Verdict
from groundql.verdicts.ast_equal import canonical
from groundql.verdicts.facts import Facts, read_facts
from groundql.verdicts.ladder import climb, gold_fault_of, judge_one
from groundql.verdicts.measures import name_measures, row_measures, tree_measures

Key = tuple[Path, str]
LOOKUP_S = 2.0  # for one question of our own to the database
NOTHING = Outcome(status="ok")  # what SQLite gives for text without a statement


@dataclass(frozen=True, kw_only=True)
class Case:
    """One question to judge. `official_sql` is the text that the official script would run."""

    question: Question
    completion: Completion | None
    files: DatabaseFiles
    official_sql: str | None = None


@dataclass
class _Open:
    """A case, and the outcomes that it still waits for."""

    case: Case
    gold: Key | None
    predicted: Key | None
    official: Key | None
    needs: frozenset[Key]
    waits_for: set[Key]


def judge_all(
    cases: Sequence[Case],
    *,
    deadline_s: float = 30.0,
    max_rows: int = 100_000,
    n_workers: int = 2,
    ladder_only: bool = False,
    on_verdict: Callable[[Verdict], None] | None = None,
) -> list[Verdict]:
    """One verdict a case, in the order of `cases`; `on_verdict` is told of each as soon as it stands.

    `ladder_only` leaves out what stands beside the ladder, which takes most of the time.

    Cases of one database are taken together. Equal queries on one database run once, golds among them.
    """
    by_database: dict[str, list[int]] = defaultdict(list)
    for number, case in enumerate(cases):
        by_database[case.question.db_id].append(number)
    order = [number for numbers in by_database.values() for number in numbers]
    databases = {db_id: _open_database(cases[numbers[0]].files) for db_id, numbers in by_database.items()}
    opened = [_open(cases[number], databases[cases[number].question.db_id]) for number in order]
    verdicts: dict[int, Verdict] = {}
    with Executor(n_workers) as executor:
        for position, outcomes in _decided(opened, executor, deadline_s, max_rows):
            ready = opened[position]
            verdict = _verdict(ready, outcomes, databases[ready.case.question.db_id], ladder_only=ladder_only)
            verdicts[order[position]] = verdict
            if on_verdict:
                on_verdict(verdict)
    return [verdicts[number] for number in range(len(cases))]


@dataclass(eq=False)
class _Database:
    """One database as the cases need it; `path` None where it has no rows."""

    schema: Schema
    twin: Twin
    path: Path | None

    @functools.cached_property
    def facts(self) -> Facts:
        """What equivalence rules may rely on here."""
        return read_facts(self.twin)

    @functools.cache  # noqa: B019  lives as long as the run
    def form(self, sql: str, is_relaxed: bool) -> str | None:
        """The canonical form of a query on this database."""
        return canonical(sql, self.facts, relaxed=is_relaxed)

    @functools.cached_property
    def connection(self) -> apsw.Connection:
        """For lookups of our own; what a model wrote runs in the executor."""
        assert self.path is not None
        return open_guarded(self.path)

    @functools.cache  # noqa: B019  lives as long as the run
    def holds(self, lookup: str) -> bool | None:
        """Whether a lookup gives a row; None where it does not end in time."""
        status, _, rows, *_ = run_guarded(self.connection, lookup, deadline_s=LOOKUP_S, max_rows=1)
        return bool(rows) if status == "ok" else None


def _open_database(files: DatabaseFiles) -> _Database:
    schema = read_schema(files, n_examples=0)
    if has_rows(files):
        path = sqlite_file(files)
        return _Database(schema, twin_of(path), path)
    return _Database(schema, twin_of(schema), None)


def _open(case: Case, database: _Database) -> _Open:
    """Which queries the case needs run; none where there are no rows."""

    def key(sql: str | None) -> Key | None:
        return (database.path, sql) if database.path and sql and sql.strip() else None

    gold = key(case.question.gold_sql)
    predicted = key(case.completion.sql if case.completion else None)
    official = key(case.official_sql)
    needs = frozenset(found for found in (gold, predicted, official) if found)
    return _Open(case, gold, predicted, official, needs, set(needs))


def _decided(
    opened: list[_Open], executor: Executor, deadline_s: float, max_rows: int
) -> Iterator[tuple[int, dict[Key, Outcome]]]:
    """(position, outcomes) of each case that waits for nothing more.

    An outcome is let go when the last case that needs it is decided; while the caller judges, workers go on.
    """
    users: dict[Key, list[int]] = {}
    for position, case in enumerate(opened):
        for key in case.needs:
            users.setdefault(key, []).append(position)
    left = {key: len(positions) for key, positions in users.items()}
    keys = list(users)
    jobs = (Job(path, sql, deadline_s, max_rows, quoted_strings=True) for path, sql in keys)
    outcomes: dict[Key, Outcome] = {}
    yield from ((position, outcomes) for position, case in enumerate(opened) if not case.needs)
    for number, outcome in executor.run_each(jobs):
        key = keys[number]
        outcomes[key] = outcome
        for position in users[key]:
            case = opened[position]
            case.waits_for.discard(key)
            if not case.waits_for:
                yield position, outcomes
                for done in case.needs:
                    left[done] -= 1
                    if not left[done]:
                        del outcomes[done]


def _verdict(
    opened: _Open, outcomes: dict[Key, Outcome], database: _Database, *, ladder_only: bool
) -> Verdict:
    case = opened.case
    gold = outcomes[opened.gold] if opened.gold else None
    official = outcomes[opened.official] if opened.official else None
    if database.path and case.official_sql is not None and not case.official_sql.strip():
        official = NOTHING
    gold_sql = case.question.gold_sql
    predicted = outcomes[opened.predicted] if opened.predicted else None
    verdict = judge_one(
        case.question,
        case.completion,
        climb(case.completion, database.twin.prepare),
        gold=gold,
        predicted=predicted,
        official=official,
        rows=case.files.rows if database.path else "none",
        gold_fault=gold_fault_of(case.question, gold, database.twin.prepare(gold_sql) if gold_sql else None),
    )
    if ladder_only:
        return verdict
    holds = database.holds if database.path else None
    beside = name_measures(case.question, verdict, database.schema, database.twin, holds)
    beside |= tree_measures(verdict, database.form)
    beside |= row_measures(case.question, verdict, gold, predicted, official)
    return verdict.model_copy(update=beside)
