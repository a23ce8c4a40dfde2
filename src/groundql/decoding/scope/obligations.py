"""Sources: what they must still bring, declaring them, and the check when FROM is complete."""

from collections import Counter

from groundql.decoding.scope.cover import Need, coverable
from groundql.decoding.scope.frames import (
    CTE,
    FROM,
    HAVING,
    NO_NAMES,
    NO_PAIRS,
    SELECT,
    Block,
    Frame,
    Out,
    Pair,
    Plain,
    block_of,
    frame_in,
    outer_blocks,
    rebuilt,
    seen_by_aggregates,
    with_aggregate_outside,
)
from groundql.decoding.scope.names import MAX_SOURCES, SOURCE_ALIASES, Refusal, Table, fold, is_source_alias

FOLDED_ALIASES = tuple(fold(alias) for alias in SOURCE_ALIASES)


def check_cover(block: Block, why: str) -> Block:
    """`block` where sources to come can still bring all that it has named; Refusal(why) else."""
    if not is_coverable(block):
        raise Refusal(why)
    return block


def is_coverable(block: Block) -> bool:
    """Whether some FROM clause, going on from where it stands, brings all that the block has named."""
    if not block.pairs and not block.strict and not block.bare:
        return True
    slots = MAX_SOURCES - len(block.sources)
    taken = tuple(table for _, table in block.sources)
    needs: list[Need] = []
    declared = {alias for alias, _ in block.sources}
    for alias, need in block.pairs.items():
        if alias not in declared and alias not in block.strict:
            needs.append((alias, need, may_be_outside(block, alias, need)))
    for alias, need in block.strict.items():
        if alias not in declared:
            both = need | block.pairs.get(alias, NO_NAMES)
            if both != need and may_be_outside(block, alias, both - need):
                both = need
            needs.append((alias, both, False))
    return coverable(block.catalog, taken, frozenset(needs), block.bare, slots)


def may_be_outside(block: Block, alias: str, need: frozenset[str]) -> bool:
    """Whether an enclosing block whose FROM is still to come can bring these columns."""
    for outer in outer_blocks(block):
        if outer.is_open() and outer.source(alias) is None:
            both = outer.pairs.get(alias, NO_NAMES) | need
            if is_coverable(outer._replace(pairs={**outer.pairs, alias: both})):
                return True
    return False


def declared_outside(block: Block, alias: str, column: str) -> int:
    """How many blocks out a source of this alias with this column has been declared; 0: nowhere."""
    for n, outer in enumerate(outer_blocks(block), start=1):
        table = outer.source(alias)
        if table is not None and column in table.has:
            return n
    return 0


def demand(block: Block, alias: str, need: frozenset[str], *, strict: bool = False) -> Block:
    """`block` with the obligation to declare `alias` with these columns, or Refusal."""
    known = (block.strict if strict else block.pairs).get(alias)
    if known is not None and need <= known:
        return block
    both = {alias: need if known is None else known | need}
    if strict:
        block = block._replace(strict={**block.strict, **both})
    else:
        block = block._replace(pairs={**block.pairs, **both})
    table = block.source(alias)
    if table is not None and (strict or not may_be_outside(block, alias, need - table.has)):
        if not need <= table.has:
            raise Refusal(f"no such column: {alias}.{min(need - table.has)}")
        return block
    return check_cover(block, _missing(alias, need))


def take_outside(frame: Frame, alias: str, column: str) -> Frame:
    """The stack after `alias.column`, which the innermost block lacks, has been bound further out; Refusal else."""
    block = block_of(frame)
    outers = outer_blocks(block)
    for n, outer in enumerate(outers, start=1):
        table = outer.source(alias)
        if table is not None and column in table.has:
            return seen_by_aggregates(_barred(frame, n, (alias, column)), n, (alias, column))
    for n, outer in enumerate(outers, start=1):
        if outer.is_open() and outer.source(alias) is None:
            try:
                changed = demand(outer, alias, frozenset([column]))
            except Refusal:
                continue
            frame = _barred(frame, n, (alias, column))
            frame = rebuilt(frame, n, lambda _, changed=changed: changed)  # type: ignore[misc]
            certain = not is_outside(outer, alias, column)
            return seen_by_aggregates(frame, n, (alias, column), certain=certain)
    raise Refusal(_no_column(block, alias, column))


def _barred(frame: Frame, n: int, pair: Pair) -> Frame:
    """The stack with `pair` bound n blocks out, so that no block between may declare it right of a LEFT JOIN."""
    for k, between in enumerate((block_of(frame), *outer_blocks(block_of(frame))[: n - 1])):
        if between.phase == FROM and between.join == "left" and pair not in between.barred:
            frame = rebuilt(frame, k, lambda b: b._replace(barred=b.barred | {pair}))
    return frame


