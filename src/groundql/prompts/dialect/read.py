"""Reads one query into a tree: SQLite's own grammar and precedence, SELECT first or FROM first.

Not sqlglot's parser: it renames functions, forgets which quotes a name stood in and does not know FROM-first text of
SQLite. Brackets are not kept; the writer sets those that are needed.
"""

from collections.abc import Callable
from typing import TypeVar

from groundql.errors import NotInDialect
from groundql.prompts.dialect.expressions import JOIN_WORDS, ExpressionReader
from groundql.prompts.dialect.tokens import tokens
from groundql.prompts.dialect.tree import (
    Binary,
    Core,
    Cte,
    Item,
    Literal,
    Order,
    Query,
    Source,
    Star,
    Unary,
)
from groundql.prompts.render import RESERVED

SET_OPERATORS = ("UNION", "INTERSECT", "EXCEPT")
# words that may stand behind a table or an output, and so are no alias there unless AS stands before
NO_ALIAS = RESERVED | {"WINDOW", "INDEXED"}

Any = TypeVar("Any")


def read_query(sql: str) -> Query:
    """The tree of `sql`, one query with or without a final semicolon; NotInDialect where it is none."""
    reader = _QueryReader(sql)
    try:
        query = reader.query()
    except RecursionError:
        raise NotInDialect("nested too deep") from None
    while reader.take(";"):
        pass
    reader.expect_end()
    return query


