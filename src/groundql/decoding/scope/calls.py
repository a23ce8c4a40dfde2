"""Calls: functions, aggregates and windows, what each may hold, and whose an aggregate is."""

from groundql.decoding.scope.clauses import AFTER, FIRST, Moved, deeper
from groundql.decoding.scope.frames import SELECT, Frame, Mark, Pair, block_of, frame_in, rebuilt
from groundql.decoding.scope.functions import Function
from groundql.decoding.scope.names import Refusal
from groundql.decoding.scope.obligations import demand, give_aggregate_outside, is_outside, owner_outside

ARGUMENT_STAR, AFTER_AGGREGATE = "argument star", "after aggregate"
TYPE, TYPED = "type", "typed"
Functions = dict[str, Function]
TYPES = frozenset(
    [
        *("INTEGER", "INT", "REAL", "FLOAT", "DOUBLE", "TEXT", "NUMERIC", "DECIMAL", "BLOB", "BOOLEAN"),
        *("DATE", "DATETIME", "TIMESTAMP", "VARCHAR", "CHAR"),
    ]
)


def opened_mark(frame: Frame, kind: str, depth: int | None = None, name: str = "base") -> Mark:
    """A frame on top of this one; it takes a parenthesis more unless `depth` says otherwise."""
    tracked = isinstance(frame, Mark) and frame.tracked
    depth = deeper(frame) if depth is None else depth
    return Mark(frame, kind, depth, frame.agg_ok, frame.win_ok, name=name, tracked=tracked)


def opened_call(functions: Functions, frame: Frame, text: str) -> Moved:
    """The stack after the name of a function and its parenthesis."""
    word = text.upper()
    if word == "CAST":
        return opened_mark(frame, "cast"), FIRST, None
    function = functions.get(word)
    if function is None:
        raise Refusal(f"no such function: {text}")
    mark = opened_mark(frame, "call", name=word)
    if function.aggregate:
        if not function.scalar and not (frame.agg_ok or frame.win_ok):
            raise Refusal(f"misuse of {'window function' if function.window_only else 'aggregate'} {word}")
        if function.window_only and (not frame.win_ok or block_of(frame).foreign):
            raise Refusal(f"misuse of window function {word}")
        if not function.scalar:
            inside = frame.agg_ok and frame.win_ok
            mark = mark._replace(agg_ok=inside, win_ok=False)
        if not mark.tracked and block_of(frame).sees_out():
            mark = mark._replace(tracked=True)
    return mark, FIRST, None


def with_distinct(mark: Mark) -> Mark:
    """The mark of an aggregate after DISTINCT: no window, so no aggregate inside."""
    if mark.name in ("LAG", "LEAD") or not (mark.up.agg_ok):
        raise Refusal("DISTINCT is for aggregates")
    return mark._replace(distinct=True, agg_ok=False, win_ok=False)


def closed_call(functions: Functions, mark: Mark, n: int) -> Moved:
    """The stack after the parenthesis that ends `n` arguments."""
    function = functions[mark.name]
    if not mark.distinct and function.takes(n, over_rows=False):
        return popped(mark), AFTER, None
    if not function.takes(n, over_rows=True) or (mark.distinct and n != 1):
        raise Refusal(f"wrong number of arguments to function {mark.name}")
    if mark.has_win or (must_be_window(functions, mark) and not can_be_window(mark)):
        raise Refusal(f"misuse of aggregate or window function inside or as {mark.name}")
    return mark.up, AFTER_AGGREGATE, mark


def must_be_window(functions: Functions, mark: Mark) -> bool:
    """Whether OVER must follow this closed call."""
    return functions[mark.name].window_only or mark.has_agg or not mark.up.agg_ok


def can_be_window(mark: Mark) -> bool:
    """Whether OVER may follow this closed call."""
    return mark.up.win_ok and not mark.distinct and not block_of(mark.up).foreign


def argument_star(functions: Functions, frame: Frame, kind: str, text: str) -> Moved:
    """The end of COUNT(*)."""
    assert isinstance(frame, Mark)
    if kind == "o" and text == ")":
        return closed_call(functions, frame, 0)
    raise Refusal(") expected after COUNT(*")


def aggregated(frame: Frame, call: Mark) -> Frame:
    """The stack with a finished aggregate counted for the block that owns it."""
    if not call.tracked or call.own_ref or not call.refs:
        return merged(frame._replace(has_agg=True), call)
    block = block_of(frame)
    if block.phase != SELECT:
        return give_aggregate_outside(frame, call.refs)
    if not all(is_outside(block, *ref) for ref in call.refs):
        return merged(frame._replace(has_agg=True), call)
    n = owner_outside(block, call.refs)
    aliases = {alias for alias, _ in call.refs}
    if (n == 0 or not frame_in(frame, n).agg_ok) and len(aliases) == 1:
        keys = frozenset(key for _, key in call.refs)
        strict = demand(block, aliases.pop(), keys, strict=True)
        return merged(rebuilt(frame, 0, lambda _: strict)._replace(has_agg=True), call)
    maybe: tuple[int, frozenset[Pair]] = (len(block.outs), call.refs)
    return rebuilt(frame, 0, lambda b: b._replace(maybe=(*b.maybe, maybe)))


def popped(mark: Mark) -> Frame:
    """The frame below, with what the mark held counted for it."""
    up = mark.up
    if mark.has_agg or mark.has_win:
        up = up._replace(has_agg=up.has_agg or mark.has_agg, has_win=up.has_win or mark.has_win)
    return merged(up, mark)


def merged(frame: Frame, mark: Mark) -> Frame:
    """The frame with the columns that a finished mark has named."""
    if isinstance(frame, Mark) and frame.tracked and (mark.own_ref or mark.refs):
        return frame._replace(own_ref=frame.own_ref or mark.own_ref, refs=frame.refs | mark.refs)
    return frame


def cast_type(frame: Frame, kind: str, text: str) -> Moved:
    """The type of a CAST."""
    if kind == "w" and text.upper() in TYPES:
        return frame, TYPED, None
    raise Refusal(f"{text} is no type")


def typed(frame: Frame, kind: str, text: str) -> Moved:
    """The end of a CAST."""
    assert isinstance(frame, Mark)
    if kind == "o" and text == ")":
        return popped(frame), AFTER, None
    raise Refusal(") expected after the type")
