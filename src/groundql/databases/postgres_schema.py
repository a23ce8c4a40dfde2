"""Reads the tables of a PostgreSQL database that the role sees without naming a schema."""

from collections import defaultdict
from typing import Any

from groundql.databases.engine_values import example_literals, example_query
from groundql.databases.postgres_connection import module
from groundql.databases.postgres_engine import PostgresEngine
from groundql.records import Column, ForeignKey, Table

TABLES = """
SELECT c.oid, c.relname, coalesce(obj_description(c.oid, 'pg_class'), '')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition AND pg_table_is_visible(c.oid)
  AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND has_any_column_privilege(c.oid, 'SELECT')
ORDER BY c.oid
"""
COLUMNS = """
SELECT attrelid, attname, format_type(atttypid, atttypmod), attnotnull, coalesce(col_description(attrelid, attnum), '')
FROM pg_attribute
WHERE attrelid = ANY(%s) AND attnum > 0 AND NOT attisdropped AND has_column_privilege(attrelid, attnum, 'SELECT')
ORDER BY attrelid, attnum
"""
KEYS = """
SELECT k.conrelid, k.contype = 'p', t.relname,
  (SELECT array_agg(a.attname::text ORDER BY o.n) FROM unnest(k.conkey) WITH ORDINALITY o(num, n)
   JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = o.num),
  (SELECT array_agg(a.attname::text ORDER BY o.n) FROM unnest(k.confkey) WITH ORDINALITY o(num, n)
   JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = o.num)
FROM pg_constraint k LEFT JOIN pg_class t ON t.oid = k.confrelid
WHERE k.conrelid = ANY(%s) AND k.contype IN ('p', 'f')
ORDER BY k.oid
"""


def read_postgres_tables(engine: PostgresEngine, n_examples: int) -> list[Table]:
    """Tables and views on the search path that the role may read, in the order in which they were made."""
    with engine.connection.cursor() as cursor:
        named = cursor.execute(TABLES).fetchall()
        numbers = [number for number, _, _ in named]
        names = {number: str(name) for number, name, _ in named}
        columns: dict[int, list[Column]] = defaultdict(list)
        for number, name, kind, not_null, comment in cursor.execute(COLUMNS, (numbers,)).fetchall():
            column = Column(name=name, type=kind, description=comment, not_null=not_null)
            columns[number].append(_with_examples(cursor, names[number], column, n_examples))
        keys: dict[int, tuple[str, ...]] = {}
        foreign: dict[int, list[ForeignKey]] = defaultdict(list)
        for number, is_primary, target, own, theirs in cursor.execute(KEYS, (numbers,)).fetchall():
            if is_primary:
                keys[number] = tuple(own)
            else:
                key = ForeignKey(columns=tuple(own), ref_table=target, ref_columns=tuple(theirs))
                foreign[number].append(key)
    return [
        Table(
            name=name,
            columns=tuple(columns[number]),
            primary_key=keys.get(number, ()),
            foreign_keys=tuple(foreign[number]),
            description=comment,
        )
        for number, name, comment in named
    ]


def _with_examples(cursor: Any, table: str, column: Column, n_examples: int) -> Column:
    """The column with its first values; without them where the table cannot be read, as a view that fails."""
    if not n_examples:
        return column
    try:
        rows = cursor.execute(example_query(table, column.name, n_examples).replace("%", "%%"), ()).fetchall()
    except module().Error:
        return column
    examples = example_literals([str(text) for (text,) in rows], column.type, n_examples)
    return column.model_copy(update={"examples": examples})
