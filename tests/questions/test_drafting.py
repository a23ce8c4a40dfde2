"""Drafted questions: words of names, what columns are taken for, queries that SQLite takes, and splits that share nothing."""

import random

import pytest

from groundql.databases.binding import prepare
from groundql.questions.drafting import Draft, draft_questions, split_drafts, table_facts
from groundql.questions.drafting.words import column_words, plural, singular, words
from groundql.records import Column, ForeignKey, Schema, Table

CITIES = [(1, "Rome", "Italy", 2.8, "0000-04-21"), (2, "Oslo", "Norway", 0.7, "1048-01-01"), (3, "Bergen", "Norway", 0.3, None), (4, "Turin", "Italy", 0.8, "1063-05-05"), (5, "Pisa", "Italy", 0.1, "0500-01-01")]  # fmt: skip
TRAMS = [(i, 1 + i % 4, f"line {i}", ["old", "new"][i % 2], 10 * i) for i in range(1, 13)]


def column(name, kind="", description=""):
    return Column(name=name, type=kind, description=description)


SCHEMA = Schema(
    db_id="towns",
    tables=(
        Table(
            name="cities",
            columns=(column("city_id", "INTEGER"), column("city_name", "TEXT"), column("land", "TEXT", "country"), column("pop_m", "REAL"), column("founded_on", "DATE")),
            primary_key=("city_id",),
        ),
        Table(
            name="tram line",
            columns=(column("id", "INTEGER"), column("city", "INTEGER"), column("title", "TEXT"), column("state", "TEXT"), column("length_km", "INTEGER")),
            primary_key=("id",),
            foreign_keys=(ForeignKey(columns=("city",), ref_table="cities", ref_columns=("city_id",)),),
        ),
        Table(name="empty", columns=(column("x"),)),
    ),
)  # fmt: skip
FACTS = table_facts(SCHEMA, {"cities": CITIES, "tram line": TRAMS, "empty": []})
DRAFTS = draft_questions(FACTS)
DRAFTS_OF_MANY_TEMPLATES = list({draft.template: draft for draft in DRAFTS}.values())


def roles(table):
    return {one.name: one.role for one in table.columns}


@pytest.mark.parametrize(
    ("name", "said"),
    [("birthDate", "birth date"), ("order_items", "order items"), ("tblHTTPLog", "http log"), ("ÄÖ_x", "äö x"), ("123", "123"), ("", "")],
)  # fmt: skip
def test_a_name_becomes_words(name, said):
    assert words(name) == said


@pytest.mark.parametrize(("one", "many"), [("city", "cities"), ("box", "boxes"), ("tram line", "tram lines"), ("person", "people"), ("series", "series"), ("day", "days")])  # fmt: skip
def test_singular_and_plural_undo_each_other(one, many):
    assert (plural(one), singular(many), plural(many), singular(one)) == (many, one, many, one)


def test_a_short_description_is_what_a_column_is_called_and_a_long_one_is_not():
    assert column_words("cds", "exam", "Standard score") == "standard score"
    assert column_words("cds", "exam", "the score of the exam, see the handbook for more") == "cds"
    assert column_words("city_id", "tram") == "city"


def test_columns_are_taken_for_what_their_values_show():
    cities, trams = FACTS
    assert roles(cities) == {"city_id": "key", "city_name": "label", "land": "category", "pop_m": "number", "founded_on": "date"}  # fmt: skip
    assert roles(trams)["city"] == "key"
    assert roles(trams)["title"] == "label"
    assert (cities.one, cities.many, trams.many) == ("city", "cities", "tram lines")
    assert [one.name for one in FACTS] == ["cities", "tram line"]  # a table without rows is not asked about


