"""Spider's exact set match and hardness: clauses compared as sets of parts, without values.

The definition is that of Spider's evaluation.py; the parts are read from sqlglot's tree, with tables and columns as
names. Not compared, as there: values, DISTINCT, conditions and kinds of joins, output names. Columns that foreign
keys link are one column. Queries beyond Spider's subset (windows, CASE, CTE) match nothing.
"""

from collections import Counter
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field

from sqlglot import exp

from groundql.records import Difficulty, Schema
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
    """The parts of one query. A condition is (negated, operator, value unit, subqueries)."""

    select: list[tuple[str, Part]] = field(default_factory=list)
    tables: list[Part] = field(default_factory=list)
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
        conditions = [tuple(c.part() for c in group) for group in (self.where, self.having)]
        combined = tuple(sorted((name, parts.frozen()) for name, parts in self.combined.items()))
        lists = (
            tuple(self.select),
            tuple(self.tables),
            *conditions,
            tuple(self.connectors),
            tuple(self.group),
        )
        return (*lists, tuple(self.order), self.direction, self.limited, combined)


@dataclass
class Condition:
    """One comparison. `nested` are the queries among its values."""

    negated: bool
    operator: str
    unit: Part
    nested: list[Parts]
    aggregated: bool

    def part(self) -> Part:
        return (self.negated, self.operator, self.unit, tuple(parts.frozen() for parts in self.nested))


def exact_match(gold_sql: str, predicted_sql: str, schema: Schema) -> bool | None:
    """Whether all clauses agree; None where the gold itself is beyond Spider's subset."""
    names = _Names(schema)
    gold = read_parts(gold_sql, names)
    if gold is None:
        return None
    predicted = read_parts(predicted_sql, names)
    return predicted is not None and _agree(gold, predicted)


def hardness(sql: str, schema: Schema) -> Difficulty:
    """Spider's class of a query: easy, medium, hard or extra; "" where it is beyond its subset."""
    parts = read_parts(sql, _Names(schema))
    if parts is None:
        return ""
    clauses, nested, others = _n_clauses(parts), _n_nested(parts), _n_others(parts)
    if clauses <= 1 and others == 0 and nested == 0:
        return "easy"
    if nested == 0 and ((others <= 2 and clauses <= 1) or (clauses <= 2 and others < 2)):
        return "medium"
    is_hard = (
        (others > 2 and clauses <= 2 and nested == 0)
        or (2 < clauses <= 3 and others <= 2 and nested == 0)
        or (clauses <= 1 and others == 0 and nested <= 1)
    )
    return "hard" if is_hard else "extra"


def read_parts(sql: str, names: "_Names") -> Parts | None:
    """The parts of a query, or None where it is beyond Spider's subset or no query."""
    tree = parse_query(sql)
    try:
        return _read(tree, names, {}) if tree is not None else None
    except Beyond:
        return None


class _Names:
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

    def column(self, node: exp.Column, sources: dict[str, str]) -> str:
        name = node.name.lower()
        if node.table:
            table = sources.get(node.table.lower())
        else:
            table = next((t for t in sources.values() if name in self.columns.get(t, ())), None)
        if table is None:
            raise Beyond(name)
        whole = f"{table}.{name}"
        return self.linked.get(whole, whole)


def _read(tree: exp.Expr, names: _Names, outer: dict[str, str]) -> Parts:
    while isinstance(tree, exp.Subquery):
        tree = tree.this
    if type(tree) in SETS and isinstance(tree, exp.SetOperation):
        return _read_combined(tree, names, outer)
    if not isinstance(tree, exp.Select) or tree.args.get("with_"):
        raise Beyond(type(tree).__name__)
    parts = Parts()
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


def _read_combined(tree: exp.SetOperation, names: _Names, outer: dict[str, str]) -> Parts:
    """`A union B except C` as the official parser has it: A, which holds B, which holds C."""
    words: list[str] = []
    queries: list[exp.Expr] = []
    node: exp.Expr = tree
    while type(node) in SETS and isinstance(node, exp.SetOperation):
        words.insert(0, SETS[type(node)])
        queries.insert(0, node.expression)
        node = node.this
    first = parts = _read(node, names, outer)
    for word, query in zip(words, queries, strict=True):
        parts.combined[word] = _read(query, names, outer)
        parts = parts.combined[word]
    return first


def _sources(tree: exp.Select, parts: Parts, names: _Names, outer: dict[str, str]) -> dict[str, str]:
    first = tree.args.get("from_")
    nodes = [first.this] if first else []
    nodes += [join.this for join in tree.args.get("joins") or []]
    sources = {}
    for node in nodes:
        if isinstance(node, exp.Table):
            name = node.name.lower()
            if name not in names.columns:
                raise Beyond(name)
            parts.tables.append(("table", name))
            sources[node.alias_or_name.lower()] = name
        elif isinstance(node, exp.Subquery):
            parts.tables.append(("sql", _read(node.this, names, outer).frozen()))
        else:
            raise Beyond(type(node).__name__)
    return sources


