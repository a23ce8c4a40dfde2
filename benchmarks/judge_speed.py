"""How fast the judge is against the plain official rule, on BIRD dev and Spider dev, with 2 processes each.

    python benchmarks/judge_speed.py DATA_DIR [OUT_JSON]

DATA_DIR holds `bird/dev` and `spider`. The official rule is written out below from its published description (BIRD
mini-dev, evaluation_ex.py): a pool of processes, and for each question a thread that opens a connection, runs the
prediction, runs the gold, and compares both results as sets; the caller waits for it until the limit.

Predictions are of two kinds. `gold`: the gold SQL itself. `damaged`: one in five is the gold, one has another
layout, one another constant, one a column that is not there, and one counts the gold's rows.

What is compared. `ladder` gives every rung (`ex_bird` among them), without the paper's rule, which parses: it is the
like-for-like row, and does more than the official rule. `first run` starts with nothing kept; `next run` finds the
gold's results on disk from the run before, as every later judging of another model does. `all measures` adds
everything that `groundql judge` prints but timing and changed copies. From questions and predictions in memory to
verdicts in memory; start of processes included, imports of Python not.

The ways take turns, N_REPEATS rounds of them, and the least time of each counts: what else the machine does hits all
alike. Verdicts must be the same in every way, and as a single worker process without any sharing gives them; where
they are not, the benchmark fails.
"""

import dataclasses
import json
import math
import multiprocessing
import os
import platform
import re
import resource
import shutil
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import apsw
import sqlglot.parser

from groundql.databases.files import sqlite_file
from groundql.databases.guard import open_guarded, run_guarded
from groundql.pipeline import judge_completions
from groundql.questions.load import load_data
from groundql.records import Completion, DataSet, Verdict
from groundql.verdicts import judge
from groundql.verdicts.cases import Judging

N_PROCESSES = 2
N_REPEATS = 7
N_REPEATS_OF_ALL = 2
DEADLINE_S = 30.0
GUARD_ROUNDS = 15
CACHES: list[str] = []  # folders made here, removed at the end
Pair = tuple[str, str, str]  # database file, prediction, gold


def official_pair(pair: Pair) -> int:
    """BIRD's rule for one question: 1 where the sets of rows are equal; an error or the limit is 0."""
    path, predicted, gold = pair
    equal: list[int] = []

    def compare() -> None:
        connection = sqlite3.connect(path)
        try:
            cursor = connection.cursor()
            cursor.execute(predicted)
            predicted_rows = cursor.fetchall()
            cursor.execute(gold)
            equal.append(int(set(predicted_rows) == set(cursor.fetchall())))
        except Exception:
            equal.append(0)
        finally:
            connection.close()

    thread = threading.Thread(target=compare, daemon=True)
    thread.start()
    thread.join(DEADLINE_S)
    return equal[0] if equal else 0


def official(pairs: list[Pair]) -> list[int]:
    """The rule over all questions, one task a question as the script has it."""
    with multiprocessing.get_context("fork").Pool(N_PROCESSES) as pool:
        waiting = [pool.apply_async(official_pair, (pair,)) for pair in pairs]
        return [task.get() for task in waiting]


def damaged(sql: str, number: int) -> str:
    """The gold, or one of four changes to it, by turns."""
    kind = number % 5
    if kind == 1:
        return re.sub(r"\s+", "  ", sql) + " ;"
    if kind == 2:
        return re.sub(r"\b\d+\b|'[^']*'", "'other'", sql, count=1)
    if kind == 3:
        return re.sub(r"(?i)^\s*select\s+", "SELECT no_such_column, ", sql, count=1)
    return f"SELECT COUNT(*) FROM ({sql.rstrip('; ')})" if kind == 4 else sql


def completions_of(data: DataSet, kind: str) -> list[Completion]:
    texts = [
        (q.gold_sql or "") if kind == "gold" else damaged(q.gold_sql or "", n)
        for n, q in enumerate(data.questions)
    ]
    return [
        Completion(question_id=q.question_id, db_id=q.db_id, text=sql, sql=sql)
        for q, sql in zip(data.questions, texts, strict=True)
    ]