class _QueryReader(ExpressionReader):
    """Recursive descent over the tokens of one query; the base class reads expressions."""

    def __init__(self, sql: str) -> None:
        self.sql = sql
        self.tokens = tokens(sql)
        self.at = 0

    def query(self) -> Query:
        ctes: list[Cte] = []
        if self.take("WITH"):
            self.take("RECURSIVE")
            ctes = self.list_of(self._cte)
        cores, operators = [self._core()], []
        while self.now.upper in SET_OPERATORS:
            operator = self.advance().upper
            operators.append("UNION ALL" if operator == "UNION" and self.take("ALL") else operator)
            cores.append(self._core())
        query = Query(cores, operators, ctes=ctes)
        if self.take("ORDER"):
            self.expect("BY")
            query.order = self.list_of(self.order_term)
        if self.take("LIMIT"):
            self._limit(query)
        return query

    def list_of(self, read: Callable[[], Any]) -> list[Any]:
        found = [read()]
        while self.take(","):
            found.append(read())
        return found

    def order_term(self) -> Order:
        expr = self.expr()
        is_descending = False
        if self.take("DESC"):
            is_descending = True
        else:
            self.take("ASC")
        term = Order(expr, is_descending)
        if self.take("NULLS"):
            end = self.advance().upper
            if end == "LAST" and not is_descending:
                term.nulls = "LAST"
            elif end == "FIRST" and is_descending:
                term.nulls = "FIRST"
            elif end not in ("FIRST", "LAST"):
                raise self.wrong()
        return term

    def _cte(self) -> Cte:
        name = self.name()
        names: tuple[str, ...] = ()
        if self.take("("):
            names = tuple(self.list_of(self.name))
            self.expect(")")
        self.expect("AS")
        if self.take("NOT"):
            self.expect("MATERIALIZED")
        else:
            self.take("MATERIALIZED")
        return Cte(name, self.bracketed_query(), names)

    def bracketed_query(self) -> Query:
        self.expect("(")
        query = self.query()
        self.expect(")")
        return query

    def _core(self) -> Core:
        core = Core([], False, [])
        if self.now.upper == "FROM":
            self._from(core)
            self._filters(core)
            self.expect("SELECT")
            self._items(core)
            return core
        if self.now.upper == "VALUES":
            raise NotInDialect("VALUES in place of SELECT")
        self.expect("SELECT")
        self._items(core)
        if self.now.upper == "FROM":
            self._from(core)
        if core.is_turned_round and any(isinstance(item.expr, Star) for item in core.items):
            raise NotInDialect("a star over a RIGHT join")
        self._filters(core)
        return core

    def _items(self, core: Core) -> None:
        core.is_distinct = self.take("DISTINCT")
        if not core.is_distinct:
            self.take("ALL")
        core.items = self.list_of(self._item)

    def _item(self) -> Item:
        first = self.now.start
        if self.take("*"):
            return Item(Star())
        if self.is_name() and self.peek(1).upper == "." and self.peek(2).upper == "*":
            star = Star(self.name())
            self.at += 2
            return Item(star)
        expr = self.expr()
        item = Item(expr, span=self.sql[first : self.tokens[self.at - 1].end])
        item.written = self._alias()
        return item

    def _alias(self) -> str | None:
        if self.take("AS"):
            return self.name()
        if (self.now.kind == "word" and self.now.upper not in NO_ALIAS) or self.now.kind in (
            "string",
            "double",
            "tick",
            "bracket",
        ):
            return self.name()
        return None

    def _from(self, core: Core) -> None:
        self.expect("FROM")
        self._sources(core)

    def _sources(self, core: Core) -> None:
        self._source(core, Source())
        while True:
            source = Source(join="JOIN")
            if self.take(","):
                source.join = "CROSS JOIN"
            elif not self._join(source):
                return
            is_right = source.join == "RIGHT JOIN"
            self._source(core, source)
            if self.take("ON"):
                source.on = self.expr()
            elif self.take("USING"):
                self.expect("(")
                source.using = tuple(self.list_of(self.name))
                self.expect(")")
            if source.join in ("LEFT JOIN", "RIGHT JOIN") and not (
                source.on or source.using or source.is_natural
            ):
                source.on = Binary("=", Literal("1"), Literal("1"))
            if is_right:
                _turn_round(core)

    def _join(self, source: Source) -> bool:
        """Reads the words of a join; False where none stands here."""
        words = []
        while self.now.upper in JOIN_WORDS:
            words.append(self.advance().upper)
        if self.now.upper != "JOIN":
            if words:
                raise self.wrong()
            return False
        self.at += 1
        if "FULL" in words:
            raise NotInDialect("a FULL join")
        source.is_natural = "NATURAL" in words
        sides = [word for word in words if word in ("LEFT", "RIGHT", "CROSS")]
        source.join = f"{sides[0]} JOIN" if sides else "JOIN"  # type: ignore[assignment]  # one of its literals
        return True

    def _source(self, core: Core, source: Source) -> None:
        if self.now.upper == "(" and self.peek(1).upper in ("SELECT", "WITH", "FROM", "VALUES"):
            source.query = self.bracketed_query()
        elif self.now.upper == "(":
            if core.sources:
                raise NotInDialect("a join in brackets behind another")
            self.at += 1
            self._sources(core)
            self.expect(")")
            return
        else:
            source.table = self.name()
            if self.take("."):
                source.table = self.name()
            if self.now.upper == "(":
                raise NotInDialect(f"the table-valued function {source.table}")
        source.written = self._alias()
        if self.now.upper == "INDEXED" or (self.now.upper == "NOT" and self.peek(1).upper == "INDEXED"):
            raise NotInDialect("INDEXED BY")
        core.sources.append(source)

    def _filters(self, core: Core) -> None:
        if self.take("WHERE"):
            core.where = self.expr()
        if self.take("GROUP"):
            self.expect("BY")
            core.group = self.list_of(self.expr)
        if self.take("HAVING"):
            core.having = self.expr()
        if self.now.upper == "WINDOW" and self.peek(1).kind == "word" and self.peek(2).upper == "AS":
            raise NotInDialect("a named window")

    def _limit(self, query: Query) -> None:
        first = self._whole_number()
        if self.take(","):
            query.offset, query.limit = first, self._whole_number()
        else:
            query.limit = first
            if self.take("OFFSET"):
                query.offset = self._whole_number()
        if query.offset is not None and int(query.offset) <= 0:
            query.offset = None
        if query.limit is not None and int(query.limit) < 0:
            if query.offset is not None:
                raise NotInDialect("OFFSET without a LIMIT")
            query.limit = None

    def _whole_number(self) -> str:
        expr, sign = self.expr(), ""
        if isinstance(expr, Unary) and expr.operator == "-":
            expr, sign = expr.operand, "-"
        if isinstance(expr, Literal) and expr.text.isdigit():
            return sign + expr.text
        raise NotInDialect("LIMIT or OFFSET is no whole number")


def _turn_round(core: Core) -> None:
    """`a RIGHT JOIN b ON ...` as `b LEFT JOIN a ON ...`."""
    if len(core.sources) != 2 or core.sources[1].on is None:
        raise NotInDialect("a RIGHT join of more than two tables, or without ON")
    left, right = core.sources
    core.sources = [right, left]
    left.join, right.join = "LEFT JOIN", ""
    left.on, right.on = right.on, None
    core.is_turned_round = True
