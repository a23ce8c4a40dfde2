"""Binds every name of a query to what SQLite binds it to, and turns derived tables into CTEs on the way.

The order of lookup is SQLite's (resolve.c): columns of the block's own sources, `rowid`, output aliases where the
clause may use them, then the same in the blocks outside, then TRUE and FALSE, then a double-quoted string. A term of
ORDER BY that is one name takes an output alias before a column.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from groundql.errors import NotInDialect
from groundql.prompts.dialect.copies import duplicate, is_same
from groundql.prompts.dialect.tokens import string_literal
from groundql.prompts.dialect.tree import (
    Binary,
    Column,
    Core,
    Cte,
    Expr,
    Item,
    Literal,
    Name,
    Order,
    Query,
    Source,
    Star,
    actual,
    children,
)
from groundql.records import Schema

ROW_NAMES = ("rowid", "oid", "_rowid_")


@dataclass(eq=False)
class _Scope:
    """What names may mean in one block."""

    core: Core
    outer: "_Scope | None"
    ctes: "_Ctes"
    is_fenced: bool = False  # nothing outside may be meant: the body of a CTE or derived table
    sees_outputs: bool = False  # the clause at hand may use output aliases


@dataclass(eq=False)
class _Ctes:
    """The tables of WITH that are in sight."""

    named: dict[str, Cte] = field(default_factory=dict)
    outer: "_Ctes | None" = None

    def find(self, name: str) -> tuple[Cte, "_Ctes"] | None:
        if name.lower() in self.named:
            return self.named[name.lower()], self
        return self.outer.find(name) if self.outer else None


class Binder:
    """Binds one query; `ctes` lists the tables of WITH of the whole query, each behind those that it uses."""

    def __init__(self, schema: Schema) -> None:
        self.tables = {table.name.lower(): table for table in schema.tables}
        self.ctes: list[Cte] = []
        self.cores: list[Core] = []

    def bind(self, query: Query) -> None:
        """Bind the query as a whole; its `ctes` become all that it uses, wherever they were written.

        Raises:
            NotInDialect: a name that stands for nothing or for two things, or a form that has no canonical one.
        """
        self._query(query, None, _Ctes(), is_fenced=False)
        query.ctes = [cte for cte in self.ctes if cte.is_used]

    def _query(self, query: Query, outer: _Scope | None, ctes: _Ctes, *, is_fenced: bool) -> None:
        if query.ctes:
            ctes = _Ctes({cte.written.lower(): cte for cte in query.ctes}, ctes)
            for cte in query.ctes:
                self._cte(cte, outer, ctes)
            query.ctes = []
        scopes = []
        for core in query.cores:
            scopes.append(_Scope(core, outer, ctes, is_fenced))
            self._core(scopes[-1])
        for term in query.order:
            if len(scopes) == 1:
                scopes[0].sees_outputs = True
                self._term(term, scopes[0])
            else:
                self._compound_term(term, scopes)

    def _cte(self, cte: Cte, outer: _Scope | None, ctes: _Ctes) -> None:
        if cte.state == "bound":
            return
        if cte.state == "binding":
            raise NotInDialect(f"the table {cte.written} of WITH is recursive")
        cte.state = "binding"
        self._query(cte.query, outer, ctes, is_fenced=True)
        cte.columns = list(outputs(cte.query.cores[0]))
        if cte.names:
            if len(cte.names) != len(cte.columns):
                raise NotInDialect(
                    f"the table {cte.written} of WITH has another number of names than columns"
                )
            cte.columns = [
                Column(name, column.spelled, column.item)
                for name, column in zip(cte.names, cte.columns, strict=True)
            ]
        cte.state = "bound"
        self.ctes.append(cte)

    def _core(self, scope: _Scope) -> None:
        core = scope.core
        self.cores.append(core)
        for number, source in enumerate(core.sources):
            self._source(source, scope)
            if source.using or source.is_natural:
                _merge(source, core.sources[:number])
        for source in core.sources:
            if source.on:
                self._expr(source.on, scope)
        if any(source.merged for source in core.sources):
            _expand_stars(core)
        for item in core.items:
            self._expr(item.expr, scope)
        scope.sees_outputs = True
        if core.where:
            self._expr(core.where, scope)
        for number, expr in enumerate(core.group):
            core.group[number] = self._ordinal(expr, core) or expr
            self._expr(core.group[number], scope)
        if core.having:
            self._expr(core.having, scope)

    def _source(self, source: Source, scope: _Scope) -> None:
        if source.query is not None:
            source.cte = Cte("", source.query)
            source.query = None
            self._cte(source.cte, scope.outer, scope.ctes)
        elif found := scope.ctes.find(source.table):
            source.cte = found[0]
            self._cte(source.cte, scope.outer, found[1])
        if source.cte:
            source.cte.is_used = True
            source.written = source.written or source.table
            for column in source.cte.columns:
                source.columns.setdefault(column.written.lower(), column)
            return
        table = self.tables.get(source.table.lower())
        if table is None:
            raise NotInDialect(f"no such table: {source.table}")
        source.table = table.name
        source.columns = {column.name.lower(): Column(column.name, column.name) for column in table.columns}
        source.written = source.written or table.name

    def _expr(self, expr: Expr | Query, scope: _Scope) -> None:
        if isinstance(expr, Query):
            self._query(expr, scope, scope.ctes, is_fenced=False)
        elif isinstance(expr, Name):
            if expr.bound is None and expr.item is None and expr.instead is None:
                self._name(expr, scope)
        elif isinstance(expr, Star):
            _bind_star(expr, scope.core)
        else:
            for child in children(expr):
                self._expr(child, scope)
            _refuse_truth_test(expr)

    def _name(self, name: Name, home: _Scope) -> None:
        """Bind one name; each block from the inside out."""
        scope: _Scope | None = home
        is_fenced = False
        while scope is not None:
            found = _own_column(name, scope.core)
            if found is None and name.qualifier is None and scope.sees_outputs:
                item = _aliased(scope.core.items, name.column)
                if item is not None:
                    _refuse_fence(name, is_fenced)
                    _bind_to_item(name, item, is_inside=scope is not home)
                    return
            if found is not None:
                _refuse_fence(name, is_fenced)
                name.source, name.bound = found
                name.source.is_seen_inside |= scope is not home
                return
            is_fenced = is_fenced or scope.is_fenced
            scope = scope.outer
        if name.qualifier is None and not name.quote and name.column.upper() in ("TRUE", "FALSE"):
            name.instead = Literal("1" if name.column.upper() == "TRUE" else "0")
        elif name.qualifier is None and name.quote == '"':
            name.instead = Literal(string_literal(name.column))
        else:
            written = f"{name.qualifier}.{name.column}" if name.qualifier else name.column
            raise NotInDialect(f"no such column: {written}")

    def _ordinal(self, expr: Expr, core: Core) -> Name | None:
        """The output that a whole number stands for; None for other terms, and where a star hides which it is."""
        if not (isinstance(expr, Literal) and expr.text.isdigit()):
            return None
        position = int(expr.text) - 1
        if any(isinstance(item.expr, Star) for item in core.items):
            return None
        if not 0 <= position < len(core.items):
            raise NotInDialect(f"there is no output number {expr.text}")
        name = Name("")
        _bind_to_item(name, core.items[position], is_inside=False)
        return name

    def _term(self, term: Order, scope: _Scope) -> None:
        """A term of ORDER BY behind one block."""
        expr = term.expr
        if isinstance(expr, Name) and expr.qualifier is None:
            item = _aliased(scope.core.items, expr.column)
            if item is not None:
                _bind_to_item(expr, item, is_inside=False)
                return
        term.expr = self._ordinal(expr, scope.core) or expr
        self._expr(term.expr, scope)

    def _compound_term(self, term: Order, scopes: list[_Scope]) -> None:
        """A term of ORDER BY behind a set operation: an output of any block, which the first block's one stands for."""
        position = self._output_position(term.expr, scopes)
        items = scopes[0].core.items
        if position is None or any(isinstance(item.expr, Star) for item in items):
            raise NotInDialect("ORDER BY behind a set operation names no output of it")
        name = Name("")
        _bind_to_item(name, items[position], is_inside=False)
        if len(scopes[0].core.sources) > 1 or (name.source and name.source.alias):
            name = Name("", item=items[position])
        term.expr = name

    def _output_position(self, expr: Expr, scopes: list[_Scope]) -> int | None:
        if isinstance(expr, Literal) and expr.text.isdigit():
            return int(expr.text) - 1 if 0 < int(expr.text) <= len(scopes[0].core.items) else None
        for scope in scopes:
            if isinstance(expr, Name) and expr.qualifier is None:
                item = _aliased(scope.core.items, expr.column)
                if item is not None:
                    return scope.core.items.index(item)
            trial = duplicate(expr)
            try:
                scope.sees_outputs = False
                self._expr(trial, scope)
            except NotInDialect:
                continue
            for position, item in enumerate(scope.core.items):
                if is_same(trial, item.expr):
                    return position
        return None


