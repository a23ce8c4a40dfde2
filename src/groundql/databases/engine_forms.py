"""What SQLite does by itself, written out for DuckDB and PostgreSQL, and taken away again; trees of sqlglot."""

import re

from sqlglot import exp

from groundql.databases.engine_comparisons import COMPARED, compare_as_sqlite
from groundql.databases.engine_kinds import Kinds
from groundql.databases.engine_numbers import leading_number, undo_numbers
from groundql.records import Dialect, Schema

TEXTUAL = (exp.Substring, exp.Upper, exp.Lower, exp.Trim, exp.Length, exp.Replace, exp.StrPosition)
TRUTHS = (*COMPARED, exp.And, exp.Or, exp.Not, exp.Like, exp.In, exp.Is, exp.Between, exp.Column)
CALCULATED = (exp.Add, exp.Sub, exp.Mul, exp.Div, exp.Mod, exp.Neg, exp.Round, exp.Abs)
SUMMED = (exp.Sum, exp.Avg, exp.Min, exp.Max)
JULIAN_EPOCH = "2440587.5"  # the Julian day of 1970-01-01
STEP = re.compile(r"\s*([+-]?)(\d+)\s+(second|minute|hour|day|month|year)s?\s*", re.IGNORECASE)
START = re.compile(r"\s*start of (day|month|year)\s*", re.IGNORECASE)


def to_engine(tree: exp.Query, schema: Schema, dialect: Dialect) -> exp.Query:
    """`tree`, read as SQLite, changed in place."""
    kinds = Kinds(schema)
    for node in reversed(list(tree.walk())):  # what is inside comes first
        if isinstance(node, CALCULATED):
            _calculated(node, kinds, dialect)
        if isinstance(node, exp.Like):
            _as_text(node, "this", kinds)
            pattern = exp.ILike(this=node.this, expression=node.expression, negate=node.args.get("negate"))
            node.replace(pattern)
        elif isinstance(node, TEXTUAL):
            _as_text(node, "this", kinds)
            if isinstance(node, exp.Substring) and dialect == "postgres":
                _from_the_right(node)
        elif isinstance(node, exp.DPipe):
            _as_text(node, "this", kinds)
            _as_text(node, "expression", kinds)
        elif isinstance(node, exp.GroupConcat):
            _as_text(node, "this", kinds)
        elif isinstance(node, (*COMPARED, exp.Between, exp.In, exp.Case)):
            compare_as_sqlite(node, kinds)
        elif isinstance(node, SUMMED):
            _summed(node, kinds, dialect)
        elif isinstance(node, exp.Div):
            _divided(node, kinds, dialect)
        elif isinstance(node, exp.Cast):
            _cast(node, kinds, dialect)
        elif isinstance(node, exp.Round) and dialect == "postgres" and node.args.get("decimals") is not None:
            node.set(
                "this", exp.cast(node.this.copy(), "decimal")
            )  # doubles round to whole numbers only there
        elif isinstance(node, exp.TsOrDsToTimestamp):
            node.replace(_moment(node.this, kinds, dialect))
        elif isinstance(node, exp.Date):
            node.replace(_moment(node.this, kinds, dialect, "date"))
        elif isinstance(node, exp.Anonymous):
            _called(node, kinds, dialect)
        elif isinstance(node, exp.Ordered) and dialect == "duckdb" and kinds.is_not_null(node.this):
            node.set("nulls_first", False)
        elif isinstance(node, exp.Ordered) and dialect == "postgres" and kinds.is_not_null(node.this):
            node.set("nulls_first", bool(node.args.get("desc")))
    for block in list(tree.find_all(exp.Select)):
        _give_group_values(block, kinds, dialect)
    return tree


