"""What a gold query is made of, counted by hand."""

import pytest

from groundql.questions.complexity import SqlShape, sql_shape


def shape_of(sql: str) -> SqlShape:
    found = sql_shape(sql)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("sql", "n_tables", "n_joins", "depth"),
    [
        ("SELECT 1", 0, 0, 1),
        ("SELECT a FROM t", 1, 0, 1),
        ("SELECT T1.a FROM t AS T1 INNER JOIN t AS T2 ON T1.a = T2.b", 1, 1, 1),
        ("SELECT a FROM t, u WHERE t.a = u.b", 2, 1, 1),
        ("SELECT a FROM t WHERE b = (SELECT MAX(b) FROM T)", 1, 0, 2),
        ("SELECT a FROM t WHERE EXISTS (SELECT 1 FROM u WHERE c IN (SELECT c FROM v))", 3, 0, 3),
        ("SELECT a FROM t UNION SELECT b FROM u", 2, 0, 1),
        ("WITH x AS (SELECT a FROM t) SELECT a FROM x INNER JOIN u ON x.a = u.a", 2, 1, 2),
        ("SELECT n FROM (SELECT COUNT(*) AS n FROM t GROUP BY a)", 1, 0, 2),
        ("SELECT (SELECT COUNT(*) FROM u) * 1.0 / COUNT(*) FROM t", 2, 0, 2),
    ],
)
def test_tables_joins_and_depth(sql: str, n_tables: int, n_joins: int, depth: int) -> None:
    found = shape_of(sql)
    assert (found.n_tables, found.n_joins, found.depth) == (n_tables, n_joins, depth)


def test_functions_are_named_as_written() -> None:
    sql = "SELECT IIF(a > 1, strftime('%Y', d), 'COUNT(') FROM t WHERE a IN (1, 2) AND (b OR `f`(c) IS NULL)"
    assert shape_of(sql).functions == ("IIF", "STRFTIME")


def test_words_before_a_parenthesis_that_are_no_functions_are_left_out() -> None:
    sql = "WITH x (a) AS (SELECT SUM(a) OVER (PARTITION BY b) FROM t) SELECT a FROM x WHERE NOT (a = 1) AND EXISTS (SELECT 1)"
    assert shape_of(sql).functions == ("SUM",)


def test_clauses_come_once_each_in_a_fixed_order() -> None:
    sql = "SELECT DISTINCT a FROM t WHERE a LIKE 'x%' AND b IN (SELECT b FROM t WHERE c IS NOT NULL) ORDER BY a LIMIT 3"
    assert shape_of(sql).clauses == ("DISTINCT", "WHERE", "ORDER BY", "LIMIT", "LIKE", "IS NULL")


@pytest.mark.parametrize(
    ("sql", "shape_class"),
    [
        ("SELECT a FROM t WHERE b = 1", "one table"),
        ("SELECT a FROM t INNER JOIN u ON t.a = u.a", "joined"),
        ("SELECT a, COUNT(*) FROM t INNER JOIN u ON t.a = u.a GROUP BY a", "grouped"),
        ("SELECT a FROM t WHERE b = (SELECT MAX(b) FROM t)", "nested"),
        ("SELECT a FROM (SELECT a, RANK() OVER (ORDER BY b) AS r FROM t) WHERE r = 1", "window"),
        ("SELECT a FROM t EXCEPT SELECT a FROM u WHERE b = (SELECT 1)", "set operation"),
    ],
)
def test_the_class_is_the_hardest_that_holds(sql: str, shape_class: str) -> None:
    assert shape_of(sql).shape_class == shape_class


@pytest.mark.parametrize("sql", ["", "SELEC a FROM t", "DROP TABLE t", "SELECT 'open"])
def test_what_is_no_query_has_no_shape(sql: str) -> None:
    assert sql_shape(sql) is None
