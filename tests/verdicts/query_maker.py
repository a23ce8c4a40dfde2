"""Random queries, random data and random rewrites, for laws that must hold of every query."""

import random
from collections.abc import Callable
from typing import Any

import apsw
import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

DDL = """
CREATE TABLE book (book_id INTEGER PRIMARY KEY, title TEXT NOT NULL, author_id INT, price REAL, stock INTEGER);
CREATE TABLE author (author_id INTEGER PRIMARY KEY, name TEXT, country TEXT);
CREATE TABLE sale (code TEXT PRIMARY KEY, book_id INT, qty INT);
"""
COLUMNS = {
    "book": ("book_id", "title", "author_id", "price", "stock"),
    "author": ("author_id", "name", "country"),
    "sale": ("code", "book_id", "qty"),
}
TEXTS = ("name", "title", "country", "code")
KEYS = {
    ("book", "author"): "author_id",
    ("author", "book"): "author_id",
    ("book", "sale"): "book_id",
    ("sale", "book"): "book_id",
}


def fill(seed: int) -> apsw.Connection:
    """A small database with ties, NULL in every place that takes it, and joins that find partners and none."""
    rng = random.Random(seed)
    connection = apsw.Connection(":memory:")
    connection.execute(DDL).fetchall()

    def maybe(value: object) -> object:
        return None if rng.random() < 0.2 else value

    for n in range(1, rng.randint(2, 7)):
        values = (
            n,
            rng.choice("abA"),
            maybe(rng.randint(1, 3)),
            maybe(rng.choice((0.0, 1.0, 2.0, 2.5))),
            maybe(rng.randint(0, 2)),
        )
        connection.execute("INSERT INTO book VALUES (?, ?, ?, ?, ?)", values)
    for n in range(1, rng.randint(2, 5)):
        connection.execute(
            "INSERT INTO author VALUES (?, ?, ?)", (n, maybe(rng.choice("abA")), maybe(rng.choice("xy")))
        )
    for n in range(rng.randint(0, 5)):
        code = None if rng.random() < 0.3 else f"c{n}"
        connection.execute(
            "INSERT INTO sale VALUES (?, ?, ?)", (code, maybe(rng.randint(1, 4)), maybe(rng.randint(0, 2)))
        )
    return connection


