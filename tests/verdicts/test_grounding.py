"""Names that stand for nothing, each kind apart; links; values and joins."""

from pathlib import Path

import pytest

from groundql.databases.binding import twin_of
from groundql.databases.schema import read_schema
from groundql.records import DatabaseFiles
from groundql.verdicts.grounding import find_invented, link_scores
from groundql.verdicts.joins_and_values import compared_constants, keyless_joins
from groundql.verdicts.parsing import parse_query

SCHEMA = read_schema(
    DatabaseFiles(db_id="b", sql_path=Path(__file__).resolve().parents[1] / "golden" / "bookshop.sql"),
    n_examples=0,
)
TWIN = twin_of(SCHEMA)


def findings(sql):
    return find_invented(sql, parse_query(sql), SCHEMA, TWIN.prepare(sql))


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("SELECT titel FROM book", ("invented column: titel",)),
        ("SELECT name FROM book", ("misplaced column: name",)),
        (
            "SELECT T1.name FROM book T1 JOIN author T2 ON T1.author_id = T2.author_id",
            ("misplaced column: T1.name",),
        ),
        ("SELECT T2.title FROM book T1", ("invented alias: T2.title",)),
        ("SELECT x FROM books", ("invented table: books",)),
        (
            "SELECT YEAR(price), LEFT(title, 1) FROM book",
            ("invented function: YEAR", "invented function: LEFT"),
        ),
        ("SELECT a.titel, nonsense FROM book a", ("invented column: a.titel", "invented column: nonsense")),
        ('SELECT title FROM book WHERE title = "Snow"', ("text in double quotes: Snow",)),
        ('SELECT "titel" FROM book', ("invented column: titel",)),
        ("SELECT `titel` FROM book WHERE `titel` = 1", ("invented column: titel",)),
        ("WITH x(a, b) AS (SELECT title, price FROM book) SELECT a, c FROM x", ("invented column: c",)),
        ("SELECT y.z FROM (SELECT title AS t FROM book) y", ("invented column: y.z",)),
        (
            "SELECT title FROM book b WHERE EXISTS (SELECT 1 FROM author WHERE b.foo = 1)",
            ("invented column: b.foo",),
        ),
        ("SELECT price * 2 AS p FROM book WHERE p > 1 AND q > 1", ("invented column: q",)),
        ("SELECT author_id FROM book, author", ()),  # unclear, but nothing is invented
        ("SELECT title,, price FROM book", ()),
    ],
)
def test_each_kind_is_found_by_name(sql, words):
    assert findings(sql).words() == words


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT title, rowid FROM book WHERE price IN (SELECT MAX(price) FROM book)",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3) SELECT i FROM n",
        "SELECT b.title FROM book b WHERE EXISTS (SELECT 1 FROM author a WHERE a.author_id = b.author_id)",
        "SELECT strftime('%Y', `paid on`) y FROM \"order\" GROUP BY y HAVING y > '2000'",
        "SELECT j.value FROM json_each('[1]') j",
    ],
)
def test_a_query_that_binds_invents_nothing(sql):
    assert findings(sql).words() == ()
    assert findings(sql).n_references > 0


def test_references_are_counted_so_that_a_rate_over_them_is_possible():
    found = findings("SELECT titel, price FROM book")
    assert (found.n_bad, found.n_references) == (1, 3)


def test_links_are_what_the_engine_reads():
    read = TWIN.read_columns(
        "SELECT b.title FROM book b JOIN author a ON a.author_id = b.author_id WHERE a.name LIKE 'A%'"
    )
    assert read == {("book", "title"), ("book", "author_id"), ("author", "author_id"), ("author", "name")}
    assert TWIN.read_columns("SELECT nothing FROM book") == frozenset()
    assert TWIN.read_columns('SELECT title FROM book WHERE title = "Snow"') == {("book", "title")}
    assert TWIN.prepare('SELECT title FROM book WHERE title = "Snow"') is not None  # asking changed nothing


def test_link_scores_by_hand():
    gold = {("t", "a"), ("t", "b"), ("u", "c")}
    assert link_scores(gold, {("t", "a"), ("u", "d")}) == (1 / 2, 1 / 3, pytest.approx(0.4))
    assert link_scores(gold, gold) == (1, 1, 1)
    assert link_scores(gold, set()) == (0, 0, 0)
    assert link_scores(set(), set()) == (1, 1, 1)


def test_joins_along_keys_and_like_named_columns_are_no_doubt():
    assert (
        keyless_joins(parse_query("SELECT 1 FROM book b JOIN author a ON b.author_id = a.author_id"), SCHEMA)
        == []
    )
    assert (
        keyless_joins(parse_query('SELECT 1 FROM "order" o, book b WHERE o.book_id = b.book_id'), SCHEMA)
        == []
    )
    assert keyless_joins(
        parse_query("SELECT 1 FROM book b JOIN author a ON b.stock = a.author_id"), SCHEMA
    ) == ["book.stock = author.author_id"]


def test_constants_are_those_compared_for_equality_with_one_column():
    sql = "SELECT 1 FROM book WHERE title IN ('a', 'b') AND 3 = stock AND price > 4 AND title LIKE 'c%' AND title LIKE 'd'"
    assert {(c.place, c.text) for c in compared_constants(parse_query(sql), SCHEMA)} == {
        (("book", "title"), "a"),
        (("book", "title"), "b"),
        (("book", "stock"), "3"),
        (("book", "title"), "d"),
    }


def test_a_value_is_foreign_where_neither_its_column_nor_the_question_has_it(judged):
    assert judged("SELECT title FROM book WHERE title = 'Storm'").foreign_value
    assert judged("SELECT title FROM book WHERE title = 'Storm'").findings == (
        "foreign value: book.title = 'Storm'",
    )
    assert judged("SELECT title FROM book WHERE title = 'snow'").foreign_value is False  # a near miss in case
    assert (
        judged("SELECT title FROM book WHERE title = 'question'").foreign_value is False
    )  # the question says it


def test_prose_has_no_names_to_judge(judged):
    verdict = judged("hello world")
    assert (verdict.invented_table, verdict.misplaced_column, verdict.link_f1) == (None, None, None)
    assert verdict.ast_equal is False


def test_the_verdict_carries_all_of_it(judged):
    verdict = judged("SELECT T1.name, titel FROM book T1")
    assert verdict.misplaced_column
    assert verdict.invented_column
    assert verdict.invented_table is False
    assert verdict.n_bad_references == 2
    assert verdict.link_f1 == 0
