"""The canonical dialect: one spelling for each query, and SQLite gives the same rows for it."""

import random

import pytest

from groundql.databases.binding import prepare
from groundql.errors import NotInDialect
from groundql.prompts.dialect import canonical_sql, from_first, standard_sql
from groundql.records import Column, Schema, Table
from tests.prompts.market import MARKET, rows
from tests.verdicts.query_maker import COLUMNS, Maker, fill

# `T3` is a table and `c1` a column here, so the aliases T3 and c1 are passed over.
SPELLINGS = [
    # white space, case, comments, quotes, the final semicolon
    ("select  Name\nfrom SHOP -- all\n;", "SELECT name FROM shop"),
    ("SELECT [name], `city`, \"opened\" /* three */ FROM 'shop'", "SELECT name, city, opened FROM shop"),
    ('SELECT "a b", "Order" FROM t3', "SELECT `a b`, `Order` FROM T3"),
    ("SELECT main.shop.name FROM main.shop", "SELECT name FROM shop"),
    # a double-quoted text that is no name is a string, in SELECT too
    ('SELECT "none", name FROM shop WHERE city = "Lyon"', "SELECT 'none', name FROM shop WHERE city = 'Lyon'"),
    ("SELECT id FROM shop WHERE city = \"it's\"", "SELECT id FROM shop WHERE city = 'it''s'"),
    ("SELECT id FROM shop WHERE opened = true", "SELECT id FROM shop WHERE opened = 1"),
    # operators and literals
    ("SELECT id FROM shop WHERE id == 1 OR id <> 2", "SELECT id FROM shop WHERE id = 1 OR id != 2"),
    (
        "SELECT id FROM shop WHERE NOT city IS NULL AND NOT id IN (1,2) AND NOT name LIKE 'A%' AND NOT id BETWEEN 5 AND 6",
        "SELECT id FROM shop WHERE city IS NOT NULL AND id NOT IN (1, 2) AND name NOT LIKE 'A%' AND id NOT BETWEEN 5 AND 6",
    ),
    ("SELECT id FROM shop WHERE city NOTNULL OR city ISNULL", "SELECT id FROM shop WHERE city IS NOT NULL OR city IS NULL"),
    ("SELECT 007, .5, 5., 1e3, 0x1F, - 3, - -3", "SELECT 7, 0.5, 5.0, 1000.0, 31, -3, -(-3)"),
    ("SELECT name FROM shop WHERE name LIKE 'a\\_' ESCAPE '\\'", "SELECT name FROM shop WHERE name LIKE 'a\\_' ESCAPE '\\'"),
    # brackets: those that are needed
    ("SELECT ((id)+(1)) * 2 FROM shop WHERE ((id = 1))", "SELECT (id + 1) * 2 FROM shop WHERE id = 1"),
    ("SELECT (1 + 2) + 3, 1 + (2 + 3), 8 - (4 - 2), 8 / (4 / 2), 7 / 2", "SELECT 1 + 2 + 3, 1 + (2 + 3), 8 - (4 - 2), 8 / (4 / 2), 7 / 2"),
    ("SELECT id FROM shop WHERE id = 1 OR (id = 2 OR (id > 2 AND c1 = 1))", "SELECT id FROM shop WHERE id = 1 OR id = 2 OR id > 2 AND c1 = 1"),
    ("SELECT id FROM shop WHERE (id = 1 OR id = 2) AND NOT (id = 2 AND c1 = 1)", "SELECT id FROM shop WHERE (id = 1 OR id = 2) AND NOT (id = 2 AND c1 = 1)"),
    ("SELECT id = 1 = 0, 3 > 2 = 1, (NOT id) = 0 FROM shop", "SELECT (id = 1) = 0, (3 > 2) = 1, (NOT id) = 0 FROM shop"),
    ("SELECT 'a' || 'b' || 1 + 2, -(id + 1) FROM shop", "SELECT 'a' || 'b' || 1 + 2, -(id + 1) FROM shop"),
    # functions, types, CASE, windows
    ("SELECT substring(name,1,1), ifnull(city,'?'), iif(opened,'o','c') FROM shop", "SELECT SUBSTR(name, 1, 1), IFNULL(city, '?'), IIF(opened, 'o', 'c') FROM shop"),
    ("SELECT count(distinct (city)), count(*), count() FROM shop", "SELECT COUNT(DISTINCT city), COUNT(*), COUNT(*) FROM shop"),
    ("SELECT cast(id as float), cast(id as bigint), cast(id as varchar(9)), cast(day as date) FROM sale", "SELECT CAST(id AS REAL), CAST(id AS INTEGER), CAST(id AS TEXT), CAST(day AS NUMERIC) FROM sale"),
    ("SELECT case opened when 1 then 'y' else 'n' end FROM shop", "SELECT CASE opened WHEN 1 THEN 'y' ELSE 'n' END FROM shop"),
    ("SELECT SUM(amount) FILTER (WHERE shop = 1), COUNT(*) FILTER (WHERE day IS NULL) FROM sale", "SELECT SUM(CASE WHEN shop = 1 THEN amount END), COUNT(CASE WHEN day IS NULL THEN 1 END) FROM sale"),
    ("SELECT rank() over (partition by shop order by amount desc) FROM sale", "SELECT RANK() OVER (PARTITION BY shop ORDER BY amount DESC) FROM sale"),
    # order and limit
    ("SELECT name FROM shop ORDER BY city ASC NULLS FIRST, id DESC NULLS LAST LIMIT 1, 2", "SELECT name FROM shop ORDER BY city, id DESC LIMIT 2 OFFSET 1"),
    ("SELECT name FROM shop ORDER BY city NULLS LAST, id LIMIT 2 OFFSET 0", "SELECT name FROM shop ORDER BY city NULLS LAST, id LIMIT 2"),
    # aliases of tables: none, or all of a block's
    ("SELECT s.name FROM shop s WHERE s.id = 1", "SELECT name FROM shop WHERE id = 1"),
    ("SELECT shop.name, amount FROM shop INNER JOIN sale ON shop.id = shop", "SELECT T1.name, T2.amount FROM shop AS T1 JOIN sale AS T2 ON T1.id = T2.shop"),
    (
        "SELECT b.name, z.id FROM shop b LEFT OUTER JOIN sale ON b.id = shop LEFT JOIN T3 z ON z.id = b.id",
        "SELECT T1.name, T4.id FROM shop AS T1 LEFT JOIN sale AS T2 ON T1.id = T2.shop LEFT JOIN T3 AS T4 ON T4.id = T1.id",
    ),
    ("SELECT s.* FROM shop s", "SELECT * FROM shop"),
    ("SELECT sale.* FROM shop JOIN sale ON shop.id = sale.shop", "SELECT T2.* FROM shop AS T1 JOIN sale AS T2 ON T1.id = T2.shop"),
    (
        "SELECT id FROM shop WHERE id IN (SELECT shop FROM sale) UNION SELECT a.id FROM sale a JOIN T3 b ON a.id = b.id",
        "SELECT id FROM shop WHERE id IN (SELECT shop FROM sale) UNION SELECT T1.id FROM sale AS T1 JOIN T3 AS T2 ON T1.id = T2.id",
    ),
    (
        "SELECT a.id FROM shop a JOIN sale b ON a.id = b.id JOIN T3 c ON c.id = a.id",
        "SELECT T1.id FROM shop AS T1 JOIN sale AS T2 ON T1.id = T2.id JOIN T3 AS T4 ON T4.id = T1.id",
    ),
    ("SELECT rowid FROM shop", "SELECT rowid FROM shop"),
    ("SELECT s.ROWID FROM shop s JOIN sale ON s.id = shop", "SELECT T1.rowid FROM shop AS T1 JOIN sale AS T2 ON T1.id = T2.shop"),
    # names of an outer query are qualified, by an alias that the outer query then has
    (
        "SELECT name FROM shop WHERE EXISTS (SELECT 1 FROM sale WHERE shop = shop.id AND city = 'Lyon')",
        "SELECT T1.name FROM shop AS T1 WHERE EXISTS (SELECT 1 FROM sale WHERE shop = T1.id AND T1.city = 'Lyon')",
    ),
    (
        "SELECT name FROM shop o WHERE 1 < (SELECT COUNT(*) FROM shop WHERE city = o.city)",
        "SELECT T1.name FROM shop AS T1 WHERE 1 < (SELECT COUNT(*) FROM shop WHERE city = T1.city)",
    ),
    # joins
    ("SELECT a.id FROM shop a, sale b WHERE a.id = b.shop AND amount > 2", "SELECT T1.id FROM shop AS T1 JOIN sale AS T2 ON T1.id = T2.shop WHERE T2.amount > 2"),
    (
        "SELECT a.id FROM shop a, T3 c, sale b WHERE a.id = b.shop AND b.id = c.id",
        "SELECT T1.id FROM shop AS T1 JOIN sale AS T2 ON T1.id = T2.shop JOIN T3 AS T4 ON T2.id = T4.id",
    ),
    ("SELECT * FROM shop a, sale b WHERE a.id < b.id", "SELECT * FROM shop AS T1 CROSS JOIN sale AS T2 WHERE T1.id < T2.id"),
    (
        "SELECT a.id FROM shop a LEFT JOIN sale b ON a.id = b.shop, T3 WHERE T3.id = a.id",
        "SELECT T1.id FROM shop AS T1 LEFT JOIN sale AS T2 ON T1.id = T2.shop JOIN T3 AS T4 ON T4.id = T1.id",
    ),
    ("SELECT name FROM shop NATURAL JOIN sale", "SELECT T1.name FROM shop AS T1 JOIN sale AS T2 ON T1.id = T2.id AND T1.name = T2.name"),
    (
        "SELECT * FROM sale JOIN T3 USING (id)",
        "SELECT T1.id, T1.shop, T1.amount, T1.day, T1.name, T2.`a b`, T2.`Order` FROM sale AS T1 JOIN T3 AS T2 ON T1.id = T2.id",
    ),
    ("SELECT b.id FROM sale a RIGHT JOIN shop b ON a.shop = b.id", "SELECT T1.id FROM shop AS T1 LEFT JOIN sale AS T2 ON T2.shop = T1.id"),
    # output aliases: only where the query refers to them; a plain column is referred to itself
    ("SELECT name AS n, COUNT(*) AS k FROM sale GROUP BY n", "SELECT name, COUNT(*) FROM sale GROUP BY name"),
    ("SELECT name, COUNT(*) k FROM sale GROUP BY name ORDER BY k DESC, name", "SELECT name, COUNT(*) AS c2 FROM sale GROUP BY name ORDER BY c2 DESC, name"),
    ("SELECT city, COUNT(*) FROM shop GROUP BY 1 ORDER BY 2, 1", "SELECT city, COUNT(*) AS c2 FROM shop GROUP BY city ORDER BY c2, city"),
    ("SELECT shop, SUM(amount) AS s FROM sale GROUP BY shop HAVING s > 3 ORDER BY s", "SELECT shop, SUM(amount) AS c2 FROM sale GROUP BY shop HAVING c2 > 3 ORDER BY c2"),
    # as a term of ORDER BY an alias goes before a column, within one a column before an alias
    ("SELECT name AS city FROM shop ORDER BY city DESC", "SELECT name FROM shop ORDER BY name DESC"),
    ("SELECT name AS city FROM shop ORDER BY city || 'x', id", "SELECT name FROM shop ORDER BY city || 'x', id"),
    ("SELECT name AS city FROM shop GROUP BY city", "SELECT name FROM shop GROUP BY city"),
    (
        "SELECT LOWER(name) AS n FROM shop WHERE EXISTS (SELECT 1 FROM sale WHERE LOWER(sale.name) = n)",
        "SELECT LOWER(T1.name) FROM shop AS T1 WHERE EXISTS (SELECT 1 FROM sale WHERE LOWER(name) = LOWER(T1.name))",
    ),
    # set operations
    ("SELECT city AS q FROM shop UNION ALL SELECT name AS w FROM sale ORDER BY w DESC LIMIT 3", "SELECT city FROM shop UNION ALL SELECT name FROM sale ORDER BY city DESC LIMIT 3"),
    ("SELECT LENGTH(city) FROM shop UNION SELECT id FROM sale ORDER BY 1", "SELECT LENGTH(city) AS c2 FROM shop UNION SELECT id FROM sale ORDER BY c2"),
    # derived tables and WITH
    ("SELECT x FROM (SELECT name AS x, id FROM shop) WHERE x != 'A'", "WITH Q1 AS (SELECT name, id FROM shop) SELECT name FROM Q1 WHERE name != 'A'"),
    ("SELECT \"MAX(amount)\" FROM (SELECT MAX(amount) FROM sale)", "WITH Q1 AS (SELECT MAX(amount) AS c2 FROM sale) SELECT c2 FROM Q1"),
    (
        "SELECT * FROM (SELECT a.id, b.id AS x FROM shop a JOIN sale b ON a.id = b.shop) WHERE x > 1",
        "WITH Q1 AS (SELECT T1.id, T2.id AS c2 FROM shop AS T1 JOIN sale AS T2 ON T1.id = T2.shop) SELECT * FROM Q1 WHERE c2 > 1",
    ),
    (
        "WITH b(x, y) AS (SELECT shop, COUNT(*) FROM sale GROUP BY shop), unused AS (SELECT 1) SELECT b.y FROM b ORDER BY b.x",
        "WITH Q1 AS (SELECT shop, COUNT(*) AS c2 FROM sale GROUP BY shop) SELECT c2 FROM Q1 ORDER BY shop",
    ),
    (
        "SELECT name FROM shop WHERE id IN (WITH z AS (SELECT shop FROM (SELECT * FROM sale)) SELECT shop FROM z)",
        "WITH Q1 AS (SELECT * FROM sale), Q2 AS (SELECT shop FROM Q1) SELECT name FROM shop WHERE id IN (SELECT shop FROM Q2)",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "canonical"), SPELLINGS)