def without_engine_forms(tree: exp.Query, schema: Schema) -> exp.Query:
    """`tree`, read in an engine's dialect, without what `to_engine` adds; changed in place.

    NULLs come where SQLite has them, unless a descending order asks for them first.
    """
    for wrapper in list(tree.find_all(exp.IgnoreNulls)):  # how ANY_VALUE is read
        wrapper.replace(wrapper.this)
    for node in list(tree.walk()):
        if isinstance(node, exp.ILike):
            node.replace(exp.Like(this=node.this, expression=node.expression, negate=node.args.get("negate")))
        elif isinstance(node, exp.AnyValue | exp.ArgMax | exp.ArgMin):
            node.replace(node.this)
        elif isinstance(node, exp.TimeToStr | exp.TsOrDsToTimestamp) and isinstance(node.this, exp.Cast):
            node.set("this", node.this.this)
        elif isinstance(node, exp.Right):
            node.replace(exp.Substring(this=node.this, start=exp.Neg(this=node.expression)))
        elif isinstance(node, exp.IntDiv):
            node.replace(exp.Div(this=node.this, expression=node.expression, typed=True))
        elif isinstance(node, exp.Bracket):
            inner = node.this.unnest()
            if isinstance(inner, exp.ArrayAgg):
                node.replace(inner.this.this if isinstance(inner.this, exp.Order) else inner.this)
        elif isinstance(node, exp.Ordered):
            node.set("nulls_first", not node.args.get("desc"))
        elif isinstance(node, exp.Paren) and (moment := _of_julian(node.this)) is not None:
            node.replace(exp.Anonymous(this="JULIANDAY", expressions=[moment]))
    undo_numbers(tree)
    _undo_operands(tree, Kinds(schema))
    return tree


def _undo_operands(tree: exp.Query, kinds: Kinds) -> None:
    """Casts that SQLite makes by itself, and the guard of a divisor."""
    for div in list(tree.find_all(exp.Div)):
        divisor = div.expression
        if isinstance(divisor, exp.Nullif) and divisor.expression.name == "0":
            div.set("expression", divisor.this)
        if kinds.of(div) != "integer":  # a fraction in SQLite too: needs no cast
            div.set("typed", True)
    for node in list(tree.find_all(exp.Cast)):
        inner = node.this
        if (
            (
                isinstance(node.parent, (exp.Like, exp.DPipe, exp.GroupConcat, *TEXTUAL))
                and node.to.is_type(*exp.DataType.TEXT_TYPES)
                or (
                    isinstance(node.parent, exp.Sum | exp.Avg | exp.Min | exp.Max)
                    and node.to.is_type("int")
                    and isinstance(inner, TRUTHS)
                )
            )
            or isinstance(node.parent, exp.Round)
            and node.to.is_type("decimal")
        ):
            node.replace(inner)
        elif isinstance(inner, exp.Trunc) and node.to.is_type("bigint"):
            node.set("this", inner.this)


def _of_julian(node: exp.Expr) -> exp.Expr | None:
    """The moment in what JULIANDAY became."""
    if (
        not isinstance(node, exp.Add)
        or node.expression.name != JULIAN_EPOCH
        or not isinstance(node.this, exp.Div)
    ):
        return None
    since = node.this.this.unnest()
    since = since.this if isinstance(since, exp.Cast) else since
    if not isinstance(since, exp.Extract):
        return None
    moment: exp.Expr = since.expression
    return moment.this if isinstance(moment, exp.Cast) else moment


def _as_text(node: exp.Expr, key: str, kinds: Kinds) -> None:
    """The operand as text, where it is a column of another kind."""
    operand: exp.Expr = node.args[key]
    if kinds.of(operand) in ("integer", "number", "time", "truth", "other"):
        node.set(key, exp.cast(operand.copy(), "text"))


def _from_the_right(node: exp.Substring) -> None:
    start = node.args.get("start")
    if isinstance(start, exp.Neg) and node.args.get("length") is None:
        node.replace(exp.func("RIGHT", node.this.copy(), start.this.copy()))


def _calculated(node: exp.Expr, kinds: Kinds, dialect: Dialect) -> None:
    """Texts and dates in arithmetic as the numbers that they begin with."""
    for key in ("this", "expression") if isinstance(node, exp.Binary) else ("this",):
        operand = node.args[key]
        if kinds.of(operand) == "text" or (kinds.of(operand) == "time" and isinstance(operand, exp.Column)):
            _as_text(node, key, kinds)
            node.set(key, leading_number(node.args[key], dialect == "postgres"))


