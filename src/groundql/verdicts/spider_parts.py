"""The parts of a query that Spider's exact set match and hardness look at, read from sqlglot's tree.

Tables and columns are names. As in Spider's evaluation.py, columns that foreign keys link are one, and values, DISTINCT and
conditions of joins do not count; but a query inside a condition counts with its DISTINCT, its joins and unlinked
columns, as a list of parts and not a set, and one in FROM with its values besides.
"""

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field, replace

from sqlglot import exp

from groundql.records import Schema
from groundql.verdicts.parsing import parse_query

AGGREGATES = (exp.Max, exp.Min, exp.Count, exp.Sum, exp.Avg)
OPERATIONS = (exp.Sub, exp.Add, exp.Mul, exp.Div)
OPERATORS: dict[type[exp.Expr], str] = {
    exp.EQ: "=",
    exp.NEQ: "!=",
    exp.GT: ">",
    exp.LT: "<",
    exp.GTE: ">=",
    exp.LTE: "<=",
    exp.Between: "between",
    exp.In: "in",
    exp.Like: "like",
    exp.Is: "is",
    exp.Exists: "exists",
}
SETS: dict[type[exp.Expr], str] = {exp.Union: "union", exp.Intersect: "intersect", exp.Except: "except"}

Part = Hashable


class Beyond(Exception):
    """The query is beyond Spider's subset."""


@dataclass
class Parts:
    """The parts of one query."""

    distinct: bool = False
    select: list[tuple[str, Part]] = field(default_factory=list)
    tables: list[tuple[str, Part]] = field(default_factory=list)
    join_conditions: list["Condition"] = field(default_factory=list)
    where: list["Condition"] = field(default_factory=list)
    connectors: list[str] = field(default_factory=list)  # of where
    having: list["Condition"] = field(default_factory=list)
    having_connectors: list[str] = field(default_factory=list)
    join_connectors: list[str] = field(default_factory=list)
    group: list[str] = field(default_factory=list)
    order: list[Part] = field(default_factory=list)
    direction: str = ""
    limited: bool = False
    combined: dict[str, "Parts"] = field(default_factory=dict)  # union, intersect, except

    def frozen(self) -> Part:
        """All parts as one hashable, for a query inside a condition."""
        conditions = [
            tuple(c.part() for c in group) for group in (self.join_conditions, self.where, self.having)
        ]
        combined = tuple(sorted((name, parts.frozen()) for name, parts in self.combined.items()))
        lists = (
            tuple(self.select),
            tuple(self.tables),
            *conditions,
            *map(tuple, (self.join_connectors, self.connectors, self.having_connectors)),
            tuple(self.group),
        )
        return (self.distinct, *lists, tuple(self.order), self.direction, self.limited, combined)


@dataclass
class Condition:
    """One comparison. `nested` are the queries among its values; `values` are all of them, where they count."""

    negated: bool
    operator: str
    unit: Part
    nested: list[Parts]
    values: tuple[Part, ...] = ()

    def part(self) -> Part:
        nested = tuple(parts.frozen() for parts in self.nested)
        return (self.negated, self.operator, self.unit, nested, self.values)


def read_parts(sql: str, names: "Names") -> Parts | None:
    """The parts of a query, or None where it is beyond Spider's subset or no query."""
    tree = parse_query(sql)
    try:
        return _read(tree, _Reading(names), {}) if tree is not None else None
    except Beyond:
        return None


class Names:
    """Columns by table, and the one name of columns that keys link."""

    def __init__(self, schema: Schema) -> None:
        self.columns = {t.name.lower(): [c.name.lower() for c in t.columns] for t in schema.tables}
        self.linked: dict[str, str] = {}
        groups: list[set[str]] = []
        order = [f"{table}.{column}" for table, columns in self.columns.items() for column in columns]
        for table in schema.tables:
            for key in table.foreign_keys:
                for column, target in zip(key.columns, key.ref_columns, strict=True):
                    pair = {f"{table.name}.{column}".lower(), f"{key.ref_table}.{target}".lower()}
                    group = next((found for found in groups if found & pair), None)
                    if group is None:
                        groups.append(pair)
                    else:
                        group |= pair
        for group in groups:
            first = min(group, key=lambda name: order.index(name) if name in order else len(order))
            self.linked.update(dict.fromkeys(group, first))


