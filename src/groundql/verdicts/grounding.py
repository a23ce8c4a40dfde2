"""What a query names that is not there, each kind apart, and which columns it shares with the gold.

Names are looked up in sqlglot's tree, because the engine stops at its first error and this lists all. The engine
has the last word: in a query that it prepares nothing is invented, and in one that it does not, its own error counts
where the tree shows nothing.
"""

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import apsw
from sqlglot import exp
from sqlglot.dialects.dialect import Dialect as Dialects
from sqlglot.optimizer.scope import Scope, traverse_scope

from groundql.records import Dialect, Schema

ROW_NAMES = frozenset(("rowid", "oid", "_rowid_"))
ENGINE_WORDS = (  # kind of fault, and how an engine says it: SQLite, DuckDB, PostgreSQL with its SQLSTATE
    ("table", re.compile(r"no such table: (\S.*)")),
    ("column", re.compile(r"no such column: (\S+)")),
    ("function", re.compile(r"no such function: (\S+)")),
    ("table", re.compile(r"Table with name (\S+) does not exist")),
    ("alias", re.compile(r"Referenced table \"([^\"]+)\" not found")),
    ("column", re.compile(r"Referenced column \"([^\"]+)\" not found")),
    ("column", re.compile(r"does not have a column named \"([^\"]+)\"")),
    ("function", re.compile(r"Function with name (\S+) does not exist")),
    ("alias", re.compile(r"FROM[^\"]*\"([^\"]+)\" \(SQLSTATE 42P01\)")),
    ("table", re.compile(r"\"([^\"]+)\"[^\"]*\(SQLSTATE 42P01\)")),
    ("column", re.compile(r"\"([^\"]+)\"[^\"]*\(SQLSTATE 42703\)")),
    ("column", re.compile(r"(\w+\.\w+)[^.]*\(SQLSTATE 42703\)")),
    ("function", re.compile(r"([\w.]+)\([^()]*\)[^()]*\(SQLSTATE 42883\)")),
)
NOT_FUNCTIONS = frozenset(  # words before a bracket that call nothing
    [
        "select",
        "from",
        "where",
        "and",
        "or",
        "not",
        "in",
        "exists",
        "values",
        "as",
        "over",
        "filter",
        "using",
        "on",
        "join",
        "case",
        "when",
        "then",
        "else",
        "end",
        "between",
        "like",
        "glob",
        "regexp",
        "match",
        "is",
        "by",
        "having",
        "limit",
        "offset",
        "union",
        "all",
        "except",
        "intersect",
        "distinct",
        "set",
        "with",
        "recursive",
        "materialized",
        "within",
        "returning",
        "cast",
        "partition",
        "order",
        "group",
        "escape",
    ]
)
# Written like calls; the grammar of DuckDB or PostgreSQL makes them, so that no catalogue of functions has them.
GRAMMAR_CALLS = frozenset(
    [
        *("any", "some", "array", "row", "struct", "list", "map", "interval", "grouping", "sets", "cube"),
        *("rollup", "coalesce", "nullif", "greatest", "least", "extract", "position", "overlay", "trim"),
        *("substring", "collate", "try_cast", "unnest", "lateral", "tablesample", "numeric", "decimal"),
        *("varchar", "char", "character", "varying", "timestamp", "time", "bit", "float", "xmlelement"),
        *("normalize", "columns", "exclude", "replace", "rename", "pivot", "unpivot", "qualify", "if"),
        *("current_date", "current_time", "current_timestamp", "localtime", "localtimestamp", "treat"),
        *("json_object", "json_array", "json_value", "json_query", "json_exists", "json_table", "ordinality"),
    ]
)

Columns = frozenset[str] | None  # None: not known, any name may be there


@dataclass(frozen=True, kw_only=True)
class Findings:
    """Names of one query that stand for nothing, as written."""

    invented_tables: tuple[str, ...] = ()
    invented_aliases: tuple[str, ...] = ()
    invented_columns: tuple[str, ...] = ()  # no table has it
    misplaced_columns: tuple[str, ...] = ()  # another table has it
    invented_functions: tuple[str, ...] = ()
    quoted_strings: tuple[str, ...] = ()  # a text in double quotes where a value belongs
    n_references: int = 0  # tables, columns and functions named

    @property
    def n_bad(self) -> int:
        """How many references stand for nothing; a text in double quotes is a slip of syntax and not counted."""
        parts = (self.invented_tables, self.invented_aliases, self.invented_columns, self.misplaced_columns)
        return sum(map(len, (*parts, self.invented_functions)))

    def words(self) -> tuple[str, ...]:
        """Each finding as `kind: name`."""
        named = {
            "invented table": self.invented_tables,
            "invented alias": self.invented_aliases,
            "invented column": self.invented_columns,
            "misplaced column": self.misplaced_columns,
            "invented function": self.invented_functions,
            "text in double quotes": self.quoted_strings,
        }
        return tuple(f"{kind}: {name}" for kind, names in named.items() for name in names)


