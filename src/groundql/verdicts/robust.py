"""Whether a match holds on changed copies of the database too, or was luck with these rows."""

import contextlib
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from sqlglot import exp

from groundql.databases.engines import duckdb_path
from groundql.databases.executor import Job
from groundql.databases.inside import Runs, may_write
from groundql.databases.mutate import Constants, Value, write_mutant
from groundql.databases.mutate_postgres import shadowed
from groundql.records import Dialect, Outcome, Schema, dialect_of
from groundql.verdicts.joins_and_values import compared
from groundql.verdicts.parsing import is_ordered, parse_query
from groundql.verdicts.rows import same_results

Pair = tuple[str, str]  # gold and prediction


def robust_pairs(
    place: Path | str,
    schema: Schema,
    pairs: Sequence[Pair],
    executor: Runs,
    *,
    n_instances: int,
    seed: int,
    deadline_s: float,
    max_rows: int,
) -> list[bool | None]:
    """For each pair, whether both give the same rows on every one of `n_instances` changed copies of a database.

    `place` is a SQLite file or the URL of another engine. The copies hold values near the constants of all the
    queries. A copy on which the gold does not run says nothing; None where no copy says anything.
    """
    dialect = dialect_of(str(place))
    constants = _constants([sql for pair in pairs for sql in pair], schema, dialect)
    holds: list[bool | None] = [None] * len(pairs)
    with tempfile.TemporaryDirectory(prefix="groundql-") as folder:
        for number in range(n_instances):
            mutant = Path(folder) / f"{number}.{dialect}"
            copy = _write(place, mutant, schema, seed + number, constants)
            asked, jobs = [], []
            for at, pair in enumerate(pairs):
                texts = _on_copy(pair, dialect, schema, seed + number, constants)
                if holds[at] is not False and texts:
                    asked.append(at)
                    jobs += [Job(copy, sql, deadline_s, max_rows, quoted_strings=True) for sql in texts]
            for at, gold, predicted in _outcomes(asked, executor.run_each(jobs)):
                if gold.status == "ok":
                    holds[at] = same_results(gold, predicted, ordered=is_ordered(pairs[at][0]))
            with contextlib.suppress(FileNotFoundError):
                mutant.unlink()
    return holds


def _on_copy(pair: Pair, dialect: Dialect, schema: Schema, seed: int, constants: Constants) -> list[str]:
    """What to run for both; on PostgreSQL with the changed rows written before it, nothing where that cannot be."""
    if dialect != "postgres":
        return list(pair)
    by_name = {table.name: table for table in schema.tables}
    texts = []
    for sql in pair:
        tree = parse_query(sql, dialect)
        if tree is None or any(table.args.get("db") for table in tree.find_all(exp.Table)):
            return []
        if any(clause.args.get("recursive") for clause in tree.find_all(exp.With)):
            return []
        # unquoted names are lower case to PostgreSQL
        names = {
            table.name if table.this.args.get("quoted") else table.name.lower()
            for table in tree.find_all(exp.Table)
            if isinstance(table.this, exp.Identifier)
        }
        names -= {cte.alias for cte in tree.find_all(exp.CTE)}
        tables = [by_name[name] for name in sorted(names & by_name.keys())]
        texts.append(shadowed(sql, tables, seed=seed, constants=constants))
    return texts


def _write(place: Path | str, mutant: Path, schema: Schema, seed: int, constants: Constants) -> Path | str:
    """Make one copy; where it lies, as a Job asks it. Of a PostgreSQL database there is none: see `_on_copy`."""
    if dialect_of(str(place)) == "postgres":
        return place
    with may_write():
        if isinstance(place, Path):
            write_mutant(place, mutant, seed=seed, constants=constants)
            return mutant
        from groundql.databases.mutate_duckdb import write_duckdb_mutant

        write_duckdb_mutant(duckdb_path(place), mutant, schema, seed=seed, constants=constants)
        return f"duckdb:{mutant}"


def _outcomes(
    asked: list[int], done: Iterable[tuple[int, Outcome]]
) -> Iterator[tuple[int, Outcome, Outcome]]:
    """(place, gold's outcome, prediction's) as soon as both are there."""
    waiting: dict[int, tuple[int, Outcome]] = {}
    for number, outcome in done:
        place, is_prediction = divmod(number, 2)
        if place not in waiting:
            waiting[place] = (is_prediction, outcome)
            continue
        first_is_prediction, first = waiting.pop(place)
        gold, predicted = (outcome, first) if first_is_prediction else (first, outcome)
        yield asked[place], gold, predicted


def _constants(queries: Iterable[str], schema: Schema, dialect: Dialect) -> Constants:
    """What the queries compare each column with, as values; texts that spell numbers count as numbers too."""
    found: dict[tuple[str, str], dict[Value, None]] = defaultdict(dict)
    for sql in dict.fromkeys(queries):
        tree = parse_query(sql, dialect)
        if tree is None:
            continue
        for place, literal in compared(tree, schema):
            found[place].update(dict.fromkeys(_values(literal)))
    return {place: list(values) for place, values in found.items()}


def _values(literal: exp.Literal) -> list[Value]:
    text = literal.name
    values: list[Value] = [text.strip("%")] if literal.is_string else []
    with contextlib.suppress(ValueError, OverflowError):
        number = float(text)
        values.append(int(number) if number.is_integer() and "." not in text else number)
    return values