def _select_unit(node: exp.Expr, names: _Names, sources: dict[str, str]) -> tuple[str, Part]:
    """(aggregate around all of it, value unit)."""
    node = node.unalias().unnest()
    if isinstance(node, AGGREGATES):
        return type(node).__name__, _unit(_inside(node), names, sources)
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


def _unit(node: exp.Expr, names: _Names, sources: dict[str, str]) -> Part:
    """A column, perhaps under an aggregate, or two of them with an operation between."""
    node = node.unnest()
    if isinstance(node, OPERATIONS) and isinstance(node, exp.Binary):
        return type(node).__name__, _unit(node.left, names, sources), _unit(node.right, names, sources)
    if isinstance(node, AGGREGATES):
        return type(node).__name__, _unit(_inside(node), names, sources)
    if isinstance(node, exp.Star):
        return "*"
    if isinstance(node, exp.Column):
        return "*" if isinstance(node.this, exp.Star) else names.column(node, sources)
    raise Beyond(type(node).__name__)


def _conditions(
    node: exp.Expr, names: _Names, sources: dict[str, str], found: list[Condition], connectors: list[str]
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
    nested = [_read(query, names, sources) for query in _queries(node)]
    unit = _unit(node.this, names, sources)
    found.append(Condition(negated, operator, unit, nested, isinstance(node.this.unnest(), AGGREGATES)))


def _queries(node: exp.Expr) -> Iterator[exp.Expr]:
    """The queries among the values of a comparison."""
    values = [node.args.get(name) for name in ("expression", "query", "low", "high")]
    yield from (v.unnest() for v in values if isinstance(v, (exp.Query, exp.Subquery)))


def _agree(gold: Parts, predicted: Parts) -> bool:
    if any(
        (gold.combined.keys() ^ predicted.combined.keys(), gold.limited != predicted.limited and gold.order)
    ):
        return False
    if not all(_agree(parts, predicted.combined[name]) for name, parts in gold.combined.items()):
        return False

    def columns(parts: Parts) -> list[str]:
        return [name.split(".")[-1] for name in parts.group]

    pairs = (
        (Counter(gold.select), Counter(predicted.select)),
        (Counter(c.part() for c in gold.where), Counter(c.part() for c in predicted.where)),
        (Counter(columns(gold)), Counter(columns(predicted))),
        (gold.group, predicted.group),
        ([c.part() for c in gold.having], [c.part() for c in predicted.having]),
        ((gold.order, gold.direction), (predicted.order, predicted.direction)),
        (set(gold.connectors), set(predicted.connectors)),
        (_keywords(gold), _keywords(predicted)),
        (Counter(gold.tables), Counter(predicted.tables)),
    )
    return all(ours == theirs for ours, theirs in pairs)


def _keywords(parts: Parts) -> set[str]:
    conditions = (*parts.join_conditions, *parts.where, *parts.having)
    named = {
        "where": parts.where,
        "group": parts.group,
        "having": parts.having,
        "order": parts.order,
        parts.direction: parts.order,
        "limit": parts.limited,
        "or": "or" in (*parts.join_connectors, *parts.connectors, *parts.having_connectors),
        "not": any(c.negated for c in conditions),
        "in": any(c.operator == "in" for c in conditions),
        "like": any(c.operator == "like" for c in conditions),
    }
    return {word for word, is_there in named.items() if is_there} | set(parts.combined)


def _n_clauses(parts: Parts) -> int:
    """Clauses, joins, ORs and LIKEs."""
    conditions = (*parts.join_conditions, *parts.where, *parts.having)
    words = (*parts.join_connectors, *parts.connectors, *parts.having_connectors)
    n = sum(map(bool, (parts.where, parts.group, parts.order, parts.limited)))
    n += max(0, len(parts.tables) - 1)
    return n + words.count("or") + sum(c.operator == "like" for c in conditions)


def _n_nested(parts: Parts) -> int:
    conditions = (*parts.join_conditions, *parts.where, *parts.having)
    return sum(len(c.nested) for c in conditions) + len(parts.combined)


def _n_others(parts: Parts) -> int:
    """How many of these there are more than one of: aggregates, outputs, conditions, groups.

    A NOT counts as an aggregate in conditions: the official count looks at the first place of each part.
    """
    n_aggregates = sum(bool(aggregate) for aggregate, _ in parts.select)
    n_aggregates += sum(c.negated for c in (*parts.where, *parts.having))
    n_aggregates += sum(isinstance(unit, tuple) and len(unit) == 2 for unit in parts.order)
    return sum(n > 1 for n in (n_aggregates, len(parts.select), len(parts.where), len(parts.group)))