def test_each_form_has_one_spelling_and_the_same_rows(sql, canonical):
    found = canonical_sql(sql, MARKET)
    assert found == canonical
    assert rows(found) == rows(sql)
    assert prepare(MARKET, found) is None
    assert canonical_sql(found, MARKET) == found


@pytest.mark.parametrize("sql", [sql for sql, _ in SPELLINGS])
def test_the_from_first_form_turns_back_into_the_same_text(sql):
    canonical = canonical_sql(sql, MARKET)
    turned = from_first(canonical)
    assert standard_sql(turned) == canonical
    assert from_first(standard_sql(turned)) == turned


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("SELECT city FROM sale", "no such column: city"),
        ("SELECT `city` FROM sale", "no such column: city"),
        ("SELECT x.city FROM shop", "no such column: x.city"),
        ("SELECT shop.city FROM shop AS s", "no such column: shop.city"),
        ("SELECT id FROM nowhere", "no such table: nowhere"),
        ("SELECT id FROM shop JOIN sale ON shop = shop.id", "ambiguous column name: id"),
        ("SELECT id FROM shop; DROP TABLE shop", "does not parse at 'DROP'"),
        ("DELETE FROM shop", "SELECT is missing at 'DELETE'"),
        ("", "SELECT is missing at 'its end'"),
        ("SELECT id FROM shop WHERE", "does not parse at 'its end'"),
        ("SELECT id FROM shop ORDER BY id UNION SELECT id FROM sale", "does not parse at 'UNION'"),
        ("SELECT id FROM shop WHERE city = 'a\nb'", "a string literal holds a line break"),
        ("SELECT id FROM shop WHERE (id, c1) = (1, 2)", "a row of values in brackets"),
        ("SELECT id FROM shop LIMIT 1 + 1", "LIMIT or OFFSET is no whole number"),
        ("SELECT id FROM shop ORDER BY 2", "there is no output number 2"),
        ("SELECT a.id FROM shop a FULL JOIN sale b ON a.id = b.id", "a FULL join"),
        ("SELECT * FROM sale a RIGHT JOIN shop b ON a.shop = b.id", "a star over a RIGHT join"),
        ("WITH n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n) SELECT i FROM n", "the table n of WITH is recursive"),
        (
            "SELECT (SELECT MAX(k) FROM (SELECT amount AS k FROM sale WHERE shop = s.id)) FROM shop s",
            "a table in brackets or in WITH refers to id of a query around it",
        ),
        ("SELECT SUM(id) OVER (ORDER BY id ROWS 1 PRECEDING) FROM shop", "a window with a frame or a name"),
        ("SELECT id FROM shop UNION SELECT id FROM sale ORDER BY LENGTH(id)", "ORDER BY behind a set operation names no output of it"),
        ("SELECT 1 FROM shop a, shop b, shop c, shop d, shop e, shop f, shop g", "7 tables in one block; the dialect has 6"),
        (f"SELECT {'1 + (' * 11}1 + 1{')' * 11}", "brackets 11 deep; the dialect has 10"),
        (f"SELECT {'(' * 5000}1{')' * 5000}", "nested too deep"),
    ],
)  # fmt: skip
def test_what_has_no_form_in_the_dialect_is_refused_with_the_reason(sql, reason):
    with pytest.raises(NotInDialect) as refused:
        canonical_sql(sql, MARKET)
    assert str(refused.value) == reason