@dataclass(frozen=True)
class _Reading:
    """How a query is read: what the script leaves out at the top it compares further in."""

    names: Names
    linked_tables: frozenset[str] | None = (
        None  # whose columns keys link; None: those of the query's own FROM
    )
    is_raw: bool = False  # DISTINCT counts, and keys link nothing
    has_values: bool = False

    def inside_condition(self) -> "_Reading":
        return replace(self, linked_tables=frozenset(), is_raw=True)

    def inside_from(self) -> "_Reading":
        return replace(self, linked_tables=frozenset(), is_raw=True, has_values=True)

    def column(self, node: exp.Column, sources: dict[str, str]) -> str:
        name = node.name.lower()
        if node.table:
            table = sources.get(node.table.lower())
        else:
            table = next((t for t in sources.values() if name in self.names.columns.get(t, ())), None)
        if table is None:
            raise Beyond(name)
        whole = f"{table}.{name}"
        is_linked = self.linked_tables is None or table in self.linked_tables
        return self.names.linked.get(whole, whole) if is_linked else whole


def _read(tree: exp.Expr, names: _Reading, outer: dict[str, str]) -> Parts:
    while isinstance(tree, exp.Subquery):
        tree = tree.this
    if type(tree) in SETS and isinstance(tree, exp.SetOperation):
        return _read_combined(tree, names, outer)
    if not isinstance(tree, exp.Select) or tree.args.get("with_"):
        raise Beyond(type(tree).__name__)
    parts = Parts(distinct=names.is_raw and tree.args.get("distinct") is not None)
    sources = dict(outer) | _sources(tree, parts, names, outer)
    parts.select = [_select_unit(e, names, sources) for e in tree.expressions]
    for join in tree.args.get("joins") or []:
        if join.args.get("on") is not None and not isinstance(
            join.args["on"], exp.Boolean
        ):  # none is given as TRUE
            _conditions(join.args["on"], names, sources, parts.join_conditions, parts.join_connectors)
    if tree.args.get("where"):
        _conditions(tree.args["where"].this, names, sources, parts.where, parts.connectors)
    if tree.args.get("having"):
        _conditions(tree.args["having"].this, names, sources, parts.having, parts.having_connectors)
    if tree.args.get("group"):
        parts.group = [str(_unit(e, names, sources)) for e in tree.args["group"].expressions]
    if tree.args.get("order"):
        ordered = tree.args["order"].expressions
        parts.order = [_unit(e.this, names, sources) for e in ordered]
        parts.direction = "desc" if ordered[-1].args.get("desc") else "asc"
    parts.limited = tree.args.get("limit") is not None
    return parts


def _read_combined(tree: exp.SetOperation, names: _Reading, outer: dict[str, str]) -> Parts:
    """`A union B except C` as the official parser has it: A, which holds B, which holds C with ORDER BY and LIMIT.

    Keys link the columns of A's tables alone.
    """
    words: list[str] = []
    queries: list[exp.Expr] = []
    node: exp.Expr = tree
    while type(node) in SETS and isinstance(node, exp.SetOperation):
        words.insert(0, SETS[type(node)])
        queries.insert(0, node.expression)
        node = node.this
    if tree.args.get("order") or tree.args.get("limit"):
        queries[-1] = queries[-1].copy()
        for name in ("order", "limit"):
            queries[-1].set(name, tree.args.get(name))
    first = parts = _read(node, names, outer)
    if names.linked_tables is None:
        names = replace(names, linked_tables=frozenset(str(what) for _, what in parts.tables))
    for word, query in zip(words, queries, strict=True):
        parts.combined[word] = _read(query, names, outer)
        parts = parts.combined[word]
    return first


