"""One token of a query onto the state of the parse."""

from collections.abc import Callable

from groundql.decoding.scope import calls
from groundql.decoding.scope import clauses as c
from groundql.decoding.scope import expressions as e
from groundql.decoding.scope.calls import Functions
from groundql.decoding.scope.clauses import Moved
from groundql.decoding.scope.frames import Aux, Frame
from groundql.decoding.scope.names import Refusal

# Kinds of token: w word, q name in back-ticks, d name before a dot, c word before a parenthesis, n number, s string,
# o operator or sign, e end of the text.
Step = Callable[[Functions, Frame, str, Aux, str, str], Moved]


def step(functions: Functions, frame: Frame, at: str, aux: Aux, kind: str, text: str) -> Moved:
    """The state after one token, or Refusal."""
    return _STEPS[at](functions, frame, at, aux, kind, text)


def _ended(functions: Functions, frame: Frame, at: str, aux: Aux, kind: str, text: str) -> Moved:
    raise Refusal("text after the end of the query")


def _operand(functions: Functions, frame: Frame, at: str, aux: Aux, kind: str, text: str) -> Moved:
    return e.operand(functions, frame, at, kind, text)


def _opened(functions: Functions, frame: Frame, at: str, aux: Aux, kind: str, text: str) -> Moved:
    return e.opened(frame, at, aux, kind, text)


def _cte(functions: Functions, frame: Frame, at: str, aux: Aux, kind: str, text: str) -> Moved:
    return c.cte(frame, at, kind, text)


def _boundary(functions: Functions, frame: Frame, at: str, aux: Aux, kind: str, text: str) -> Moved:
    return c.boundary(frame, at, aux, kind, text)


def _limit(functions: Functions, frame: Frame, at: str, aux: Aux, kind: str, text: str) -> Moved:
    return c.limit(frame, at, kind, text)


_STEPS: dict[str, Step] = {
    **dict.fromkeys(e.OPERAND_AT, _operand),
    **dict.fromkeys((e.LIST_OPEN, e.EXISTS_OPEN, e.OVER_OPEN), _opened),
    **dict.fromkeys((c.CTE_NAME, c.CTE_AS, c.CTE_OPEN, c.CTE_NEXT), _cte),
    **dict.fromkeys((c.NAMED, c.STARRED, c.LIMITED, c.COMPLETE), _boundary),
    **dict.fromkeys((c.LIMIT_N, c.OFFSET_N), _limit),
    c.AFTER: lambda f, frame, at, aux, kind, text: e.after(f, frame, aux, kind, text),
    calls.AFTER_AGGREGATE: lambda f, frame, at, aux, kind, text: e.after_aggregate(f, frame, aux, kind, text),
    c.DOT: lambda f, frame, at, aux, kind, text: e.dotted(frame, aux, kind, text),
    e.IS: lambda f, frame, at, aux, kind, text: e.is_tail(f, frame, kind, text),
    e.NOT_OPERATOR: lambda f, frame, at, aux, kind, text: e.not_operator(frame, kind, text),
    e.EXISTS_START: lambda f, frame, at, aux, kind, text: e.exists_start(frame, kind, text),
    e.OVER_START: lambda f, frame, at, aux, kind, text: e.over_start(f, frame, kind, text),
    calls.TYPE: lambda f, frame, at, aux, kind, text: calls.cast_type(frame, kind, text),
    calls.TYPED: lambda f, frame, at, aux, kind, text: calls.typed(frame, kind, text),
    calls.ARGUMENT_STAR: lambda f, frame, at, aux, kind, text: calls.argument_star(f, frame, kind, text),
    c.DIRECTED: lambda f, frame, at, aux, kind, text: e.directed(f, frame, aux, kind, text),
    c.NULLS: lambda f, frame, at, aux, kind, text: c.nulls(frame, kind, text),
    c.BY: lambda f, frame, at, aux, kind, text: c.by(frame, kind, text),
    c.STARTING: lambda f, frame, at, aux, kind, text: c.start(frame, aux, kind, text),
    c.SETOP: lambda f, frame, at, aux, kind, text: c.start(frame, aux, kind, text),
    c.OUT_NAME: lambda f, frame, at, aux, kind, text: c.output_name(frame, aux, kind, text),
    c.SOURCE: lambda f, frame, at, aux, kind, text: c.source(frame, kind, text),
    c.SOURCE_NAMED: lambda f, frame, at, aux, kind, text: c.source_named(frame, aux, kind, text),
    c.SOURCE_ALIAS: lambda f, frame, at, aux, kind, text: c.source_alias(frame, kind, text),
    c.SOURCE_DONE: lambda f, frame, at, aux, kind, text: c.source_done(frame, aux, kind, text),
    c.JOINING: lambda f, frame, at, aux, kind, text: c.joining(frame, aux, kind, text),
    c.ENDED: _ended,
}