class Maker:
    """Makes queries of a small grammar, so that many of them are the same query written otherwise."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    def pick(self, *choices: str) -> str:
        return self.rng.choice(choices)

    def chance(self, p: float) -> bool:
        return self.rng.random() < p

    def query(self) -> str:
        shape = self.rng.random()
        if shape < 0.08:
            return f"{self.select(width=1)} {self.pick('UNION', 'UNION ALL', 'EXCEPT', 'INTERSECT')} {self.select(width=1)}"
        if shape < 0.16:
            return f"WITH c AS ({self.plain('book', '*')}) {self.plain('c', 'title', 'book')}"
        if shape < 0.28:
            names = self.pick("a, b", "b, a").split(", ")
            inner = f"SELECT DISTINCT stock AS {names[0]}, price AS {names[1]} FROM book"
            if self.chance(0.4):
                inner = f"SELECT stock AS {names[0]}, {self.pick('MAX', 'MIN')}(price) AS {names[1]} FROM book GROUP BY stock"
            outer = (
                f"SELECT {self.pick('w.a', 'w.b', 'w.a, w.b')} FROM {{}} w WHERE w.{self.pick('a', 'b')} > 0"
            )
            return (
                f"WITH c AS ({inner}) " + outer.format("c")
                if self.chance(0.5)
                else outer.format(f"({inner})")
            )
        if shape < 0.34:
            return f"SELECT title FROM ({self.plain('book', '*')}) WHERE {self.condition([('', 'book')])}"
        return self.select()

    def plain(self, table: str, columns: str, like: str = "") -> str:
        return f"SELECT {columns} FROM {table} WHERE {self.condition([('', like or table)])}"

    def sources(self) -> tuple[str, list[tuple[str, str]], str]:
        """(FROM, [(qualifier, table)], condition that joins)."""
        first = self.pick("book", "book", "author", "sale")
        if self.chance(0.5):
            if self.chance(0.4):
                alias = self.pick("T1", "x")
                return f"{first} AS {alias}", [(alias + ".", first)], ""
            return first, [("", first)], ""
        second = self.rng.choice([b for a, b in KEYS if a == first] + ([first] if first == "book" else []))
        a, b = self.pick("T1", "x"), self.pick("T2", "y")
        column = KEYS.get((first, second), "price")
        left, right = (f"{a}.{column}", f"{b}.{column}")
        if self.chance(0.5):
            left, right = right, left
        operator = "<" if first == second and self.chance(0.7) else "="
        on = f"{left} {operator} {right}"
        join = self.pick("JOIN", "INNER JOIN", "LEFT JOIN", ",")
        pair = [(a + ".", first), (b + ".", second)]
        if join == ",":
            return f"{first} {a}, {second} {b}", pair, on
        return f"{first} {a} {join} {second} {b} ON {on}", pair, ""

    def column(self, sources: list[tuple[str, str]]) -> str:
        qualifier, table = self.rng.choice(sources)
        return qualifier + self.rng.choice(COLUMNS[table])

    def select(self, width: int | None = None) -> str:
        text, sources, join = self.sources()
        condition = " AND ".join(filter(None, (join, self.condition(sources) if self.chance(0.7) else "")))
        where = f" WHERE {condition}" if condition else ""
        if self.chance(0.35):
            key = self.column(sources)
            also = f", {self.column(sources)}" if self.chance(0.3) else ""
            outputs = (
                self.pick(key, self.column(sources)) + f", {self.aggregate(sources)}"
                if width is None
                else key
            )
            having = f" HAVING {self.aggregate(sources)} > {self.pick('0', '1')}" if self.chance(0.3) else ""
            return f"SELECT {outputs} FROM {text}{where} GROUP BY {key}{also}{having}{self.tail(sources, group=key)}"
        if self.chance(0.2):
            return f"SELECT {self.aggregate(sources)} FROM {text}{where}"
        outputs = ", ".join(self.output(sources) for _ in range(width or self.rng.randint(1, 2)))
        distinct = self.pick("", "", "DISTINCT ")
        return f"SELECT {distinct}{outputs} FROM {text}{where}" + ("" if width else self.tail(sources))

    def tail(self, sources: list[tuple[str, str]], group: str = "") -> str:
        if not self.chance(0.3):
            return ""
        order = f" ORDER BY {group or self.column(sources)}{self.pick('', ' ASC', ' DESC', ' NULLS LAST')}"
        return order + self.pick("", " LIMIT 1", " LIMIT 2")

    def output(self, sources: list[tuple[str, str]]) -> str:
        column, other = self.column(sources), self.column(sources)
        return self.pick(
            *(column,) * 5,
            f"{column} AS n",
            f"{column} + 1",
            f"1 + {column}",
            f"{column} * {other}",
            f"IIF({self.condition(sources, 0)}, 1, 0)",
            f"CASE WHEN {self.condition(sources, 0)} THEN 1 ELSE 0 END",
            f"CASE WHEN {self.condition(sources, 0)} THEN {column} ELSE NULL END",
            f"{column} AND {other}",
            f"{column} AND {column}",
            f"NOT {column}",
            f"NOT NOT {column}",
            f"{column} = {other}",
            f"NOT {column} = {other}",
            f"CAST({column} AS {self.pick('REAL', 'FLOAT', 'INTEGER', 'INT', 'TEXT')})",
            "(SELECT MAX(price) FROM book)",
            f"COALESCE({column}, {other})",
        )

    def aggregate(self, sources: list[tuple[str, str]]) -> str:
        column = self.column(sources)
        return self.pick(
            "COUNT(*)",
            "COUNT(1)",
            f"COUNT({column})",
            f"COUNT(DISTINCT {column})",
            f"{self.pick('MIN', 'MAX', 'SUM', 'AVG')}({column})",
            f"MAX(DISTINCT {column})",
            f"SUM(CASE WHEN {self.condition(sources, 0)} THEN 1 ELSE 0 END)",
            f"COUNT(CASE WHEN {self.condition(sources, 0)} THEN 1 END)",
            f"group_concat({column})",
        )

    def constant(self, column: str) -> str:
        if column.split(".")[-1] in TEXTS:
            return self.pick("'a'", "'A'", "'b'", "'x'")
        return self.pick("1", "2", "2.0", "'1'", "0")

    def condition(self, sources: list[tuple[str, str]], depth: int = 1) -> str:
        column, other = self.column(sources), self.column(sources)
        value, second = self.constant(column), self.constant(column)
        if depth and self.chance(0.45):
            left, right = self.condition(sources, depth - 1), self.condition(sources, depth - 1)
            joined = f"{left} {self.pick('AND', 'OR')} {right}"
            return self.pick(f"({joined})", f"NOT ({joined})", f"({joined})")
        return self.pick(
            *(f"{column} {self.pick('=', '=', '!=', '<>', '<', '<=', '>', '>=', '==')} {value}",) * 3,
            f"{value} {self.pick('=', '!=', '<', '>')} {column}",
            f"NOT {column} {self.pick('=', '<', '>=')} {value}",
            f"{column} BETWEEN {value} AND {second}",
            f"({column} >= {value} AND {column} <= {second})",
            f"{column} NOT BETWEEN {value} AND {second}",
            f"{column} IN ({value})",
            f"{column} IN ({value}, {second})",
            f"({column} = {second} OR {column} = {value})",
            f"{column} NOT IN ({value}, {second})",
            f"{column} {self.pick('IS NULL', 'ISNULL', 'IS NOT NULL', 'NOTNULL')}",
            f"NOT {column} IS NULL",
            f"{column} {self.pick('=', '<')} {other}",
            column,
            f"1 = 1 AND {column} = {value}",
            f"{column} LIKE 'a'",
            f"{column} IN (SELECT {self.pick('', 'DISTINCT ')}author_id FROM author{self.pick('', ' ORDER BY name')})",
            f"{column} NOT IN (SELECT author_id FROM book)",
            f"EXISTS (SELECT {self.pick('1', '*', 'COUNT(*)', 'MAX(qty)')} FROM sale WHERE sale.qty = {column})",
            f"{column} = (SELECT {self.pick('MAX(price)', 'price', 'MIN(stock)')} FROM book)",
        )


def rewritten(sql: str, rng: random.Random) -> str:
    """`sql` with one small edit: some keep the meaning, some change it, and nobody says which.

    An edit whose text does not parse again leaves `sql` as it is.
    """
    try:
        edited = _edited(sql, rng)
        sqlglot.parse_one(edited, read="sqlite")
    except SqlglotError:
        return sql
    return edited


def _edited(sql: str, rng: random.Random) -> str:
    tree = sqlglot.parse_one(sql, read="sqlite")
    nodes = list(tree.walk())
    rng.shuffle(nodes)
    for node in nodes:
        edits = [edit for kind, edit in EDITS if isinstance(node, kind)]
        rng.shuffle(edits)
        for edit in edits:
            new = edit(node.copy(), rng)
            if new is not None and new != node:
                if node is tree:
                    return new.sql(dialect="sqlite")
                node.replace(new)
                return tree.sql(dialect="sqlite")
    return sql


def _swapped(node: exp.Expr, rng: random.Random) -> exp.Expr:
    left, right = node.this, node.expression
    node.set("this", right)
    node.set("expression", left)
    return node


def _other(*kinds: type[exp.Expr]) -> Callable[[exp.Expr, random.Random], exp.Expr]:
    return lambda node, rng: rng.choice(kinds)(this=node.this, expression=node.expression)


def _set(name: str, *values: Any) -> Callable[[exp.Expr, random.Random], exp.Expr]:
    def edit(node: exp.Expr, rng: random.Random) -> exp.Expr:
        value = rng.choice(values)
        node.set(name, value() if callable(value) else value)
        return node

    return edit


def _parsed(template: str) -> Callable[[exp.Expr, random.Random], exp.Expr]:
    return lambda node, rng: sqlglot.parse_one(template.format(node.sql(dialect="sqlite")), read="sqlite")


def _literal(node: exp.Expr, rng: random.Random) -> exp.Expr:
    text = node.name
    return rng.choice(
        [
            exp.Literal.string(text),
            exp.Literal.string(text.upper()),
            exp.Literal(this=text, is_string=node.args["is_string"]),
        ]
    )


def _shuffled(node: exp.Expr, rng: random.Random) -> exp.Expr:
    children = list(node.expressions)
    rng.shuffle(children)
    node.set("expressions", children)
    return node


def _joined_otherwise(node: exp.Expr, rng: random.Random) -> exp.Expr | None:
    """FROM a JOIN b as FROM b JOIN a, or with its condition in WHERE."""
    joins = node.args.get("joins")
    if not joins:
        return None
    first, second = node.args["from_"].this, joins[0].this
    if rng.random() < 0.5:
        node.args["from_"].set("this", second.copy())
        joins[0].set("this", first.copy())
    elif joins[0].args.get("on"):
        condition = joins[0].args["on"]
        joins[0].set("on", None)
        return node.where(condition)
    return node


def _wrapped(node: exp.Expr, rng: random.Random) -> exp.Expr | None:
    if node.args.get("with_") or any(not output.output_name for output in node.expressions):
        return None
    return sqlglot.parse_one(f"SELECT * FROM ({node.sql(dialect='sqlite')}) AS w", read="sqlite")


EDITS: list[tuple[Any, Callable[[exp.Expr, random.Random], exp.Expr | None]]] = [
    ((exp.And, exp.Or, exp.EQ, exp.NEQ, exp.Add, exp.Mul, exp.LT, exp.Sub), _swapped),
    ((exp.Union, exp.Intersect), _swapped),
    (exp.GT, lambda node, rng: exp.LT(this=node.expression, expression=node.this)),
    (exp.LTE, lambda node, rng: exp.GTE(this=node.expression, expression=node.this)),
    ((exp.LT, exp.GT, exp.LTE, exp.GTE), _other(exp.LT, exp.GT, exp.LTE, exp.GTE)),
    ((exp.And, exp.Or), _other(exp.And, exp.Or)),
    (exp.And, lambda node, rng: rng.choice([node.this, node.expression])),
    (exp.Predicate, _parsed("NOT ({})")),
    (exp.Predicate, _parsed("NOT (NOT ({}))")),
    (exp.Predicate, _parsed("({0} AND {0})")),
    (exp.Predicate, _parsed("(1 = 1 AND {})")),
    (exp.Predicate, _parsed("(CASE WHEN {} THEN 1 ELSE 0 END)")),
    (exp.Predicate, _parsed("IIF({}, 1, NULL)")),
    (exp.Column, _parsed("({0} OR {0})")),
    (exp.Column, _parsed("NOT NOT {}")),
    (exp.Not, lambda node, rng: node.this),
    (exp.EQ, _parsed("({} OR 1 = 0)")),
    (exp.EQ, lambda node, rng: exp.In(this=node.this, expressions=[node.expression])),
    (exp.In, lambda node, rng: _shuffled(node, rng) if node.expressions else None),
    (
        exp.In,
        lambda node, rng: (
            exp.EQ(this=node.this, expression=node.expressions[0]) if node.expressions else None
        ),
    ),
    (
        exp.Between,
        lambda node, rng: exp.Paren(
            this=(node.this >= node.args["low"]).and_(node.this <= node.args["high"])
        ),
    ),
    (exp.Literal, _literal),
    (exp.Select, _set("distinct", None, exp.Distinct)),
    (exp.Select, _shuffled),
    (exp.Select, _joined_otherwise),
    (exp.Select, _wrapped),
    (exp.Select, _set("order", None)),
    (exp.Select, _set("limit", None, lambda: exp.Limit(expression=exp.Literal.number(1)))),
    (exp.Alias, lambda node, rng: exp.alias_(node.this, rng.choice("abn"))),
    (exp.Group, _shuffled),
    (exp.Ordered, _set("desc", True, False)),
    (exp.Ordered, _set("nulls_first", True, False)),
    (exp.Join, _set("side", None, "LEFT")),
    (exp.Count, lambda node, rng: exp.Count(this=exp.Star())),
    (exp.Count, lambda node, rng: exp.Count(this=exp.Literal.number(1))),
    ((exp.Min, exp.Max), lambda node, rng: type(node)(this=exp.Distinct(expressions=[node.this]))),
    (
        exp.Exists,
        lambda node, rng: (
            exp.Exists(this=node.this.copy().select("1", append=False))
            if isinstance(node.this, exp.Select)
            else None
        ),
    ),
    (exp.Column, lambda node, rng: exp.column("book_id", table=node.table)),
    (exp.Union, _set("distinct", True, False)),
]
