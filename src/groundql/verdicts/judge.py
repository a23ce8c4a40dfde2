"""Runs what a set of verdicts needs, each distinct query once, and judges every question as soon as it can."""

import itertools
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from groundql.databases.executor import Executor, Job
from groundql.databases.kept import KeptOutcomes
from groundql.records import Completion, DatabaseFiles, Outcome, Question, Verdict
from groundql.verdicts.efficiency import r_ves, ves
from groundql.verdicts.ladder import climb, gold_fault_of, judge_one
from groundql.verdicts.measures import name_measures, row_measures, tree_measures
from groundql.verdicts.opened import OpenDatabase
from groundql.verdicts.parsing import depends_on_clock_or_chance
from groundql.verdicts.processes import can_share, shared_out
from groundql.verdicts.robust import robust_pairs
from groundql.verdicts.spider_exec import spider_exec
from groundql.verdicts.spider_match import exact_match, hardness
from groundql.verdicts.ties import tie_probes

Key = tuple[Path | str, str]  # where, and the query
LEAST_SHARED = 100  # cases from which several processes judge faster than one
TIMING_S = 5.0  # for all rounds of one pair; those that fit count
NOTHING = Outcome(status="ok")  # what SQLite gives for text without a statement
# `SELECT 1; ;` is one statement to us; Python's sqlite3, which the official script uses, counts the empty one too
EMPTY_STATEMENT = re.compile(r";\s*;[\s;]*\Z")
TWO_STATEMENTS = Outcome(status="error", error="more than one statement, the last one empty")


@dataclass(frozen=True, kw_only=True)
class Judging:
    """How predictions are run and what is looked at."""

    deadline_s: float = 30.0  # each query; BIRD's script gives 30 s to prediction and gold together
    max_rows: int = 100_000  # beyond this a result is "too_large", never a cut-off match
    n_workers: int = 2  # processes that run queries
    ladder_only: bool = False  # leave out what stands beside the ladder, which takes most of the time
    n_timings: int = 0  # rounds that time each right prediction against its gold, for VES and R-VES
    n_instances: int = 0  # changed copies of each database on which a match must hold to be `robust`
    seed: int = 7  # of the copies
    spider: bool = False  # Spider's execution accuracy, exact set match and hardness too


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
    cases: Sequence[Case], settings: Judging, on_verdict: Callable[[Verdict], None] | None = None
) -> list[Verdict]:
    """One verdict a case, in the order of `cases`; `on_verdict` is told of each as soon as it is complete.

    Databases are taken one after the other, or by several processes where there are enough cases. Equal queries on one
    database run once, golds among them.
    """
    by_database: dict[str, list[int]] = defaultdict(list)
    for number, case in enumerate(cases):
        by_database[case.question.db_id].append(number)
    groups = sorted(by_database.values(), key=len, reverse=True)
    verdicts: dict[int, Verdict] = {}

    def judged(numbers: list[int], executor: Executor) -> Iterator[tuple[int, Verdict]]:
        own = [cases[number] for number in numbers]
        for position, verdict in _judge_database(own, executor, _settings_on(own[0].files, settings)):
            yield numbers[position], verdict

    def keep(found: Iterable[tuple[int, Verdict]]) -> None:
        for number, verdict in found:
            if number not in verdicts:
                verdicts[number] = verdict
                if on_verdict:
                    on_verdict(verdict)

    is_large = len(cases) >= LEAST_SHARED and len(groups) > 1 and settings.n_workers > 1
    is_large = (
        is_large and not settings.ladder_only
    )  # the ladder alone takes less than sending verdicts around
    if is_large and can_share() and all(case.files.dialect == "sqlite" for case in cases):
        for found in shared_out(groups, judged, lambda: Executor(1), settings.n_workers):
            keep(found)
    with Executor(settings.n_workers) as executor:
        for numbers in groups:  # all of them, or what a process that died has left
            if any(number not in verdicts for number in numbers):
                keep(judged(numbers, executor))
    return [verdicts[number] for number in range(len(cases))]


def _settings_on(files: DatabaseFiles, settings: Judging) -> Judging:
    """Without what needs a SQLite file, where another engine holds the rows: copies, rounds of timing, Spider's suite."""
    if files.dialect == "sqlite":
        return settings
    return replace(settings, n_timings=0, n_instances=0, spider=False)


def _judge_database(
    cases: Sequence[Case], executor: Executor, settings: Judging
) -> Iterator[tuple[int, Verdict]]:
    """(position, complete verdict) of the cases of one database; those that later passes need come last."""
    database = OpenDatabase(cases[0].files)
    opened = [_open(case, database.place) for case in cases]
    ties = frozenset() if settings.ladder_only else _golds_with_ties(cases, database, executor, settings)
    later: dict[int, Verdict] = {}
    for position, outcomes in _decided(opened, database.kept, executor, settings):
        verdict = _verdict(opened[position], outcomes, database, settings, ties)
        needs_more = _needs_copies(verdict, settings) or _needs_timing(verdict, cases[position], settings)
        if needs_more or settings.spider:
            later[position] = verdict
        else:
            yield position, verdict
    if database.kept:
        database.kept.save()
    if settings.n_instances:
        _decide_robust(later, database, executor, settings)
    if settings.n_timings:
        _time(later, cases, database, executor, settings)
    if settings.spider:
        _judge_as_spider(later, cases, database, executor, settings)
    yield from later.items()


