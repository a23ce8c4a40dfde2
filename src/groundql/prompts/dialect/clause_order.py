"""The FROM-first form of the dialect and the way back: the same query, tables named before their columns are used.

FROM ... [WHERE ...] [GROUP BY ... [HAVING ...]] SELECT ... [ORDER BY ...] [LIMIT ...], in nested queries, tables of
WITH and operands of set operations alike. Aliases count up in the order in which the text defines them, so the two
forms of one query may number them differently.
"""

import re
from collections.abc import Iterator, Mapping

from groundql.errors import NotInDialect
from groundql.prompts.dialect.read import read_query
from groundql.prompts.dialect.tree import (
    Alias,
    Column,
    Core,
    Cte,
    Expr,
    Item,
    Name,
    Query,
    Source,
    Star,
    children,
)
from groundql.prompts.dialect.write import write_query
from groundql.prompts.render import quoted


def from_first(canonical: str) -> str:
    """A canonical query in FROM-first form; `standard_sql` is its exact inverse. NotInDialect where it does not parse.

    >>> from_first("SELECT name FROM city WHERE id IN (SELECT city FROM shop)")
    'FROM city WHERE id IN (FROM shop SELECT city) SELECT name'
    """
    return _rewritten(canonical, from_first=True)


def standard_sql(text: str) -> str:
    """A query in FROM-first form as SQL with its clauses in the usual order.

    A text that is not quite in the dialect is turned round too, as a model may write it; NotInDialect where it does
    not parse.

    >>> standard_sql("FROM city WHERE id = 1 SELECT name LIMIT 1")
    'SELECT name FROM city WHERE id = 1 LIMIT 1'
    """
    return _rewritten(text, from_first=False)


def _rewritten(text: str, *, from_first: bool) -> str:
    query = read_query(text)
    linker = _Linker()
    try:
        linker.link(query)
        return write_query(query, linker.numbered, from_first=from_first)
    except RecursionError:
        raise NotInDialect("nested too deep") from None


class _Linker:
    """Ties the uses of aliases to their definitions by name alone: no schema is needed, as no two share a name."""

    def __init__(self) -> None:
        self.aliases: dict[str, Alias] = {}  # by kind and lower-case name
        self.written: dict[Alias, str] = {}

    def link(self, query: Query) -> None:
        nodes = list(_nodes(query))
        for node in nodes:
            if isinstance(node, Cte):
                if node.names:
                    raise NotInDialect("a table of WITH with names for its columns")
                node.alias = self._define(node.alias, node.written)
            elif isinstance(node, Source):
                if node.using or node.is_natural:
                    raise NotInDialect("a NATURAL join or one with USING")
                node.alias = self._define(Alias("T"), node.written) if node.written else None
            elif isinstance(node, Item) and node.written:
                node.alias = self._define(Alias("c"), node.written)
        for node in nodes:
            self._use(node)

    def numbered(self, defined: list[Alias]) -> Mapping[Alias, str]:
        """The numbers that the text has, given anew in the order of definition; other names stay."""
        names = {alias: quoted(written) for alias, written in self.written.items()}
        for kind in ("T", "c", "Q"):
            pattern = re.compile(rf"{kind}[1-9][0-9]*")
            ours = [
                a for a in dict.fromkeys(defined) if a.kind == kind and pattern.fullmatch(self.written[a])
            ]
            numbers = sorted(int(self.written[alias][1:]) for alias in ours)
            names |= {alias: f"{kind}{number}" for alias, number in zip(ours, numbers, strict=True)}
        return names

    def _define(self, alias: Alias, written: str) -> Alias:
        known = self.aliases.setdefault(alias.kind + written.lower(), alias)
        self.written.setdefault(known, written)
        return known

    def _find(self, kind: str, written: str | None) -> Alias | None:
        return self.aliases.get(kind + written.lower()) if written else None

    def _use(self, node: object) -> None:
        if isinstance(node, Source):
            alias = self._find("Q", node.table)
            node.cte = Cte(node.table, Query([], []), alias=alias) if alias else None
        elif isinstance(node, Star) and node.qualifier:
            node.source = self._qualifier(node.qualifier)
        elif isinstance(node, Name):
            node.source = self._qualifier(node.qualifier) if node.qualifier else None
            output = self._find("c", node.column)
            if output:
                node.bound = Column(node.column, item=Item(node, alias=output))

    def _qualifier(self, written: str) -> Source:
        """A source of that name; one that is not defined keeps its name."""
        alias = self._find("T", written) or self._find("Q", written)
        return Source(alias=alias or self._define(Alias("T"), written))


def _nodes(query: Query) -> Iterator[Query | Cte | Core | Source | Item | Expr]:
    """Everything in a query that may define or use a name."""
    for cte in query.ctes:
        yield cte
        yield from _nodes(cte.query)
    for core in query.cores:
        for item in core.items:
            yield item
            yield from _in_expr(item.expr)
        for source in core.sources:
            yield source
            if source.query:
                yield from _nodes(source.query)
            if source.on:
                yield from _in_expr(source.on)
        for expr in (*core.group, core.where, core.having):
            if expr:
                yield from _in_expr(expr)
    for term in query.order:
        yield from _in_expr(term.expr)


def _in_expr(expr: Expr | Query) -> Iterator[Query | Cte | Core | Source | Item | Expr]:
    if isinstance(expr, Query):
        yield from _nodes(expr)
        return
    yield expr
    for child in children(expr):
        yield from _in_expr(child)