def test_a_pointer_without_a_key_is_found_by_name_and_values_and_said_to_be_guessed():
    loose = SCHEMA.tables[1].model_copy(
        update={"foreign_keys": (), "columns": (column("id"), column("city_id"), column("title"), column("state"), column("length_km"))}
    )  # fmt: skip
    schema = SCHEMA.model_copy(update={"tables": (SCHEMA.tables[0], loose)})
    facts = table_facts(schema, {"cities": CITIES, "tram line": TRAMS})
    assert facts[1].links == (("city_id", "cities", "city_id"),)
    assert facts[1].guessed == ("city_id",)
    strays = [(*row[:1], 99, *row[2:]) for row in TRAMS]
    assert table_facts(schema, {"cities": CITIES, "tram line": strays})[1].links == ()


def test_every_draft_binds_asks_in_several_ways_and_no_query_stands_twice():
    assert len(DRAFTS) > 80
    for draft in DRAFTS:
        assert prepare(SCHEMA, draft.sql) is None, draft
        assert len(draft.texts) >= 2, draft
        assert all(
            text[0].isupper() and text.endswith(("?", ".")) and "  " not in text for text in draft.texts
        )
    assert len({draft.sql for draft in DRAFTS}) == len(DRAFTS)


def test_the_templates_cover_what_they_promise():
    sql = " ".join(draft.sql for draft in DRAFTS)
    for part in ("JOIN", "GROUP BY", "HAVING", "ORDER BY", "LIMIT 1", "STRFTIME", "NOT IN", "INTERSECT", "EXCEPT", "AVG", "DISTINCT", "IS NULL", "BETWEEN", "!="):  # fmt: skip
        assert part in sql, part


def test_values_in_questions_and_queries_are_those_of_the_rows():
    draft = next(d for d in DRAFTS if d.template == "count_where" and "`land`" in d.sql)
    value = draft.sql.rsplit("'", 2)[1]
    assert value in ("Italy", "Norway")
    assert all(value in text for text in draft.texts)


def test_a_value_with_a_quote_stays_one_value():
    rows = [(i, f"c{i}", "O'Neil" if i % 2 else "Bo", 1.0, None) for i in range(1, 9)]
    drafts = draft_questions(table_facts(SCHEMA, {"cities": rows}))
    assert any("'O''Neil'" in draft.sql for draft in drafts)
    assert all(prepare(SCHEMA, draft.sql) is None for draft in drafts)


def test_drafts_are_the_same_each_time_and_other_with_another_seed():
    assert draft_questions(FACTS) == DRAFTS
    assert draft_questions(FACTS, seed=8) != DRAFTS


def test_no_pattern_on_the_same_tables_stands_in_two_splits_and_some_templates_are_never_trained():
    splits = split_drafts(DRAFTS)
    sides = {}
    for draft, split in zip(DRAFTS, splits, strict=True):
        sides.setdefault((draft.template, draft.tables), set()).add(split)
    assert all(len(found) == 1 for found in sides.values())
    trained = {draft.template for draft, split in zip(DRAFTS, splits, strict=True) if split == "train"}
    assert {draft.template for draft in DRAFTS} - trained
    share = splits.count("held-out") / len(splits)
    assert 0.15 < share < 0.45
    assert splits == split_drafts(DRAFTS)


def test_one_combination_of_tables_is_held_out_where_there_are_many():
    tables = [("a",), ("b",), ("a", "b"), ("b", "c"), ("a", "c"), ("c", "d")]
    drafts = [
        Draft(f"t{template}", on, f"SELECT {template} {on}", ("A?", "B?"))
        for template in range(20)
        for on in tables
    ]
    splits = split_drafts(drafts)
    trained = {draft.tables for draft, split in zip(drafts, splits, strict=True) if split != "held-out"}
    assert len(set(tables) - trained) == 1


def test_the_split_does_not_depend_on_the_order_of_equal_patterns():
    shuffled = random.Random(0).sample(DRAFTS, len(DRAFTS))
    first = dict(zip((d.sql for d in DRAFTS), split_drafts(DRAFTS), strict=True))
    second = dict(zip((d.sql for d in shuffled), split_drafts(shuffled), strict=True))
    assert first == second


def test_a_database_with_few_drafts_keeps_half_of_them_to_train_on():
    for n, trained in ((1, 1), (2, 1), (3, 2)):
        assert split_drafts(DRAFTS_OF_MANY_TEMPLATES[:n]).count("train") == trained