def declare(block: Block, alias: str, table: Table) -> Block:
    """`block` with one source more, or Refusal."""
    if block.source(alias) is not None:
        raise Refusal(f"two sources are called {alias}")
    if len(block.sources) >= MAX_SOURCES:
        raise Refusal(f"more than {MAX_SOURCES} sources in one block")
    for name in block.bare | block.loose:
        if name in table.has and any(name in other.has for _, other in block.sources):
            raise Refusal(f"ambiguous column name: {name}")
    for barred, column in block.barred:
        if barred == alias and column in table.has:
            raise Refusal(f"ON of a LEFT JOIN names {alias}.{column}, which stands to its right")
    lacking = block.strict.get(alias, NO_NAMES) - table.has
    if lacking:
        raise Refusal(f"no such column: {alias}.{min(lacking)}")
    lacking = block.pairs.get(alias, NO_NAMES) - table.has
    if lacking and not may_be_outside(block, alias, lacking):
        raise Refusal(f"no such column: {alias}.{min(lacking)}")
    block = block._replace(sources=(*block.sources, (alias, table)), pend=None)
    check_stars(block, complete=True)
    return check_cover(block, f"with {alias} as {table.name} some name used before cannot be found")


def check_stars(block: Block, *, complete: bool = False) -> None:
    """Refusal where its stars cannot give the columns that the block must have, whatever sources are still to come.

    `complete`: no further item will be written. Where * and alias.* stand side by side this looks at each alone.
    """
    if not block.limit or all(out.star is None for out in block.outs):
        return
    totals = {sum(out.star is None for out in block.outs)}
    for alias, n in Counter(out.star for out in block.outs if out.star).items():
        table = block.source(alias)
        widths = {table.width} if table is not None else _star_widths(block, alias)
        totals = {total + n * width for total in totals for width in widths}
    totals = {total for total in totals if total <= block.limit}
    n_all = sum(out.star == "" for out in block.outs)
    declared = sum(table.width for _, table in block.sources)
    for total in totals:
        rest = block.limit - total - n_all * declared
        if n_all == 0:
            fits = rest == 0 or (rest > 0 and not complete)
        elif not complete:
            fits = rest >= n_all * min(block.catalog.widths, default=1)
        else:
            slots = MAX_SOURCES - len(block.sources)
            more = block.catalog.can_sum_to(rest // n_all, slots) if rest > 0 and rest % n_all == 0 else False
            fits = more or (rest == 0 and declared > 0)
        if fits:
            return
    raise Refusal(f"stars cannot give {block.limit} columns")


def _star_widths(block: Block, alias: str) -> set[int]:
    need = block.strict.get(alias, NO_NAMES) | block.pairs.get(alias, NO_NAMES)
    bits = block.catalog.candidates(alias, need)
    return {table.width for n, table in enumerate(block.catalog.tables) if bits >> n & 1}


def passed_over(block: Block) -> tuple[str, int]:
    """(alias, n): an alias that waits for its source, and how many sources of higher number stand in its place.

    The dialect numbers sources in their order, so none is ever passed over where the model knows what it wants: it was
    kept from giving that alias to the table that it meant. ("", 0) where there is none.
    """
    if block.phase != FROM or not (block.pairs or block.strict):
        return "", 0
    declared = {alias for alias, _ in block.sources}
    found = "", 0
    for alias in (block.pairs.keys() | block.strict.keys()) - declared:
        if not is_source_alias(alias) or declared_outside_at_all(block, alias):
            continue
        beyond = sum(is_source_alias(other) and int(other[1:]) > int(alias[1:]) for other in declared)
        if beyond > found[1]:
            found = alias, beyond
    return found


def declared_outside_at_all(block: Block, alias: str) -> bool:
    """Whether an enclosing block has a source of this alias, or may yet have one."""
    return any(outer.is_open() or outer.source(alias) is not None for outer in outer_blocks(block))


def can_declare(block: Block, alias: str, table: Table) -> bool:
    """Whether the block can have `table` under this alias."""
    try:
        declare(block, alias, table)
    except Refusal:
        return False
    return True


def alias_choices(block: Block) -> list[str]:
    """Aliases worth a trial: one that nothing has named, then those that were named and wait for their source."""
    used = {alias for alias, _ in block.sources} | block.pairs.keys() | block.strict.keys()
    fresh = [alias for alias in FOLDED_ALIASES if alias not in used]
    waiting = (block.pairs.keys() | block.strict.keys()) - {alias for alias, _ in block.sources}
    return fresh[:1] + sorted(alias for alias in waiting if alias in FOLDED_ALIASES)


def can_take(block: Block, table: Table) -> bool:
    """Whether `table` can be the next source, under its own name or some alias."""
    if can_declare(block, table.key, table):
        return True
    if not block.pairs and not block.strict and block.source(table.key) is None:
        return False  # nothing names an alias, so another one changes nothing
    return can_take_with_alias(block, table)


def can_take_with_alias(block: Block, table: Table) -> bool:
    """Whether `table` can be the next source under some T1 to T19."""
    return any(can_declare(block, alias, table) for alias in alias_choices(block))


def can_take_any(block: Block) -> bool:
    """Whether one more source is possible."""
    if len(block.sources) >= MAX_SOURCES:
        return False
    return any(can_take(block, table) for table in block.catalog.tables)


def leave_from(frame: Frame) -> Frame:
    """The stack when the sources of its innermost block are complete: every name must have found its own.

    The frame on top is that block. Stars are spelt out, and each aggregate gets its owner.
    """
    block = block_of(frame)
    for name in block.bare:
        n = sum(name in table.has for _, table in block.sources)
        if n != 1:
            raise Refusal(f"{'ambiguous column name' if n else 'no such column'}: {name}")
    for alias, need in block.strict.items():
        table = block.source(alias)
        if table is None or not need <= table.has:
            raise Refusal(f"no such table: {alias}" if table is None else _missing(alias, need - table.has))
    for alias, need in block.pairs.items():
        table = block.source(alias)
        for column in sorted(need if table is None else need - table.has):
            frame = take_outside(frame, alias, column)
        if table is None and not need:
            raise Refusal(f"no such table: {alias}")
    for n_out, refs in block.maybe:
        frame = _settle_aggregate(frame, n_out, refs)
    block = block_of(frame)
    outs = spelt_out(block)
    if block.limit and len(outs) != block.limit:
        raise Refusal(f"{len(outs)} output columns where {block.limit} are expected")
    changed = block._replace(
        outs=outs, agg=any(out.agg for out in outs), maybe=(), pairs=NO_PAIRS, strict=NO_PAIRS
    )
    return rebuilt(frame, 0, lambda _: changed)


def spelt_out(block: Block) -> tuple[Out, ...]:
    """The outputs of a block whose sources are known: each star replaced by its columns, names as spelled."""
    if block.kind != CTE and all(out.star is None for out in block.outs):
        return block.outs
    found: list[Out] = []
    for out in block.outs:
        if out.star is None:
            found.append(
                out if out.aliased or out.ref is None else out._replace(name=_spelled(block, out.ref))
            )
            continue
        if not block.sources:
            raise Refusal("no tables specified for *")
        for alias, table in block.sources:
            if out.star in ("", alias):
                found += [Out(column, True, ref=Plain(alias, fold(column))) for column in table.columns]
                found += [Out(None)] * (table.width - len(table.columns))
    return tuple(found)


def _spelled(block: Block, ref: Plain) -> str:
    """A column as its table spells it."""
    for alias, table in block.sources:
        if ref.alias in (None, alias) and ref.key in table.has:
            return table.spelled[ref.key]
    return ref.key  # a column of an enclosing block


def own_aggregate(block: Block, refs: frozenset[Pair]) -> bool:
    """Whether an aggregate over these columns is the block's own: it names one of its columns, or none at all."""
    for alias, column in refs:
        table = block.source(alias)
        if table is not None and column in table.has:
            return True
    return not refs


def owner_outside(block: Block, refs: frozenset[Pair]) -> int:
    """How many blocks out the owner of an aggregate over `refs` is that the block does not own; 0: not known yet."""
    for n, outer in enumerate(outer_blocks(block), start=1):
        if outer.is_open():
            return 0 if outer.phase == FROM else n
        if own_aggregate(outer, refs):
            return n
    return 0


def give_aggregate_outside(frame: Frame, refs: frozenset[Pair]) -> Frame:
    """The stack when an aggregate of its innermost block turns out to be an enclosing block's."""
    block = block_of(frame)
    n = owner_outside(block, refs)
    if n == 0 or not frame_in(frame, n).agg_ok:
        raise Refusal("misuse of aggregate: its columns are those of an enclosing query")
    owner = outer_blocks(block)[n - 1]
    if owner.phase == SELECT and all(is_outside(owner, *ref) for ref in refs):
        maybe = (len(owner.outs), refs)
        return rebuilt(frame, n, lambda b: b._replace(maybe=(*b.maybe, maybe)))
    if owner.windows and owner.phase != HAVING:
        raise Refusal("misuse of aggregate: a subquery holds it, and its query has a window function")
    return with_aggregate_outside(frame, n)


def is_outside(block: Block, alias: str, column: str) -> bool:
    """Whether an enclosing block has this column, or may yet bring it."""
    return declared_outside(block, alias, column) > 0 or may_be_outside(block, alias, frozenset([column]))


def _settle_aggregate(frame: Frame, n_out: int, refs: frozenset[Pair]) -> Frame:
    block = block_of(frame)
    if not own_aggregate(block, refs):
        return give_aggregate_outside(frame, refs)
    outs = list(block.outs)
    outs[n_out] = outs[n_out]._replace(agg=True)
    return rebuilt(frame, 0, lambda b: b._replace(outs=tuple(outs)))


def _missing(alias: str, need: frozenset[str]) -> str:
    return f"no table has {', '.join(f'{alias}.{column}' for column in sorted(need))}"


def _no_column(block: Block, alias: str, column: str) -> str:
    if block.source(alias) is None and block.phase != SELECT:
        return f"no such table or alias: {alias}"
    return f"no such column: {alias}.{column}"