def cpu_s() -> float:
    """Processor time of this process and of its children that have ended."""
    own, ended = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + ended.ru_utime + ended.ru_stime


def empty_cache() -> None:
    """From here on nothing is known of any gold."""
    os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="groundql-speed-")
    CACHES.append(os.environ["XDG_CACHE_HOME"])


def timed_rows(name: str, data: DataSet, kind: str) -> dict[str, Any]:
    completions = completions_of(data, kind)
    paths = {db_id: str(sqlite_file(files)) for db_id, files in data.databases.items()}
    pairs = [
        (paths[q.db_id], c.text, q.gold_sql or "") for q, c in zip(data.questions, completions, strict=True)
    ]
    ladder = Judging(ladder_only=True, n_workers=N_PROCESSES, deadline_s=DEADLINE_S)
    everything = Judging(n_workers=N_PROCESSES, deadline_s=DEADLINE_S, spider=data.name == "spider")
    ways: dict[str, tuple[Callable[[], Any], bool]] = {  # and whether nothing is kept before
        "official": (lambda: official(pairs), False),
        "ladder_first_run": (lambda: judge_completions(data, completions, ladder), True),
        "ladder_next_run": (lambda: judge_completions(data, completions, ladder), False),
        "all_first_run": (lambda: judge_completions(data, completions, everything), True),
        "all_next_run": (lambda: judge_completions(data, completions, everything), False),
    }
    found: dict[str, Any] = {"set": name, "predictions": kind, "n": len(pairs)}
    results = {}
    for number in range(N_REPEATS):
        for way, (work, is_first) in ways.items():
            if way.startswith("all") and number >= N_REPEATS_OF_ALL:
                continue
            if is_first:
                empty_cache()
            started, used = time.perf_counter(), cpu_s()
            results[way] = work()
            spent = {f"{way}_s": time.perf_counter() - started, f"{way}_cpu_s": cpu_s() - used}
            found |= {key: min(found.get(key, math.inf), value) for key, value in spent.items()}
    verdicts = results["ladder_first_run"]
    check_same(verdicts, results["ladder_next_run"], LADDER)
    check_same(verdicts, results["all_first_run"], LADDER)
    check_same(results["all_first_run"], results["all_next_run"], tuple(Verdict.model_fields))
    check_same(verdicts, unshared(data, completions, ladder), tuple(Verdict.model_fields))
    differing = [
        v.question_id
        for v, score in zip(verdicts, results["official"], strict=True)
        if bool(v.ex_bird) != bool(score)
    ]
    return found | {"ex_bird": sum(results["official"]), "ex_bird_differs": differing}


LADDER = ("extracted", "parsed", "read_only", "grounded", "ran", "ex_bird", "ex_strict", "error")


def check_same(verdicts: list[Verdict], others: list[Verdict], fields: tuple[str, ...]) -> None:
    """SystemExit where two ways disagree on any question."""
    for one, other in zip(verdicts, others, strict=True):
        for name in fields:
            if getattr(one, name) != getattr(other, name):
                raise SystemExit(f"{name} of question {one.question_id} differs from way to way")


def unshared(data: DataSet, completions: list[Completion], settings: Judging) -> list[Verdict]:
    """The verdicts of one process with one worker, by the way that small sets take."""
    least_shared, judge.LEAST_SHARED = judge.LEAST_SHARED, len(completions) + 1
    empty_cache()
    try:
        return judge_completions(data, completions, dataclasses.replace(settings, n_workers=1))
    finally:
        judge.LEAST_SHARED = least_shared


