"""Expressions: operands and operators in turn, and what is open around them."""

from collections.abc import Callable

from groundql.decoding.scope import clauses
from groundql.decoding.scope.calls import (
    ARGUMENT_STAR,
    TYPE,
    Functions,
    aggregated,
    can_be_window,
    closed_call,
    must_be_window,
    opened_call,
    opened_mark,
    popped,
    with_distinct,
)
from groundql.decoding.scope.clauses import (
    AFTER,
    BY,
    DIRECTED,
    DOT,
    FIRST,
    OPERAND,
    Moved,
    deeper,
    direction,
)
from groundql.decoding.scope.frames import (
    EXISTS,
    GROUP,
    LISTED,
    ORDER,
    SCALAR,
    SELECT,
    Aux,
    Block,
    Constant,
    Frame,
    Mark,
    Ordinal,
    OutputOnly,
    Plain,
    Zero,
    block_of,
    rebuilt,
)
from groundql.decoding.scope.names import Refusal, fold, is_reserved
from groundql.decoding.scope.references import can_qualify, find_output, use_bare, use_pair

# What is expected next, beside clauses.py.
NEGATED, PAREN_START, LIST_START, EXISTS_START, LIST_OPEN, EXISTS_OPEN = (
    "negated", "paren start", "list start", "exists start", "list open", "exists open"
)  # fmt: skip
CASE_START, IS, NOT_OPERATOR = "case start", "is", "not operator"
OVER_OPEN, OVER_START, AND_OPERAND = "over open", "over start", "and operand"

SUBQUERY_AT = {PAREN_START: SCALAR, LIST_START: LISTED, EXISTS_START: EXISTS}
OPERAND_AT = frozenset([FIRST, OPERAND, NEGATED, PAREN_START, LIST_START, CASE_START, IS, AND_OPERAND])
OPERATORS = frozenset("=<>!+-*/%|&")
VALUE_WORDS = frozenset(["NULL", "CURRENT_DATE", "CURRENT_TIME", "CURRENT_TIMESTAMP"])
CONSTANT, ZERO = Constant(), Zero()


def operand(functions: Functions, frame: Frame, at: str, kind: str, text: str) -> Moved:
    """An operand, or what may stand before one."""
    if isinstance(frame, Block) and frame.compound and frame.phase == ORDER:
        return clauses.compound_term(frame, kind, text)
    if kind == "w":
        return _operand_word(frame, at, text)
    if kind == "d":
        key = fold(text)
        if not can_qualify(frame, key, star=at == FIRST and isinstance(frame, Block)):
            raise Refusal(f"no such table or alias: {text}")
        return frame, DOT, ("*" if at == FIRST else " ") + key
    if kind == "q":
        return _named(frame, at, fold(text))
    if kind == "n":
        whole = text.isdigit() and len(text) < 10
        if whole and at in (FIRST, NEGATED):
            return frame, AFTER, Ordinal(int(text) if at == FIRST else -int(text))
        if whole and at == PAREN_START and isinstance(frame, Mark) and frame.first:
            return frame, AFTER, Ordinal(int(text))
        return frame, AFTER, ZERO if at == AND_OPERAND and text == "0" else CONSTANT
    if kind == "s":
        return frame, AFTER, CONSTANT
    if kind == "c":
        return opened_call(functions, frame, text)
    if kind == "o":
        return _operand_sign(functions, frame, at, text)
    raise Refusal("an expression expected")


def _operand_sign(functions: Functions, frame: Frame, at: str, text: str) -> Moved:
    whole = at == FIRST or (at == PAREN_START and isinstance(frame, Mark) and frame.first)
    if text == "-":
        return frame, NEGATED if whole else OPERAND, None
    if text == "(":
        mark = opened_mark(frame, "paren", name=at)
        return mark._replace(first=whole or at in (NEGATED, AND_OPERAND)), PAREN_START, None
    if text == "*" and at == FIRST:
        if isinstance(frame, Block) and frame.phase == SELECT:
            return clauses.starred(frame, None)
        if isinstance(frame, Mark) and frame.name == "COUNT" and not frame.n and not frame.distinct:
            return frame, ARGUMENT_STAR, None
    is_fresh_call = isinstance(frame, Mark) and frame.kind == "call" and not frame.n and not frame.distinct
    if text == ")" and at == FIRST and is_fresh_call:
        assert isinstance(frame, Mark)
        return closed_call(functions, frame, 0)
    raise Refusal(f"{text} where an expression is expected")


