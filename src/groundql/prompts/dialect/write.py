"""Prints a tree in the canonical spelling, SELECT first or FROM first, and numbers the names that a query invents."""

from collections.abc import Callable, Iterable, Mapping

from groundql.prompts.dialect.tree import (
    Alias,
    Between,
    Binary,
    Call,
    Case,
    Cast,
    Collate,
    Column,
    Core,
    Exists,
    Expr,
    In,
    Item,
    Literal,
    Name,
    Order,
    Query,
    Scalar,
    Source,
    Star,
    Unary,
    Window,
    actual,
)
from groundql.prompts.render import quoted

# How tightly an operator binds. All comparisons share a level and take none as an operand without brackets: the
# grammar has one comparison to a predicate.
OR, AND, NOT, COMPARISON, BITS, SUM, PRODUCT, CONCAT, COLLATE, SIGN, WHOLE = range(11)
_LEVELS = {
    "OR": OR,
    "AND": AND,
    **dict.fromkeys(("&", "|", "<<", ">>"), BITS),
    **dict.fromkeys(("+", "-"), SUM),
    **dict.fromkeys(("*", "/", "%"), PRODUCT),
    **dict.fromkeys(("||", "->", "->>"), CONCAT),
}

Numbering = Callable[[list[Alias]], Mapping[Alias, str]]


def write_query(query: Query, numbering: Numbering, *, from_first: bool = False) -> str:
    """The text of a tree; `numbering` gives names to the aliases, listed in the order of their definitions."""
    unnamed = _Writer({}, from_first)
    unnamed.query(query)
    return _Writer(numbering(unnamed.defined), from_first).query(query)


def final_name(column: Column) -> str | Alias:
    """What the text calls a column: its spelling in the schema, or the alias of the output that it is."""
    if column.spelled is not None:
        return column.spelled
    assert column.item is not None
    if column.item.alias is not None:
        return column.item.alias
    expr = actual(column.item.expr)
    assert isinstance(expr, Name)
    assert expr.bound is not None
    return final_name(expr.bound)


