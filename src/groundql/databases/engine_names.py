"""Names in a query as an engine beside SQLite must see them: spelt as in the schema, quoted where that is needed."""

import re
from collections.abc import Iterable

from sqlglot import exp

from groundql.records import Dialect, Schema

PLAIN = {"duckdb": re.compile(r"[A-Za-z_]\w*", re.ASCII), "postgres": re.compile(r"[a-z_][a-z0-9_]*")}
# Words that neither engine takes as a bare column: reserved and type_function of duckdb_keywords(), pg_get_keywords().
RESERVED = frozenset(
    (
        "all", "analyse", "analyze", "and", "any", "anti", "array", "as", "asc", "asof", "asymmetric", "authorization",
        "binary", "both", "by", "case", "cast", "check", "collate", "collation", "column", "columns", "concurrently",
        "constraint", "create", "cross", "current_catalog", "current_date", "current_role", "current_schema",
        "current_time", "current_timestamp", "current_user", "default", "deferrable", "desc", "describe", "distinct",
        "do", "else", "end", "except", "false", "fetch", "for", "foreign", "freeze", "from", "full", "generated",
        "glob", "grant", "group", "having", "ilike", "in", "initially", "inner", "intersect", "into", "is", "isnull",
        "join", "lambda", "lateral", "leading", "left", "like", "limit", "localtime", "localtimestamp", "map",
        "natural", "not", "notnull", "null", "offset", "on", "only", "or", "order", "outer", "overlaps", "pivot",
        "pivot_longer", "pivot_wider", "placing", "positional", "primary", "qualify", "references", "returning",
        "right", "select", "semi", "session_user", "show", "similar", "some", "struct", "summarize", "symmetric",
        "system_user", "table", "tablesample", "then", "to", "trailing", "true", "try_cast", "union", "unique",
        "unpivot", "user", "using", "variadic", "verbose", "when", "where", "window", "with",
    )
)  # fmt: skip


def spelt_for(tree: exp.Query, schema: Schema, dialect: Dialect) -> exp.Query:
    """`tree`, changed in place: SQLite folds all names, PostgreSQL those that are not quoted, and to lower case."""
    tables = _spellings(table.name for table in schema.tables)
    columns = _spellings(column.name for table in schema.tables for column in table.columns)
    for node in tree.find_all(exp.Table, exp.Column):
        identifier = node.this
        if isinstance(identifier, exp.Identifier):
            known = tables if isinstance(node, exp.Table) else columns
            _respell(identifier, known)
        if isinstance(node, exp.Column) and isinstance(node.args.get("table"), exp.Identifier):
            _respell(node.args["table"], tables)
    for identifier in tree.find_all(exp.Identifier):
        name = str(identifier.this)
        is_plain = PLAIN[dialect].fullmatch(name) and name.lower() not in RESERVED
        identifier.set(
            "quoted", not is_plain and not (_is_ours(name) and name.lower() not in {**tables, **columns})
        )
    return tree


def _spellings(names: Iterable[str]) -> dict[str, str]:
    """Each name by its lower case; "" where two differ in case alone, which SQLite cannot have."""
    found: dict[str, str] = {}
    for name in names:
        known = found.setdefault(name.lower(), name)
        if known != name:
            found[name.lower()] = ""
    return found


def _respell(identifier: exp.Identifier, known: dict[str, str]) -> None:
    spelling = known.get(str(identifier.this).lower())
    if spelling:
        identifier.set("this", spelling)


def _is_ours(name: str) -> bool:
    """T1, c1, Q1: never quoted, so that they fold alike wherever they stand."""
    return re.fullmatch(r"[TcQ]\d+", name) is not None
