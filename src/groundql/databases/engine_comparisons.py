"""Comparisons of unlike kinds as SQLite decides them, for engines that refuse them or fail; trees of sqlglot.

SQLite never fails to compare: beside a column (or CAST) of numbers a text becomes a number where it is one, beside a
column of texts a number becomes a text, and with neither any number is less than any text
(https://sqlite.org/datatype3.html, 4.2 and 4.3). Dates are ISO texts here, truths are 0 and 1. The one thing that
SQLite has not: 'true' and 'false' beside a truth mean what they say.
"""

import re
from datetime import date, datetime, time

from sqlglot import exp

from groundql.databases.engine_kinds import Kinds
from groundql.databases.engine_numbers import (
    literal_number,
    literal_text,
    no_number_unless_null,
    text_of_number,
    whole_number,
)

COMPARED = (exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE)
NUMBERS = ("integer", "number", "truth")
TEXTS = ("text", "time")
AS_TEXT = re.compile(r"uuid|enum", re.IGNORECASE)  # types of kind "other" whose values are texts in SQLite

Pair = tuple[exp.Expr, exp.Expr]


def compare_as_sqlite(node: exp.Expr, kinds: Kinds) -> None:
    """One comparison, BETWEEN, IN or CASE x WHEN, changed in place; what is inside it comes before."""
    if isinstance(node, COMPARED):
        left, right = alike(node.this, node.expression, kinds)
        node.set("this", left)
        node.set("expression", right)
    elif isinstance(node, exp.Between):
        _between(node, kinds)
    elif isinstance(node, exp.In):
        _listed(node, kinds)
    elif isinstance(node, exp.Case) and node.this is not None:
        _chosen(node, kinds)


def alike(left: exp.Expr, right: exp.Expr, kinds: Kinds, bare: exp.Expr | None = None) -> Pair:
    """Both sides as the engine can compare them; as they are where a kind is not known.

    `bare` is the side that the other need not follow, whatever it is.
    """
    if _rank(left, kinds) > _rank(right, kinds):
        there, here = alike(right, left, kinds, bare)
        return here, there
    kind, other = _kind(left, kinds), _kind(right, kinds)
    if kind in NUMBERS and other in NUMBERS:
        return _numbers(left, right, kinds)
    if kind in TEXTS and other in TEXTS:
        return _texts(left, right, kinds)
    if kind not in NUMBERS or other not in TEXTS:
        return left, right
    if kind == "truth" and (literal_text(right) or "").lower() in ("true", "false"):
        return left, exp.Boolean(this=str(right.this).lower() == "true")
    if left is not bare and _has_affinity(left, kinds):
        return _numbers(left, whole_number(_as_text(right, kinds)), kinds)
    if right is not bare and _has_affinity(right, kinds):
        digits = literal_number(left)
        text = (
            exp.Literal.string(text_of_number(digits))
            if digits is not None
            else exp.cast(left.copy(), "text")
        )
        return text, _as_text(right, kinds)
    return _numbers(left, no_number_unless_null(right), kinds)


def _rank(node: exp.Expr, kinds: Kinds) -> int:
    """Which side is the left one for `alike`: truths, numbers, dates, texts."""
    kind = _kind(node, kinds)
    if kind == "truth":
        return 0
    return 1 if kind in NUMBERS else 2 if kind == "time" else 3 if kind == "text" else 4


def _kind(node: exp.Expr, kinds: Kinds) -> str:
    kind = kinds.of(node)
    if kind == "other" and isinstance(node, exp.Column) and AS_TEXT.match(kinds.declared(node)):
        return "time"  # a text that the engine writes itself
    if (
        kind == "time"
        and isinstance(node, exp.Column)
        and kinds.declared(node).lower().startswith("interval")
    ):
        return "other"
    return kind


def _has_affinity(node: exp.Expr, kinds: Kinds) -> bool:
    """Whether SQLite has the other side follow this one: columns of tables, casts, and outputs that are one."""
    if isinstance(node, exp.Paren):
        return _has_affinity(node.this, kinds)
    if isinstance(node, exp.Subquery) and isinstance(node.this, exp.Select) and node.this.expressions:
        return _has_affinity(node.this.expressions[0].unalias(), kinds)
    if isinstance(node, exp.Column):
        output = kinds.output(node)
        return output is None or _has_affinity(output, kinds)
    return (
        isinstance(node, exp.Cast) and kinds.of(node) != "time"
    )  # what DATE() became: a text without affinity


