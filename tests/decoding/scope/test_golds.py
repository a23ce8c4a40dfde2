"""Every character prefix of the golds is accepted, in the canonical dialect."""

from collections import Counter

import pytest

from groundql.databases.schema import read_schema
from groundql.decoding.scope import ScopeTracker
from groundql.errors import NotInDialect
from groundql.prompts.dialect import canonical_sql
from groundql.questions.load import load_data
from tests.decoding.scope.verdicts import verdict


def refused_golds(spec: str, *, step: int = 1) -> tuple[int, list[str]]:
    """(golds that have a canonical form, those of them that are refused at some character)."""
    data = load_data(spec)
    trackers: dict[str, ScopeTracker] = {}
    schemas = {db_id: read_schema(files, n_examples=0) for db_id, files in data.databases.items()}
    n, refused = 0, []
    lacking: Counter[str] = Counter()
    for question in data.questions[::step]:
        try:
            sql = canonical_sql(question.gold_sql or "", schemas[question.db_id])
        except NotInDialect as error:
            lacking[str(error)] += 1
            continue
        tracker = trackers.setdefault(question.db_id, ScopeTracker(schemas[question.db_id]))
        why = verdict(tracker, sql)
        n += 1
        if why is not None:
            refused.append(f"{sql}: {why}")
    assert lacking.total() <= 0.005 * len(data.questions), lacking
    return n, refused


def test_each_tenth_gold_of_pocket_is_accepted_at_every_character():
    n, refused = refused_golds("pocket", step=10)
    assert n >= 90
    assert refused == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "spec",
    ["spider:spider#train", "spider:spider#dev", "bird:bird/train#train", "bird:bird/dev#dev"],
)
def test_golds_of_bird_and_spider_are_accepted_at_every_character(shared_data, spec):
    data_format, place = spec.split(":")
    n, refused = refused_golds(f"{data_format}:{shared_data}/{place}")
    assert n > 900
    assert len(refused) <= 0.002 * n, refused[:5]
