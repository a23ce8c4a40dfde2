"""Spider's execution accuracy, as taoyds/test-suite-sql-eval has it at e97acc5.

DISTINCT is taken out of both queries, columns may change places, two empty results are equal, REAL values count to the
last bit, and rows are compared in order where "order by" occurs anywhere in the gold's text. One thing is left out:
the official script replaces the text `value` by `1` in every prediction, which also hits columns of that name.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from groundql.databases.executor import Job
from groundql.databases.inside import Runs
from groundql.records import Cell, Outcome
from groundql.verdicts.relaxed import columns_match

TOKEN = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|`[^`]*`|\w+|\s+|.""", re.DOTALL)
SPLIT_OPERATORS = (("> =", ">="), ("< =", "<="), ("! =", "!="))
CURRENT_YEAR = re.compile(r"YEAR\s*\(\s*CURDATE\s*\(\s*\)\s*\)\s*", re.IGNORECASE)


def spider_text(sql: str) -> str:
    """What the script runs: operators joined, the current year fixed to 2020, DISTINCT taken out."""
    for split, whole in SPLIT_OPERATORS:
        sql = sql.replace(split, whole)
    sql = "".join(token for token in TOKEN.findall(sql) if token.lower() != "distinct")
    return CURRENT_YEAR.sub("2020", sql)


def same_for_spider(gold: Outcome, predicted: Outcome, gold_sql: str) -> bool:
    """Whether the script calls two results equal."""
    if gold.status != "ok" or predicted.status != "ok":
        return False
    if not gold.rows and not predicted.rows:
        return True
    if len(gold.rows) != len(predicted.rows) or len(gold.rows[0]) != len(predicted.rows[0]):
        return False
    return columns_match(gold.rows, predicted.rows, ordered="order by" in gold_sql.lower(), key=_as_it_is)


def _as_it_is(value: Cell) -> Cell:
    return value


def spider_exec(
    path: Path, pairs: Sequence[tuple[str, str]], executor: Runs, *, deadline_s: float, max_rows: int
) -> list[bool]:
    """For each (gold, prediction) whether they agree on every *.sqlite beside `path`: the distilled test suite.

    Beside it means in a folder of the database's own name, as Spider lays them out.
    """
    suite = sorted(path.parent.glob("*.sqlite")) if path.parent.name == path.stem else [path]
    texts = list(dict.fromkeys(spider_text(sql) for pair in pairs for sql in pair))
    agree = [bool(predicted.strip()) for _, predicted in pairs]
    for database in suite:
        jobs = [Job(database, text, deadline_s, max_rows, quoted_strings=True) for text in texts]
        outcomes = {texts[number]: outcome for number, outcome in executor.run_each(jobs)}
        for at, (gold, predicted) in enumerate(pairs):
            results = (outcomes[spider_text(gold)], outcomes[spider_text(predicted)])
            agree[at] = agree[at] and same_for_spider(*results, gold)
    return agree
