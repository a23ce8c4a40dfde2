"""From the canonical dialect, which is SQLite's, to the SQL of the engine that a query shall run on."""

import functools

import sqlglot
from sqlglot.errors import SqlglotError

from groundql.records import Dialect, Schema


@functools.lru_cache(1024)
def _transpiled(sql: str, dialect: Dialect) -> str | None:
    try:
        found = sqlglot.transpile(sql, read="sqlite", write=dialect)
    except SqlglotError:
        return None
    return found[0] if len(found) == 1 else None


def engine_sql(sql: str, schema: Schema, dialect: Dialect) -> str:
    """`sql` of the canonical dialect as the engine writes it; as it is where it cannot be read, for the engine to refuse."""
    if dialect == "sqlite":
        return sql
    return _transpiled(sql, dialect) or sql