def outputs(core: Core) -> Iterator[Column]:
    """The columns that a block gives, stars spelt out."""
    for item in core.items:
        expr = actual(item.expr)
        if isinstance(expr, Star):
            for source in [expr.source] if expr.source else core.sources:
                yield from source.columns.values()
        elif isinstance(expr, Name) and expr.bound:
            yield Column(item.written or expr.bound.written, item=item)
        else:
            yield Column(item.written or item.span, item=item)


def _own_column(name: Name, core: Core) -> tuple[Source, Column] | None:
    """The column of the block's own sources that the name means; NotInDialect where it may mean two."""
    wanted = name.column.lower()
    sources = [
        source
        for source in core.sources
        if name.qualifier is None or (source.written or "").lower() == name.qualifier.lower()
    ]
    found = [
        source
        for source in sources
        if wanted in source.columns and not (name.qualifier is None and wanted in source.merged)
    ]
    if len(found) > 1:
        raise NotInDialect(f"ambiguous column name: {name.column}")
    if found:
        return found[0], found[0].columns[wanted]
    if wanted in ROW_NAMES and len(sources) == 1 and sources[0].cte is None:
        return sources[0], Column(wanted, wanted)
    return None


def _aliased(items: list[Item], name: str) -> Item | None:
    return next((item for item in items if item.written and item.written.lower() == name.lower()), None)


