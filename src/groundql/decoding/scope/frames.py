"""The state of the parse: blocks (one SELECT, or several joined by set operators) and marks (what is open inside one).

Both are named tuples, so a state shares all that did not change with the state before it and never changes itself.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

from groundql.decoding.scope.names import Catalog, Table

MAX_DEPTH = 10  # open parentheses; gold has 7 at most, and SQLite's own limit lies far above

Frame: TypeAlias = "Block | Mark"
Pair = tuple[str, str]  # (folded alias, folded column)
Aux: TypeAlias = "Ordinal | Constant | Zero | Plain | OutputOnly | Mark | str | None"  # what is known of what stands before

# What a block is for.
TOP, CTE, SCALAR, LISTED, EXISTS = "top", "cte", "scalar", "in", "exists"
# Clauses.
START, WITH, SELECT, FROM, WHERE, GROUP, HAVING, ORDER, LIMIT = (
    "start", "with", "select", "from", "where", "group", "having", "order", "limit"
)  # fmt: skip
CLOSED_IN = frozenset([GROUP, ORDER, LIMIT])  # clauses of a block that see nothing outside it
NO_PAIRS: Mapping[str, frozenset[str]] = {}
NO_NAMES: frozenset[str] = frozenset()


class Ordinal(NamedTuple):
    """An item that is an integer so far."""

    n: int


class Constant(NamedTuple):
    """What stands last is a literal, and not the whole of an item that is an integer."""


class Zero(NamedTuple):
    """The item is `... AND 0` so far, which SQLite works out as 0."""


class Plain(NamedTuple):
    """An item that is a column so far."""

    alias: str | None
    key: str


class OutputOnly(NamedTuple):
    """A term of ORDER BY that binds only if the name of an output is all of it."""

    key: str


class Out(NamedTuple):
    """One output column of a block, or a star that stands for several until FROM is known."""

    name: str | None  # as spelled, None where SQLite makes one up
    aliased: bool = False
    agg: bool = False  # holds an aggregate of its own block
    win: bool = False
    ref: Plain | None = None
    star: str | None = None  # "" for *, the folded alias for alias.*


class Block(NamedTuple):
    """A query: WITH, one SELECT after the other, ORDER BY, LIMIT."""

    up: "Frame | None"
    kind: str
    depth: int
    catalog: Catalog
    limit: int = 0  # output columns that it must have; 0: any number
    phase: str = START
    # the expression that is being written
    agg_ok: bool = False
    win_ok: bool = False
    has_agg: bool = False
    has_win: bool = False
    between: int = 0  # BETWEEN that waits for its AND
    like: bool = False  # a LIKE that ESCAPE may follow
    # WITH
    cte_name: str = ""
    cte_keys: frozenset[str] = NO_NAMES
    # SELECT
    distinct: bool = False
    outs: tuple[Out, ...] = ()
    agg: bool = False  # it aggregates: an aggregate among its outputs, or GROUP BY
    foreign: bool = (
        False  # an aggregate of it stands in a subquery of SELECT or ORDER BY: then it has no window
    )
    windows: bool = False
    maybe: tuple[
        tuple[int, frozenset[Pair]], ...
    ] = ()  # aggregates whose owner FROM decides: (output, columns)
    # obligations: what the sources to come must bring
    pairs: Mapping[str, frozenset[str]] = (
        NO_PAIRS  # alias -> columns; an enclosing block may bring them instead
    )
    strict: Mapping[str, frozenset[str]] = NO_PAIRS  # the same, where no other block may
    bare: frozenset[str] = NO_NAMES  # bare names used so far: one source each
    loose: frozenset[str] = (
        NO_NAMES  # bare names that are an output of an enclosing block if no source has them
    )
    # FROM
    sources: tuple[tuple[str, Table], ...] = ()  # (folded alias or name, table)
    pend: Table | None = None  # a source whose alias is not settled
    barred: frozenset[Pair] = frozenset()  # named by the ON of a LEFT JOIN and found further out
    join: str = ""  # how the last source was joined: "", inner, left
    # set operations
    compound: bool = False
    first: tuple[Out, ...] | None = None  # outputs of the first operand
    names: frozenset[str | Pair] = frozenset()  # what the ORDER BY of a compound may name

    def source(self, alias: str) -> Table | None:
        """The declared source of this alias."""
        for name, table in self.sources:
            if name == alias:
                return table
        return None

    def is_open(self) -> bool:
        """Whether a source that is still to come may bring what is named now."""
        return self.phase == SELECT or (self.phase == FROM and self.join != "left")

    def sees_out(self) -> bool:
        """Whether names of this block may stand for columns of the blocks around it."""
        return self.kind in (SCALAR, LISTED, EXISTS) and self.phase not in CLOSED_IN


class Mark(NamedTuple):
    """Something open inside a block: a parenthesis, an argument list, a CASE, a CAST, an OVER."""

    up: Frame
    kind: str  # paren, list, call, case, cast, over
    depth: int
    agg_ok: bool
    win_ok: bool
    has_agg: bool = False
    has_win: bool = False
    between: int = 0
    like: bool = False
    name: str = ""  # of a function, in upper case; of a case, over: the part that it is in
    n: int = 0  # finished arguments
    distinct: bool = False
    first: bool = False  # a parenthesis that opens an item, so that what it holds may be the whole item
    tracked: bool = False  # inside an aggregate of a nested block: whose columns it names decides whose it is
    own_ref: bool = False
    refs: frozenset[Pair] = frozenset()


def block_of(frame: Frame) -> Block:
    """The innermost block."""
    while not isinstance(frame, Block):
        frame = frame.up
    return frame


def outer_blocks(block: Block) -> list[Block]:
    """The enclosing blocks whose columns `block` may name, innermost first."""
    found = []
    while block.sees_out() and block.up is not None:
        block = block_of(block.up)
        found.append(block)
    return found


def rebuilt(frame: Frame, n: int, change: Callable[[Block], Block]) -> Frame:
    """The stack with its n-th block from inside changed; all that is not above it is shared."""
    if isinstance(frame, Block):
        if n == 0:
            return change(frame)
        assert frame.up is not None
        return frame._replace(up=rebuilt(frame.up, n - 1, change))
    return frame._replace(up=rebuilt(frame.up, n, change))


def with_aggregate_outside(frame: Frame, n: int) -> Frame:
    """The stack after an aggregate of the n-th block from inside (1 or more) stood in a subquery of it."""
    if isinstance(frame, Block):
        assert frame.up is not None
        if n > 1:
            return frame._replace(up=with_aggregate_outside(frame.up, n - 1))
        up = frame.up._replace(has_agg=True)
        return frame._replace(up=rebuilt(up, 0, lambda b: b._replace(foreign=b.foreign or b.phase != HAVING)))
    return frame._replace(up=with_aggregate_outside(frame.up, n))


def frame_in(frame: Frame, n: int) -> Frame:
    """The innermost frame of the n-th block from inside (1 or more): where the subquery stands in it."""
    block = block_of(frame)
    for _ in range(n - 1):
        assert block.up is not None
        block = block_of(block.up)
    assert block.up is not None
    return block.up


def seen_by_aggregates(frame: Frame, n: int, pair: Pair, *, certain: bool = True) -> Frame:
    """The stack after the innermost block has named a column of the n-th block out, told to the aggregates between.

    An aggregate around a subquery belongs to the block whose columns the subquery names. `certain`: no block further out
    may turn out to bring the column.
    """
    return _told(frame, 0, n, pair, certain) if _has_tracked_above(frame) else frame


def _has_tracked_above(frame: Frame) -> bool:
    up = block_of(frame).up
    while up is not None:
        if isinstance(up, Mark) and up.tracked:
            return True
        up = up.up
    return False


def _told(frame: Frame, level: int, n: int, pair: Pair, certain: bool) -> Frame:
    if isinstance(frame, Block):
        if level == n or frame.up is None:
            return frame
        return frame._replace(up=_told(frame.up, level + 1, n, pair, certain))
    up = _told(frame.up, level, n, pair, certain)
    if level == 0 or not frame.tracked:
        return frame._replace(up=up)
    if level == n and certain:
        return frame._replace(up=up, own_ref=True)
    return frame._replace(up=up, refs=frame.refs | {pair})