def _summed(node: exp.Expr, kinds: Kinds, dialect: Dialect) -> None:
    """Truths count as integers; texts as the numbers that they are."""
    kind = kinds.of(node.this)
    if kind == "truth":
        node.set("this", exp.cast(node.this.copy(), "int"))
    elif kind == "text" and isinstance(node, exp.Sum | exp.Avg):
        value = node.this.expressions[0] if isinstance(node.this, exp.Distinct) else node.this
        value.replace(leading_number(value, dialect == "postgres"))


def _divided(node: exp.Div, kinds: Kinds, dialect: Dialect) -> None:
    divisor = node.expression.unnest()
    if isinstance(divisor, exp.Literal) and float(divisor.name or 0) != 0:
        node.set("safe", False)
    if dialect == "duckdb" and kinds.of(node) == "integer":  # `/` makes a fraction of integers there
        below = (
            node.expression
            if not node.args.get("safe")
            else exp.Nullif(this=node.expression, expression=exp.Literal.number(0))
        )
        node.replace(exp.IntDiv(this=node.this, expression=below))


def _cast(node: exp.Cast, kinds: Kinds, dialect: Dialect) -> None:
    """Integers are 64 bits wide, and a fraction is cut off, not rounded."""
    if isinstance(node, exp.TryCast):
        return
    kind = kinds.of(node.this)
    is_integer, is_number = node.to.is_type("int"), kinds.of(node) == "number"
    if kind == "text" and (is_integer or is_number):
        node.set("this", leading_number(node.this, dialect == "postgres"))
        kind = "number"
    elif kind == "text" and dialect == "duckdb":
        node.replace(exp.TryCast(this=node.this, to=node.to))
    if dialect == "duckdb" and node.to.is_type("decimal") and not node.to.expressions:
        node.set("to", exp.DataType.build("double"))  # it would round to three digits there
    if is_integer:
        node.set("to", exp.DataType.build("bigint"))
        if kind == "number":
            node.set("this", exp.Trunc(this=node.this.copy()))


def _moment(value: exp.Expr, kinds: Kinds, dialect: Dialect, precision: str = "timestamp") -> exp.Expr:
    """A point in time, or a date; NULL where a text is none, if the engine can say so."""
    to = exp.DataType.build(precision)
    if isinstance(value, exp.Literal) and value.is_string and value.name.lower() == "now":
        return exp.CurrentDate() if precision == "date" else exp.Cast(this=exp.CurrentTimestamp(), to=to)
    kind = kinds.of(value)
    if dialect == "duckdb" and kind in ("text", ""):
        return exp.TryCast(this=value.copy(), to=to)
    return exp.Cast(this=value.copy(), to=to)


def _cast_to(value: exp.Expr, kind: str) -> exp.Expr:
    return exp.Cast(this=value, to=exp.DataType.build(kind))


def _called(node: exp.Anonymous, kinds: Kinds, dialect: Dialect) -> None:
    """SQLite's functions of time, and TOTAL; another name is the engine's to know."""
    name, arguments = str(node.this).upper(), node.expressions
    if name == "TOTAL" and len(arguments) == 1:
        summed = exp.Sum(this=arguments[0].copy())
        node.replace(exp.Coalesce(this=summed, expressions=[exp.Literal.number("0.0")]))
        return
    if name not in ("DATE", "DATETIME", "JULIANDAY", "UNIXEPOCH") or not arguments:
        return
    moment: exp.Expr | None = _moment(arguments[0], kinds, dialect)
    for step in arguments[1:]:
        moment = _moved(moment, step) if moment is not None else None
    if moment is None:
        return
    if name == "DATE":
        node.replace(_cast_to(moment, "date"))
    elif name == "DATETIME":
        node.replace(moment)
    else:
        since = exp.Extract(this=exp.var("EPOCH"), expression=moment)
        if name == "UNIXEPOCH":
            node.replace(_cast_to(since, "bigint"))
        else:
            days = exp.Div(this=since, expression=exp.Literal.number("86400.0"))
            node.replace(exp.Paren(this=exp.Add(this=days, expression=exp.Literal.number(JULIAN_EPOCH))))