def _sources(tree: exp.Select, parts: Parts, names: _Reading, outer: dict[str, str]) -> dict[str, str]:
    first = tree.args.get("from_")
    nodes = [first.this] if first else []
    nodes += [join.this for join in tree.args.get("joins") or []]
    sources = {}
    for node in nodes:
        if isinstance(node, exp.Table):
            name = node.name.lower()
            if name not in names.names.columns:
                raise Beyond(name)
            parts.tables.append(("table", name))
            sources[node.alias_or_name.lower()] = name
        elif isinstance(node, exp.Subquery):
            parts.tables.append(("sql", _read(node.this, names.inside_from(), outer).frozen()))
        else:
            raise Beyond(type(node).__name__)
    return sources


def _select_unit(node: exp.Expr, names: _Reading, sources: dict[str, str]) -> tuple[str, Part]:
    """(aggregate around all of it, value unit)."""
    node = node.unalias().unnest()
    if isinstance(node, AGGREGATES):
        return type(node).__name__, _aggregated(node, names, sources)
    return "", _unit(node, names, sources)


def _inside(node: exp.Expr) -> exp.Expr:
    inner = node.this
    if isinstance(inner, exp.Distinct):
        if len(inner.expressions) != 1:
            raise Beyond("DISTINCT of several")
        inner = inner.expressions[0]
    if not isinstance(inner, exp.Expr):
        raise Beyond("nothing inside")
    return inner.unnest()


def _aggregated(node: exp.Expr, names: _Reading, sources: dict[str, str]) -> Part:
    unit = _unit(_inside(node), names, sources)
    return ("distinct", unit) if names.is_raw and isinstance(node.this, exp.Distinct) else unit


def _unit(node: exp.Expr, names: _Reading, sources: dict[str, str]) -> Part:
    """A column, perhaps under an aggregate, or two of them with an operation between."""
    node = node.unnest()
    if isinstance(node, OPERATIONS) and isinstance(node, exp.Binary):
        return type(node).__name__, _unit(node.left, names, sources), _unit(node.right, names, sources)
    if isinstance(node, AGGREGATES):
        return type(node).__name__, _aggregated(node, names, sources)
    if isinstance(node, exp.Star):
        return "*"
    if isinstance(node, exp.Column):
        return "*" if isinstance(node.this, exp.Star) else names.column(node, sources)
    raise Beyond(type(node).__name__)


def _conditions(
    node: exp.Expr, names: _Reading, sources: dict[str, str], found: list[Condition], connectors: list[str]
) -> None:
    """Comparisons from left to right, with the words between them; brackets do not count."""
    node = node.unnest()
    if isinstance(node, (exp.And, exp.Or)):
        _conditions(node.left, names, sources, found, connectors)
        connectors.append("and" if isinstance(node, exp.And) else "or")
        _conditions(node.right, names, sources, found, connectors)
        return
    negated = isinstance(node, exp.Not)
    if negated:
        node = node.this.unnest()
    operator = OPERATORS.get(type(node))
    if operator is None or not isinstance(node.this, exp.Expr):
        raise Beyond(type(node).__name__)
    negated = negated is not bool(node.args.get("negate"))  # of LIKE
    nested = [_read(query, names.inside_condition(), sources) for query in _queries(node)]
    unit = _unit(node.this, names, sources)
    values = tuple(_value(v, names, sources) for v in _values(node)) if names.has_values else ()
    found.append(Condition(negated, operator, unit, nested, values))


def _values(node: exp.Expr) -> list[exp.Expr]:
    """The right side of a comparison that are no queries."""
    values = [node.args.get(name) for name in ("expression", "low", "high")] + node.expressions
    return [v.unnest() for v in values if v is not None and not isinstance(v, (exp.Query, exp.Subquery))]


def _value(node: exp.Expr, names: _Reading, sources: dict[str, str]) -> Part:
    """A text or number as it stands, or a value unit."""
    if isinstance(node, exp.Literal):
        return ("text", node.name) if node.is_string else float(node.name)
    if isinstance(node, exp.Column) and isinstance(node.this, exp.Identifier) and node.this.quoted:
        return ("text", node.name)
    return _unit(node, names, sources)


def _queries(node: exp.Expr) -> Iterator[exp.Expr]:
    """The queries among the values of a comparison."""
    values = [node.args.get(name) for name in ("expression", "query", "low", "high")]
    yield from (v.unnest() for v in values if isinstance(v, (exp.Query, exp.Subquery)))
