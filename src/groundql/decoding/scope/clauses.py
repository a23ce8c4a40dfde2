"""The clauses of a block: what may follow what, and what each boundary checks."""

from groundql.decoding.scope.frames import (
    CTE,
    FROM,
    GROUP,
    HAVING,
    LIMIT,
    MAX_DEPTH,
    NO_NAMES,
    ORDER,
    SELECT,
    START,
    TOP,
    WHERE,
    WITH,
    Aux,
    Block,
    Frame,
    Ordinal,
    Out,
    OutputOnly,
    Pair,
    Plain,
    Zero,
    block_of,
)
from groundql.decoding.scope.names import (
    MAX_SOURCES,
    Refusal,
    fold,
    is_reserved,
    is_source_alias,
    make_table,
)
from groundql.decoding.scope.obligations import (
    can_take,
    can_take_any,
    can_take_with_alias,
    check_stars,
    declare,
    demand,
    leave_from,
)

# What is expected next. The first four are for expressions.py; the rest is here.
FIRST, OPERAND, AFTER, DOT = "first", "operand", "after", "dot"
STARTING, SETOP, CTE_NAME, CTE_AS, CTE_OPEN, CTE_NEXT = (
    "starting", "setop", "cte name", "cte as", "cte open", "cte next"
)  # fmt: skip
OUT_NAME, NAMED, STARRED = "output name", "named", "starred"
SOURCE, SOURCE_NAMED, SOURCE_ALIAS, SOURCE_DONE, JOINING = (
    "source", "source named", "source alias", "source done", "joining"
)  # fmt: skip
BY, DIRECTED, NULLS, LIMIT_N, LIMITED, OFFSET_N, COMPLETE, ENDED = (
    "by", "directed", "nulls", "limit n", "limited", "offset n", "complete", "ended"
)  # fmt: skip

Moved = tuple[Frame, str, Aux]
SET_WORDS = frozenset(["UNION", "INTERSECT", "EXCEPT"])
JOIN_WORDS = frozenset(["JOIN", "INNER", "LEFT", "CROSS"])
_ORDER_OF = {SELECT: 0, FROM: 1, WHERE: 2, GROUP: 3, HAVING: 4, ORDER: 5, LIMIT: 6}


def start(frame: Frame, aux: Aux, kind: str, text: str) -> Moved:
    """The first word of a block or of a further operand: SELECT or WITH."""
    block = block_of(frame)
    word = text.upper() if kind == "w" else ""
    if word == "ALL" and aux == "UNION":
        return block, SETOP, "ALL"
    if word == "SELECT":
        return _enter(block, SELECT), FIRST, None
    if word == "WITH" and not block.compound and block.phase == START:
        return block._replace(phase=WITH), CTE_NAME, None
    raise Refusal("a query starts with SELECT or WITH")


def cte(frame: Frame, at: str, kind: str, text: str) -> Moved:
    """WITH: a name, AS, the parenthesis, and what follows it."""
    block = block_of(frame)
    if at == CTE_NAME and kind in "wq":
        key = fold(text)
        if key in block.cte_keys or (kind == "w" and is_reserved(text.upper())):
            raise Refusal(f"{text} cannot be the name of a CTE here")
        return block._replace(cte_name=text, cte_keys=block.cte_keys | {key}), CTE_AS, None
    if at == CTE_AS and kind == "w" and text.upper() == "AS":
        return block, CTE_OPEN, None
    if at == CTE_OPEN and text == "(" and kind == "o":
        body = Block(block, CTE, deeper(block), block.catalog.without(fold(block.cte_name)))
        return body, STARTING, None
    if at == CTE_NEXT and kind == "o" and text == ",":
        return block, CTE_NAME, None
    if at == CTE_NEXT and kind == "w" and text.upper() == "SELECT":
        return _enter(block, SELECT), FIRST, None
    raise Refusal(f"{at} expected")


