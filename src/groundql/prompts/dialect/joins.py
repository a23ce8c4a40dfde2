"""Gives every join its condition: a comma, CROSS JOIN or JOIN without ON takes it from WHERE."""

from groundql.prompts.dialect.tree import Binary, Core, Expr, Name, Query, Source, Star, walk


def with_conditions(core: Core) -> None:
    """Change the block's joins so that each is `JOIN ... ON`, `LEFT JOIN ... ON` or `CROSS JOIN`; the rows stay.

    An equation of WHERE that links a source without ON to sources before it moves there. Where none does, sources are
    put in another order if that helps and the order shows nowhere; what then has none is a CROSS JOIN.
    """
    if all(source.on for source in core.sources[1:]):
        for source in core.sources[1:]:
            source.join = "LEFT JOIN" if source.join == "LEFT JOIN" else "JOIN"
        return
    is_inner = all(source.join != "LEFT JOIN" for source in core.sources)
    conditions = conjuncts(core.where)
    equations = [one for one in conditions if _is_equation(one, core)]
    pool = list(equations)
    rest = [one for one in conditions if one not in equations]
    if is_inner:
        for source in core.sources:
            pool += conjuncts(source.on)
            source.on = None
        if not any(isinstance(item.expr, Star) for item in core.items):
            _reorder(core, pool)
    for number, source in enumerate(core.sources[1:], start=1):
        if source.on:
            continue
        before = core.sources[: number + 1]
        own = [one for one in pool if _links(one, source, before, core)]
        if number == len(core.sources) - 1 and is_inner:
            own += [one for one in pool if one not in own and one not in equations]
        pool = [one for one in pool if one not in own]
        source.on = conjunction(own)
        source.join = "JOIN" if own else "CROSS JOIN"
    core.where = conjunction([one for one in conditions if one in rest or one in pool])


def conjuncts(expr: Expr | None) -> list[Expr]:
    """The parts that AND joins; none for None."""
    if isinstance(expr, Binary) and expr.operator == "AND":
        return conjuncts(expr.left) + conjuncts(expr.right)
    return [expr] if expr else []


def conjunction(parts: list[Expr]) -> Expr | None:
    """The parts joined by AND; None for none."""
    whole: Expr | None = None
    for part in parts:
        whole = Binary("AND", whole, part) if whole else part
    return whole


def _own_sources(expr: Expr, core: Core) -> set[int]:
    """Positions of the block's sources that an expression names."""
    named = {id(one.source) for one in walk(expr) if isinstance(one, Name) and one.source}
    return {number for number, source in enumerate(core.sources) if id(source) in named}


def _is_equation(expr: Expr, core: Core) -> bool:
    is_equal = isinstance(expr, Binary) and expr.operator == "="
    is_plain = not any(isinstance(one, Query) or (isinstance(one, Name) and one.item) for one in walk(expr))
    return is_equal and is_plain and len(_own_sources(expr, core)) > 1


def _links(expr: Expr, source: Source, before: list[Source], core: Core) -> bool:
    """Whether a condition names `source` and else only sources before it."""
    named = [core.sources[number] for number in _own_sources(expr, core)]
    return len(named) > 1 and source in named and all(one in before for one in named)


def _reorder(core: Core, pool: list[Expr]) -> None:
    """Put next, each time, the first source that a condition links to those already there."""
    left = core.sources[1:]
    ordered = core.sources[:1]
    while left:
        linked = (one for one in left if any(_links(c, one, [*ordered, one], core) for c in pool))
        chosen = next(linked, left[0])
        ordered.append(chosen)
        left.remove(chosen)
    core.sources = ordered
    for number, source in enumerate(ordered):
        source.join = "JOIN" if number else ""