def _bind_to_item(name: Name, item: Item, *, is_inside: bool) -> None:
    """Let the name mean an output: a plain column is meant itself, another one by its alias or, inside, in full."""
    expr = actual(item.expr)
    if isinstance(expr, Name) and expr.bound and expr.source:
        name.source, name.bound = expr.source, expr.bound
        expr.source.is_seen_inside |= is_inside
    elif is_inside:
        name.instead = duplicate(expr)
        _mark_seen_inside(name.instead)
    else:
        name.item = item


def _mark_seen_inside(expr: Expr | Query) -> None:
    if isinstance(expr, Name) and expr.source:
        expr.source.is_seen_inside = True
    elif isinstance(expr, Expr):
        for child in children(expr):
            _mark_seen_inside(child)


def _bind_star(star: Star, core: Core) -> None:
    if not core.sources:
        raise NotInDialect("a star without FROM")
    if star.qualifier is None:
        return
    qualifier = star.qualifier.lower()
    star.source = next((s for s in core.sources if (s.written or "").lower() == qualifier), None)
    if star.source is None:
        raise NotInDialect(f"no such table: {star.qualifier}")


def _merge(source: Source, earlier: list[Source]) -> None:
    """USING and NATURAL as a condition of ON."""
    names = source.using or [
        name
        for name in source.columns
        if any(name in one.columns and name not in one.merged for one in earlier)
    ]
    for written in names:
        name = written.lower()
        left = next((one for one in earlier if name in one.columns), None)
        if left is None or name not in source.columns:
            raise NotInDialect(f"USING names {written}, which a side does not have")
        both = [Name(name, source=one, bound=one.columns[name]) for one in (left, source)]
        equal = Binary("=", both[0], both[1])
        source.on = Binary("AND", source.on, equal) if source.on else equal
        source.merged.add(name)
    source.using, source.is_natural = None, False


def _expand_stars(core: Core) -> None:
    """`SELECT *` over USING or NATURAL shows shared columns once."""
    items = []
    for item in core.items:
        if isinstance(item.expr, Star) and item.expr.qualifier is None:
            items += [
                Item(Name(column.written, source=source, bound=column))
                for source in core.sources
                for name, column in source.columns.items()
                if name not in source.merged
            ]
        else:
            items.append(item)
    core.items = items


def _refuse_fence(name: Name, is_fenced: bool) -> None:
    if is_fenced:
        raise NotInDialect(f"a table in brackets or in WITH refers to {name.column} of a query around it")


def _refuse_truth_test(expr: Expr) -> None:
    if isinstance(expr, Binary) and expr.operator in ("IS", "IS NOT"):
        right = expr.right
        if (
            isinstance(right, Name)
            and right.instead is not None
            and right.column.upper() in ("TRUE", "FALSE")
        ):
            raise NotInDialect(f"{expr.operator} {right.column.upper()}")