def output_name(frame: Frame, aux: Aux, kind: str, text: str) -> Moved:
    """The alias of an output, after AS."""
    block = block_of(frame)
    if kind not in "wq" or (kind == "w" and is_reserved(text.upper())):
        raise Refusal("a name for the output expected")
    ref = aux if isinstance(aux, Plain) else None
    return _with_out(block, Out(text, True, block.has_agg, block.has_win, ref)), NAMED, None


def starred(frame: Frame, alias: str | None) -> Moved:
    """The stack after * or alias.* as an item."""
    block = block_of(frame)
    if alias is not None:
        block = demand(block, alias, NO_NAMES, strict=True)
    block = _with_out(block, Out(None, star=alias or ""))
    check_stars(block)
    return block, STARRED, None


def source(frame: Frame, kind: str, text: str) -> Moved:
    """The name of a table or CTE in FROM."""
    block = block_of(frame)
    table = block.catalog.find(fold(text)) if kind in "wq" else None
    if table is None or (kind == "w" and is_reserved(text.upper())):
        raise Refusal(f"no such table: {text}")
    if not can_take(block, table):
        raise Refusal(f"with {text} as a source the names used before cannot all be found")
    return block._replace(pend=table), SOURCE_NAMED, None


def source_named(frame: Frame, aux: Aux, kind: str, text: str) -> Moved:
    """After a table's name: AS, or it keeps its name."""
    block = block_of(frame)
    table = block.pend
    assert table is not None
    if kind == "w" and text.upper() == "AS":
        if not can_take_with_alias(block, table):
            raise Refusal(f"{table.name} cannot have an alias here")
        return block, SOURCE_ALIAS, None
    return source_done(declare(block, table.key, table), aux, kind, text)


def source_alias(frame: Frame, kind: str, text: str) -> Moved:
    """The alias of a source: T1 to T19."""
    block = block_of(frame)
    assert block.pend is not None
    key = fold(text)
    if kind != "w" or not is_source_alias(key):
        raise Refusal(f"{text} is not an alias T1 to T19")
    return declare(block, key, block.pend), SOURCE_DONE, None


def source_done(frame: Frame, aux: Aux, kind: str, text: str) -> Moved:
    """After a complete source: ON, or what follows FROM."""
    block = block_of(frame)
    if kind == "w" and text.upper() == "ON" and block.join:
        return block, FIRST, None
    return boundary(block, SOURCE_DONE, aux, kind, text)


def joining(frame: Frame, aux: Aux, kind: str, text: str) -> Moved:
    """The rest of LEFT OUTER JOIN, INNER JOIN, CROSS JOIN."""
    word = text.upper() if kind == "w" else ""
    if word == "OUTER" and aux == "LEFT":
        return frame, JOINING, "OUTER"
    if word == "JOIN":
        return frame, SOURCE, None
    raise Refusal("JOIN expected")


def by(frame: Frame, kind: str, text: str) -> Moved:
    """BY after GROUP, ORDER, PARTITION."""
    if kind == "w" and text.upper() == "BY":
        return frame, FIRST, None
    raise Refusal("BY expected")


def limit(frame: Frame, at: str, kind: str, text: str) -> Moved:
    """The number after LIMIT or OFFSET."""
    if kind == "n" and text.isdigit():
        return frame, LIMITED if at == LIMIT_N else COMPLETE, None
    raise Refusal("a number expected")


def nulls(frame: Frame, kind: str, text: str) -> Moved:
    """FIRST or LAST after NULLS."""
    if kind == "w" and text.upper() in ("FIRST", "LAST"):
        return frame, DIRECTED, "nulls"
    raise Refusal("FIRST or LAST expected")


def direction(frame: Frame, at: str, aux: Aux, word: str) -> Moved | None:
    """ASC, DESC and NULLS after a term of an ORDER BY; None for any other word."""
    if at == AFTER and word in ("ASC", "DESC"):
        return frame, DIRECTED, None
    if word == "NULLS" and (at == AFTER or aux != "nulls"):
        return frame, NULLS, None
    return None


