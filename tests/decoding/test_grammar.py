"""What can be derived about a schema and what cannot, and that both printed forms say the same."""

import subprocess
import sys

import apsw
import pytest

from groundql.databases.binding import prepare
from groundql.decoding.constraint import Constraints
from groundql.decoding.grammar import MAX_SOURCES, MAX_TEXT_CHARS, gbnf_text, lark_text, sql_rules
from groundql.decoding.grammar.functions import CANDIDATES, arity_groups
from groundql.records import Column, Schema, Table
from tests.decoding.gbnf import Gbnf
from tests.decoding.schemas import (
    LIBRARY,
    AnyScope,
    OpenGate,
    encode,
    pocket_schemas,
    stops_at,
    tiny_vocabulary,
)

CANONICAL = [
    "SELECT title FROM book",
    "SELECT * FROM book",
    "SELECT T1.* FROM book AS T1",
    "SELECT DISTINCT title, `Due Date` FROM book WHERE price >= 12.50 AND NOT title LIKE 'A%' ESCAPE '!'",
    "SELECT COUNT(*), COUNT(DISTINCT title), SUM(price) / COUNT(*) * 100 FROM book",
    "SELECT T1.title FROM book AS T1 JOIN `order` AS T2 ON T1.id = T2.book_id LEFT JOIN book AS T3 ON T3.id = T1.id",
    "SELECT T1.title FROM book AS T1 INNER JOIN `order` AS T2 ON T1.id = T2.book_id CROSS JOIN book AS T19",
    "SELECT title FROM book WHERE id IN (SELECT book_id FROM `order`) OR id NOT IN (1, 2, -3)",
    "SELECT title FROM book WHERE price BETWEEN 1 AND 2 AND `Due Date` IS NOT NULL OR title NOT LIKE '%''%'",
    "SELECT title FROM book WHERE price = (SELECT MAX(price) FROM book) AND EXISTS (SELECT 1 FROM `order`)",
    "SELECT title FROM book GROUP BY title HAVING COUNT(*) > 1 ORDER BY COUNT(*) DESC, title LIMIT 10 OFFSET 5",
    "SELECT title AS c1 FROM book UNION ALL SELECT date FROM `order` EXCEPT SELECT 'x' ORDER BY c1",
    "WITH Q1 AS (SELECT id FROM book), Q2 AS (SELECT COUNT(*) AS c1 FROM Q1) SELECT T1.c1 FROM Q2 AS T1",
    "SELECT CASE WHEN price > 1 THEN 'a' WHEN price IS NULL THEN NULL ELSE -price END FROM book",
    "SELECT CASE title WHEN 'x' THEN 1 END, CAST(SUBSTR(title, 1, 2) AS INTEGER) FROM book",
    "SELECT STRFTIME('%Y', `Due Date`), IIF(price > 1, 1, 0), ROUND(AVG(price), 2), MAX(id, 3) FROM book",
    "SELECT title, RANK() OVER (PARTITION BY title ORDER BY price DESC), SUM(price) OVER () FROM book",
    "SELECT LAG(price, 1, 0) OVER (ORDER BY id), GROUP_CONCAT(title, '; ') FROM book",
    "SELECT (SELECT COUNT(*) FROM book) - (SELECT COUNT(*) FROM `order`)",
    "SELECT DATETIME(), DATE('now', '-1 day') FROM book",
    "SELECT title || ' ' || (price + 1) % 2 FROM book ORDER BY price NULLS LAST",
    "SELECT title FROM book WHERE title = 'Zoë; \"日本\" -- /* ?'",
]
NEVER = [  # each with the reason for which no text of the grammar begins so
    ("DELETE FROM book", "reading only"),
    ("PRAGMA user_version", "reading only"),
    ("SELECT title FROM book; SELECT 1", "one statement"),
    ("SELECT ghost FROM book", "unknown name"),
    ("SELECT title FROM ghost", "unknown name"),
    ('SELECT "title" FROM book', "double quotes"),
    ("SELECT `title` FROM book", "back-ticks only where they are needed"),
    ("SELECT Title FROM book", "the schema's own spelling"),
    ("SELECT title FROM order", "a keyword without quotes"),
    ("SELECTtitle FROM book", "a space is missing"),
    ("SELECT 5AND 6", "a space is missing"),
    ("SELECT  title FROM book", "two spaces"),
    ("SELECT title,price FROM book", "no space after the comma"),
    ("SELECT title FROM book WHERE COUNT(*) > 1", "an aggregate in WHERE"),
    ("SELECT MAX(COUNT(*)) FROM book", "an aggregate in an aggregate"),
    ("SELECT title FROM book GROUP BY MAX(id)", "an aggregate in GROUP BY"),
    ("SELECT RANK() FROM book", "a window function without OVER"),
    ("SELECT title FROM book WHERE RANK() OVER () > 1", "a window in WHERE"),
    ("SELECT title FROM book GROUP BY title HAVING RANK() OVER ()", "a window in HAVING"),
    ("SELECT SUM(DISTINCT price) OVER () FROM book", "DISTINCT in a window"),
    ("SELECT COUNT(DISTINCT title, price) FROM book", "two columns in COUNT"),
    ("SELECT GROUP_CONCAT(DISTINCT title, ',') FROM book", "DISTINCT with a separator"),
    ("SELECT title FROM book WHERE id IN (SELECT id, title", "two columns in IN"),
    ("SELECT title FROM book ORDER BY title UNION", "ORDER BY before a set operator"),
    ("SELECT title FROM book, `order`", "a comma join"),
    ("SELECT title FROM book NATURAL JOIN `order`", "a natural join"),
    ("SELECT title FROM book JOIN `order` USING", "USING"),
    ("SELECT title FROM book JOIN `order` WHERE", "a join without ON"),
    ("SELECT title FROM (SELECT title FROM book)", "a derived table"),
    ("WITH RECURSIVE", "recursion"),
    ("SELECT title FROM book LIMIT id", "a column in LIMIT"),
    ("SELECT YEAR(`Due Date`) FROM book", "a function that is not there"),
    ("SELECT LOAD_EXTENSION('x')", "a function that may not be called"),
    ("SELECT ABS(price, 1) FROM book", "too many arguments"),
    ("SELECT SUBSTR(title) FROM book", "too few arguments"),
    ("SELECT title FROM book WHERE title GLOB 'a' ESCAPE 'b'", "ESCAPE after GLOB"),
    ("SELECT title FROM book WHERE title = 'a\nb'", "a line break in a literal"),
    ("SELECT title FROM book WHERE title = 'a\x00", "a control character in a literal"),
    ("SELECT --5", "a comment"),
    (f"SELECT '{'x' * (MAX_TEXT_CHARS + 1)}'", "a literal without end"),
    ("SELECT 12345678901234567890", "a number without end"),
    ("SELECT T20.title", "an alias beyond T19"),
    ("SELECT title FROM book" + " CROSS JOIN book" * MAX_SOURCES, "too many sources"),
]


