"""What a name in an expression stands for: a column, an output, something of an enclosing block."""

from groundql.decoding.scope.frames import (
    FROM,
    GROUP,
    HAVING,
    NO_NAMES,
    ORDER,
    SELECT,
    WHERE,
    Block,
    Frame,
    Mark,
    Out,
    block_of,
    outer_blocks,
    rebuilt,
    seen_by_aggregates,
)
from groundql.decoding.scope.names import Refusal, fold
from groundql.decoding.scope.obligations import (
    check_cover,
    declared_outside,
    demand,
    take_outside,
)

ALIAS_CLAUSES = frozenset([WHERE, GROUP, HAVING, ORDER])  # where the name of an output may be used


def use_bare(frame: Frame, key: str) -> Frame:
    """The stack after the bare name `key` (folded), or Refusal. It binds in its own block."""
    block = block_of(frame)
    if block.phase == SELECT:
        return _as_own(_with_bare(frame, block, key))
    n = sum(key in table.has for _, table in block.sources)
    if n > 1:
        raise Refusal(f"ambiguous column name: {key}")
    if block.phase == FROM:
        if n == 0 and block.join == "left":
            raise Refusal(f"no such column to the left: {key}")
        return _as_own(_with_bare(frame, block, key))
    if n == 1:
        return _as_own(frame)
    return _use_output(frame, key)


def use_pair(frame: Frame, alias: str, key: str) -> Frame:
    """The stack after `alias.key` (both folded), or Refusal."""
    block = block_of(frame)
    if block.phase == SELECT:
        n = declared_outside(block, alias, key)
        if n:
            frame = seen_by_aggregates(frame, n, (alias, key))
        else:
            changed = demand(block, alias, frozenset([key]))
            if changed is not block:
                frame = rebuilt(frame, 0, lambda _: changed)
        return _as_ref(frame, alias, key)
    table = block.source(alias)
    if table is not None and key in table.has:
        return _as_own(frame)
    if table is None and block.is_open() and not declared_outside(block, alias, key):
        changed = demand(block, alias, frozenset([key]))
        return rebuilt(frame, 0, lambda _: changed)
    return _as_ref(take_outside(frame, alias, key), alias, key)


def can_qualify(frame: Frame, alias: str, *, star: bool) -> bool:
    """Whether `alias.` can begin the name of a column here, or with `star` an `alias.*`."""
    block = block_of(frame)
    for each in (block, *outer_blocks(block)):
        table = each.source(alias)
        if table is not None and table.has:
            return True
        if table is None and each.is_open() and _can_demand(each, alias, star=star and each is block):
            return True
    return False


def _can_demand(block: Block, alias: str, *, star: bool) -> bool:
    need = block.pairs.get(alias, NO_NAMES)
    if not star and not block.catalog.candidates(alias, need) & block.catalog.named:
        return False
    try:
        demand(block, alias, NO_NAMES)
    except Refusal:
        return False
    return True


def find_output(block: Block, key: str) -> Out | None:
    """The first output with this alias."""
    for out in block.outs:
        if out.aliased and out.name is not None and fold(out.name) == key:
            return out
    return None


def _use_output(frame: Frame, key: str) -> Frame:
    block = block_of(frame)
    out = find_output(block, key)
    if out is not None and block.phase in ALIAS_CLAUSES:
        if out.agg and not frame.agg_ok:
            raise Refusal(f"misuse of aliased aggregate {key}")
        if out.win and not frame.win_ok:
            raise Refusal(f"misuse of aliased window function {key}")
        frame = _as_own(frame)
        if out.agg or out.win:
            frame = frame._replace(has_agg=frame.has_agg or out.agg, has_win=frame.has_win or out.win)
        return frame
    if _is_output_outside(frame, block, key):
        return frame
    raise Refusal(f"no such column in this block: {key}")


def _with_bare(frame: Frame, block: Block, key: str) -> Frame:
    """The stack after a bare name that a source of `block` is to bring, now or later."""
    if key in block.bare:
        return frame
    if block.phase == SELECT and _is_output_outside(frame, block, key):
        return rebuilt(frame, 0, lambda b: b._replace(loose=b.loose | {key}))
    changed = check_cover(block._replace(bare=block.bare | {key}), _unknown(block, key))
    return rebuilt(frame, 0, lambda _: changed)


def _is_output_outside(frame: Frame, block: Block, key: str) -> bool:
    """Whether an enclosing block has an output of this name that may be used where the subquery stands."""
    if isinstance(frame, Mark) and frame.tracked:
        return False
    inner = block
    for outer in outer_blocks(block):
        if outer.phase not in ALIAS_CLAUSES or any(key in table.has for _, table in outer.sources):
            return False
        out = find_output(outer, key)
        if out is not None:
            assert inner.up is not None
            return not out.win and (inner.up.agg_ok or not out.agg)
        inner = outer
    return False


def _as_own(frame: Frame) -> Frame:
    """The stack after a column of the innermost block: an aggregate around it is that block's."""
    if isinstance(frame, Mark) and frame.tracked and not frame.own_ref:
        return frame._replace(own_ref=True)
    return frame


def _as_ref(frame: Frame, alias: str, key: str) -> Frame:
    """The stack after a column that may be an enclosing block's."""
    if isinstance(frame, Mark) and frame.tracked:
        return frame._replace(refs=frame.refs | {(alias, key)})
    return frame


def _unknown(block: Block, key: str) -> str:
    if key not in block.catalog.holders:
        return f"no such column: {key}"
    return f"no sources have {key} beside what was named before"