def _numbers(left: exp.Expr, right: exp.Expr, kinds: Kinds) -> Pair:
    """A truth beside a number is one; beside 0 or 1 that stand in the query those are truths."""
    pair = [left, right]
    is_truth = [kinds.of(one) == "truth" for one in pair]
    for here, there in ((0, 1), (1, 0)):
        if is_truth[here] and not is_truth[there]:
            if literal_number(pair[there]) in ("0", "1"):
                pair[there] = exp.Boolean(this=literal_number(pair[there]) == "1")
            else:
                pair[here] = exp.cast(pair[here].copy(), "int")
    return pair[0], pair[1]


def _texts(left: exp.Expr, right: exp.Expr, kinds: Kinds) -> Pair:
    """`left` may be a date: it stays one beside another and beside an ISO text, else it is its text."""
    if _kind(left, kinds) != "time" or _kind(right, kinds) == "time":
        return left, right
    text = literal_text(right)
    if text is not None and _is_value_of(text, left, kinds):
        return left, right
    return _as_text(left, kinds), right


def _is_value_of(text: str, node: exp.Expr, kinds: Kinds) -> bool:
    """Whether the engine reads `text` as a value of the date's own type, without loss."""
    declared = kinds.declared(node) if isinstance(node, exp.Column) else node.args["to"].sql() if isinstance(node, exp.Cast) else ""  # fmt: skip
    declared = declared.lower()
    if AS_TEXT.match(declared):
        return (
            bool(re.fullmatch(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", text))
            and "uuid" in declared
        )
    readers = (
        [date.fromisoformat, datetime.fromisoformat]
        if declared.startswith(("timestamp", "datetime"))
        else [time.fromisoformat]
        if declared.startswith("time")
        else [date.fromisoformat]
    )
    if not re.fullmatch(r"(\d{4}-\d\d-\d\d)?[ T]?(\d\d:\d\d(:\d\d(\.\d{1,6})?)?)?", text):
        return False
    return any(_reads(reader, text) for reader in readers)


def _reads(reader: object, text: str) -> bool:
    try:
        reader(text)  # type: ignore[operator]
    except ValueError:
        return False
    return True


def _as_text(node: exp.Expr, kinds: Kinds) -> exp.Expr:
    return exp.cast(node.copy(), "text") if _kind(node, kinds) == "time" else node


def _between(node: exp.Between, kinds: Kinds) -> None:
    below, low = alike(node.this, node.args["low"], kinds)
    above, high = alike(node.this, node.args["high"], kinds)
    if below == above:
        node.set("this", below)
        node.set("low", low)
        node.set("high", high)
        return
    both = exp.And(
        this=exp.GTE(this=below.copy(), expression=low),
        expression=exp.LTE(this=above.copy(), expression=high),
    )
    node.replace(exp.Paren(this=both))


def _listed(node: exp.In, kinds: Kinds) -> None:
    query = node.args.get("query")
    if query is not None:
        _queried(node, query, kinds)
        return
    if not node.expressions:
        return
    pairs = [alike(node.this, one, kinds, bare=one) for one in node.expressions]  # `x IN (y)` is `x = +y`
    if all(left == pairs[0][0] for left, _ in pairs):
        node.set("this", pairs[0][0])
        node.set("expressions", [right for _, right in pairs])
        return
    equal: exp.Expr = exp.EQ(this=pairs[0][0].copy(), expression=pairs[0][1])
    for left, right in pairs[1:]:
        equal = exp.Or(this=equal, expression=exp.EQ(this=left.copy(), expression=right))
    node.replace(exp.Paren(this=equal))


def _queried(node: exp.In, query: exp.Expr, kinds: Kinds) -> None:
    """`x IN (SELECT y ...)` is `x = y`: the one output of the query is changed as the right side would be."""
    block = query.this if isinstance(query, exp.Subquery) else query
    if not isinstance(block, exp.Select) or len(block.expressions) != 1:
        return
    output = block.expressions[0]
    left, right = alike(node.this, output.unalias(), kinds)
    if right is not output.unalias() and (block.args.get("group") or block.args.get("order")):
        return  # the output may be named there
    node.set("this", left)
    if right is not output.unalias():
        block.set("expressions", [right])


def _chosen(node: exp.Case, kinds: Kinds) -> None:
    pairs = [alike(node.this, branch.this, kinds) for branch in node.args["ifs"]]
    if all(left == node.this for left, _ in pairs):
        for branch, (_, right) in zip(node.args["ifs"], pairs, strict=True):
            branch.set("this", right)
        return
    for branch, (left, right) in zip(node.args["ifs"], pairs, strict=True):
        branch.set("this", exp.EQ(this=left.copy(), expression=right))
    node.set("this", None)
