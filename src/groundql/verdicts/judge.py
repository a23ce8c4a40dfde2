"""Runs what a set of verdicts needs, each distinct query once, and judges every question as soon as it can."""

import itertools
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from groundql.databases.executor import Executor, Job
from groundql.databases.inside import Inside, Runs, may_write
from groundql.databases.kept import KeptOutcomes, same_text
from groundql.records import DatabaseFiles, Outcome, Verdict
from groundql.verdicts.cases import Case as Case
from groundql.verdicts.cases import Judging as Judging
from groundql.verdicts.ladder import PREPARED, climb, gold_fault_of, judge_one
from groundql.verdicts.later import decide_robust, judge_as_spider, needs_copies, needs_timing, time_rounds
from groundql.verdicts.measures import name_measures, row_measures, tree_measures
from groundql.verdicts.opened import OpenDatabase
from groundql.verdicts.parsing import depends_on_clock_or_chance
from groundql.verdicts.processes import can_share, shared_out
from groundql.verdicts.shipping import Parcel, packed, unpacked
from groundql.verdicts.ties import tie_probes

LEAST_SHARED = 100  # cases from which several processes judge faster than one
NOTHING = Outcome(status="ok")  # what SQLite gives for text without a statement
# `SELECT 1; ;` is one statement to us; Python's sqlite3, which the official script uses, counts the empty one too
EMPTY_STATEMENT = re.compile(r";\s*;[\s;]*\Z")
TWO_STATEMENTS = Outcome(status="error", error="more than one statement, the last one empty")


@dataclass(slots=True)
class _Open:
    """A case, and the outcomes that it still waits for."""

    case: Case
    gold: str | None  # queries, as `same_text` has them
    predicted: str | None
    official: str | None
    queries: tuple[str, ...]  # each of them once
    n_waits: int


def judge_all(
    cases: Sequence[Case], settings: Judging, on_verdict: Callable[[Verdict], None] | None = None
) -> list[Verdict]:
    """One verdict a case, in the order of `cases`; `on_verdict` is told of each as soon as it is complete.

    Many cases are shared out over processes that run the queries themselves, a database at a time. What such a process
    leaves undone, because a query ended it, and what is little anyway is judged here, with an Executor. Equal queries
    on one database run once, golds among them.
    """
    groups = _groups(cases, settings.n_workers)
    verdicts: list[Verdict | None] = [None] * len(cases)

    def keep(number: int, verdict: Verdict) -> None:
        verdicts[number] = verdict
        if on_verdict:
            on_verdict(verdict)

    def ship(numbers: list[int], inside: Inside) -> Iterator[tuple[int, Parcel]]:
        own = [cases[number] for number in numbers]
        for position, found in _judge_database(own, inside, settings):
            yield numbers[position], packed(found) if isinstance(found, Verdict) else found
        inside.let_go()

    if (
        len(cases) >= LEAST_SHARED
        and can_share()
        and all(cases[numbers[0]].files.dialect == "sqlite" for numbers in groups)
    ):
        for parcels in shared_out(groups, ship, Inside, settings.n_workers):
            for number, parcel in parcels:
                question, completion, _, _ = cases[number]
                keep(number, unpacked(parcel, question, completion))
    with Executor(settings.n_workers) as executor:
        for numbers in groups:
            left = [number for number in numbers if verdicts[number] is None]
            if left:
                for position, found in _judge_database([cases[n] for n in left], executor, settings):
                    keep(left[position], _verdict_of(cases[left[position]], found))
    return [verdict for verdict in verdicts if verdict is not None]


def _groups(cases: Sequence[Case], n_workers: int) -> list[list[int]]:
    """Numbers of the cases of each database, the largest first; halves where there are fewer databases than workers.

    Equal golds stay together.
    """
    by_database: dict[str, list[int]] = defaultdict(list)
    for number, case in enumerate(cases):
        by_database[case.question.db_id].append(number)
    groups = sorted(by_database.values(), key=len, reverse=True)
    while groups and len(groups) < n_workers and len(groups[0]) >= LEAST_SHARED:
        largest = sorted(groups.pop(0), key=lambda number: cases[number].question.gold_sql or "")
        middle = len(largest) // 2
        groups = sorted([*groups, largest[:middle], largest[middle:]], key=len, reverse=True)
    return groups


def _verdict_of(case: Case, found: Verdict | Parcel) -> Verdict:
    return found if isinstance(found, Verdict) else unpacked(found, case.question, case.completion)


def _settings_on(files: DatabaseFiles, settings: Judging) -> Judging:
    """Without what needs a SQLite file, where another engine holds the rows: rounds of timing, Spider's suite."""
    return settings if files.dialect == "sqlite" else replace(settings, n_timings=0, spider=False)


