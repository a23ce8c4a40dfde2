"""Chains end: what a model repeats for ever when it is kept from the name that it wanted."""

import pytest

from groundql.decoding.constraint import Constraints
from groundql.decoding.grammar.rules import (
    MAX_CASES,
    MAX_CONDITIONS,
    MAX_ITEMS,
    MAX_ON_CONDITIONS,
    MAX_OPERANDS,
    MAX_TERMS,
)
from groundql.records import Column, Schema, Table
from tests.decoding.schemas import stops_at, tiny_vocabulary

SHOP = Schema(
    db_id="shop",
    tables=(
        Table(name="item", columns=(Column(name="id"), Column(name="price"))),
        Table(name="sale", columns=(Column(name="item_id"), Column(name="day"))),
    ),
)
CHAINS = {
    "conditions": (MAX_CONDITIONS, "SELECT id FROM item WHERE {}", " AND ", "price > 1"),
    "conditions of a join": (
        MAX_ON_CONDITIONS,
        "SELECT T1.id FROM item AS T1 JOIN sale AS T2 ON {}",
        " AND ",
        "T1.id = T2.item_id",
    ),
    "terms": (MAX_TERMS, "SELECT {} FROM item", " + ", "price"),
    "columns": (MAX_ITEMS, "SELECT {} FROM item", ", ", "price"),
    "values": (MAX_ITEMS, "SELECT id FROM item WHERE price IN ({})", ", ", "1"),
    "cases": (MAX_CASES, "SELECT CASE {} END FROM item", " ", "WHEN price > 1 THEN 2"),
    "operands": (MAX_OPERANDS, "{}", " UNION ", "SELECT id FROM item"),
}


@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_may_be_as_long_as_its_limit_and_no_longer(name):
    most, query, link, part = CHAINS[name]
    constraints = Constraints(tiny_vocabulary(), SHOP)
    assert stops_at(constraints, query.format(link.join([part] * most)))[1] is None
    assert stops_at(constraints, query.format(link.join([part] * (most + 1))))[1] == "grammar"