@dataclass
class _Found:
    tables: list[str] = field(default_factory=list)
    aliases: list[str] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)
    misplaced: list[str] = field(default_factory=list)
    functions: list[str] = field(default_factory=list)
    strings: list[str] = field(default_factory=list)

    def frozen(self, n_references: int) -> Findings:
        def once(names: list[str]) -> tuple[str, ...]:
            return tuple(dict.fromkeys(names))

        return Findings(
            invented_tables=once(self.tables),
            invented_aliases=once(self.aliases),
            invented_columns=once(self.columns),
            misplaced_columns=once(self.misplaced),
            invented_functions=once(self.functions),
            quoted_strings=once(self.strings),
            n_references=n_references,
        )


def find_invented(
    sql: str,
    tree: exp.Expr,
    schema: Schema,
    refusal: str | None,
    *,
    dialect: Dialect = "sqlite",
    functions: Callable[[], frozenset[str]] | None = None,
) -> Findings:
    """Every name in the parsed query that stands for nothing; `refusal` is the engine's error, None where it prepares.

    `functions` gives the names that an engine beside SQLite has.
    """
    if refusal is None:
        n_references = sum(1 for _ in tree.find_all(exp.Table, exp.Column, exp.Func))
        return Findings(n_references=n_references)
    called = list(called_functions(sql, dialect))
    has = engine_functions() if functions is None else functions() | GRAMMAR_CALLS
    n_references = sum(1 for _ in tree.find_all(exp.Table, exp.Column)) + len(called)
    found = _Found()
    known = {table.name.lower(): frozenset(c.name.lower() for c in table.columns) for table in schema.tables}
    try:
        _look_in_scopes(sql if dialect == "sqlite" else "", tree, known, found)
    except Exception:  # sqlglot's scopes raise on odd trees; the engine's word remains
        found = _Found()
    found.functions += [name for name in called if name.lower() not in has]
    result = found.frozen(n_references)
    return result if result.n_bad or result.quoted_strings else _from_engine(refusal, known, n_references)


@functools.cache
def engine_functions() -> frozenset[str]:
    """Names of all functions of the engine that GroundQL runs on, lower case."""
    rows = apsw.Connection(":memory:").execute("SELECT DISTINCT lower(name) FROM pragma_function_list")
    return frozenset(str(name) for (name,) in rows)


def called_functions(sql: str, dialect: Dialect = "sqlite") -> Iterator[str]:
    """Names that stand before an opening bracket and call something, as written.

    Read from tokens: in the tree functions of other dialects have names of sqlglot's own.
    """
    try:
        found = Dialects.get_or_raise(dialect).tokenize(sql)
    except Exception:  # a text that cannot be cut into tokens calls nothing
        return
    for number, token in enumerate(found[:-1]):
        before = found[number - 1].text.lower() if number else ""
        is_name = re.fullmatch(r"[A-Za-z_]\w*", token.text) and token.token_type.name != "STRING"
        is_call = is_name and found[number + 1].text == "("
        if (
            not is_call
            or token.text.lower() in NOT_FUNCTIONS
            or before in ("as", "from", "join", "into", "with")
        ):
            continue
        if before in (",", "recursive") and _opens_cte(found, number):
            continue
        yield token.text


def _opens_cte(found: Sequence[Any], number: int) -> bool:
    """Whether `name (columns) AS` stands at `number`."""
    for at in range(number + 2, len(found) - 1):
        if found[at].text == ")":
            return bool(found[at + 1].text.lower() == "as")
        if found[at].text == "(":
            return False
    return False


def _look_in_scopes(sql: str, tree: exp.Expr, known: dict[str, frozenset[str]], found: _Found) -> None:
    scopes = traverse_scope(tree)
    by_node = {id(scope.expression): scope for scope in scopes}
    for scope in scopes:
        for source in scope.sources.values():
            if isinstance(source, exp.Table) and not _table_columns(source, known):
                found.tables.append(source.name)
    anywhere = frozenset().union(*known.values())
    for column in tree.find_all(exp.Column):
        home = _home(column, by_node)
        if home is not None:
            _look_up(column, home, known, anywhere, found)
    # sqlglot forgets which quotes stood around a name; only double ones make a text of it, in SQLite
    found.columns += [name for name in found.strings if f'"{name}"' not in sql]
    found.strings = [name for name in found.strings if f'"{name}"' in sql]