class _Writer:
    """One pass over a tree; `defined` lists the aliases as their definitions come by."""

    def __init__(self, names: Mapping[Alias, str], from_first: bool) -> None:
        self.names = names
        self.from_first = from_first
        self.defined: list[Alias] = []

    def name(self, name: str | Alias) -> str:
        return quoted(name) if isinstance(name, str) else self.names.get(name, "?")

    def defines(self, alias: Alias) -> str:
        self.defined.append(alias)
        return self.names.get(alias, "?")

    def query(self, query: Query) -> str:
        parts = []
        if query.ctes:
            tables = [f"{self.defines(cte.alias)} AS ({self.query(cte.query)})" for cte in query.ctes]
            parts.append("WITH " + ", ".join(tables))
        for core, operator in zip(query.cores, [*query.operators, ""], strict=True):
            parts += [self.core(core), operator]
        if query.order:
            parts.append("ORDER BY " + self.orders(query.order))
        if query.limit is not None:
            parts.append(f"LIMIT {query.limit}")
        if query.offset is not None:
            parts.append(f"OFFSET {query.offset}")
        return " ".join(filter(None, parts))

    def core(self, core: Core) -> str:
        if self.from_first:
            parts = [self.sources(core), self.filters(core), self.items(core)]
        else:
            parts = [self.items(core), self.sources(core), self.filters(core)]
        return " ".join(filter(None, parts))

    def items(self, core: Core) -> str:
        return ("SELECT DISTINCT " if core.is_distinct else "SELECT ") + ", ".join(map(self.item, core.items))

    def item(self, item: Item) -> str:
        text = self.expr(item.expr)
        return f"{text} AS {self.defines(item.alias)}" if item.alias else text

    def sources(self, core: Core) -> str:
        return "FROM " + " ".join(map(self.source, core.sources)) if core.sources else ""

    def source(self, source: Source) -> str:
        text = f"{source.join} " if source.join else ""
        if source.query:
            text += f"({self.query(source.query)})"
        else:
            text += self.name(source.cte.alias) if source.cte else quoted(source.table)
        if source.alias:
            text += f" AS {self.defines(source.alias)}"
        return f"{text} ON {self.expr(source.on)}" if source.on else text

    def filters(self, core: Core) -> str:
        parts = []
        if core.where:
            parts.append(f"WHERE {self.expr(core.where)}")
        if core.group:
            parts.append("GROUP BY " + self.exprs(core.group))
        if core.having:
            parts.append(f"HAVING {self.expr(core.having)}")
        return " ".join(parts)

    def orders(self, terms: Iterable[Order]) -> str:
        return ", ".join(
            self.expr(term.expr)
            + (" DESC" if term.is_descending else "")
            + (f" NULLS {term.nulls}" if term.nulls else "")
            for term in terms
        )

    def exprs(self, exprs: Iterable[Expr]) -> str:
        return ", ".join(map(self.expr, exprs))

    def expr(self, expr: Expr, lowest: int = OR) -> str:
        """The text of an expression, in brackets where it binds less tightly than `lowest`."""
        expr = actual(expr)
        text, level = self.bare(expr)
        return f"({text})" if level < lowest else text

    def bare(self, expr: Expr) -> tuple[str, int]:
        """The text without brackets around it, and how tightly it binds."""
        match expr:
            case Literal():
                return expr.text, WHOLE
            case Name():
                return self.column(expr), WHOLE
            case Star():
                qualifier = expr.source.alias if expr.source else None
                return f"{self.names.get(qualifier, '?')}.*" if qualifier else "*", WHOLE
            case Unary():
                return self.unary(expr)
            case Binary():
                return self.binary(expr)
            case Between():
                operands = [self.expr(part, BITS) for part in (expr.operand, expr.low, expr.high)]
                word = "NOT BETWEEN" if expr.is_not else "BETWEEN"
                return f"{operands[0]} {word} {operands[1]} AND {operands[2]}", COMPARISON
            case In():
                inside = self.query(expr.query) if expr.query else self.exprs(expr.values)
                word = "NOT IN" if expr.is_not else "IN"
                return f"{self.expr(expr.operand, BITS)} {word} ({inside})", COMPARISON
            case Collate():
                return f"{self.expr(expr.operand, COLLATE)} COLLATE {expr.collation}", COLLATE
            case _:
                return self.whole(expr), WHOLE

    def whole(self, expr: Expr) -> str:
        """An expression that begins and ends by itself."""
        match expr:
            case Exists():
                return f"EXISTS ({self.query(expr.query)})"
            case Scalar():
                return f"({self.query(expr.query)})"
            case Cast():
                return f"CAST({self.expr(expr.operand)} AS {expr.type})"
            case Case():
                parts = [
                    "CASE",
                    *([self.expr(expr.operand)] if expr.operand else []),
                    *(f"WHEN {self.expr(test)} THEN {self.expr(then)}" for test, then in expr.whens),
                    *([f"ELSE {self.expr(expr.otherwise)}"] if expr.otherwise else []),
                    "END",
                ]
                return " ".join(parts)
            case Call():
                inside = "*" if expr.is_star else self.exprs(expr.arguments)
                text = f"{expr.name}({'DISTINCT ' if expr.is_distinct else ''}{inside})"
                return f"{text} OVER ({self.window(expr.over)})" if expr.over else text
            case _:
                raise TypeError(f"no spelling for {type(expr).__name__}")

    def column(self, name: Name) -> str:
        if name.item is not None and name.item.alias is not None:
            return self.name(name.item.alias)
        column = self.name(final_name(name.bound) if name.bound else name.column)
        if name.source is not None and name.source.alias is not None:
            return f"{self.name(name.source.alias)}.{column}"
        return column

    def unary(self, expr: Unary) -> tuple[str, int]:
        if expr.operator == "NOT":
            return f"NOT {self.expr(expr.operand, NOT)}", NOT
        operand = self.expr(expr.operand, SIGN)
        return f"{expr.operator}{f'({operand})' if operand[0] in '-+' else operand}", SIGN

    def binary(self, expr: Binary) -> tuple[str, int]:
        level = _LEVELS.get(expr.operator, COMPARISON)
        if level == COMPARISON:
            left, right = self.expr(expr.left, BITS), self.expr(expr.right, BITS)
            text = f"{left} {expr.operator} {right}"
            return (f"{text} ESCAPE {self.expr(expr.escape, BITS)}" if expr.escape else text), COMPARISON
        # AND and OR give the same however they are grouped; arithmetic on floats does not
        tighter = level if level in (OR, AND) else level + 1
        return f"{self.expr(expr.left, level)} {expr.operator} {self.expr(expr.right, tighter)}", level

    def window(self, window: Window) -> str:
        parts = []
        if window.partition:
            parts.append("PARTITION BY " + self.exprs(window.partition))
        if window.order:
            parts.append("ORDER BY " + self.orders(window.order))
        return " ".join(parts)
