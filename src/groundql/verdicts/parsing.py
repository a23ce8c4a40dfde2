"""What sqlglot says of a statement, used strictly: it accepts far more than SQL."""

import functools
import logging
import re

import sqlglot
from sqlglot import exp
from sqlglot.dialects.dialect import Dialect as SqlglotDialect

from groundql.records import Dialect

logging.getLogger("sqlglot").setLevel(
    logging.ERROR
)  # it warns of each fallback on stderr; the fallback is our signal

SqlglotDialect.get_or_raise("sqlite").parse(
    "SELECT 1"
)  # loaded at the first use, else by each forked process again
QUERIES = (exp.Select, exp.SetOperation, exp.Subquery, exp.Values)
WRITES = (
    *(exp.Insert, exp.Update, exp.Delete, exp.Merge, exp.Create, exp.Drop, exp.Alter, exp.TruncateTable),
    *(exp.Into, exp.Command, exp.Pragma, exp.Attach, exp.Detach, exp.Transaction, exp.Set),
)
MAX_CHARS = 100_000  # the engine's own limit for a statement here; sqlglot would take long on more

_BRACKETS_AND_ORDER = re.compile(
    r"""'(?:[^']|'')*+'|"(?:[^"]|"")*+"|`[^`]*`|\[[^\]]*\]|--[^\n]*|/\*.*?(?:\*/|\Z)|[()]|\border\b""",
    re.IGNORECASE | re.DOTALL,
)

_NO_ARGUMENTS = re.compile(r"\(\s*\)")

Trees = tuple[exp.Expr, ...]


@functools.lru_cache(4096)
def parse_all(sql: str, dialect: Dialect = "sqlite") -> Trees | str:
    """Every statement in `sql` as sqlglot reads it, or why it reads none. Do not change the trees."""
    if len(sql) > MAX_CHARS:
        return f"longer than {MAX_CHARS:,} characters"
    try:
        trees = sqlglot.parse(sql, read=dialect)
    except RecursionError:
        return "nested too deep"
    except Exception as error:  # the parser raises more than its own errors on text that no one foresaw
        return _first_line(str(error)) or type(error).__name__
    return tuple(tree for tree in trees if tree and not isinstance(tree, exp.Semicolon))


def sqlglot_accepts(text: str, dialect: Dialect = "sqlite") -> bool:
    """The seed paper's rule: sqlglot.parse does not raise. It holds for prose; for comparison only."""
    return not isinstance(parse_all(text, dialect), str)


def parse_query(sql: str, dialect: Dialect = "sqlite") -> exp.Expr | None:
    """The one query in `sql`, or None: empty, several statements, not a query, or not parsed."""
    trees = parse_all(sql, dialect)
    return (
        trees[0] if not isinstance(trees, str) and len(trees) == 1 and isinstance(trees[0], QUERIES) else None
    )


def parse_fault(sql: str, dialect: Dialect = "sqlite") -> str:
    """Why `parse_query` gives None, in a few words; "" where it does not."""
    trees = parse_all(sql, dialect)
    if isinstance(trees, str):
        return f"does not parse: {trees}"
    if not trees:
        return "no statement"
    if len(trees) > 1:
        return f"{len(trees)} statements, not one"
    return "" if isinstance(trees[0], QUERIES) else f"not a query but {type(trees[0]).__name__}"


def is_one_select(sql: str) -> bool:
    """Whether the text begins with SELECT and holds no semicolon but at its end: one statement that cannot write."""
    bare = sql.strip()
    return bare[:6].lower() == "select" and ";" not in bare.rstrip("; \t\r\n")


def is_read_only(tree: exp.Expr) -> bool:
    """Whether nothing in the query writes or commands, in CTEs and subqueries too."""
    return not any(True for _ in tree.find_all(*WRITES))


@functools.lru_cache(4096)
def is_ordered(sql: str) -> bool:
    """Whether the outer query of `sql` has ORDER BY: then the order of its rows is part of the answer.

    ORDER is a reserved word of SQLite, and a query as a whole cannot stand in brackets there: so it is enough to
    find the word outside brackets, quotes and comments, at a hundredth of the cost of a parse.
    """
    if "order" not in sql.lower():
        return False
    depth = 0
    for match in _BRACKETS_AND_ORDER.finditer(sql):
        mark = match[0]
        depth += (mark == "(") - (mark == ")")
        if depth == 0 and mark[0] in "oO":
            return True
    return False


@functools.lru_cache(4096)
def depends_on_clock_or_chance(sql: str) -> bool:
    """Whether the result may change from run to run: random(), the current date or time."""
    lowered = sql.lower()
    has_name = "current_" in lowered or "random" in lowered or "now" in lowered
    may_ask = (
        "date" in lowered
        or "time" in lowered
        or "julianday" in lowered
        or "unixepoch" in lowered
        or "today" in lowered
        or "uuid" in lowered
    )
    if not has_name and not (may_ask and _NO_ARGUMENTS.search(lowered)):
        return False
    bare = re.sub(r"--[^\n]*|/\*.*?\*/", " ", sql, flags=re.DOTALL)
    return bool(
        re.search(r"\bcurrent_(?:date|time|timestamp)\b|\brandom\s*\(|'now'|\"now\"", bare, re.IGNORECASE)
    ) or bool(
        re.search(
            r"\b(?:date|time|datetime|julianday|unixepoch|now|today|clock_timestamp|gen_random_uuid|uuid)\s*\(\s*\)",
            bare,
            re.IGNORECASE,
        )
    )


def _first_line(text: str) -> str:
    """The parser's message without its terminal colours and the excerpt below it."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text.strip().split("\n")[0])[:200]
