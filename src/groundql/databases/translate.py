"""From the canonical dialect, which is SQLite's, to the SQL of the engine that a query runs on, and back.

Models learn and write one dialect for all engines. sqlglot turns its syntax into the engine's; `engine_forms` gives the
engine what SQLite does by itself: LIKE without regard to case, text of any value, integers for conditions, comparisons
of unlike kinds, a value for a column that is not grouped. What has no such form stays as it is, and the engine refuses it: its own prepare is the gate.
"""

import sqlglot
from sqlglot import exp
from sqlglot.errors import ErrorLevel, SqlglotError

from groundql.databases.engine_forms import to_engine, without_engine_forms
from groundql.databases.engine_names import spelt_for
from groundql.records import Dialect, Schema


def engine_sql(sql: str, schema: Schema, dialect: Dialect) -> str:
    """`sql` of the canonical dialect as the engine writes it; as it is where it cannot be read, for the engine to refuse.

    The rows are the same as far as the engines agree on values (docs/engines.md): not for mixed results of COALESCE and
    CASE, nor for the order of texts where a server has a collation of its own.
    """
    if dialect == "sqlite":
        return sql
    tree = _parsed(sql, "sqlite")
    if tree is None:
        return sql
    try:
        return spelt_for(to_engine(tree, schema, dialect), schema, dialect).sql(
            dialect, unsupported_level=ErrorLevel.IGNORE
        )
    except (SqlglotError, RecursionError):
        return sql


def from_engine_sql(sql: str, schema: Schema, dialect: Dialect) -> str:
    """A query of the engine in SQLite's SQL, what `engine_sql` adds taken away; as it is where it cannot be read.

    For golds that a person wrote, to become labels: `canonical_sql` reads what comes out, and LIKE loses its case.
    """
    if dialect == "sqlite":
        return sql
    tree = _parsed(sql, dialect)
    if tree is None:
        return sql
    try:
        return without_engine_forms(tree, schema).sql(
            "sqlite", identify=True, unsupported_level=ErrorLevel.IGNORE
        )
    except (SqlglotError, RecursionError):
        return sql


def _parsed(sql: str, dialect: Dialect) -> exp.Query | None:
    """The one query in `sql`; None where sqlglot finds none, or more."""
    try:
        trees = sqlglot.parse(sql, read=dialect)
    except (SqlglotError, RecursionError):
        return None
    return trees[0] if len(trees) == 1 and isinstance(trees[0], exp.Query) else None
