"""Any SQLite query of a data set to the canonical dialect: one spelling for everything, the same rows."""

from collections.abc import Iterator, Mapping
from itertools import count

from groundql.errors import NotInDialect
from groundql.prompts.dialect.bind import Binder
from groundql.prompts.dialect.joins import with_conditions
from groundql.prompts.dialect.read import read_query
from groundql.prompts.dialect.tree import Alias, Core, Cte, Expr, Name, Query, Star, actual, children
from groundql.prompts.dialect.write import final_name, write_query
from groundql.records import Schema

MAX_SOURCES = 6  # in one block
MAX_NUMBERS = {"T": 19, "c": 19, "Q": 9}
MAX_DEPTH = 10  # brackets in brackets


def canonical_sql(sql: str, schema: Schema) -> str:
    """`sql` in the canonical dialect (docs/dialect.md); the rows are the same, and a second pass changes nothing.

    Raises:
        NotInDialect: it is no query that binds on `schema`, or it has a form that the dialect lacks.
    """
    query = read_query(sql)
    binder = Binder(schema)
    try:
        binder.bind(query)
        for core in binder.cores:
            if len(core.sources) > MAX_SOURCES:
                raise NotInDialect(f"{len(core.sources)} tables in one block; the dialect has {MAX_SOURCES}")
            with_conditions(core)
        _give_aliases(query, binder.cores)
        text = write_query(query, lambda defined: _numbers(defined, schema))
    except RecursionError:
        raise NotInDialect("nested too deep") from None
    if (depth := bracket_depth(text)) > MAX_DEPTH:
        raise NotInDialect(f"brackets {depth} deep; the dialect has {MAX_DEPTH}")
    return text


def bracket_depth(text: str) -> int:
    """The largest number of brackets that are open at once, those in strings and quoted names not counted."""
    depth = deepest = 0
    quote = ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'`":
            quote = letter
        else:
            depth += (letter == "(") - (letter == ")")
            deepest = max(deepest, depth)
    return deepest


def _give_aliases(query: Query, cores: list[Core]) -> None:
    """An alias for each source and output that needs one."""
    for core in cores:
        if len(core.sources) > 1 or any(source.is_seen_inside for source in core.sources):
            for source in core.sources:
                source.alias = Alias("T")
        for item in core.items:
            expr = item.expr
            if isinstance(expr, Star) and len(core.sources) == 1:
                expr.source = None
    for cte in query.ctes:
        _name_outputs(cte)
    for one in _queries(query):
        exprs = [term.expr for term in one.order]
        for core in one.cores:
            exprs += [*core.group, *filter(None, (core.where, core.having))]
        for expr in exprs:
            for name in _names(expr):
                if name.item is not None and name.item.alias is None:
                    name.item.alias = Alias("c")


def _name_outputs(cte: Cte) -> None:
    """Each output of a CTE has a name of its own: that of a plain column, else an alias."""
    core = cte.query.cores[0]
    seen: set[str | Alias] = set()
    for item in core.items:
        expr = actual(item.expr)
        if isinstance(expr, Star):
            for source in [expr.source] if expr.source else core.sources:
                seen |= {_folded(final_name(column)) for column in source.columns.values()}
            continue
        name = _folded(final_name(expr.bound)) if isinstance(expr, Name) and expr.bound else None
        if name is None or name in seen:
            item.alias = Alias("c")
        else:
            seen.add(name)


def _folded(name: str | Alias) -> str | Alias:
    return name.lower() if isinstance(name, str) else name


def _queries(query: Query) -> Iterator[Query]:
    """The query, its CTEs and all queries within."""
    yield query
    for cte in query.ctes:
        yield from _queries(cte.query)
    for core in query.cores:
        exprs = [item.expr for item in core.items] + [source.on for source in core.sources if source.on]
        exprs += [*core.group, *filter(None, (core.where, core.having))]
        for expr in exprs:
            yield from _inner_queries(expr)
    for term in query.order:
        yield from _inner_queries(term.expr)


def _inner_queries(expr: Expr | Query) -> Iterator[Query]:
    if isinstance(expr, Query):
        yield from _queries(expr)
        return
    for child in children(expr):
        yield from _inner_queries(child)


def _names(expr: Expr | Query) -> Iterator[Name]:
    """Names of an expression, not those of queries in it."""
    if isinstance(expr, Name):
        yield expr
    if isinstance(expr, Expr):
        for child in children(expr):
            yield from _names(child)


def _numbers(defined: list[Alias], schema: Schema) -> Mapping[Alias, str]:
    """T1, T2, ... in the order of definition; a number that the schema has as a name is passed over."""
    taken = {table.name.lower() for table in schema.tables}
    taken |= {column.name.lower() for table in schema.tables for column in table.columns}
    numbers = {kind: _free_names(kind, taken) for kind in MAX_NUMBERS}
    names = {alias: next(numbers[alias.kind]) for alias in defined}
    for name in names.values():
        if int(name[1:]) > MAX_NUMBERS[name[0]]:
            raise NotInDialect(f"more than {MAX_NUMBERS[name[0]]} aliases {name[0]}1, {name[0]}2, ...")
    return names


def _free_names(kind: str, taken: set[str]) -> Iterator[str]:
    return (f"{kind}{n}" for n in count(1) if f"{kind}{n}".lower() not in taken)