def boundary(frame: Frame, at: str, aux: Aux, kind: str, text: str) -> Moved:
    """What may follow a complete item, source, condition or term at the level of its block."""
    block = block_of(frame)
    if kind == "w":
        word = text.upper()
        if block.phase == ORDER and at in (AFTER, DIRECTED):
            moved = direction(block, at, aux, word)
            if moved is not None:
                return _ended(block, aux) if at == AFTER else block, moved[1], moved[2]
        if word == "AS" and block.phase == SELECT and at == AFTER:
            if block.between:
                raise Refusal("BETWEEN without AND")
            return block, OUT_NAME, aux
        if at == LIMITED and word == "OFFSET":
            return block, OFFSET_N, None
    if at == AFTER:
        block = _ended(block, aux)
    if kind == "w":
        return _clause_word(block, word)
    if kind == "o" and text == ",":
        return _next_item(block)
    if kind == "o" and text == ")" and block.kind != TOP:
        return _closed(block)
    if (kind == "e" or (kind == "o" and text == ";")) and block.kind == TOP:
        return _core_done(block), ENDED, None
    raise Refusal(f"{text or 'the end'} cannot stand here")


def _ended(block: Block, aux: Aux) -> Block:
    """The block after a complete expression at its level."""
    if block.between:
        raise Refusal("BETWEEN without AND")
    if block.phase == SELECT:
        ref = aux if isinstance(aux, Plain) else None
        return _with_out(block, Out(ref and ref.key, False, block.has_agg, block.has_win, ref))
    if block.phase in (GROUP, ORDER) and isinstance(aux, Zero):
        raise Refusal("... AND 0, which SQLite takes for column 0")
    if block.phase in (GROUP, ORDER) and isinstance(aux, Ordinal):
        if not 1 <= aux.n <= len(block.outs):
            raise Refusal(f"{block.phase.upper()} BY {aux.n}: there are {len(block.outs)} output columns")
        if block.phase == GROUP and (block.outs[aux.n - 1].agg or block.outs[aux.n - 1].win):
            raise Refusal(f"GROUP BY {aux.n} is an aggregate or a window function")
    if block.has_agg or block.has_win or block.like:
        return block._replace(has_agg=False, has_win=False, like=False)
    return block


def _with_out(block: Block, out: Out) -> Block:
    if block.limit and len(block.outs) >= block.limit:
        raise Refusal(f"more than {block.limit} output columns")
    return block._replace(outs=(*block.outs, out), has_agg=False, has_win=False, like=False)


def _next_item(block: Block) -> Moved:
    if block.phase == SELECT:
        if block.limit and len(block.outs) >= block.limit:
            raise Refusal(f"more than {block.limit} output columns")
        return block, FIRST, None
    if block.phase == FROM:
        return _join(block, "inner", SOURCE, None)
    if block.phase in (GROUP, ORDER):
        return block, FIRST, None
    raise Refusal(", cannot stand here")


def _join(block: Block, how: str, at: str, aux: Aux) -> Moved:
    if len(block.sources) >= MAX_SOURCES or not can_take_any(block):
        raise Refusal("no further source can be joined")
    return block._replace(join=how), at, aux


def _clause_word(block: Block, word: str) -> Moved:
    if word in JOIN_WORDS and block.phase == FROM:
        how = "left" if word == "LEFT" else "inner"
        return _join(block, how, SOURCE if word == "JOIN" else JOINING, word)
    if word == "FROM" and block.phase == SELECT:
        return _enter(_checked_width(block), FROM), SOURCE, None
    if word in SET_WORDS and block.phase in _ORDER_OF and _ORDER_OF[block.phase] < _ORDER_OF[ORDER]:
        return _next_operand(_core_done(block)), SETOP, word
    phase = word.lower()
    if phase not in _ORDER_OF or _ORDER_OF[phase] <= _ORDER_OF[block.phase] or phase in (SELECT, FROM):
        raise Refusal(f"{word} cannot stand here")
    if block.phase == SELECT and phase in (WHERE, GROUP, HAVING):
        raise Refusal(f"{word} needs a FROM")
    block = _core_done(block) if phase in (ORDER, LIMIT) else _sources_done(block)
    if phase == HAVING and not block.agg:
        raise Refusal("HAVING on a query that does not aggregate")
    if phase == GROUP:
        block = block._replace(agg=True)
    block = _enter(block, phase)
    return block, BY if phase in (GROUP, ORDER) else LIMIT_N if phase == LIMIT else FIRST, None