def _judge_database(
    cases: Sequence[Case], executor: Runs, settings: Judging
) -> Iterator[tuple[int, Verdict | Parcel]]:
    """(position, complete verdict) of the cases of one database; those that later passes need come last.

    Where nothing is asked for beside the ladder, it is the parcel of a verdict, as it goes between processes.
    """
    settings = _settings_on(cases[0].files, settings)
    is_bare = settings.ladder_only and not (settings.n_instances or settings.n_timings or settings.spider)
    with may_write():  # a database may have to be built from its text
        database = OpenDatabase(cases[0].files)
    texts: dict[str, str] = {}
    opened = [_open(case, texts, has_rows=bool(database.place)) for case in cases]
    ties = frozenset() if settings.ladder_only else _golds_with_ties(cases, database, executor, settings)
    later: dict[int, Verdict] = {}
    for position, outcomes in _decided(opened, texts, database, executor, settings):
        found = _find(opened[position], outcomes, database, settings, ties)
        if is_bare:
            yield position, found
            continue
        verdict = _with_measures(opened[position], found, outcomes, database, settings)
        needs_more = needs_copies(verdict, settings) or needs_timing(verdict, cases[position], settings)
        if needs_more or settings.spider:
            later[position] = verdict
        else:
            yield position, verdict
    if database.kept:
        with may_write():
            database.kept.save()
    if settings.n_instances:
        decide_robust(later, database, executor, settings)
    if settings.n_timings:
        time_rounds(later, cases, database, executor, settings)
    if settings.spider:
        judge_as_spider(later, cases, database, executor, settings)
    yield from later.items()


def _open(case: Case, texts: dict[str, str], *, has_rows: bool) -> _Open:
    """Which queries the case needs run, none where there are no rows; `texts` learns each as written."""
    if not has_rows:
        return _Open(case, None, None, None, (), 0)
    question, completion, _, official_sql = case
    predicted_sql = completion.sql if completion else None
    gold = _query(question.gold_sql, texts)
    official = _query(official_sql, texts)
    predicted = official if predicted_sql is official_sql else _query(predicted_sql, texts)
    queries: tuple[str, ...] = (predicted,) if predicted else ()
    if official and official != predicted:
        queries += (official,)
    if gold and gold not in queries:
        queries += (gold,)
    return _Open(case, gold, predicted, official, queries, len(queries))


def _query(sql: str | None, texts: dict[str, str]) -> str | None:
    if not sql or sql.isspace():
        return None
    key = same_text(sql)
    texts.setdefault(key, sql)
    return key


def _decided(
    opened: list[_Open], texts: dict[str, str], database: OpenDatabase, executor: Runs, settings: Judging
) -> Iterator[tuple[int, dict[str, Outcome]]]:
    """(position, outcomes by query) of each case that waits for nothing more.

    An outcome is let go when the last case that needs it is decided; while the caller judges, workers go on. What
    is kept from earlier runs is not run.
    """
    users: dict[str, list[int]] = {}
    for position, case in enumerate(opened):
        for sql in case.queries:
            if sql in users:
                users[sql].append(position)
            else:
                users[sql] = [position]
    left = {sql: len(positions) for sql, positions in users.items()}
    golds = {case.gold for case in opened if case.gold}
    kept, has_steps = database.kept, not settings.ladder_only
    known = _known(golds, kept, settings)
    queries = [sql for sql in users if sql not in known]
    outcomes: dict[str, Outcome] = {}
    yield from ((position, outcomes) for position, case in enumerate(opened) if not case.queries)
    jobs = _jobs(database, [texts[sql] for sql in queries], settings)
    ran = ((queries[number], outcome) for number, outcome in executor.run_each(jobs))
    for sql, outcome in itertools.chain(known.items(), ran):
        outcomes[sql] = outcome
        database.learn(sql, outcome)
        if kept and sql in golds and sql not in known and not depends_on_clock_or_chance(sql):
            kept.put(sql, outcome, has_steps=has_steps)
        for position in users[sql]:
            case = opened[position]
            case.n_waits -= 1
            if case.n_waits:
                continue
            yield position, outcomes
            for done in case.queries:
                left[done] -= 1
                if not left[done]:
                    del outcomes[done]


def _jobs(
    database: OpenDatabase, queries: Sequence[str], settings: Judging, *, quoted_strings: bool = True
) -> Iterator[Job]:
    place, deadline_s, max_rows = str(database.place), settings.deadline_s, settings.max_rows
    counts_steps = not settings.ladder_only
    for sql in queries:
        yield Job(place, sql, deadline_s, max_rows, quoted_strings, "", 0, False, counts_steps)