def _operand_word(frame: Frame, at: str, text: str) -> Moved:
    word = text.upper()
    if word in ("SELECT", "WITH") and at in SUBQUERY_AT:
        assert isinstance(frame, Mark)
        kind = SUBQUERY_AT[at]
        block = Block(frame.up, kind, frame.depth, block_of(frame).catalog, limit=0 if kind == EXISTS else 1)
        return clauses.start(block, None, "w", text)
    if at == CASE_START and word == "WHEN":
        assert isinstance(frame, Mark)
        return frame._replace(name="when"), OPERAND, None
    if word == "NOT":
        return frame, OPERAND, None
    if word in VALUE_WORDS:
        return frame, AFTER, None
    if word == "CASE":
        return opened_mark(frame, "case", frame.depth), CASE_START, None
    if word == "EXISTS":
        deeper(frame)
        return frame, EXISTS_OPEN, None
    if word == "DISTINCT" and at == FIRST:
        if isinstance(frame, Block) and frame.phase == SELECT and not frame.outs and not frame.distinct:
            return frame._replace(distinct=True), FIRST, None
        if isinstance(frame, Mark) and frame.kind == "call" and not frame.n and not frame.distinct:
            return with_distinct(frame), FIRST, None
    if is_reserved(word):
        raise Refusal(f"{word} where an expression is expected")
    return _named(frame, at, fold(text))


def _named(frame: Frame, at: str, key: str) -> Moved:
    """The stack after a bare name."""
    aux = Plain(None, key) if at == FIRST or (isinstance(frame, Mark) and frame.first) else None
    is_start = at == (PAREN_START if isinstance(frame, Mark) else FIRST)
    if (
        is_start
        and _is_term(frame, alone=True)
        and block_of(frame).phase == ORDER
        and find_output(block_of(frame), key)
    ):
        try:
            return use_bare(frame, key), AFTER, aux
        except Refusal:
            return frame, AFTER, OutputOnly(key)
    return use_bare(frame, key), AFTER, aux


def dotted(frame: Frame, aux: Aux, kind: str, text: str) -> Moved:
    """The column after `alias.`."""
    assert isinstance(aux, str)
    first, alias = aux[0] == "*", aux[1:]
    if kind == "o" and text == "*" and first and isinstance(frame, Block) and frame.phase == SELECT:
        return clauses.starred(frame, alias)
    if kind not in "wq" or (kind == "w" and is_reserved(text.upper())):
        raise Refusal(f"a column of {alias} expected")
    key = fold(text)
    if isinstance(frame, Block) and frame.compound and frame.phase == ORDER:
        if (alias, key) not in frame.names:
            raise Refusal(f"ORDER BY of a set operation: {alias}.{text} is no output column")
        return frame, AFTER, OutputOnly(key)
    return use_pair(frame, alias, key), AFTER, Plain(alias, key) if first else None


def after(functions: Functions, frame: Frame, aux: Aux, kind: str, text: str) -> Moved:
    """What may follow an operand: an operator, or the end of the expression."""
    if kind == "o" and text in OPERATORS:
        return _going_on(frame, aux), OPERAND, None
    if kind == "w":
        word = text.upper()
        if word in _AFTER_WORDS:
            if word in ("IS", "AND") and _is_term(frame):
                return _constant_checked(frame, aux, word)
            return _AFTER_WORDS[word](_going_on(frame, aux))
        if isinstance(frame, Mark):
            return _mark_word(frame, AFTER, aux, word)
    if isinstance(frame, Block):
        return clauses.boundary(frame, AFTER, aux, kind, text)
    if kind == "o" and text in (",", ")"):
        if frame.between:
            raise Refusal("BETWEEN without AND")
        return _comma(functions, frame) if text == "," else _close(functions, frame, aux)
    raise Refusal(f"{text or 'the end'} inside an expression that is still open")