@pytest.fixture(scope="module")
def grammar_only():
    return Constraints(tiny_vocabulary(), LIBRARY, tracker=AnyScope(), gate=OpenGate())


@pytest.mark.parametrize("text", CANONICAL)
def test_canonical_sql_is_accepted_token_by_token_and_byte_by_byte(grammar_only, text):
    assert stops_at(grammar_only, text) == (text, None)
    assert stops_at(grammar_only, text, bytewise=True) == (text, None)


@pytest.mark.parametrize("text", CANONICAL)
def test_the_scope_tracker_takes_what_the_grammar_derives(text):
    assert stops_at(tiny_vocabulary().constraints(LIBRARY), text, bytewise=True) == (text, None)


@pytest.mark.parametrize("text", CANONICAL)
def test_what_the_examples_write_is_what_sqlite_prepares(text):
    assert prepare(LIBRARY, text) is None


@pytest.mark.parametrize(("text", "reason"), NEVER)
def test_what_no_query_can_begin_with_is_refused_before_its_end(grammar_only, text, reason):
    written, refused_by = stops_at(grammar_only, text)
    assert refused_by == "grammar", reason
    assert len(written) < len(text) or reason == "a window function without OVER"


@pytest.mark.parametrize(
    "text", [" SELECT title FROM book", "SELECT title FROM book;", " SELECT 'a;' FROM book;"]
)
def test_a_leading_space_and_a_final_semicolon_are_allowed(grammar_only, text):
    assert stops_at(grammar_only, text) == (text, None)


def test_both_printed_forms_accept_the_same_texts():
    gbnf = Gbnf(gbnf_text(sql_rules(LIBRARY)))
    assert [text for text in CANONICAL if not gbnf.accepts(text)] == []
    assert [text for text, _ in NEVER if gbnf.accepts(text)] == []


def test_lark_is_compiled_for_every_pocket_schema():
    for schema in pocket_schemas().values():
        constraints = Constraints(tiny_vocabulary(), schema, tracker=AnyScope(), gate=OpenGate())
        assert constraints.start().accepts(encode("SELECT")[0])


def test_no_two_terminals_of_the_functions_are_spelt_alike():
    names = [name for _, names in arity_groups() for name in names]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", sorted(CANDIDATES))
def test_sqlite_takes_each_function_with_the_fewest_and_most_arguments(name):
    """Asked of SQLite itself, not of its list."""
    in_grammar = {name: arity for arity, names in arity_groups() for name in names}
    if name not in in_grammar:
        pytest.skip(f"this SQLite has no {name}")
    for count in in_grammar[name]:
        arguments = ", ".join(["1"] * count)
        apsw.Connection(":memory:").execute(f"EXPLAIN SELECT {name}({arguments})").fetchall()


def test_grammar_text_needs_neither_torch_nor_a_grammar_engine():
    script = """
import sys
sys.modules.update(dict.fromkeys(["torch", "transformers", "llguidance"]))
from groundql.decoding.grammar import gbnf_text, sql_rules
from groundql.records import Schema
assert gbnf_text(sql_rules(Schema(db_id="x", tables=()))).startswith("root ::= ")
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_names_with_every_kind_of_mark_survive_both_printers():
    names = ('a"b', "c\\d", "e`f", "g'h", "日 本", "x.y", "[z]", "/*", "n\nl")
    schema = Schema(
        db_id="marks", tables=(Table(name="t", columns=tuple(Column(name=name) for name in names)),)
    )
    text = "SELECT " + ", ".join("`" + name.replace("`", "``") + "`" for name in names) + " FROM t"
    assert Gbnf(gbnf_text(sql_rules(schema))).accepts(text)
    assert "root" not in lark_text(sql_rules(schema))
    assert stops_at(Constraints(tiny_vocabulary(), schema, tracker=AnyScope()), text) == (text, None)
