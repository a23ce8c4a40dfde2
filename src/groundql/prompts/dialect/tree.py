"""The tree of one query: what the reader builds, the binder fills in and the writer prints."""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Literal as OneOf


@dataclass(eq=False, slots=True)
class Alias:
    """A name that a query invents; the writer numbers it where it is defined: T1, c1, Q1."""

    kind: OneOf["T", "c", "Q"]


@dataclass(eq=False, slots=True)
class Column:
    """A column that a source offers: of a table (`spelled`), or an output of a CTE (`item`)."""

    written: str  # the name that the query uses for it, in any case
    spelled: str | None = None
    item: "Item | None" = None


@dataclass(eq=False, slots=True)
class Expr:
    """Base of expressions."""


@dataclass(eq=False, slots=True)
class Literal(Expr):
    """A number, a string in single quotes, NULL or a word like CURRENT_DATE, as it is printed."""

    text: str


@dataclass(eq=False, slots=True)
class Name(Expr):
    """A column or an output alias. The binder sets one of `bound` (with `source`), `item` and `instead`."""

    column: str
    qualifier: str | None = None
    quote: str = ""  # how it was written: "", '"', "`", "["
    source: "Source | None" = None
    bound: Column | None = None
    item: "Item | None" = None  # an output of the block
    instead: Expr | None = None  # what stands in its place: a literal, or the expression behind an alias


@dataclass(eq=False, slots=True)
class Star(Expr):
    """`*` or `T1.*`."""

    qualifier: str | None = None
    source: "Source | None" = None


@dataclass(eq=False, slots=True)
class Unary(Expr):
    """NOT, -, + or ~ before an operand."""

    operator: str
    operand: Expr


@dataclass(eq=False, slots=True)
class Binary(Expr):
    """Two operands; AND and OR, comparisons, LIKE with its ESCAPE, IS, arithmetic."""

    operator: str
    left: Expr
    right: Expr
    escape: Expr | None = None


@dataclass(eq=False, slots=True)
class Between(Expr):
    """`operand [NOT] BETWEEN low AND high`."""

    operand: Expr
    low: Expr
    high: Expr
    is_not: bool = False


@dataclass(eq=False, slots=True)
class In(Expr):
    """`operand [NOT] IN (values or query)`."""

    operand: Expr
    values: "list[Expr]"
    query: "Query | None"
    is_not: bool = False


@dataclass(eq=False, slots=True)
class Window:
    """`OVER (PARTITION BY ... ORDER BY ...)`."""

    partition: list[Expr]
    order: "list[Order]"


@dataclass(eq=False, slots=True)
class Call(Expr):
    """A function, an aggregate or a window function; `is_star` is `COUNT(*)`."""

    name: str
    arguments: list[Expr]
    is_distinct: bool = False
    is_star: bool = False
    over: Window | None = None


@dataclass(eq=False, slots=True)
class Cast(Expr):
    """`CAST(operand AS type)`."""

    operand: Expr
    type: str


@dataclass(eq=False, slots=True)
class Case(Expr):
    """Both forms of CASE."""

    operand: Expr | None
    whens: list[tuple[Expr, Expr]]
    otherwise: Expr | None


@dataclass(eq=False, slots=True)
class Collate(Expr):
    """`operand COLLATE collation`."""

    operand: Expr
    collation: str


@dataclass(eq=False, slots=True)
class Exists(Expr):
    """`EXISTS (query)`."""

    query: "Query"


@dataclass(eq=False, slots=True)
class Scalar(Expr):
    """A query in brackets where a value stands."""

    query: "Query"


@dataclass(eq=False, slots=True)
class Item:
    """One output of a block. `span` is its text, which SQLite takes for its name where there is no alias."""

    expr: Expr
    written: str | None = None
    span: str = ""
    alias: Alias | None = None


@dataclass(eq=False, slots=True)
class Source:
    """A table, a CTE or a derived table in FROM, and how it is joined to those before it."""

    table: str = ""
    query: "Query | None" = None  # a derived table, until it has become a CTE
    written: str | None = None  # its alias as written
    join: OneOf["", "JOIN", "LEFT JOIN", "RIGHT JOIN", "CROSS JOIN"] = ""  # "": the first
    on: Expr | None = None
    using: tuple[str, ...] | None = None
    is_natural: bool = False
    cte: "Cte | None" = None
    alias: Alias | None = None
    columns: dict[str, Column] = field(default_factory=dict)  # by lower-case name
    merged: set[str] = field(
        default_factory=set
    )  # lower-case names that USING or NATURAL shares with the left
    is_seen_inside: bool = False  # a nested block refers to one of its columns


@dataclass(eq=False, slots=True)
class Core:
    """One SELECT block."""

    items: list[Item]
    is_distinct: bool
    sources: list[Source]
    where: Expr | None = None
    group: list[Expr] = field(default_factory=list)
    having: Expr | None = None
    is_turned_round: bool = False  # a RIGHT join was read as a LEFT one: the order of sources has changed


@dataclass(eq=False, slots=True)
class Order:
    """One term of ORDER BY; `nulls` only where it is not what SQLite does anyway."""

    expr: Expr
    is_descending: bool = False
    nulls: OneOf["", "FIRST", "LAST"] = ""


@dataclass(eq=False, slots=True)
class Cte:
    """One table of WITH."""

    written: str
    query: "Query"
    names: tuple[str, ...] = ()  # WITH name (names) AS
    alias: Alias = field(default_factory=lambda: Alias("Q"))
    columns: list[Column] = field(default_factory=list)
    state: OneOf["unbound", "binding", "bound"] = "unbound"
    is_used: bool = False


@dataclass(eq=False, slots=True)
class Query:
    """Blocks joined by set operators, with WITH before and ORDER BY and LIMIT behind."""

    cores: list[Core]
    operators: list[str]  # one fewer than `cores`
    ctes: list[Cte] = field(default_factory=list)
    order: list[Order] = field(default_factory=list)
    limit: str | None = None
    offset: str | None = None


def actual(expr: Expr) -> Expr:
    """The expression itself, or what the binder put in its place."""
    while isinstance(expr, Name) and expr.instead is not None:
        expr = expr.instead
    return expr


def children(expr: Expr) -> Iterator[Expr | Query]:
    """The operands of an expression, in the order of the text; a query in it counts as one."""
    if isinstance(expr, Name):
        if expr.instead is not None:
            yield expr.instead
        return
    for part in fields(expr):
        yield from _parts(getattr(expr, part.name))


def _parts(value: object) -> Iterator[Expr | Query]:
    if isinstance(value, Expr | Query):
        yield value
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _parts(one)
    elif isinstance(value, Window):
        yield from value.partition
        yield from (term.expr for term in value.order)


def walk(expr: Expr) -> Iterator[Expr | Query]:
    """An expression and all within it, but nothing within the queries that it holds."""
    yield expr
    for child in children(expr):
        if isinstance(child, Query):
            yield child
        else:
            yield from walk(child)