def test_from_first_names_tables_before_columns_at_every_level_and_counts_aliases_as_they_come():
    canonical = (
        "WITH Q1 AS (SELECT shop, COUNT(*) AS c1 FROM sale GROUP BY shop) SELECT (SELECT MAX(T2.id) FROM sale AS T1 "
        "JOIN T3 AS T2 ON T1.id = T2.id) AS c2, T4.name FROM shop AS T4 JOIN Q1 AS T5 ON T5.shop = T4.id "
        "WHERE T5.c1 > 1 UNION SELECT 1, 'x' ORDER BY c2 DESC LIMIT 3"
    )
    turned = (
        "WITH Q1 AS (FROM sale GROUP BY shop SELECT shop, COUNT(*) AS c1) FROM shop AS T1 JOIN Q1 AS T2 ON T2.shop = "
        "T1.id WHERE T2.c1 > 1 SELECT (FROM sale AS T4 JOIN T3 AS T5 ON T4.id = T5.id SELECT MAX(T5.id)) AS c2, "
        "T1.name UNION SELECT 1, 'x' ORDER BY c2 DESC LIMIT 3"
    )
    assert from_first(canonical) == turned
    assert standard_sql(turned) == canonical


@pytest.mark.parametrize(
    ("written", "standard"),
    [
        ("FROM shop SELECT COUNT(*);", "SELECT COUNT(*) FROM shop"),
        ("from shop as t1 select T1.name", "SELECT t1.name FROM shop AS t1"),
        (
            "FROM shop SELECT shop.name AS total ORDER BY total",
            "SELECT shop.name AS total FROM shop ORDER BY total",
        ),
        (
            "FROM (FROM sale SELECT shop) AS T1 SELECT T1.shop",
            "SELECT T1.shop FROM (SELECT shop FROM sale) AS T1",
        ),
        ("SELECT name FROM shop", "SELECT name FROM shop"),
    ],
)
def test_what_a_model_writes_beside_the_dialect_is_turned_round_too(written, standard):
    assert standard_sql(written) == standard


@pytest.mark.parametrize(
    "text", ["", "FROM shop", "I do not know", "FROM shop SELECT", "FROM a JOIN b USING (x) SELECT 1"]
)
def test_what_is_no_query_is_not_turned_round(text):
    with pytest.raises(NotInDialect):
        standard_sql(text)


def test_random_queries_keep_their_rows_on_random_data():
    """LIMIT is cut off: which of several tied rows it keeps is open."""
    schema = Schema(
        db_id="books",
        tables=tuple(
            Table(name=name, columns=tuple(Column(name=column) for column in columns))
            for name, columns in COLUMNS.items()
        ),
    )
    databases = [fill(seed) for seed in range(3)]
    n_refused = 0
    for seed in range(500):
        sql = Maker(random.Random(seed)).query().split(" LIMIT ")[0]
        try:
            canonical = canonical_sql(sql, schema)
        except NotInDialect:
            n_refused += 1  # ambiguous or misplaced names, as the maker makes a few
            continue
        for database in databases:
            ours, theirs = (database.execute(text).fetchall() for text in (canonical, sql))
            assert sorted(map(repr, ours)) == sorted(map(repr, theirs)), sql
    assert n_refused < 25
