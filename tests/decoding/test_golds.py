"""Gold queries, written canonically, pass grammar, scope and gate at every prefix, token by token and byte by byte."""

import pytest

from groundql.databases.schema import read_schema
from groundql.decoding.constraint import Constraints
from groundql.decoding.grammar import gbnf_text, sql_rules
from groundql.errors import NotInDialect
from groundql.prompts.dialect import canonical_sql
from groundql.prompts.render import quoted
from groundql.questions.load import load_data
from groundql.records import Schema
from tests.decoding.gbnf import Gbnf
from tests.decoding.schemas import pocket_schemas, stops_at, tiny_vocabulary


def canonical_golds(spec, schemas):
    """(schema, canonical text) of each gold that has one, and how many golds there are."""
    questions = load_data(spec).questions
    found = []
    for question in questions:
        try:
            found.append((schemas[question.db_id], canonical_sql(question.gold_sql, schemas[question.db_id])))
        except NotInDialect:
            continue
    return found, len(questions)


def refused_of(golds, *, bytewise):
    vocabulary = tiny_vocabulary()
    return [
        (text, written, by)
        for schema, text in golds
        for written, by in [stops_at(vocabulary.constraints(schema), text, bytewise=bytewise)]
        if by
    ]


def test_every_tenth_gold_of_pocket_is_accepted():
    golds, n = canonical_golds("pocket", pocket_schemas())
    assert len(golds) == n
    assert refused_of(golds[::10], bytewise=False) == []
    assert refused_of(golds[5::50], bytewise=True) == []


def test_the_printed_gbnf_of_each_pocket_database_has_a_gold_and_all_names_in_it():
    golds, _ = canonical_golds("pocket", pocket_schemas())
    for schema, text in {schema.db_id: (schema, text) for schema, text in golds}.values():
        gbnf = Gbnf(gbnf_text(sql_rules(schema)))
        table = schema.tables[-1]
        names = ", ".join(quoted(column.name) for column in table.columns)
        assert gbnf.accepts(text), text
        assert gbnf.accepts(f"SELECT {names} FROM {quoted(table.name)}")
        assert not gbnf.accepts(f"SELECT ghost FROM {quoted(table.name)}")


@pytest.mark.slow
@pytest.mark.parametrize("bytewise", [False, True])
def test_every_gold_of_pocket_is_accepted(bytewise):
    golds, _ = canonical_golds("pocket", pocket_schemas())
    assert refused_of(golds, bytewise=bytewise) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spec", "share"),
    [
        ("spider:{0}/spider#train", 0.995),
        ("spider:{0}/spider#dev", 0.995),
        ("bird:{0}/bird/train#train", 0.985),
        ("bird:{0}/bird/dev#dev", 0.985),
    ],
)
def test_nearly_all_golds_of_the_public_sets_are_accepted(shared_data, spec, share):
    """Of all golds, those without a canonical form among them."""
    name = spec.format(shared_data)
    schemas = {db_id: read_schema(files) for db_id, files in load_data(name).databases.items()}
    golds, n = canonical_golds(name, schemas)
    refused = refused_of(golds, bytewise=False)
    assert len(golds) - len(refused) >= share * n, refused[:3]


def test_constraints_hold_for_a_schema_without_tables():
    constraints = Constraints(tiny_vocabulary(), Schema(db_id="empty", tables=()))
    assert stops_at(constraints, "SELECT 1 + 2") == ("SELECT 1 + 2", None)
    assert stops_at(constraints, "SELECT a")[1] == "grammar"