def _is_term(frame: Frame, *, alone: bool = False) -> bool:
    """Whether what is written may be the whole of a term of GROUP BY or ORDER BY, less brackets around it.

    It may also be what - or AND stands before, unless it must be `alone`.
    """
    while isinstance(frame, Mark):
        if frame.kind != "paren" or not frame.first or (alone and frame.name in (NEGATED, AND_OPERAND)):
            return False
        frame = frame.up
    return frame.phase in (GROUP, ORDER)


def _constant_checked(frame: Frame, aux: Aux, word: str) -> Moved:
    """The stack after IS or AND in a term; SQLite works out `1 IS NULL` and `0 AND x` and takes the result for an ordinal."""
    if word == "IS":
        if isinstance(aux, Ordinal | Constant | Zero):
            raise Refusal("IS after a constant, which SQLite works out and takes for the number of a column")
        return _is(_going_on(frame, aux))
    if isinstance(aux, Zero) or (isinstance(aux, Ordinal) and aux.n == 0):
        raise Refusal("0 AND ..., which SQLite takes for column 0")
    return _and(_going_on(frame, aux))[0], OPERAND if frame.between else AND_OPERAND, None


def _going_on(frame: Frame, aux: Aux) -> Frame:
    if isinstance(aux, OutputOnly):
        raise Refusal(f"the term {aux.key} of ORDER BY cannot be part of an expression")
    return frame


def _and(frame: Frame) -> Moved:
    if frame.between or frame.like:
        frame = frame._replace(between=max(frame.between - 1, 0), like=False)
    return frame, OPERAND, None


def _or(frame: Frame) -> Moved:
    if frame.between:
        raise Refusal("BETWEEN without AND")
    return frame._replace(like=False) if frame.like else frame, OPERAND, None


def _between(frame: Frame) -> Moved:
    return frame._replace(between=frame.between + 1), OPERAND, None


def _in(frame: Frame) -> Moved:
    deeper(frame)
    return frame, LIST_OPEN, None


def _like(frame: Frame) -> Moved:
    return frame._replace(like=True), OPERAND, None


def _escape(frame: Frame) -> Moved:
    if not frame.like:
        raise Refusal("ESCAPE without LIKE")
    return frame._replace(like=False), OPERAND, None


def _glob(frame: Frame) -> Moved:
    return frame, OPERAND, None


def _is(frame: Frame) -> Moved:
    return frame, IS, None


def _not(frame: Frame) -> Moved:
    return frame, NOT_OPERATOR, None


_AFTER_WORDS: dict[str, Callable[[Frame], Moved]] = {
    "AND": _and,
    "OR": _or,
    "BETWEEN": _between,
    "IN": _in,
    "IS": _is,
    "NOT": _not,
    "LIKE": _like,
    "GLOB": _glob,
    "ESCAPE": _escape,
}


def not_operator(frame: Frame, kind: str, text: str) -> Moved:
    """IN, LIKE, GLOB or BETWEEN after an operand and NOT."""
    word = text.upper() if kind == "w" else ""
    if word in ("IN", "LIKE", "GLOB", "BETWEEN"):
        return _AFTER_WORDS[word](frame)
    raise Refusal("IN, LIKE, GLOB or BETWEEN expected after NOT")


def opened(frame: Frame, at: str, aux: Aux, kind: str, text: str) -> Moved:
    """The parenthesis that IN, EXISTS or OVER asks for."""
    if kind != "o" or text != "(":
        raise Refusal("( expected")
    if at == LIST_OPEN:
        return opened_mark(frame, "list"), LIST_START, None
    if at == EXISTS_OPEN:
        return opened_mark(frame, "exists"), EXISTS_START, None
    assert isinstance(aux, Mark)
    frame = rebuilt(frame, 0, lambda b: b._replace(windows=True))
    over = opened_mark(frame, "over")._replace(
        win_ok=False, has_agg=aux.has_agg, own_ref=aux.own_ref, refs=aux.refs
    )
    return over, OVER_START, None


def exists_start(frame: Frame, kind: str, text: str) -> Moved:
    """The query of an EXISTS."""
    if kind == "w" and text.upper() in ("SELECT", "WITH"):
        return _operand_word(frame, EXISTS_START, text)
    raise Refusal("a query expected after EXISTS (")