def _enter(block: Block, phase: str) -> Block:
    return block._replace(
        phase=phase,
        agg_ok=phase in (SELECT, HAVING) or (phase == ORDER and block.agg),
        win_ok=phase in (SELECT, ORDER),
    )


def _checked_width(block: Block) -> Block:
    if block.limit and len(block.outs) != block.limit and all(out.star is None for out in block.outs):
        raise Refusal(f"{len(block.outs)} output columns where {block.limit} are expected")
    check_stars(block, complete=True)
    return block


def _sources_done(block: Block) -> Block:
    return block_of(leave_from(block)) if block.phase in (SELECT, FROM) else block


def _core_done(block: Block) -> Block:
    """The block when one SELECT of it is complete; its outputs are noted where it is one of several."""
    if block.phase in (ORDER, LIMIT):
        return block
    block = _sources_done(block)
    if not block.compound:
        return block
    return block._replace(names=block.names | order_names(block))


def _next_operand(block: Block) -> Block:
    names = block.names if block.compound else order_names(block)
    return Block(
        block.up,
        block.kind,
        block.depth,
        block.catalog,
        limit=len(block.outs),
        cte_keys=block.cte_keys,
        compound=True,
        first=block.outs if block.first is None else block.first,
        names=names,
    )


def order_names(block: Block) -> frozenset[str | Pair]:
    """What ORDER BY of a set operation may call the outputs of this operand: SQLite looks each term up in all of them."""
    found: set[str | Pair] = set()
    for out in block.outs:
        if out.aliased and out.name is not None:
            found.add(fold(out.name))
        if out.ref is not None:
            alias, column = out.ref.alias, out.ref.key
            holders = [name for name, table in block.sources if column in table.has]
            own = [name for name in holders if alias in (None, name)]
            found.update((name, column) for name in own)
            if own and len(holders) == 1:
                found.add(column)
    return frozenset(found)


def _closed(block: Block) -> Moved:
    """The stack after the parenthesis of a subquery or CTE."""
    block = _core_done(block)
    up = block.up
    assert up is not None
    if block.kind == CTE:
        assert isinstance(up, Block)
        outs = block.outs if block.first is None else block.first
        table = make_table(up.cte_name, [out.name for out in outs])
        return up._replace(catalog=up.catalog.with_table(table)), CTE_NEXT, None
    return up, AFTER, None


def deeper(frame: Frame) -> int:
    """The depth inside one more parenthesis, or Refusal."""
    if frame.depth >= MAX_DEPTH:
        raise Refusal(f"more than {MAX_DEPTH} open parentheses")
    return frame.depth + 1


def compound_term(block: Block, kind: str, text: str) -> Moved:
    """A term of the ORDER BY of a set operation: a number, or the name of an output of any operand."""
    if kind == "n" and text.isdigit() and len(text) < 10 and 1 <= int(text) <= block.limit:
        return block, AFTER, OutputOnly(text)
    if kind in "wq" and fold(text) in block.names and not (kind == "w" and is_reserved(text.upper())):
        return block, AFTER, OutputOnly(text)
    if kind == "d":
        key = fold(text)
        if any(isinstance(name, tuple) and name[0] == key for name in block.names):
            return block, DOT, "*" + key
    raise Refusal(f"ORDER BY of a set operation: {text} is no output column")
