"""Check one pocket database: golds bind, return rows, keep to the dialect, and wrong queries give wrong answers.

    python tests/pocket_check.py src/groundql/questions/pocket/lending

Prints each complaint and exits 1, or prints `ok`. `tests/questions/test_pocket.py` runs it over every shipped database.
"""

import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import apsw
import sqlglot
from sqlglot import exp

DIFFICULTIES = ("simple", "moderate", "challenging")
CLOCKS = re.compile(r"\b(now|current_date|current_time|current_timestamp|random)\b", re.I)
MIN_CAUGHT = 0.96  # share of single-edit mutants of the golds whose result must differ


def open_database(sql_path: Path) -> apsw.Connection:
    """An in-memory copy with double-quoted strings off, so that a misspelt "name" is an error."""
    con = apsw.Connection(":memory:")
    con.config(apsw.SQLITE_DBCONFIG_DQS_DML, 0)
    con.config(apsw.SQLITE_DBCONFIG_DQS_DDL, 0)
    con.execute(sql_path.read_text(encoding="utf-8"))
    return con


def rows_of(con: apsw.Connection, sql: str) -> list[tuple]:
    """All rows of `sql`, floats rounded so that summation order does not count."""
    rows = con.execute(sql).fetchall()
    return [tuple(round(v, 6) if isinstance(v, float) else v for v in row) for row in rows]


def same(a: list[tuple], b: list[tuple], *, ordered: bool) -> bool:
    return a == b if ordered else Counter(a) == Counter(b)


def mutants(tree: exp.Expression) -> Iterator[tuple[str, exp.Expression]]:
    """Copies of `tree` with one edit each that a wrong model could have made."""

    def edited(node: exp.Expression) -> tuple[exp.Expression, exp.Expression]:
        copy = tree.copy()
        for a, b in zip(tree.walk(), copy.walk(), strict=True):
            if a is node:
                return copy, b
        raise AssertionError("node not in tree")

    for node in list(tree.walk()):
        if isinstance(node, exp.And):
            for keep in ("this", "expression"):
                copy, twin = edited(node)
                twin.replace(twin.args[keep].copy())
                yield "a condition dropped", copy
        elif isinstance(node, exp.Where):
            copy, twin = edited(node)
            twin.pop()
            yield "WHERE dropped", copy
        elif isinstance(node, exp.Having):
            copy, twin = edited(node)
            twin.pop()
            yield "HAVING dropped", copy
        elif isinstance(node, exp.Ordered) and tree.args.get("limit"):
            copy, twin = edited(node)
            twin.set("desc", not twin.args.get("desc"))
            yield "ASC and DESC swapped", copy
        elif isinstance(node, (exp.Min, exp.Max)):
            copy, twin = edited(node)
            twin.replace((exp.Max if isinstance(node, exp.Min) else exp.Min)(this=twin.this.copy()))
            yield "MIN and MAX swapped", copy
        elif isinstance(node, exp.Sum):
            copy, twin = edited(node)
            twin.replace(exp.Avg(this=twin.this.copy()))
            yield "SUM became AVG", copy
        elif isinstance(node, exp.Distinct) and not node.args.get("on"):
            copy, twin = edited(node)
            parent = twin.parent
            if isinstance(parent, exp.Select):
                parent.set("distinct", None)
            elif isinstance(parent, exp.Count):
                parent.set("this", twin.expressions[0].copy())
            yield "DISTINCT dropped", copy
        elif isinstance(node, exp.Join) and node.side == "LEFT":
            copy, twin = edited(node)
            twin.set("side", None)
            twin.set("kind", "INNER")
            yield "LEFT became INNER", copy


def caught_mutants(con: apsw.Connection, sql: str, gold: list[tuple]) -> tuple[int, list[str]]:
    """How many mutants of `sql` were tried, and the edits that left the result as it was."""
    tree = sqlglot.parse_one(sql, read="sqlite")
    ordered = tree.args.get("order") is not None
    n_tried, survivors = 0, []
    for what, mutant in mutants(tree):
        try:
            rows = rows_of(con, mutant.sql(dialect="sqlite"))
        except apsw.Error:
            continue
        n_tried += 1
        if same(gold, rows, ordered=ordered):
            survivors.append(what)
    return n_tried, survivors