def _open(case: Case, place: Path | str | None) -> _Open:
    """Which queries the case needs run; none where there are no rows."""

    def key(sql: str | None) -> Key | None:
        return (place, sql) if place and sql and sql.strip() else None

    gold = key(case.question.gold_sql)
    predicted = key(case.completion.sql if case.completion else None)
    official = key(case.official_sql)
    needs = frozenset(found for found in (gold, predicted, official) if found)
    return _Open(case, gold, predicted, official, needs, set(needs))


def _decided(
    opened: list[_Open], kept: KeptOutcomes | None, executor: Executor, settings: Judging
) -> Iterator[tuple[int, dict[Key, Outcome]]]:
    """(position, outcomes) of each case that waits for nothing more.

    An outcome is let go when the last case that needs it is decided; while the caller judges, workers go on. What
    `kept` knows is not run.
    """
    users: dict[Key, list[int]] = {}
    for position, case in enumerate(opened):
        for key in case.needs:
            users.setdefault(key, []).append(position)
    left = {key: len(positions) for key, positions in users.items()}
    known = _known(opened, kept, settings)
    keys = [key for key in users if key not in known]
    limits = (settings.deadline_s, settings.max_rows)
    jobs = (Job(path, sql, *limits, quoted_strings=True) for path, sql in keys)
    golds = {case.gold for case in opened}
    outcomes: dict[Key, Outcome] = {}
    yield from ((position, outcomes) for position, case in enumerate(opened) if not case.needs)
    ran = ((keys[number], outcome) for number, outcome in executor.run_each(jobs))
    for key, outcome in itertools.chain(known.items(), ran):
        outcomes[key] = outcome
        if kept and key in golds and key not in known and not depends_on_clock_or_chance(key[1]):
            kept.put(key[1], outcome)
        for position in users[key]:
            case = opened[position]
            case.waits_for.discard(key)
            if not case.waits_for:
                yield position, outcomes
                for done in case.needs:
                    left[done] -= 1
                    if not left[done]:
                        del outcomes[done]


def _golds_with_ties(
    cases: Sequence[Case], database: OpenDatabase, executor: Executor, settings: Judging
) -> frozenset[str]:
    """Gold queries of one database that cut a tie at a LIMIT."""
    if database.path is None:
        return frozenset()
    golds = dict.fromkeys(case.question.gold_sql for case in cases if case.question.gold_sql)
    probes = [(gold, probe) for gold in golds for probe in tie_probes(gold)]
    deadline_s, max_rows = settings.deadline_s, settings.max_rows
    found, asked = set(), []
    for gold, probe in probes:
        outcome = (
            database.kept.get(probe.sql, deadline_s=deadline_s, max_rows=max_rows) if database.kept else None
        )
        if outcome is None:
            asked.append((gold, probe))
        elif probe.cuts_tie(outcome.rows):
            found.add(gold)
    jobs = [
        Job(database.path, probe.sql, deadline_s, max_rows, quoted_strings=probe.is_whole)
        for _, probe in asked
    ]
    for number, outcome in executor.run_each(jobs):
        gold, probe = asked[number]
        if database.kept and not depends_on_clock_or_chance(gold):
            database.kept.put(probe.sql, outcome)
        if outcome.status == "ok" and probe.cuts_tie(outcome.rows):
            found.add(gold)
    return frozenset(found)


def _known(opened: list[_Open], kept: KeptOutcomes | None, settings: Judging) -> dict[Key, Outcome]:
    """Outcomes of gold queries that an earlier run left."""
    found = {}
    for key in dict.fromkeys(case.gold for case in opened if case.gold):
        outcome = (
            kept.get(key[1], deadline_s=settings.deadline_s, max_rows=settings.max_rows) if kept else None
        )
        if outcome is not None:
            found[key] = outcome
    return found


