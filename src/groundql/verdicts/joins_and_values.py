"""Two doubts about a query that binds: constants that its columns do not hold, and joins along no key."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sqlglot import exp
from sqlglot.optimizer.scope import Scope, traverse_scope

from groundql.databases.schema import quoted
from groundql.records import Dialect, Schema, Table

Place = tuple[str, str]  # table and column, lower case

_last: list[tuple[exp.Expr, list[Scope]]] = []  # the tree looked at last


@dataclass(frozen=True)
class Constant:
    """A constant compared with a column of a base table."""

    place: Place
    literal: str  # as SQL
    text: str

    def lookup(self, schema: Schema, dialect: Dialect = "sqlite") -> str:
        """A query that gives a row where the column holds the constant, or one that differs from it in case alone."""
        table, column = map(quoted, _as_written(self.place, schema))
        if dialect == "sqlite":
            return f"SELECT 1 FROM {table} WHERE {column} = {self.literal} COLLATE NOCASE LIMIT 1"
        cast = "VARCHAR" if dialect == "duckdb" else "TEXT"
        is_same = f"{column} = {self.literal}"
        if self.literal.startswith("'"):
            is_same = f"lower(CAST({column} AS {cast})) = lower({self.literal})"
        return f"SELECT 1 FROM {table} WHERE {is_same} LIMIT 1"


def compared_constants(tree: exp.Expr, schema: Schema, dialect: Dialect = "sqlite") -> list[Constant]:
    """Constants that `=`, IN, or LIKE without wildcard compares with one column of a base table."""
    found: dict[Constant, None] = {}
    for scope in _scopes(tree):
        for node in scope.find_all(exp.EQ, exp.In, exp.Like):
            for column, literal in _pairs(node):
                place = _place(column, scope, schema)
                wild = isinstance(node, exp.Like) and any(mark in literal.name for mark in "%_")
                if place and not wild:
                    found[Constant(place, literal.sql(dialect=dialect), literal.name)] = None
    return list(found)


def compared(tree: exp.Expr, schema: Schema) -> Iterator[tuple[Place, exp.Literal]]:
    """Every (column of a base table, constant) that any comparison puts together."""
    for scope in _scopes(tree):
        for node in scope.find_all(
            exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE, exp.In, exp.Like, exp.Between
        ):
            for column, literal in _pairs(node):
                place = _place(column, scope, schema)
                if place:
                    yield place, literal


def foreign_values(
    tree: exp.Expr,
    schema: Schema,
    known_text: str,
    holds: Callable[[str], bool | None],
    dialect: Dialect = "sqlite",
) -> list[str]:
    """`table.column = constant` for each constant that neither its column nor the question or evidence has.

    `holds` answers a lookup: whether it gave a row, None where it could not be run.
    """
    lowered = known_text.lower()
    return [
        f"{'.'.join(constant.place)} = {constant.literal}"
        for constant in compared_constants(tree, schema, dialect)
        if constant.text.lower() not in lowered and holds(constant.lookup(schema, dialect)) is False
    ]


def keyless_joins(tree: exp.Expr, schema: Schema) -> list[str]:
    """Equalities between columns of two tables that no chain of foreign keys links, and that differ in name or type."""
    if sum(1 for _ in tree.find_all(exp.Table)) < 2:
        return []
    groups = _key_groups(schema)
    types = {(t.name.lower(), c.name.lower()): c.type.lower() for t in schema.tables for c in t.columns}
    found: dict[str, None] = {}
    for scope in _scopes(tree):
        for node in scope.find_all(exp.EQ):
            if not (isinstance(node.this, exp.Column) and isinstance(node.expression, exp.Column)):
                continue
            left, right = (_place(side, scope, schema) for side in (node.this, node.expression))
            if not left or not right or left[0] == right[0]:
                continue
            is_linked = groups.get(left, left) == groups.get(right, right)
            is_alike = left[1] == right[1] and types[left] == types[right]
            if not is_linked and not is_alike:
                found[f"{'.'.join(left)} = {'.'.join(right)}"] = None
    return list(found)


def read_places(tree: exp.Expr, schema: Schema) -> frozenset[Place]:
    """(table, column) pairs that the names of a query stand for, lower case; a table of which none is read has "".

    For engines that do not tell what they read: ask only for a query that binds. `*` is every column of its tables.
    """
    found: set[Place] = set()
    for scope in _scopes(tree):
        bases = {
            alias.lower(): table
            for alias, source in scope.sources.items()
            if isinstance(source, exp.Table) and (table := _tables(schema).get(source.name.lower()))
        }
        for column in scope.columns:
            place = _place(column, scope, schema)
            if place:
                found.add(place)
        for star in scope.find_all(exp.Star):
            if isinstance(star.parent, exp.Count):
                continue
            qualifier = star.parent.table.lower() if isinstance(star.parent, exp.Column) else ""
            for alias, table in bases.items():
                if qualifier in ("", alias):
                    found |= {(table.name.lower(), column.name.lower()) for column in table.columns}
        tables = {table.name.lower() for table in bases.values()}
        found |= {(table, "") for table in tables - {place[0] for place in found}}
    return frozenset(found)


def _as_written(place: Place, schema: Schema) -> Place:
    """The names as the schema spells them."""
    table = _tables(schema)[place[0]]
    return table.name, next(column.name for column in table.columns if column.name.lower() == place[1])


def _scopes(tree: exp.Expr) -> list[Scope]:
    """The scopes of a tree, kept for the second question about the same tree."""
    if _last and _last[0][0] is tree:
        return _last[0][1]
    try:
        scopes = traverse_scope(tree)
    except Exception:  # sqlglot's scopes raise on odd trees: then nothing is known
        scopes = []
    _last[:] = [(tree, scopes)]
    return scopes


def _pairs(node: exp.Expr) -> Iterator[tuple[exp.Column, exp.Literal]]:
    if isinstance(node, exp.In):
        if isinstance(node.this, exp.Column):
            yield from ((node.this, value) for value in node.expressions if isinstance(value, exp.Literal))
        return
    if isinstance(node, exp.Between):
        ends = (node.args["low"], node.args["high"])
        if isinstance(node.this, exp.Column):
            yield from ((node.this, end) for end in ends if isinstance(end, exp.Literal))
        return
    sides = (node.this, node.expression)
    for column, literal in (sides, sides[::-1]):
        if isinstance(column, exp.Column) and isinstance(literal, exp.Literal):
            yield column, literal


def _place(column: exp.Column, scope: Scope, schema: Schema) -> Place | None:
    """The base table and column that a name of this scope stands for; None where it is another's, or derived."""
    name, qualifier = column.name.lower(), column.table.lower()
    for alias, source in scope.sources.items():
        if isinstance(source, exp.Table) and qualifier in ("", alias.lower()):
            table = _tables(schema).get(source.name.lower())
            if table and any(c.name.lower() == name for c in table.columns):
                return table.name.lower(), name
    return None


def _tables(schema: Schema) -> dict[str, Table]:
    return {table.name.lower(): table for table in schema.tables}


def _key_groups(schema: Schema) -> dict[Place, Place]:
    """Each column that takes part in a foreign key, with one column that stands for all it is linked to."""
    parent: dict[Place, Place] = {}

    def root(place: Place) -> Place:
        while parent.setdefault(place, place) != place:
            place = parent[place]
        return place

    for table in schema.tables:
        for key in table.foreign_keys:
            for column, target in zip(key.columns, key.ref_columns, strict=True):
                near, far = (table.name.lower(), column.lower()), (key.ref_table.lower(), target.lower())
                parent[root(near)] = root(far)
    return {place: root(place) for place in list(parent)}
