"""A seeded sample of failures with a cause by rule, to be read and corrected.

    python -m benchmarks.error_analysis BUNDLE.tar.xz OUT.json [--show]

BUNDLE holds the rows that `benchmarks/ablations.py` wrote; verdicts are those that `benchmarks/judge_rows.py` stored. Run where
`data/` is. OUT has, for each sampled failure, its id, the class by rule, the class that counts and who gave it (`rule` or
`reading`), a note and the strain; no text of the data set. Readings that OUT already holds stay. `--show` prints question,
gold and prediction of each, for reading.
"""

import argparse
import json
import random
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sqlglot
from sqlglot import exp

from benchmarks.headline import line
from benchmarks.row_files import passed_in, restored
from groundql.questions.load import load_data
from groundql.records import Completion, Question, write_text
from groundql.reports.choices import separation

NAME, DATA, WAY = "ours-4x4-orders", "spider-dev", "grounded"
Row = dict[str, Any]


def rule_class(gold_sql: str, predicted_sql: str | None, is_right_for_spider: bool) -> str:
    """The first difference that a rule sees between two SQLite queries; `other` where there is none.

    >>> rule_class("SELECT a FROM t WHERE b = 'x'", "SELECT a FROM t WHERE b = 'X'", False)
    'value'
    >>> rule_class("SELECT a, b FROM t", "SELECT b, a FROM t", True)
    'column order'
    >>> rule_class("SELECT a FROM t", None, False)
    'abstained'
    """
    if predicted_sql is None:
        return "abstained"
    if is_right_for_spider:  # Spider's script takes any order of the columns
        return "column order"
    gold = sqlglot.parse_one(gold_sql.rstrip("; "), read="sqlite")
    predicted = sqlglot.parse_one(predicted_sql, read="sqlite")
    for name, of in DIFFERENCES.items():
        if of(gold) != of(predicted):
            return name
    return "other"


def tables(tree: exp.Expr) -> object:
    """Tables with how often each is read, then what they are joined on."""
    joined = [join.args["on"] for join in tree.find_all(exp.Join) if join.args.get("on")]
    pairs = sorted(sorted(column.name.lower() for column in on.find_all(exp.Column)) for on in joined)
    return sorted(table.name.lower() for table in tree.find_all(exp.Table)), pairs


def nesting(tree: exp.Expr) -> object:
    """Number of SELECTs, and the set operations."""
    return len(list(tree.find_all(exp.Select))), sorted(one.key for one in tree.find_all(exp.SetOperation))


def outputs(tree: exp.Expr) -> object:
    """Columns of the outermost SELECTs, without their aggregates."""
    selects = [tree.left, tree.right] if isinstance(tree, exp.SetOperation) else [tree]
    return [
        sorted(c.name.lower() for e in one.expressions for c in e.find_all(exp.Column)) for one in selects
    ]


def aggregates(tree: exp.Expr) -> object:
    """Aggregate functions, and the columns that rows are grouped by."""
    groups = [g for group in tree.find_all(exp.Group) for g in group.expressions]
    return sorted(one.key for one in tree.find_all(exp.AggFunc)), sorted(g.name.lower() for g in groups)


def literals(tree: exp.Expr) -> object:
    """Literals that are compared with something."""
    return sorted(
        one.name or one.sql() for one in tree.find_all(exp.Literal) if not one.find_ancestor(exp.Limit)
    )


def compared(tree: exp.Expr) -> object:
    """Comparisons: operator and columns."""
    found = [one for kind in (exp.Where, exp.Having) for part in tree.find_all(kind) for one in part.find_all(exp.Predicate)]  # fmt: skip
    return sorted((one.key, sorted(c.name.lower() for c in one.find_all(exp.Column))) for one in found)


def ordered(tree: exp.Expr) -> object:
    """ORDER BY with directions, and LIMIT."""
    orders = [
        (o.this.name.lower(), bool(o.args.get("desc")))
        for x in tree.find_all(exp.Order)
        for o in x.expressions
    ]
    return orders, [one.expression.sql() for one in tree.find_all(exp.Limit)]


def distincts(tree: exp.Expr) -> object:
    return len(list(tree.find_all(exp.Distinct)))


DIFFERENCES = {
    "nesting": nesting,
    "join": tables,
    "aggregation": aggregates,
    "column": outputs,
    "condition": compared,
    "value": literals,
    "order or limit": ordered,
    "distinct": distincts,
}


def sampled(n_failures: int, n: int, seed: int) -> list[int]:
    """Places of the sample among the failures, in order."""
    return sorted(random.Random(seed).sample(range(n_failures), min(n, n_failures)))


def completions_in(bundle: Path) -> list[Completion]:
    """What NAME wrote for DATA in WAY."""
    with tarfile.open(bundle) as archive:
        file = archive.extractfile(f"{NAME}.json")
        assert file is not None
        return [restored(one) for one in json.loads(file.read())["predictions"][DATA][WAY]]


def analysed(
    questions: Sequence[Question], written: Sequence[Completion], n: int, seed: int, known: Row
) -> Row:
    """What OUT holds; `known` are readings by question."""
    summary = line(NAME, WAY).of(DATA)
    assert summary is not None
    assert [q.question_id for q in questions] == [c.question_id for c in written]
    passed = {rung: passed_in(bits, summary["n"]) for rung, bits in summary["bits"].items()}
    failures = [i for i, right in enumerate(passed["ex_bird"]) if not right]
    errors = []
    for place in sampled(len(failures), n, seed):
        i = failures[place]
        found = rule_class(questions[i].gold_sql or "", written[i].sql, passed["spider_exec"][i])
        strain = written[i].strain
        error = {"id": questions[i].question_id, "rule": found, "class": found, "by": "rule", "note": ""}
        error |= known.get(questions[i].question_id, {})
        errors.append(error | {"strain": strain.total if strain else 0.0})
    pairs = [
        (one.strain.total, right)
        for one, right in zip(written, passed["ex_strict"], strict=True)
        if one.strain is not None and one.status == "answer"
    ]
    return {
        "row": NAME,
        "data": DATA,
        "way": WAY,
        "seed": seed,
        "n_failures": len(failures),
        "strain": {"n": len(pairs), **{name: round(value, 4) for name, value in separation(pairs).items()}},
        "errors": errors,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--n", type=int, default=100)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--show", action="store_true")
    options = parser.parse_args()
    known = {}
    if options.out.is_file():
        for error in json.loads(options.out.read_text(encoding="utf-8"))["errors"]:
            if error["by"] == "reading":
                known[error["id"]] = {name: error[name] for name in ("class", "by", "note")}
    questions = load_data("spider:data/spider#dev").questions
    written = completions_in(options.bundle)
    found = analysed(questions, written, options.n, options.seed, known)
    text = json.dumps(found, indent=1)
    write_text(options.out, text + "\n")
    if options.show:
        golds = {q.question_id: (q, c) for q, c in zip(questions, written, strict=True)}
        for error in found["errors"]:
            question, completion = golds[error["id"]]
            print(
                f"{error['id']} {error['rule']}: {question.text}\n  {question.gold_sql}\n  {completion.sql}"
            )


if __name__ == "__main__":
    main()
