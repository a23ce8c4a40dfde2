"""Copies and compares expressions, before and after their names are bound."""

from dataclasses import fields, is_dataclass, replace
from typing import Any

from groundql.errors import NotInDialect
from groundql.prompts.dialect.tree import Column, Expr, Item, Name, Query, Source, actual


def duplicate(expr: Expr) -> Expr:
    """A copy of a bound or unbound expression whose names may be bound anew; NotInDialect where it holds a query."""
    return _copied(expr)  # type: ignore[no-any-return]  # a copy is of the type copied


def _copied(value: Any) -> Any:
    if isinstance(value, Query):
        raise NotInDialect("an alias of a query is used inside another query")
    if isinstance(value, Name):
        return replace(value, instead=_copied(value.instead))
    if isinstance(value, list | tuple):
        return type(value)(_copied(one) for one in value)
    if is_dataclass(value) and not isinstance(value, type | Source | Item | Column):
        return replace(value, **{part.name: _copied(getattr(value, part.name)) for part in fields(value)})
    return value


def is_same(one: Any, other: Any) -> bool:
    """Whether two bound expressions say the same; queries never do."""
    if isinstance(one, Expr) and isinstance(other, Expr):
        one, other = actual(one), actual(other)
    if type(one) is not type(other) or isinstance(one, Query):
        return False
    if isinstance(one, Name):
        if one.bound is None or other.bound is None:
            return one.item is not None and one.item is other.item
        return one.source is other.source and one.bound.written.lower() == other.bound.written.lower()
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(is_same, one, other))
    if is_dataclass(one):
        return all(is_same(getattr(one, part.name), getattr(other, part.name)) for part in fields(one))
    return bool(one == other)