def _golds_with_ties(
    cases: Sequence[Case], database: OpenDatabase, executor: Runs, settings: Judging
) -> frozenset[str]:
    """Gold queries of one database that cut a tie at a LIMIT."""
    if database.path is None:
        return frozenset()
    golds = dict.fromkeys(case.question.gold_sql for case in cases if case.question.gold_sql)
    probes = [(gold, probe) for gold in golds for probe in tie_probes(gold)]
    known = _known({probe.sql for _, probe in probes}, database.kept, settings)
    found = {gold for gold, probe in probes if probe.sql in known and probe.cuts_tie(known[probe.sql].rows)}
    asked = [(gold, probe) for gold, probe in probes if probe.sql not in known]
    jobs = [
        job
        for _, probe in asked
        for job in _jobs(database, [probe.sql], settings, quoted_strings=probe.is_whole)
    ]
    for number, outcome in executor.run_each(jobs):
        gold, probe = asked[number]
        if database.kept and not depends_on_clock_or_chance(gold):
            database.kept.put(probe.sql, outcome)
        if outcome.status == "ok" and probe.cuts_tie(outcome.rows):
            found.add(gold)
    return frozenset(found)


def _known(queries: set[str], kept: KeptOutcomes | None, settings: Judging) -> dict[str, Outcome]:
    """Outcomes that an earlier run left."""
    found = {}
    for sql in queries if kept and kept.holds_any else ():
        assert kept is not None
        outcome = kept.get(
            sql,
            deadline_s=settings.deadline_s,
            max_rows=settings.max_rows,
            needs_steps=not settings.ladder_only,
        )
        if outcome is not None:
            found[sql] = outcome
    return found


def _find(
    opened: _Open,
    outcomes: dict[str, Outcome],
    database: OpenDatabase,
    settings: Judging,
    ties: frozenset[str],
) -> Parcel:
    """What the ladder finds on a case of which all queries have run."""
    case = opened.case
    gold, predicted, official = _outcomes_of(opened, outcomes, database)
    gold_sql = case.question.gold_sql
    if settings.ladder_only and opened.predicted and database.prepares(opened.predicted):
        rungs = PREPARED
    else:
        asks = not settings.ladder_only
        rungs = climb(case.completion, database.refusal, asks_sqlglot=asks, dialect=database.dialect)
    gold_fault = ""
    is_clean = gold is not None and gold.status == "ok" and gold.rows and database.prepares(opened.gold or "")
    if not is_clean or gold_sql in ties or depends_on_clock_or_chance(opened.gold or ""):
        refusal = database.refusal(gold_sql) if gold_sql else None
        gold_fault = gold_fault_of(case.question, gold, refusal, cuts_tie=gold_sql in ties)
    return judge_one(
        case.question,
        rungs,
        gold=gold,
        predicted=predicted,
        official=official,
        rows=case.files.rows if database.place else "none",
        gold_fault=gold_fault,
    )


def _outcomes_of(
    opened: _Open, outcomes: dict[str, Outcome], database: OpenDatabase
) -> tuple[Outcome | None, Outcome | None, Outcome | None]:
    """Of the gold, of the prediction, and of what the official script would run."""
    gold = outcomes[opened.gold] if opened.gold else None
    predicted = outcomes[opened.predicted] if opened.predicted else None
    official, official_sql = outcomes[opened.official] if opened.official else None, opened.case.official_sql
    if database.place and official_sql is not None:
        if not opened.official:
            official = NOTHING
        elif ";" in official_sql and database.is_sqlite and EMPTY_STATEMENT.search(official_sql):
            official = TWO_STATEMENTS
    return gold, predicted, official


def _with_measures(
    opened: _Open,
    found: Parcel,
    outcomes: dict[str, Outcome],
    database: OpenDatabase,
    settings: Judging,
) -> Verdict:
    """The verdict, with what stands beside the ladder where it is asked for."""
    case = opened.case
    verdict = _verdict_of(case, found)
    gold, predicted, official = _outcomes_of(opened, outcomes, database)
    beside: dict[str, Any] = {}
    if not settings.ladder_only:
        beside |= row_measures(case.question, verdict, gold, predicted, official)
        beside |= name_measures(case.question, verdict, database)
        beside |= tree_measures(verdict, database, gold, predicted)
        if not database.is_sqlite:
            beside.pop("step_ratio", None)  # other engines count no steps
    if settings.n_instances and verdict.ex_strict is not None:
        beside["robust"] = bool(verdict.ex_strict and beside.get("ast_equal"))
    if settings.n_timings and verdict.ex_bird is not None:
        beside |= dict.fromkeys(("ves", "r_ves"), float(verdict.ex_bird))
    return verdict.model_copy(update=beside) if beside else verdict
