"""Features of a gold query by which results are sliced: joins, nesting, clauses, functions."""

import logging

import sqlglot
from sqlglot import exp

_ANYWHERE: tuple[tuple[str, tuple[type[exp.Expr], ...]], ...] = (
    ("aggregate", (exp.AggFunc,)),
    ("GROUP BY", (exp.Group,)),
    ("HAVING", (exp.Having,)),
    ("ORDER BY", (exp.Order,)),
    ("LIMIT", (exp.Limit,)),
    ("DISTINCT", (exp.Distinct,)),
    ("set operation", (exp.SetOperation,)),
    ("WITH", (exp.With,)),
    ("CASE or IIF", (exp.Case, exp.If)),
    ("window", (exp.Window,)),
    ("CAST", (exp.Cast,)),
    ("LIKE or GLOB", (exp.Like, exp.Glob)),
    ("division", (exp.Div,)),
)
_DATE_WORDS = ("strftime", "julianday", "datetime(", "date(", "current_timestamp", "current_date")
UNPARSED = "not parsed"

FEATURE_ORDER = (
    *("no join", "1 join", "2 joins", "3+ joins", "subquery"),
    *(name for name, _ in _ANYWHERE),
    *("dates", UNPARSED),
)


def sql_features(sql: str) -> tuple[str, ...]:
    """The features of one SQLite query, in FEATURE_ORDER; `not parsed` alone where sqlglot cannot parse it."""
    logger = logging.getLogger("sqlglot")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it warns about what it reads as a command
    try:
        tree = sqlglot.parse_one(sql, read="sqlite")
    except (sqlglot.errors.SqlglotError, RecursionError):
        return (UNPARSED,)
    finally:
        logger.setLevel(level)
    if not isinstance(tree, exp.Query):
        return (UNPARSED,)
    selects = list(tree.find_all(exp.Select))
    found = {name for name, kinds in _ANYWHERE if tree.find(*kinds)}
    found.add(_joins(tree))
    if any(select.find_ancestor(exp.Subquery, exp.In, exp.Exists) for select in selects):
        found.add("subquery")
    if any(word in sql.lower() for word in _DATE_WORDS):
        found.add("dates")
    return tuple(name for name in FEATURE_ORDER if name in found)


def _joins(tree: exp.Expr) -> str:
    """Joins of the whole query; a comma in FROM joins too."""
    n_joins = sum(1 for _ in tree.find_all(exp.Join))
    return ("no join", "1 join", "2 joins", "3+ joins")[min(n_joins, 3)]
