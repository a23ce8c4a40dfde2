"""The certificate of equality: golden pairs, and laws over random queries that are run to check it."""

import random
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundql.databases.binding import twin_from_ddl
from groundql.verdicts.ast_equal import canonical, similarity
from groundql.verdicts.facts import read_facts
from groundql.verdicts.parsing import is_ordered
from groundql.verdicts.rows import same_rows
from tests.verdicts.query_maker import DDL, Maker, fill, rewritten

PAIRS = re.findall(
    r"^-- (equal|different): (.+)\n(.+)\n(.+)\n",
    (Path(__file__).resolve().parents[1] / "golden" / "equivalence.sql").read_text(encoding="utf-8") + "\n",
    re.M,
)
TWIN = twin_from_ddl(DDL)
FACTS = read_facts(TWIN)
DATABASES = [fill(seed) for seed in range(40)]


def results_agree(sql: str, other: str) -> bool:
    ordered = is_ordered(sql)
    return all(
        same_rows(db.execute(sql).fetchall(), db.execute(other).fetchall(), ordered=ordered)
        for db in DATABASES
    )


@pytest.mark.parametrize(
    ("kind", "why", "sql", "other"), PAIRS, ids=[f"{pair[0]}: {pair[1]}" for pair in PAIRS]
)
def test_a_golden_pair_is_certified_exactly_where_it_is_equal(kind, why, sql, other):
    assert TWIN.prepare(sql) is None
    assert TWIN.prepare(other) is None
    key = canonical(sql, FACTS)
    assert (key is not None and key == canonical(other, FACTS)) == (kind == "equal")
    if kind == "equal":
        assert key is not None
        assert results_agree(sql, other)


def test_facts_come_from_what_the_engine_enforces():
    assert FACTS.keys == {"book": frozenset({"book_id"}), "author": frozenset({"author_id"})}
    assert ("book", "title") in FACTS.not_null
    assert ("sale", "code") not in FACTS.not_null
    assert not FACTS.has_collations
    assert read_facts(twin_from_ddl("CREATE TABLE t (a TEXT COLLATE NOCASE)")).has_collations
    assert read_facts(twin_from_ddl("CREATE TABLE t (a INTEGER PRIMARY KEY DESC)")).keys == {}


def test_nothing_is_certified_where_a_column_has_a_collation():
    facts = read_facts(twin_from_ddl("CREATE TABLE t (a TEXT COLLATE NOCASE, b TEXT)"))
    assert canonical("SELECT a FROM t WHERE a = b", facts) is None


@given(st.integers(0, 10**9))
@settings(max_examples=120, deadline=None)
def test_a_pair_that_is_certified_never_differs_in_result(seed):
    rng = random.Random(seed)
    sql = Maker(rng).query()
    other = sql
    for _ in range(rng.randint(1, 3)):
        other = rewritten(other, rng)
    if TWIN.prepare(sql) is None and TWIN.prepare(other) is None:
        key = canonical(sql, FACTS)
        if key is not None and key == canonical(other, FACTS):
            assert results_agree(sql, other), (sql, other)


@pytest.mark.slow
def test_hundreds_of_certified_pairs_never_differ_in_result():
    n_certified = 0
    for seed in range(4000):
        rng = random.Random(seed)
        sql = Maker(rng).query()
        other = rewritten(rewritten(sql, rng), rng)
        if other != sql and TWIN.prepare(sql) is None and TWIN.prepare(other) is None:
            key = canonical(sql, FACTS)
            if key is not None and key == canonical(other, FACTS):
                n_certified += 1
                assert results_agree(sql, other), (sql, other)
    assert n_certified > 200


@given(st.text(max_size=60))
@settings(max_examples=100, deadline=None)
def test_no_text_makes_it_raise(text):
    canonical(text, FACTS)
    canonical(f"SELECT {text} FROM book", FACTS)
    similarity(text, "SELECT 1")


@pytest.mark.parametrize(
    ("sql", "other"),
    [
        ("SELECT title, price FROM book", "SELECT price, title FROM book"),
        ("SELECT title FROM book WHERE stock = '1'", "SELECT title FROM book WHERE stock = 1"),
        (
            "SELECT SUM(CASE WHEN price > 1 THEN 1 ELSE 0 END) FROM book",
            "SELECT COUNT(CASE WHEN price > 1 THEN 1 END) FROM book",
        ),
        (
            "SELECT a.name FROM author a JOIN book b ON a.author_id = b.author_id ORDER BY b.price LIMIT 1",
            "SELECT a.name FROM book b JOIN author a ON a.author_id = b.author_id ORDER BY b.price LIMIT 1",
        ),
    ],
)
def test_the_relaxed_form_says_more_than_the_strict_one(sql, other):
    assert canonical(sql, FACTS) != canonical(other, FACTS)
    assert canonical(sql, FACTS, relaxed=True) == canonical(other, FACTS, relaxed=True) is not None


def test_similarity_grows_with_what_two_queries_share():
    gold = "SELECT T1.title FROM book AS T1 WHERE T1.price > 3"
    assert similarity(gold, "select b.title from book b where b.price > 3") == 1.0
    near, far = (
        similarity(gold, "SELECT T1.title FROM book AS T1 WHERE T1.price > 4"),
        similarity(gold, "SELECT COUNT(*) FROM author"),
    )
    assert 1 > near > far >= 0
    assert similarity(gold, "no query") is None
