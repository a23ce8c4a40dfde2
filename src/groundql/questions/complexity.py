"""What a gold query is made of: tables, joins, nesting, clauses, functions, set operations, windows."""

from functools import lru_cache
from typing import Literal, get_args

import sqlglot
from sqlglot import Token, TokenType, exp
from sqlglot.errors import SqlglotError

from groundql.records import Record

ShapeClass = Literal["one table", "joined", "grouped", "nested", "window", "set operation"]
SHAPE_CLASSES: tuple[ShapeClass, ...] = get_args(ShapeClass)  # easiest first

_CLAUSES: tuple[tuple[str, type[exp.Expression]], ...] = (
    ("DISTINCT", exp.Distinct),
    ("JOIN", exp.Join),
    ("WHERE", exp.Where),
    ("GROUP BY", exp.Group),
    ("HAVING", exp.Having),
    ("ORDER BY", exp.Order),
    ("LIMIT", exp.Limit),
    ("CASE", exp.Case),
    ("LIKE", exp.Like),
    ("BETWEEN", exp.Between),
    ("IS NULL", exp.Is),
    ("EXISTS", exp.Exists),
    ("WITH", exp.With),
    ("OVER", exp.Window),
)
_SET_OPERATIONS: tuple[tuple[str, type[exp.Expression]], ...] = (
    ("UNION", exp.Union),
    ("INTERSECT", exp.Intersect),
    ("EXCEPT", exp.Except),
)
# Words that stand before a parenthesis without being a function.
_WORDS_BEFORE_PARENTHESES = """
    ALL AND AS BETWEEN BY CASE DISTINCT ELSE EXCEPT EXISTS FILTER FROM HAVING IN INTERSECT IS JOIN LIKE LIMIT
    MATERIALIZED NOT OFFSET ON OR OVER SELECT THEN UNION USING VALUES WHEN WHERE
"""
_NOT_FUNCTIONS = frozenset(_WORDS_BEFORE_PARENTHESES.split())


class SqlShape(Record):
    """Parts of one query. Counts are of the whole text, subqueries included."""

    n_tables: int  # different tables; names that WITH defines are not among them
    n_joins: int  # JOIN and comma joins
    depth: int  # 1 is a flat query; a subquery, an EXISTS and a WITH each go one deeper
    n_subqueries: int
    clauses: tuple[str, ...]  # each once, in a fixed order
    functions: tuple[str, ...]  # as written, in upper case, each once, by name
    set_operations: tuple[str, ...]  # each once: UNION, INTERSECT, EXCEPT
    n_windows: int

    @property
    def shape_class(self) -> ShapeClass:
        """The first that holds: set operation, window, nested, grouped, joined; else one table."""
        if self.set_operations:
            return "set operation"
        if self.n_windows:
            return "window"
        if self.depth > 1:
            return "nested"
        if "GROUP BY" in self.clauses:
            return "grouped"
        return "joined" if self.n_joins else "one table"


@lru_cache(maxsize=20_000)  # a parse takes about 0.7 ms; sampling and its distances ask twice
def sql_shape(sql: str) -> SqlShape | None:
    """The parts of one query in SQLite's dialect; None where sqlglot does not parse it as a query.

    >>> shape = sql_shape("SELECT name FROM shop WHERE id IN (SELECT shop_id FROM sale GROUP BY shop_id)")
    >>> shape.n_tables, shape.depth, shape.clauses, shape.shape_class
    (2, 2, ('WHERE', 'GROUP BY'), 'nested')
    """
    try:
        tokens = sqlglot.tokenize(sql, dialect="sqlite")
        tree = sqlglot.parse_one(sql, dialect="sqlite")
    except (SqlglotError, RecursionError):
        return None
    if not isinstance(tree, exp.Query):
        return None
    nodes = list(tree.walk())
    kinds = [type(node) for node in nodes]
    defined = {node.alias.lower() for node in nodes if isinstance(node, exp.CTE)}
    tables = {node.name.lower() for node in nodes if isinstance(node, exp.Table)} - defined
    depths = [_depth(node) for node in nodes if isinstance(node, exp.Select)]
    return SqlShape(
        n_tables=len(tables),
        n_joins=kinds.count(exp.Join),
        depth=max(depths, default=1),
        n_subqueries=sum(depth > 1 for depth in depths),
        clauses=tuple(name for name, kind in _CLAUSES if kind in kinds),
        functions=_functions(tokens),
        set_operations=tuple(name for name, kind in _SET_OPERATIONS if kind in kinds),
        n_windows=kinds.count(exp.Window),
    )


def _depth(select: exp.Expression) -> int:
    depth, node = 1, select.parent
    while node is not None:
        depth += isinstance(node, exp.Subquery | exp.CTE | exp.Exists)
        node = node.parent
    return depth


def _functions(tokens: list[Token]) -> tuple[str, ...]:
    """Words right before a parenthesis: the tree would rename them (IIF to CASE, STRFTIME to TIME_TO_STR)."""
    names = set()
    for before, token, after in zip([None, *tokens], tokens, tokens[1:], strict=False):
        quoted = token.token_type in (TokenType.IDENTIFIER, TokenType.STRING)
        is_word = token.text[:1].isalpha() and token.text.replace("_", "").isalnum()
        after_with = before is not None and before.token_type in (
            TokenType.WITH,
            TokenType.RECURSIVE,
            TokenType.ALIAS,
        )
        if after.token_type == TokenType.L_PAREN and is_word and not quoted and not after_with:
            names.add(token.text.upper())
    return tuple(sorted(names - _NOT_FUNCTIONS))
