"""What is asked of verdicts once all queries of a database have run: changed copies, rounds of timing, Spider's scores."""

from collections.abc import Sequence

from groundql.databases.executor import Job
from groundql.databases.inside import Runs
from groundql.records import Verdict
from groundql.verdicts.cases import Case, Judging
from groundql.verdicts.efficiency import r_ves, ves
from groundql.verdicts.opened import OpenDatabase
from groundql.verdicts.robust import robust_pairs
from groundql.verdicts.spider_exec import spider_exec
from groundql.verdicts.spider_match import exact_match, hardness

TIMING_S = 5.0  # for all rounds of one pair; those that fit count


def needs_copies(verdict: Verdict, settings: Judging) -> bool:
    """A match that the trees do not certify is looked at on changed copies."""
    return bool(settings.n_instances and verdict.ex_strict and not verdict.robust)


def needs_timing(verdict: Verdict, case: Case, settings: Judging) -> bool:
    """A right prediction is timed, unless it is the gold's own text: that is 1 by nature."""
    return bool(settings.n_timings and verdict.ex_bird and case.official_sql != case.question.gold_sql)


def decide_robust(
    verdicts: dict[int, Verdict], database: OpenDatabase, executor: Runs, settings: Judging
) -> None:
    """Set `robust` of the matches that the trees do not certify."""
    waiting = [number for number, verdict in verdicts.items() if needs_copies(verdict, settings)]
    if not waiting or database.place is None:
        return
    held = robust_pairs(
        database.place,
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


def judge_as_spider(
    verdicts: dict[int, Verdict],
    cases: Sequence[Case],
    database: OpenDatabase,
    executor: Runs,
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
        agrees = matched or exact_match(gold_sql, sql, database.schema, any_syntax=True)
        difficulty = hardness(gold_sql, database.schema)
        update = {
            "spider_exec": is_equal,
            "spider_match": matched,
            "spider_match_any_syntax": agrees,
            "spider_hardness": difficulty,
            "difficulty": verdicts[number].difficulty or difficulty,
        }
        verdicts[number] = verdicts[number].model_copy(update=update)


def time_rounds(
    verdicts: dict[int, Verdict],
    cases: Sequence[Case],
    database: OpenDatabase,
    executor: Runs,
    settings: Judging,
) -> None:
    """Set VES and R-VES from rounds of each right prediction and its gold in turn."""
    jobs, numbers = [], []
    for number, verdict in verdicts.items():
        case = cases[number]
        if needs_timing(verdict, case, settings) and database.path and case.question.gold_sql:
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