def dialect_faults(sql: str) -> Iterator[str]:
    """Ways in which `sql` leaves the benchmark's dialect."""
    if "\n" in sql or sql.rstrip().endswith(";") or "  " in re.sub(r"'[^']*'", "''", sql):
        yield "not one line with single spaces and no semicolon"
    bare = re.sub(r"'(?:[^']|'')*'", "''", sql)
    bare = re.sub(r"`[^`]*`", "x", bare)
    if '"' in bare or "[" in bare:
        yield "double quotes or brackets"
    if "<>" in bare or "==" in bare:
        yield "use != and ="
    if CLOCKS.search(bare) or re.search(r"'now'", sql):
        yield "depends on the clock or on chance"
    tree = sqlglot.parse_one(sql, read="sqlite")
    for join in tree.find_all(exp.Join):
        if join.args.get("using") or join.args.get("method") or join.side in ("RIGHT", "FULL"):
            yield "only INNER JOIN, LEFT JOIN (or CROSS JOIN) with ON"
        elif not join.args.get("on") and join.kind != "CROSS":
            yield "a join without ON"
    for select in tree.find_all(exp.Select):
        sources = [select.args["from_"].this] if select.args.get("from_") else []
        sources += [join.this for join in select.args.get("joins") or []]
        if any(isinstance(s, exp.Subquery) for s in sources):
            yield "a subquery in FROM: use WITH"
        tables = [s for s in sources if isinstance(s, exp.Table)]
        if len(tables) > 1 and not all(re.fullmatch(r"T\d+", t.alias) for t in tables):
            yield "several tables need aliases T1, T2, ..."
        if len(tables) > 1:
            for column in select.find_all(exp.Column):
                own = column.find_ancestor(exp.Select) is select
                outputs = {a.alias.lower() for a in select.expressions if a.alias}
                if own and not column.table and column.name.lower() not in outputs:
                    yield f"{column.sql()} is not qualified"
    aliases = [t.alias for t in tree.find_all(exp.Table) if t.alias]
    if len(aliases) != len(set(aliases)) and not tree.find(exp.SetOperation) and not tree.find(exp.CTE):
        yield "an alias is used twice"


def faults(base: Path) -> Iterator[str]:
    """Every complaint about the database `base`.sql with its `base`.json."""
    data = json.loads(base.with_suffix(".json").read_text(encoding="utf-8"))
    con = open_database(base.with_suffix(".sql"))
    tables = [r[0] for r in con.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    if data["db_id"] != base.name or data["split"] not in ("train", "dev", "test"):
        yield "db_id or split is wrong"
    if not 3 <= len(tables) <= 9:
        yield f"{len(tables)} tables, not 3 to 9"
    n_rows = sum(con.execute(f"SELECT COUNT(*) FROM `{t}`").fetchone()[0] for t in tables)
    if n_rows < 200:
        yield f"only {n_rows} rows"
    if list(con.execute("PRAGMA foreign_key_check")):
        yield "foreign keys do not hold"
    for table, columns in data["descriptions"].items():
        real = {r[1] for r in con.execute(f"PRAGMA table_info(`{table}`)")}
        for name in set(columns) - real:
            yield f"description of {table}.{name}, which does not exist"
    questions = data["questions"]
    if len(questions) < 44:
        yield f"{len(questions)} questions, fewer than 44"
    counts = Counter(q["difficulty"] for q in questions)
    for name, low, high in zip(DIFFICULTIES, (0.38, 0.28, 0.15), (0.52, 0.42, 0.26), strict=True):
        if not low <= counts[name] / len(questions) <= high:
            yield f"{counts[name]} of {len(questions)} questions are {name}"
    with_evidence = sum(bool(q["evidence"]) for q in questions) / len(questions)
    if not 0.3 <= with_evidence <= 0.6:
        yield f"{with_evidence:.0%} of the questions have evidence"
    texts = Counter(q["question"].strip().lower() for q in questions)
    for text, n in texts.items():
        if n > 1:
            yield f"question stands {n} times: {text}"
    n_distinct = len({q["sql"] for q in questions})
    if n_distinct < 0.75 * len(questions):
        yield f"only {n_distinct} distinct golds"
    n_tried, complaints = 0, []
    for i, q in enumerate(questions):
        where = f"question {i} ({q['question'][:50]}...)"
        try:
            gold = rows_of(con, q["sql"])
        except apsw.Error as error:
            yield f"{where}: {error}"
            continue
        if not gold or all(v is None for row in gold for v in row):
            yield f"{where}: no rows, or only NULL"
        if len(gold) > 100:
            yield f"{where}: {len(gold)} rows"
        for fault in dict.fromkeys(dialect_faults(q["sql"])):
            yield f"{where}: {fault}"
        n, survivors = caught_mutants(con, q["sql"], gold)
        n_tried += n
        complaints += [f"{where}: {what}, and the result is the same" for what in survivors]
    if n_tried and len(complaints) > (1 - MIN_CAUGHT) * n_tried:
        yield from complaints
        yield f"{len(complaints)} of {n_tried} wrong queries give the right answer"


if __name__ == "__main__":
    found = list(faults(Path(sys.argv[1]).with_suffix("")))
    print("\n".join(found) or "ok")
    sys.exit(bool(found))
