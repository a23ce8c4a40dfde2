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
everything that `groundql judge` prints but timing and changed copies. Times are the least of N_REPEATS, wall clock,
from questions and predictions in memory to verdicts in memory; start of workers included, imports of Python not.
"""

import json
import multiprocessing
import os
import platform
import re
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import apsw

from groundql.databases.files import sqlite_file
from groundql.databases.guard import open_guarded, run_guarded
from groundql.pipeline import judge_completions
from groundql.questions.load import load_data
from groundql.records import Completion, DataSet
from groundql.verdicts.judge import Judging

N_PROCESSES = 2
N_REPEATS = 3
DEADLINE_S = 30.0
GUARD_ROUNDS = 7
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


def least(work: Callable[[], Any], before: Callable[[], None] = lambda: None) -> tuple[float, Any]:
    """(least wall time of N_REPEATS, last result); `before` is not timed."""
    times = []
    for _ in range(N_REPEATS):
        before()
        started = time.perf_counter()
        result = work()
        times.append(time.perf_counter() - started)
    return min(times), result


def empty_cache() -> None:
    """From here on nothing is known of any gold."""
    os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="groundql-speed-")


def timed_rows(name: str, data: DataSet, kind: str) -> dict[str, Any]:
    completions = completions_of(data, kind)
    paths = {db_id: str(sqlite_file(files)) for db_id, files in data.databases.items()}
    pairs = [
        (paths[q.db_id], c.text, q.gold_sql or "") for q, c in zip(data.questions, completions, strict=True)
    ]
    ladder = Judging(ladder_only=True, n_workers=N_PROCESSES, deadline_s=DEADLINE_S)
    everything = Judging(n_workers=N_PROCESSES, deadline_s=DEADLINE_S, spider=data.name == "spider")
    official_s, scores = least(lambda: official(pairs))
    first_s, verdicts = least(lambda: judge_completions(data, completions, ladder), empty_cache)
    next_s, _ = least(lambda: judge_completions(data, completions, ladder))
    all_s, _ = least(lambda: judge_completions(data, completions, everything), empty_cache)
    differing = [
        v.question_id for v, score in zip(verdicts, scores, strict=True) if bool(v.ex_bird) != bool(score)
    ]
    return {
        "set": name,
        "predictions": kind,
        "n": len(pairs),
        "official_s": official_s,
        "ladder_first_run_s": first_s,
        "ladder_next_run_s": next_s,
        "all_measures_first_run_s": all_s,
        "ex_bird": sum(scores),
        "ex_bird_differs": differing,
    }


def guard_us(data: DataSet) -> dict[str, float]:
    """Microseconds a gold query on a connection that stays open: without guard, with it, and the difference."""
    plain_us, guarded_us = [], []
    by_database: dict[str, list[str]] = {}
    for question in data.questions:
        by_database.setdefault(question.db_id, []).append(question.gold_sql or "")
    plain = {
        db_id: apsw.Connection(str(sqlite_file(data.databases[db_id])), flags=apsw.SQLITE_OPEN_READONLY)
        for db_id in by_database
    }
    guarded = {
        db_id: open_guarded(sqlite_file(data.databases[db_id]), quoted_strings=True) for db_id in by_database
    }
    runs = [(db_id, sql) for db_id, queries in by_database.items() for sql in queries]
    for _ in range(GUARD_ROUNDS):
        started = time.perf_counter()
        for db_id, sql in runs:
            try:
                plain[db_id].execute(sql, can_cache=False).fetchall()
            except (apsw.Error, UnicodeDecodeError):
                continue
        between = time.perf_counter()
        for db_id, sql in runs:
            run_guarded(guarded[db_id], sql, deadline_s=DEADLINE_S, max_rows=100_000)
        plain_us.append((between - started) / len(runs) * 1e6)
        guarded_us.append((time.perf_counter() - between) / len(runs) * 1e6)
    cost = statistics.median(g - p for g, p in zip(guarded_us, plain_us, strict=True))
    return {"plain": min(plain_us), "guarded": min(guarded_us), "guard": cost}


def main() -> None:
    data_dir = Path(sys.argv[1])
    sets = {
        "BIRD dev": load_data(f"bird:{data_dir / 'bird' / 'dev'}#dev"),
        "Spider dev": load_data(f"spider:{data_dir / 'spider'}#dev"),
    }
    guard = {name: guard_us(data) for name, data in sets.items()}
    rows = [timed_rows(name, data, kind) for name, data in sets.items() for kind in ("gold", "damaged")]
    totals = {
        key: sum(row[key] for row in rows)
        for key in ("n", "official_s", "ladder_first_run_s", "ladder_next_run_s", "all_measures_first_run_s")
    }
    found = {
        "command": "python benchmarks/judge_speed.py DATA_DIR OUT_JSON",
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, {cpu_model()}",
        "python": platform.python_version(),
        "sqlite": {"official": sqlite3.sqlite_version, "ours": apsw.sqlite_lib_version()},
        "n_processes": N_PROCESSES,
        "n_repeats": N_REPEATS,
        "rows": rows,
        "all": totals,
        "guard_us": guard,
    }
    print(table(rows, totals))
    for name, cost in guard.items():
        print(
            f"guard, {name}: {cost['guard']:.1f} us a query "
            f"({cost['plain']:.1f} without, {cost['guarded']:.1f} with)"
        )
    if sys.argv[2:]:
        Path(sys.argv[2]).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def table(rows: list[dict[str, Any]], totals: dict[str, Any]) -> str:
    lines = [
        f"{'':<22}{'n':>6}{'official':>11}{'ladder, first run':>20}{'ladder, next run':>20}{'all measures':>18}"
        f"{'ex_bird differs':>17}"
    ]
    for row in [*rows, {"set": "all", "predictions": "", **totals}]:
        base = row["official_s"]
        cells = "".join(
            f"{row[key]:>{width}.2f} s {base / row[key]:>5.1f} x"
            for key, width in (
                ("ladder_first_run_s", 10),
                ("ladder_next_run_s", 10),
                ("all_measures_first_run_s", 8),
            )
        )
        differs = len(row["ex_bird_differs"]) if "ex_bird_differs" in row else ""
        lines.append(
            f"{row['set'] + ' ' + row['predictions']:<22}{row['n']:>6}{base:>9.2f} s{cells}{differs:>17}"
        )
    return "\n".join(lines)


def cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


if __name__ == "__main__":
    main()