def _home(column: exp.Column, by_node: dict[int, Scope]) -> Scope | None:
    node = column.parent
    while node is not None and id(node) not in by_node:
        node = node.parent
    return by_node[id(node)] if node is not None else None


def _look_up(
    column: exp.Column, home: Scope, known: dict[str, frozenset[str]], anywhere: frozenset[str], found: _Found
) -> None:
    name, qualifier = column.name.lower(), column.table.lower()
    if not name or name == "*" or isinstance(column.this, exp.Star) or name in ROW_NAMES:
        return
    written = f"{column.table}.{column.name}" if qualifier else column.name
    scopes = list(_chain(home))
    if qualifier:
        source = next(
            (s for scope in scopes for alias, s in scope.sources.items() if alias.lower() == qualifier), None
        )
        if source is None:
            found.aliases.append(written)
        elif name not in _visible(source, known, name):
            (found.misplaced if name in anywhere else found.columns).append(written)
        return
    if any(name in _visible(source, known, name) for scope in scopes for source in scope.sources.values()):
        return
    if any(name in _aliases(scope) for scope in scopes):
        return
    is_quoted = isinstance(column.this, exp.Identifier) and column.this.quoted
    if is_quoted and name not in anywhere and _is_value_place(column):
        found.strings.append(column.name)
    else:
        (found.misplaced if name in anywhere else found.columns).append(written)


def _chain(scope: Scope | None) -> Iterator[Scope]:
    while scope is not None:
        yield scope
        scope = scope.parent


def _table_columns(table: exp.Table, known: dict[str, frozenset[str]]) -> Columns:
    """Of a base table; of SQLite's own tables nothing is known, of one that is not there nothing is there."""
    if table.name.lower().startswith(("sqlite_", "json_", "pragma_", "pg_", "duckdb_")) or not table.name:
        return frozenset(("*",))
    return known.get(table.name.lower())


def _visible(source: exp.Expr | Scope, known: dict[str, frozenset[str]], name: str) -> frozenset[str]:
    """Columns of a source; one whose columns are not known has every name."""
    everything = frozenset((name,))
    if isinstance(source, Scope):
        outputs = _outputs(source)
        return everything if "*" in outputs else outputs
    if not isinstance(source, exp.Table):
        return everything
    columns = _table_columns(source, known)
    return everything if columns is None or "*" in columns else columns


def _aliases(scope: Scope) -> frozenset[str]:
    """Names that a SELECT gives its outputs; of a set operation, all its output names."""
    node = scope.expression
    if isinstance(node, exp.Select):
        return frozenset(output.alias.lower() for output in node.expressions if isinstance(output, exp.Alias))
    return _outputs(scope)


def _outputs(scope: Scope) -> frozenset[str]:
    node = scope.expression
    columns = scope.outer_columns if isinstance(scope.outer_columns, list) else []
    names = columns or (node.named_selects if isinstance(node, exp.Query) else ["*"])
    return frozenset(str(output).lower() for output in names)


def _is_value_place(column: exp.Column) -> bool:
    """Operand of a comparison, IN, LIKE or BETWEEN, or an argument of a function: where a literal could stand."""
    return isinstance(
        column.parent, (exp.Predicate, exp.Func, exp.Between, exp.In, exp.Tuple, exp.Paren, exp.DPipe)
    )


def _from_engine(refusal: str, known: dict[str, frozenset[str]], n_references: int) -> Findings:
    """The one fault that the engine names, where the tree showed none."""
    for kind, pattern in ENGINE_WORDS:
        match = pattern.search(refusal)
        if match is None:
            continue
        name = match[1].strip('"')
        if kind == "table":
            return Findings(invented_tables=(name.removeprefix("main."),), n_references=n_references)
        if kind == "alias":
            return Findings(invented_aliases=(name,), n_references=n_references)
        if kind == "function":
            return Findings(invented_functions=(name,), n_references=n_references)
        is_elsewhere = any(name.lower().split(".")[-1] in columns for columns in known.values())
        misplaced, invented = ((name,), ()) if is_elsewhere else ((), (name,))
        return Findings(misplaced_columns=misplaced, invented_columns=invented, n_references=n_references)
    return Findings(n_references=n_references)


def link_scores(
    gold: Iterable[tuple[str, str]], predicted: Iterable[tuple[str, str]]
) -> tuple[float, float, float]:
    """Precision, recall and F1 of the (table, column) pairs that a prediction reads against those of the gold.

    Both empty is perfect agreement: 1, 1, 1.
    """
    ours, theirs = set(gold), set(predicted)
    n_common = len(ours & theirs)
    precision = n_common / len(theirs) if theirs else float(not ours)
    recall = n_common / len(ours) if ours else float(not theirs)
    return precision, recall, 2 * precision * recall / (precision + recall) if precision + recall else 0.0