def _moved(moment: exp.Expr, step: exp.Expr) -> exp.Expr | None:
    """`moment` after one of SQLite's modifiers; None for one that is not known here."""
    text = step.name if isinstance(step, exp.Literal) and step.is_string else ""
    if start := START.fullmatch(text):
        return exp.TimestampTrunc(this=moment, unit=exp.var(start[1].upper()))
    if not (found := STEP.fullmatch(text)):
        return None
    sign, count, unit = found.groups()
    interval = exp.Interval(this=exp.Literal.string(count), unit=exp.var(unit.upper()))
    return exp.Paren(this=(exp.Sub if sign == "-" else exp.Add)(this=moment, expression=interval))


def _give_group_values(block: exp.Select, kinds: Kinds, dialect: Dialect) -> None:
    """A value of any row of the group for a column that is not grouped; of the row with the one MAX or MIN, if there is one."""
    group = block.args.get("group")
    places = [*block.expressions, block.args.get("having"), block.args.get("order")]
    aggregates = [
        node for place in places if place is not None for node in _own(place, block) if _is_aggregate(node)
    ]
    if group is None and not aggregates:
        return
    grouped = {expression.sql("sqlite").lower() for expression in (group.expressions if group else [])}
    names = {expression.name.lower() for expression in (group.expressions if group else [])}
    ends = [node for node in aggregates if isinstance(node, exp.Min | exp.Max)]
    end = ends[0] if len(aggregates) == len(ends) and len({node.sql() for node in ends}) == 1 else None
    for place in places:
        if place is None or (isinstance(place, exp.Alias) and place.alias.lower() in names):
            continue
        for column in [node for node in _own(place, block) if isinstance(node, exp.Column)]:
            if (
                _stands_alone(column, place, grouped)
                and kinds.owner(column) is block
                and not isinstance(column.this, exp.Star)
            ):
                chosen = _any(column, end, dialect)
                if column is place and column.arg_key == "expressions":
                    chosen = exp.alias_(chosen, column.this.copy())
                column.replace(chosen)


def _own(place: exp.Expr, block: exp.Select) -> list[exp.Expr]:
    """The nodes of `place` that belong to `block` itself, not to a query inside."""
    return [node for node in place.walk() if node.find_ancestor(exp.Select) is block]


def _is_aggregate(node: exp.Expr) -> bool:
    return (
        isinstance(node, exp.AggFunc)
        and not isinstance(node.parent, exp.Window)
        and node.find_ancestor(exp.Window) is None
    )


def _stands_alone(column: exp.Column, place: exp.Expr, grouped: set[str]) -> bool:
    """Whether nothing around the column, up to `place`, is grouped or an aggregate."""
    node: exp.Expr | None = column
    while node is not None:
        if isinstance(node, exp.AggFunc | exp.Window) or node.sql("sqlite").lower() in grouped:
            return False
        if node is place:
            return True
        node = node.parent
    return True


def _any(column: exp.Column, end: exp.Expr | None, dialect: Dialect) -> exp.Expr:
    """A value of the group in `column`."""
    own = column.copy()
    if dialect == "duckdb":
        if end is None:
            return exp.AnyValue(this=own)
        return (exp.ArgMax if isinstance(end, exp.Max) else exp.ArgMin)(this=own, expression=end.this.copy())
    gathered: exp.Expr = own
    if end is not None:
        order = exp.Ordered(this=end.this.copy(), desc=isinstance(end, exp.Max), nulls_first=False)
        gathered = exp.Order(this=own, expressions=[order])
    return exp.Bracket(this=exp.Paren(this=exp.ArrayAgg(this=gathered)), expressions=[exp.Literal.number(0)])