def is_tail(functions: Functions, frame: Frame, kind: str, text: str) -> Moved:
    """What follows IS: NOT, or an operand."""
    return operand(functions, frame, OPERAND if kind == "w" and text.upper() == "NOT" else IS, kind, text)


def _mark_word(frame: Mark, at: str, aux: Aux, word: str) -> Moved:
    if frame.between:
        raise Refusal("BETWEEN without AND")
    if frame.like:
        frame = frame._replace(like=False)
    if frame.kind == "case":
        part = frame.name
        if (word == "WHEN" and part in ("base", "then")) or (word == "THEN" and part == "when"):
            return frame._replace(name=word.lower()), OPERAND, None
        if word == "ELSE" and part == "then":
            return frame._replace(name="else"), OPERAND, None
        if word == "END" and part in ("then", "else"):
            return popped(frame), AFTER, None
    if frame.kind == "cast" and word == "AS":
        return frame, TYPE, None
    if frame.kind == "over":
        if word == "ORDER" and frame.name == "partition" and at == AFTER:
            return frame._replace(name="order"), BY, None
        moved = direction(frame, at, aux, word) if frame.name == "order" else None
        if moved is not None:
            return moved
    raise Refusal(f"{word} cannot stand here")


def directed(functions: Functions, frame: Frame, aux: Aux, kind: str, text: str) -> Moved:
    """After ASC, DESC or NULLS FIRST."""
    if isinstance(frame, Block):
        return clauses.boundary(frame, DIRECTED, aux, kind, text)
    if kind == "w":
        return _mark_word(frame, DIRECTED, aux, text.upper())
    if kind == "o" and text in (",", ")"):
        return _comma(functions, frame) if text == "," else _close(functions, frame, None)
    raise Refusal(f"{text or 'the end'} cannot stand here")


def over_start(functions: Functions, frame: Frame, kind: str, text: str) -> Moved:
    """PARTITION BY, ORDER BY or nothing inside OVER ( )."""
    assert isinstance(frame, Mark)
    if kind == "w" and text.upper() in ("PARTITION", "ORDER"):
        return frame._replace(name=text.lower()), BY, None
    if kind == "o" and text == ")":
        return _close(functions, frame, None)
    raise Refusal("PARTITION BY or ORDER BY expected")


def _comma(functions: Functions, mark: Mark) -> Moved:
    if mark.like:
        mark = mark._replace(like=False)
    if mark.kind == "list":
        return mark, OPERAND, None
    if mark.kind == "over" and mark.name in ("partition", "order"):
        return mark, OPERAND, None
    if mark.kind == "call" and not mark.distinct and mark.n + 2 <= functions[mark.name].most:
        return mark._replace(n=mark.n + 1), FIRST, None
    raise Refusal(", cannot stand here")


def _close(functions: Functions, mark: Mark, aux: Aux) -> Moved:
    if mark.kind == "paren":
        if mark.name == NEGATED:
            aux = Ordinal(-aux.n) if isinstance(aux, Ordinal) else ZERO if isinstance(aux, Zero) else None
        if mark.name == AND_OPERAND:
            aux = ZERO if isinstance(aux, Zero) or (isinstance(aux, Ordinal) and aux.n == 0) else None
        return popped(mark), AFTER, aux if mark.first else None
    if mark.kind == "list":
        return popped(mark), AFTER, None
    if mark.kind == "over":
        return popped(mark)._replace(has_win=True), AFTER, None
    if mark.kind == "call":
        return closed_call(functions, mark, mark.n + 1)
    raise Refusal(") cannot stand here")


def after_aggregate(functions: Functions, frame: Frame, aux: Aux, kind: str, text: str) -> Moved:
    """After an aggregate's argument list: OVER makes it a window, anything else an aggregate."""
    assert isinstance(aux, Mark)
    if kind == "w" and text.upper() == "OVER":
        if not can_be_window(aux):
            raise Refusal(f"misuse of window function {aux.name}")
        return frame, OVER_OPEN, aux
    if must_be_window(functions, aux):
        raise Refusal(f"misuse of aggregate or window function {aux.name}")
    return after(functions, aggregated(frame, aux), None, kind, text)
