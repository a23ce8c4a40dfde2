"""Whether a word that may still grow can become one that fits: it is enough that one completion does."""

import functools
from collections.abc import Iterable

from groundql.decoding.scope import clauses, expressions
from groundql.decoding.scope.calls import TYPE, TYPES, Functions
from groundql.decoding.scope.frames import ORDER, Aux, Block, Frame, block_of, outer_blocks
from groundql.decoding.scope.functions import deployed_functions
from groundql.decoding.scope.names import SOURCE_ALIASES, Catalog, Refusal, fold, is_source_alias, keys_from
from groundql.decoding.scope.references import can_qualify
from groundql.decoding.scope.steps import step
from groundql.prompts.render import quoted

OPERAND_WORDS = (
    *("NOT", "NULL", "CASE", "EXISTS", "SELECT", "DISTINCT", "WITH", "WHEN"),
    *("CURRENT_DATE", "CURRENT_TIME", "CURRENT_TIMESTAMP"),
)
OTHER_WORDS = (
    *("AND", "OR", "AS", "FROM", "WHERE", "GROUP", "ORDER", "BY", "IN", "IS", "NOT", "LIKE", "BETWEEN"),
    *("JOIN", "ON", "LEFT", "INNER", "CROSS", "OUTER", "HAVING", "LIMIT", "OFFSET", "DESC", "ASC"),
    *("UNION", "INTERSECT", "EXCEPT", "ALL", "SELECT", "WITH", "NULLS", "FIRST", "LAST"),
    *("WHEN", "THEN", "ELSE", "END", "OVER", "PARTITION", "GLOB", "ESCAPE"),
)


def can_grow(
    functions: Functions, frame: Frame, at: str, aux: Aux, written: str, callable_names: tuple[str, ...]
) -> bool:
    """Whether some word that starts with `written`, spelled as the dialect spells it, fits here.

    `written` is a word or begins with a back-tick; `callable_names` are the functions that may be meant, sorted.
    """
    is_name = written.startswith("`")
    if at in expressions.OPERAND_AT:
        return _operand_can_grow(functions, frame, at, written, callable_names)
    catalog = block_of(frame).catalog
    if at == clauses.DOT:
        keys = keys_from(catalog.column_spellings, written)
        return any(_fits(functions, frame, at, aux, "q", key) for key in keys)
    if at == clauses.SOURCE:
        keys = keys_from(catalog.table_spellings, written)
        return any(_fits(functions, frame, at, aux, "q", key) for key in keys)
    if at in (clauses.OUT_NAME, clauses.CTE_NAME):
        return at == clauses.OUT_NAME or fold(written) not in block_of(frame).cte_keys
    if is_name:
        return False
    if at == clauses.SOURCE_ALIAS:
        words: Iterable[str] = SOURCE_ALIASES
    elif at == TYPE:
        words = TYPES
    else:
        words = OTHER_WORDS
    return any(word.startswith(written) and _fits(functions, frame, at, aux, "w", word) for word in words)


def _operand_can_grow(
    functions: Functions, frame: Frame, at: str, written: str, callable_names: tuple[str, ...]
) -> bool:
    block = block_of(frame)
    if frame is block and block.compound and block.phase == ORDER:
        return _compound_term_can_grow(block, written)
    if written[0] != "`":
        for word in OPERAND_WORDS:
            if word.startswith(written) and _fits(functions, frame, at, None, "w", word):
                return True
        for word in _kinds_of_call(callable_names, written):
            if _fits(functions, frame, at, None, "c", word):
                return True
    if _a_bare_name_fits(functions, frame, at, written):
        return True
    star = at == clauses.FIRST and isinstance(frame, Block)
    return any(can_qualify(frame, alias, star=star) for alias in _qualifiers(block, written))


def _a_bare_name_fits(functions: Functions, frame: Frame, at: str, written: str) -> bool:
    block = block_of(frame)
    for key in keys_from(block.catalog.column_spellings, written):
        if _fits(functions, frame, at, None, "q", key):
            return True
    outs = (out for each in (block, *outer_blocks(block)) for out in each.outs if out.aliased)
    names = (out.name for out in outs if out.name is not None and out.name.startswith(written))
    return any(_fits(functions, frame, at, None, "q", name) for name in names)


def _qualifiers(block: Block, written: str) -> Iterable[str]:
    """Folded names before a dot that start with `written` and may be declared here or further out."""
    blocks = (block, *outer_blocks(block))
    for each in blocks:
        for alias, _ in each.sources:
            if _alias_spelling(each.catalog, alias).startswith(written):
                yield alias
    if any(each.is_open() for each in blocks):
        yield from (fold(alias) for alias in SOURCE_ALIASES if alias.startswith(written))
        yield from keys_from(block.catalog.table_spellings, written)


def _compound_term_can_grow(block: Block, written: str) -> bool:
    if any(key in block.names for key in keys_from(block.catalog.column_spellings, written)):
        return True
    for name in block.names:
        if isinstance(name, tuple):
            if _alias_spelling(block.catalog, name[0]).startswith(written):
                return True
        elif name not in block.catalog.holders and name.startswith(written):
            return True
    return False


def _alias_spelling(catalog: Catalog, alias: str) -> str:
    table = catalog.find(alias)
    if table is not None and not is_source_alias(alias):
        return quoted(table.name)
    return alias.upper()


@functools.lru_cache(4096)
def _kinds_of_call(names: tuple[str, ...], written: str) -> tuple[str, ...]:
    """Of the functions that start so, one of each kind: which of them it is makes no difference to scope."""
    found: dict[object, str] = {}
    for name in names:
        if name.startswith(written):
            function = deployed_functions().get(name)
            kind = None if function is None else (bool(function.scalar), function.window_only)
            found.setdefault(kind, name)
    return tuple(found.values())


def _fits(functions: Functions, frame: Frame, at: str, aux: Aux, kind: str, text: str) -> bool:
    try:
        step(functions, frame, at, aux, kind, text)
    except Refusal:
        return False
    return True
