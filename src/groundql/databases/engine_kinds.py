"""What kind of value an expression of a query has, from the types of the schema; sqlglot's tree, read as SQLite."""

import re
from typing import Literal

from sqlglot import exp

from groundql.records import Column, Schema

Kind = Literal["integer", "number", "text", "time", "truth", "other", ""]  # "": not known

_PATTERNS: tuple[tuple[str, Kind], ...] = (
    (r".*(\[\]|\()?\s*(struct|map|union|list|array|json|\[\])", "other"),
    (r"u?(tiny|small|big|huge|medium)?int(eger|\d)?\b|(big|small)?serial|oid\b", "integer"),
    (r"decimal|numeric|double|float|real|money", "number"),
    (r"bool", "truth"),
    (r"date|time(stamp|\b)|interval", "time"),
    (r"(n?var|bp)?char|text|string|citext|name\b|character", "text"),
)
_TEXT = (
    exp.TimeToStr, exp.Substring, exp.Upper, exp.Lower, exp.Trim, exp.DPipe, exp.Replace, exp.GroupConcat, exp.Concat,
    exp.Right,
)  # fmt: skip
_TRUTH = (
    exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.And, exp.Or, exp.Not, exp.Like, exp.ILike, exp.In, exp.Is,
    exp.Between, exp.Exists, exp.Glob, exp.Escape, exp.Boolean,
)  # fmt: skip
_INTEGER = (exp.Count, exp.Length, exp.StrPosition, exp.RowNumber, exp.Rank, exp.DenseRank, exp.IntDiv)

_CLASSES: tuple[tuple[tuple[type[exp.Expr], ...], Kind], ...] = (
    (_TEXT, "text"),
    (_TRUTH, "truth"),
    (_INTEGER, "integer"),
    ((exp.Date, exp.CurrentDate, exp.CurrentTimestamp), "time"),
)


def kind_of_type(declared: str) -> Kind:
    """The kind of a column of this type; "other" for what is none of the named."""
    return next(
        (kind for pattern, kind in _PATTERNS if re.match(pattern, declared.strip(), re.IGNORECASE)),
        "other" if declared else "",
    )


class Kinds:
    """Kinds of the expressions of one query."""

    def __init__(self, schema: Schema) -> None:
        self._tables = {
            table.name.lower(): {column.name.lower(): column for column in table.columns}
            for table in schema.tables
        }

    def owner(self, column: exp.Column) -> exp.Select | None:
        """The nearest block around `column` that has it in a source; None for an output's alias."""
        return self._found(column)[0]

    def is_not_null(self, expression: exp.Expr) -> bool:
        """Whether it is a count, or a column that holds no NULL, as declared."""
        if not isinstance(expression, exp.Column):
            return isinstance(expression, exp.Count)
        block, kind = self._found(expression)
        found = self._declared(expression, block) if block is not None and kind else None
        return bool(found and found.not_null) and not (
            block and any(j.side for j in block.args.get("joins") or [])
        )

    def of(self, node: exp.Expr | None) -> Kind:
        """The kind of one expression."""
        if isinstance(node, exp.Literal):
            return "text" if node.is_string else "integer" if node.is_int else "number"
        if isinstance(node, exp.Column):
            block, kind = self._found(node)
            return kind if block is not None else self.of(self.output(node))
        if isinstance(
            node,
            exp.Paren
            | exp.Neg
            | exp.Abs
            | exp.Min
            | exp.Max
            | exp.AnyValue
            | exp.Distinct
            | exp.Alias
            | exp.Window,
        ):
            inner = node.expressions[0] if isinstance(node, exp.Distinct) and node.expressions else node.this
            kind = self.of(inner)
            return _counted(kind) if isinstance(node, exp.Neg | exp.Abs) else kind
        if isinstance(node, exp.Sum):
            return _counted(self.of(node.this))
        if isinstance(node, exp.Add | exp.Sub | exp.Mul | exp.Div | exp.Mod):
            both = {self.of(node.this), self.of(node.expression)}
            return "integer" if both <= {"integer", "truth"} else "number"
        if isinstance(node, exp.Case | exp.If | exp.Coalesce):
            kinds = {self.of(branch) for branch in _branches(node)} - {""}
            return kinds.pop() if len(kinds) == 1 else "number" if kinds == {"integer", "number"} else ""
        if isinstance(node, exp.Cast):
            return kind_of_type(node.to.sql())
        if isinstance(node, exp.Avg | exp.Round | exp.Ln | exp.Log | exp.Sqrt):
            return "number"
        for kinds_of, kind in (
            (_TEXT, "text"),
            (_TRUTH, "truth"),
            (_INTEGER, "integer"),
            ((exp.Date,), "time"),
        ):
            if isinstance(node, kinds_of):
                return kind
        if isinstance(node, exp.Subquery) and isinstance(node.this, exp.Select) and node.this.expressions:
            return self.of(node.this.expressions[0])
        return ""

    def output(self, column: exp.Column) -> exp.Expr | None:
        """What the column is, where it is the output of a query in FROM or WITH, or of its own block; else None."""
        block = column.find_ancestor(exp.Select)
        while block is not None:
            for source in _named_by(column, block):
                query = _query_of(source)
                if query is not None:
                    found = _output(query, column.name)
                    if found is not None or column.table:
                        return found
                elif column.name.lower() in self._tables.get(source.name.lower(), {}):
                    return None
            block = _around(block)
        own = column.find_ancestor(exp.Select)
        if column.table or own is None or isinstance(column.parent, exp.Alias):
            return None
        found = _output(own, column.name)
        return found if found is not None and found is not column and column not in found.walk() else None

    def _found(self, column: exp.Column) -> tuple[exp.Select | None, Kind]:
        block = column.find_ancestor(exp.Select)
        while block is not None:
            for source in _named_by(column, block):
                query = _query_of(source)
                if query is not None:
                    output = _output(query, column.name)
                    if output is not None:
                        return block, self.of(output)
                columns = self._tables.get(source.name.lower()) if query is None else None
                if columns is None:
                    if column.table:
                        return block, ""
                    continue
                if column.name.lower() in columns:
                    return block, kind_of_type(columns[column.name.lower()].type)
            block = _around(block)
        return None, ""

    def declared(self, column: exp.Column) -> str:
        """The type of a column as the schema has it; "" where it is not known."""
        block, _ = self._found(column)
        found = self._declared(column, block) if block is not None else None
        return found.type if found is not None else ""

    def _declared(self, column: exp.Column, block: exp.Select) -> Column | None:
        for source in _named_by(column, block):
            if _query_of(source) is None:
                found = self._tables.get(source.name.lower(), {}).get(column.name.lower())
                if found is not None:
                    return found
        return None