def _verdict(
    opened: _Open,
    outcomes: dict[Key, Outcome],
    database: OpenDatabase,
    settings: Judging,
    ties: frozenset[str],
) -> Verdict:
    case = opened.case
    gold = outcomes[opened.gold] if opened.gold else None
    official = outcomes[opened.official] if opened.official else None
    if database.place and case.official_sql is not None:
        if not case.official_sql.strip():
            official = NOTHING
        elif database.is_sqlite and EMPTY_STATEMENT.search(case.official_sql):
            official = TWO_STATEMENTS
    gold_sql = case.question.gold_sql
    predicted = outcomes[opened.predicted] if opened.predicted else None
    verdict = judge_one(
        case.question,
        case.completion,
        climb(
            case.completion,
            database.refusal,
            asks_sqlglot=not settings.ladder_only,
            dialect=case.files.dialect,
        ),
        gold=gold,
        predicted=predicted,
        official=official,
        rows=case.files.rows if database.place else "none",
        gold_fault=gold_fault_of(
            case.question,
            gold,
            database.refusal(gold_sql) if gold_sql else None,
            cuts_tie=gold_sql in ties,
        ),
    )
    beside = (
        row_measures(case.question, verdict, gold, predicted, official) if not settings.ladder_only else {}
    )
    if not database.is_sqlite:
        beside.pop("step_ratio", None)  # other engines count no steps
    elif not settings.ladder_only:
        holds = database.holds if database.path else None
        beside |= name_measures(case.question, verdict, database.schema, database.twin, holds)
        beside |= tree_measures(verdict, database.form)
    if settings.n_instances and verdict.ex_strict is not None:
        beside["robust"] = bool(verdict.ex_strict and beside.get("ast_equal"))
    if settings.n_timings and verdict.ex_bird is not None:
        beside |= dict.fromkeys(("ves", "r_ves"), float(verdict.ex_bird))
    return verdict.model_copy(update=beside) if beside else verdict


def _needs_copies(verdict: Verdict, settings: Judging) -> bool:
    """A match that the trees do not certify is looked at on changed copies."""
    return bool(settings.n_instances and verdict.ex_strict and not verdict.robust)


def _needs_timing(verdict: Verdict, case: Case, settings: Judging) -> bool:
    """A right prediction is timed, unless it is the gold's own text: that is 1 by nature."""
    return bool(settings.n_timings and verdict.ex_bird and case.official_sql != case.question.gold_sql)


def _decide_robust(
    verdicts: dict[int, Verdict], database: OpenDatabase, executor: Executor, settings: Judging
) -> None:
    waiting = [number for number, verdict in verdicts.items() if _needs_copies(verdict, settings)]
    if not waiting or database.path is None:
        return
    held = robust_pairs(
        database.path,
        database.schema,
        [(verdicts[number].gold_sql or "", verdicts[number].predicted_sql or "") for number in waiting],
        executor,
        n_instances=settings.n_instances,
        seed=settings.seed,
        deadline_s=settings.deadline_s,
        max_rows=settings.max_rows,
    )
    for number, holds in zip(waiting, held, strict=True):
        verdicts[number] = verdicts[number].model_copy(update={"robust": holds})


def _judge_as_spider(
    verdicts: dict[int, Verdict],
    cases: Sequence[Case],
    database: OpenDatabase,
    executor: Executor,
    settings: Judging,
) -> None:
    """Set Spider's official scores; a prediction that is not there passes neither."""
    asked = [number for number in verdicts if verdicts[number].gold_sql]
    pairs = [(verdicts[number].gold_sql or "", cases[number].official_sql or "") for number in asked]
    agree: list[bool] | list[None] = [None] * len(asked)
    if database.path:
        agree = spider_exec(
            database.path, pairs, executor, deadline_s=settings.deadline_s, max_rows=settings.max_rows
        )
    for number, (gold_sql, sql), is_equal in zip(asked, pairs, agree, strict=True):
        matched = exact_match(gold_sql, sql, database.schema)
        difficulty = hardness(gold_sql, database.schema)
        update = {
            "spider_exec": is_equal,
            "spider_match": matched,
            "spider_hardness": difficulty,
            "difficulty": verdicts[number].difficulty or difficulty,
        }
        verdicts[number] = verdicts[number].model_copy(update=update)


def _time(
    verdicts: dict[int, Verdict],
    cases: Sequence[Case],
    database: OpenDatabase,
    executor: Executor,
    settings: Judging,
) -> None:
    """Set VES and R-VES from rounds of each right prediction and its gold in turn."""
    jobs, numbers = [], []
    for number, verdict in verdicts.items():
        case = cases[number]
        if _needs_timing(verdict, case, settings) and database.path and case.question.gold_sql:
            job = Job(
                database.path,
                case.official_sql or "",
                TIMING_S,
                settings.max_rows,
                quoted_strings=True,
                against=case.question.gold_sql,
                n_rounds=settings.n_timings,
            )
            jobs.append(job)
            numbers.append(number)
    for position, outcome in executor.run_each(jobs):
        times = [tuple(float(value or 0) for value in row) for row in outcome.rows]
        executed = [gold / predicted for predicted, gold, _, _ in times if predicted > 0]
        fetched = [gold / predicted for _, _, predicted, gold in times if predicted > 0]
        update = {"ves": ves(executed), "r_ves": r_ves(fetched)}
        verdicts[numbers[position]] = verdicts[numbers[position]].model_copy(update=update)
