"""Random queries and mutated golds: the tracker's verdict is SQLite's."""

import random
import re
from collections import Counter

import pytest

from groundql.databases.binding import prepare
from groundql.databases.schema import read_schema
from groundql.decoding.scope import ScopeTracker
from groundql.errors import NotInDialect
from groundql.prompts.dialect import canonical_sql
from groundql.prompts.render import quoted
from groundql.questions.load import load_data
from groundql.records import Schema
from tests.decoding.scope.queries import SCHEMAS, random_query
from tests.decoding.scope.verdicts import verdict

TRACKERS = {name: ScopeTracker(schema) for name, schema in SCHEMAS.items()}
_NAME = re.compile(r"'(?:[^']|'')*'|`(?:[^`]|``)*`|\b[A-Za-z_][A-Za-z0-9_]*\b(?!\()")


def check_random(n: int, seed: int) -> Counter[tuple[bool, bool]]:
    """Counts of (SQLite prepares, tracker accepts); they are equal but where a form is refused on purpose."""
    rng = random.Random(seed)
    counts: Counter[tuple[bool, bool]] = Counter()
    for _ in range(n):
        name = rng.choice(sorted(SCHEMAS))
        sql, loose = random_query(rng, SCHEMAS[name], slip=rng.choice((0.0, 0.02, 0.06, 0.15)))
        engine, tracker = prepare(SCHEMAS[name], sql), verdict(TRACKERS[name], sql)
        assert engine is None or "syntax" not in engine, sql
        if tracker is None:
            assert engine is None, f"{name}: {sql}"
        elif not loose:
            assert engine is not None, f"{name}: {sql}: {tracker}"
        counts[engine is None, tracker is None] += 1
    return counts


def test_random_queries_get_the_verdict_of_sqlite():
    counts = check_random(400, seed=11)
    assert counts[True, True] > 100
    assert counts[False, False] > 100


@pytest.mark.slow
def test_twenty_thousand_random_queries_get_the_verdict_of_sqlite():
    counts = check_random(20_000, seed=12)
    assert counts[True, False] < 0.1 * counts.total()


def mutated(sql: str, schema: Schema, rng: random.Random) -> str:
    """`sql` with one name replaced by another column, table or alias of the schema."""
    columns = sorted({quoted(column.name) for table in schema.tables for column in table.columns})
    tables = [quoted(table.name) for table in schema.tables]
    spots = [
        m for m in _NAME.finditer(sql) if re.fullmatch(r"T\d+", m.group()) or m.group() in columns + tables
    ]
    if not spots:
        return sql
    spot = rng.choice(spots)
    if re.fullmatch(r"T\d+", spot.group()):
        new = f"T{rng.randint(1, 4)}"
    else:
        new = rng.choice(columns if spot.group() in columns else tables)
    return sql[: spot.start()] + new + sql[spot.end() :]


def check_mutated(spec: str, *, step: int, seed: int) -> tuple[Counter[tuple[bool, bool]], list[str]]:
    """Counts of (SQLite prepares, tracker accepts) over mutated golds in canonical form, and what only SQLite takes."""
    rng = random.Random(seed)
    data = load_data(spec)
    schemas = {db_id: read_schema(files, n_examples=0) for db_id, files in data.databases.items()}
    trackers: dict[str, ScopeTracker] = {}
    counts: Counter[tuple[bool, bool]] = Counter()
    on_purpose = []
    for question in data.questions[::step]:
        schema = schemas[question.db_id]
        tracker = trackers.setdefault(question.db_id, ScopeTracker(schema))
        try:
            sql = canonical_sql(question.gold_sql or "", schema)
        except NotInDialect:
            continue
        sql = mutated(sql, schema, rng)
        engine, why = prepare(schema, sql), verdict(tracker, sql)
        counts[engine is None, why is None] += 1
        if why is None:
            assert engine is None, sql
        elif engine is None:
            on_purpose.append(f"{sql}: {why}")
    return counts, on_purpose


def test_mutated_golds_of_pocket_get_the_verdict_of_sqlite():
    counts, on_purpose = check_mutated("pocket", step=6, seed=3)
    assert counts[False, False] > 80
    assert counts[True, True] > 20
    assert len(on_purpose) <= 0.02 * counts.total(), on_purpose
    assert all("(SELECT" in text for text in on_purpose)  # a bare name that SQLite binds outside


@pytest.mark.slow
@pytest.mark.parametrize("spec", ["spider:spider#train", "bird:bird/train#train"])
def test_mutated_golds_of_bird_and_spider_get_the_verdict_of_sqlite(shared_data, spec):
    data_format, place = spec.split(":")
    counts, on_purpose = check_mutated(f"{data_format}:{shared_data}/{place}", step=1, seed=1)
    assert counts[False, False] > 3000
    assert len(on_purpose) <= 0.01 * counts.total(), on_purpose
    assert all("(SELECT" in text for text in on_purpose)