def _counted(kind: Kind) -> Kind:
    """The kind of a sum of values of `kind`."""
    return "integer" if kind in ("integer", "truth") else "number" if kind else ""


def sources_of(block: exp.Select) -> list[exp.Expr]:
    """What stands in FROM and the joins of one block."""
    start = block.args.get("from_") or block.args.get("from")
    joined = [join.this for join in block.args.get("joins") or []]
    return ([start.this] if start is not None else []) + joined


def _named_by(column: exp.Column, block: exp.Select) -> list[exp.Expr]:
    """The sources of the block that the column may be of."""
    name = column.table.lower()
    return [source for source in sources_of(block) if not name or name == source.alias_or_name.lower()]


def _around(block: exp.Select) -> exp.Select | None:
    """The block whose columns this one may name too; a query of WITH names none."""
    around = block.find_ancestor(exp.Select, exp.CTE)
    return around if isinstance(around, exp.Select) else None


def _query_of(source: exp.Expr) -> exp.Select | None:
    """The first block of the query in brackets, or of the one of WITH that has the source's name; None for a table."""
    query: exp.Expr | None = source.this if isinstance(source, exp.Subquery) else None
    around = source.find_ancestor(exp.Select, exp.SetOperation) if isinstance(source, exp.Table) else None
    while around is not None and query is None:
        given = around.args.get("with_") or around.args.get("with")
        for cte in given.expressions if given is not None else []:
            if cte.alias.lower() == source.name.lower():
                query = cte.this
        around = around.find_ancestor(exp.Select, exp.SetOperation)
    while isinstance(query, exp.SetOperation | exp.Subquery):
        query = query.this
    return query if isinstance(query, exp.Select) else None


def _output(query: exp.Select, name: str) -> exp.Expr | None:
    """The expression of the output with this name, without the alias."""
    outputs = (one for one in query.expressions if one.alias_or_name.lower() == name.lower())
    return next((one.unalias() for one in outputs), None)


def _branches(node: exp.Expr) -> list[exp.Expr]:
    if isinstance(node, exp.Coalesce):
        return [node.this, *node.expressions]
    if isinstance(node, exp.If):
        return [one for one in (node.args.get("true"), node.args.get("false")) if one is not None]
    ends = [branch.args["true"] for branch in node.args.get("ifs") or []]
    return [*ends, *([node.args["default"]] if node.args.get("default") is not None else [])]