def guard_us(data: DataSet) -> dict[str, float]:
    """Microseconds a gold query on a connection that stays open: the mean over queries of the least of the rounds.

    Without any guard, with it, and with the count of steps too, which is no guard but a measure.
    """
    by_database: dict[str, list[str]] = {}
    for question in data.questions:
        by_database.setdefault(question.db_id, []).append(question.gold_sql or "")
    plain = {
        db_id: apsw.Connection(
            str(sqlite_file(data.databases[db_id])), flags=apsw.SQLITE_OPEN_READONLY, statementcachesize=0
        )
        for db_id in by_database
    }
    guarded = {
        db_id: open_guarded(sqlite_file(data.databases[db_id]), quoted_strings=True) for db_id in by_database
    }
    runs = [(db_id, sql) for db_id, queries in by_database.items() for sql in queries]

    def run_plain(db_id: str, sql: str) -> None:
        plain[db_id].execute(sql).fetchall()

    for db_id, sql in list(runs):  # text that is not UTF-8 ends the plain run and costs ours a second one
        try:
            run_plain(db_id, sql)
        except (apsw.Error, UnicodeDecodeError):
            runs.remove((db_id, sql))

    def run_guarded_alone(db_id: str, sql: str) -> None:
        run_guarded(guarded[db_id], sql, deadline_s=DEADLINE_S, max_rows=100_000, counts_steps=False)

    def run_counted(db_id: str, sql: str) -> None:
        run_guarded(guarded[db_id], sql, deadline_s=DEADLINE_S, max_rows=100_000)

    ways = {"plain": run_plain, "guarded": run_guarded_alone, "guarded_and_counted": run_counted}
    least_s = {name: [math.inf] * len(runs) for name in ways}
    for _ in range(GUARD_ROUNDS):
        for name, way in ways.items():
            for number, (db_id, sql) in enumerate(runs):
                started = time.perf_counter()
                way(db_id, sql)
                least_s[name][number] = min(least_s[name][number], time.perf_counter() - started)
    found = {name: sum(times) / len(runs) * 1e6 for name, times in least_s.items()}
    return found | {"guard": found["guarded"] - found["plain"]}


def main() -> None:
    data_dir = Path(sys.argv[1])
    sets = {
        "BIRD dev": load_data(f"bird:{data_dir / 'bird' / 'dev'}#dev"),
        "Spider dev": load_data(f"spider:{data_dir / 'spider'}#dev"),
    }
    guard = {name: guard_us(data) for name, data in sets.items()}
    rows = [timed_rows(name, data, kind) for name, data in sets.items() for kind in ("gold", "damaged")]
    keys = [key for key in rows[0] if key == "n" or key.endswith("_s")]
    totals = {key: sum(row[key] for row in rows) for key in keys}
    found = {
        "command": "python benchmarks/judge_speed.py DATA_DIR OUT_JSON",
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, {cpu_model()}",
        "python": platform.python_version(),
        "sqlite": {"official": sqlite3.sqlite_version, "ours": apsw.sqlite_lib_version()},
        "n_processes": N_PROCESSES,
        "n_repeats": [N_REPEATS, N_REPEATS_OF_ALL],
        "sqlglot_is_compiled": not str(sqlglot.parser.__file__).endswith(".py"),
        "rows": rows,
        "all": totals,
        "guard_us": guard,
    }
    print(table(rows, totals))
    for name, cost in guard.items():
        print(
            f"guard, {name}: {cost['guard']:.1f} us a query "
            f"({cost['plain']:.1f} without, {cost['guarded']:.1f} with, "
            f"{cost['guarded_and_counted']:.1f} with steps counted too)"
        )
    if sys.argv[2:]:
        Path(sys.argv[2]).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def table(rows: list[dict[str, Any]], totals: dict[str, Any]) -> str:
    ways = ("official", "ladder_first_run", "ladder_next_run", "all_first_run", "all_next_run")
    lines = []
    for unit, what in (("_s", "wall"), ("_cpu_s", "processor time")):
        lines.append(f"{what:<22}{'n':>6}" + "".join(f"{name:>20}" for name in ways))
        for row in [*rows, {"set": "all", "predictions": "", **totals}]:
            base = row[f"official{unit}"]
            cells = "".join(f"{row[way + unit]:>10.2f} s {base / row[way + unit]:>5.1f} x" for way in ways)
            lines.append(f"{row['set'] + ' ' + row['predictions']:<22}{row['n']:>6}{cells}")
    n_differing = sum(len(row["ex_bird_differs"]) for row in rows)
    return "\n".join([*lines, f"ex_bird differs from the official rule on {n_differing} questions"])


def cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


if __name__ == "__main__":
    try:
        main()
    finally:
        for folder in CACHES:
            shutil.rmtree(folder, ignore_errors=True)
