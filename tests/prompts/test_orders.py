"""Training prompts with a schema's tables in several orders."""

import pytest

from groundql.prompts.orders import in_table_orders, table_orders
from groundql.records import Prompt, Turns

TURNS = Turns(before_system="<s>", after_system="</s>\n", before_user="<u>", after_user="<a>", end="<e>")
TABLES = ["CREATE TABLE a (\nid int,\n);", "CREATE TABLE b (c text);", "CREATE TABLE `c d` (e real);"]


def prefix_of(tables):
    return "<s>Answer.\n\n" + "\n".join(tables) + "</s>\n"


def prompt_of(number, tables):
    return Prompt(question_id=str(number), db_id="x", prefix=prefix_of(tables), suffix="q", n_tokens=9)


def test_two_tables_have_two_orders_however_many_are_wanted():
    assert table_orders(prefix_of(TABLES[:2]), TURNS, 8, 7) == [
        prefix_of(TABLES[:2]),
        prefix_of([TABLES[1], TABLES[0]]),
    ]


def test_orders_are_distinct_permutations_of_whole_tables_and_the_first_is_as_it_was():
    found = table_orders(prefix_of(TABLES), TURNS, 4, 7)
    assert found[0] == prefix_of(TABLES)
    assert len(set(found)) == len(found) == 4
    permutations = {prefix_of([TABLES[i] for i in order]) for order in PERMUTATIONS}
    assert set(found) <= permutations


PERMUTATIONS = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]


@pytest.mark.parametrize("tables", [[], TABLES[:1]])
def test_a_prompt_without_two_tables_has_one_order(tables):
    assert table_orders(prefix_of(tables), TURNS, 4, 7) == [prefix_of(tables)]


def test_another_seed_draws_others_and_the_same_seed_the_same():
    many = [f"CREATE TABLE t{i} (c text);" for i in range(9)]
    assert table_orders(prefix_of(many), TURNS, 4, 7) == table_orders(prefix_of(many), TURNS, 4, 7)
    assert table_orders(prefix_of(many), TURNS, 4, 7) != table_orders(prefix_of(many), TURNS, 4, 8)


def test_questions_of_one_schema_take_its_orders_in_turn_and_nothing_else_of_them_changes():
    asked = [prompt_of(i, TABLES[:2]) for i in range(4)] + [prompt_of(4, TABLES[1:])]
    found = in_table_orders(asked, TURNS, 2, 7)
    there, back = prefix_of(TABLES[:2]), prefix_of([TABLES[1], TABLES[0]])
    assert [prompt.prefix for prompt in found] == [there, back, there, back, prefix_of(TABLES[1:])]
    assert [p.model_copy(update={"prefix": ""}) for p in found] == [
        p.model_copy(update={"prefix": ""}) for p in asked
    ]
