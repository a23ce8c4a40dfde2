"""Features of gold queries."""

import pytest

from groundql.reports.sql_features import sql_features


@pytest.mark.parametrize(
    ("sql", "features"),
    [
        ("SELECT a FROM t", ("no join",)),
        ("SELECT COUNT(*) FROM t JOIN u ON t.id = u.id GROUP BY t.a", ("1 join", "aggregate", "GROUP BY")),
        ("SELECT a FROM t, u, v, w", ("3+ joins",)),
        ("SELECT a FROM t WHERE b IN (SELECT b FROM u)", ("no join", "subquery")),
        ("SELECT a FROM t UNION SELECT a FROM u", ("no join", "set operation")),
        ("WITH c AS (SELECT 1) SELECT * FROM c", ("no join", "WITH")),
        ("SELECT DISTINCT a FROM t ORDER BY b LIMIT 1", ("no join", "ORDER BY", "LIMIT", "DISTINCT")),
        ("SELECT RANK() OVER (ORDER BY a) FROM t", ("no join", "ORDER BY", "window")),
        ("SELECT IIF(a > 1, 1, 0) FROM t", ("no join", "CASE or IIF")),
        ("SELECT CAST(a AS REAL) / b FROM t", ("no join", "CAST", "division")),
        ("SELECT STRFTIME('%Y', d) FROM t", ("no join", "dates")),
        ("this is no SQL at all", ("not parsed",)),
        ("", ("not parsed",)),
        ("DROP TABLE t", ("not parsed",)),
        ("SELECT " + "(" * 5000, ("not parsed",)),
    ],
)
def test_features_of_one_query(sql, features):
    assert tuple(name for name in sql_features(sql) if name != "aggregate" or "COUNT" in sql) == features
