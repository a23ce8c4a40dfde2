"""Reads expressions with SQLite's precedence."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeVar

from groundql.errors import NotInDialect
from groundql.prompts.dialect.tokens import QUOTES, Token, number_literal, string_literal
from groundql.prompts.dialect.tree import (
    Between,
    Binary,
    Call,
    Case,
    Cast,
    Collate,
    Exists,
    Expr,
    In,
    Literal,
    Name,
    Order,
    Query,
    Scalar,
    Unary,
    Window,
)
from groundql.prompts.render import RESERVED

OR, AND, NOT, EQUALITY, COMPARISON, BITS, SUM, PRODUCT, CONCAT, COLLATE, SIGN = range(1, 12)
LEVELS = {
    "OR": OR,
    "AND": AND,
    **dict.fromkeys(("=", "==", "!=", "<>", "IS", "LIKE", "GLOB", "MATCH", "REGEXP"), EQUALITY),
    **dict.fromkeys(("IN", "BETWEEN", "ISNULL", "NOTNULL", "NOT"), EQUALITY),  # NOT behind an operand
    **dict.fromkeys(("<", "<=", ">", ">="), COMPARISON),
    **dict.fromkeys(("&", "|", "<<", ">>"), BITS),
    **dict.fromkeys(("+", "-"), SUM),
    **dict.fromkeys(("*", "/", "%"), PRODUCT),
    **dict.fromkeys(("||", "->", "->>"), CONCAT),
    "COLLATE": COLLATE,
}
PATTERNS = ("LIKE", "GLOB", "MATCH", "REGEXP")
SPELLING = {"==": "=", "<>": "!="}
CONSTANTS = ("NULL", "CURRENT_DATE", "CURRENT_TIME", "CURRENT_TIMESTAMP")
FUNCTION_SPELLING = {"SUBSTRING": "SUBSTR"}
JOIN_WORDS = ("NATURAL", "LEFT", "RIGHT", "FULL", "OUTER", "INNER", "CROSS")
NO_OPERAND = RESERVED.difference(
    JOIN_WORDS
)  # where an operand is due SQLite takes the words of joins for names

Any = TypeVar("Any")


class ExpressionReader(ABC):
    """The expression half of the reader: it stands at token `at`."""

    tokens: list[Token]
    at: int

    @abstractmethod
    def query(self) -> Query:
        """A query from here."""

    @abstractmethod
    def bracketed_query(self) -> Query:
        """A query in brackets."""

    @abstractmethod
    def order_term(self) -> Order:
        """A term of ORDER BY."""

    @abstractmethod
    def list_of(self, read: Callable[[], Any]) -> list[Any]:
        """One or more with commas between."""

    @property
    def now(self) -> Token:
        return self.tokens[self.at]

    def peek(self, ahead: int) -> Token:
        return self.tokens[min(self.at + ahead, len(self.tokens) - 1)]

    def advance(self) -> Token:
        """The token here, which is passed; the end is never passed."""
        token = self.now
        self.at += token.kind != "end"
        return token

    def take(self, upper: str) -> bool:
        """Whether this word or sign stands here; if so, it is passed."""
        if self.now.upper == upper:
            self.at += 1
            return True
        return False

    def expect(self, upper: str) -> None:
        if not self.take(upper):
            raise self.wrong(f"{upper} is missing")

    def expect_end(self) -> None:
        if self.now.kind != "end":
            raise self.wrong()

    def wrong(self, words: str = "does not parse") -> NotInDialect:
        """The error that stands for the token here."""
        return NotInDialect(f"{words} at {self.now.text or 'its end'!r}")

    def is_name(self) -> bool:
        return self.now.kind in ("word", "string", *QUOTES)

    def name(self) -> str:
        """A name as SQLite takes it: a word, in any quotes, or a string."""
        if not self.is_name():
            raise self.wrong("a name is missing")
        return self.advance().text

    def expr(self, lowest: int = OR) -> Expr:
        """An expression of operators that bind at least as tightly as `lowest`."""
        left = self._prefix()
        while self.now.kind in ("word", "sign"):
            level = LEVELS.get(self.now.upper, 0)
            if level < lowest or (self.now.upper == "NOT" and not self._is_negated_tail()):
                break
            left = self._tail(left, level)
        return left

    def _is_negated_tail(self) -> bool:
        return self.peek(1).upper in ("IN", "BETWEEN", "NULL", *PATTERNS)

    def _tail(self, left: Expr, level: int) -> Expr:
        """The operator here and what follows it, applied to `left`."""
        word = self.advance().upper
        if word == "COLLATE":
            return Collate(left, self.name().upper())
        if word in ("ISNULL", "NOTNULL"):
            return Binary("IS" if word == "ISNULL" else "IS NOT", left, Literal("NULL"))
        is_not = word == "NOT"
        if is_not:
            word = self.advance().upper
            if word == "NULL":
                return Binary("IS NOT", left, Literal("NULL"))
        if word == "IN":
            return self._in(left, is_not)
        if word == "BETWEEN":
            low = self.expr(NOT)
            self.expect("AND")
            return Between(left, low, self.expr(EQUALITY + 1), is_not)
        if word == "IS":
            word = "IS NOT" if self.take("NOT") else "IS"
            if self.now.upper == "DISTINCT" and self.peek(1).upper == "FROM":
                self.at += 2
                word = "IS" if word == "IS NOT" else "IS NOT"
        right = self.expr(level + 1)
        escape = self.expr(BITS) if word in PATTERNS and self.take("ESCAPE") else None
        return Binary(("NOT " if is_not else "") + SPELLING.get(word, word), left, right, escape)

    def _in(self, left: Expr, is_not: bool) -> In:
        if self.now.upper != "(":
            raise NotInDialect("IN with a table in place of a list or a query")
        if self.peek(1).upper in ("SELECT", "WITH", "FROM", "VALUES"):
            return In(left, [], self.bracketed_query(), is_not)
        self.at += 1
        values = [] if self.now.upper == ")" else self.list_of(self.expr)
        self.expect(")")
        return In(left, values, None, is_not)

    def _prefix(self) -> Expr:
        token = self.now
        if token.kind == "number":
            self.at += 1
            return Literal(number_literal(token.text))
        if token.kind in ("string", *QUOTES):
            return self._quoted()
        if token.upper == "(":
            return self._bracketed()
        if token.upper in ("-", "+", "~"):
            self.at += 1
            return Unary(token.upper, self.expr(SIGN))
        if token.kind == "word":
            return self._word()
        raise self.wrong()

    def _quoted(self) -> Expr:
        if self.now.kind == "string" and self.peek(1).upper != ".":
            return Literal(string_literal(self.advance().text))
        return self._column()

    def _column(self) -> Name:
        """`column`, `table.column` or `schema.table.column`; the last without its schema."""
        parts = [self.now]
        self.name()
        while self.now.upper == "." and len(parts) < 3:
            self.at += 1
            parts.append(self.now)
            self.name()
        qualifier = parts[-2].text if len(parts) > 1 else None
        return Name(parts[-1].text, qualifier, QUOTES.get(parts[-1].kind, ""))

    def _bracketed(self) -> Expr:
        if self.peek(1).upper in ("SELECT", "WITH", "FROM", "VALUES"):
            return Scalar(self.bracketed_query())
        self.at += 1
        inside = self.expr()
        if self.now.upper == ",":
            raise NotInDialect("a row of values in brackets")
        self.expect(")")
        return inside

    def _word(self) -> Expr:
        word, following = self.now.upper, self.peek(1).upper
        if word == "NOT":
            self.at += 1
            return negated(self.expr(NOT))
        if word == "EXISTS" and following == "(":
            self.at += 1
            return Exists(self.bracketed_query())
        if word == "CAST" and following == "(":
            return self._cast()
        if word == "CASE":
            return self._case()
        if word in CONSTANTS and following != ".":
            self.at += 1
            return Literal(word)
        if word in NO_OPERAND:
            raise self.wrong()
        return self._call() if following == "(" else self._column()

    def _cast(self) -> Cast:
        self.at += 2
        operand = self.expr()
        self.expect("AS")
        words = [self.name().upper()]
        while self.now.kind in ("word", "number") or self.now.upper in ("(", ",", "+", "-"):
            token = self.advance()
            words.append(token.upper)
            if token.upper == "(":
                while self.now.upper != ")":
                    if self.advance().kind == "end":
                        raise self.wrong()
                self.at += 1
                break
        self.expect(")")
        return Cast(operand, affinity(" ".join(words)))

    def _case(self) -> Case:
        self.at += 1
        operand = None if self.now.upper == "WHEN" else self.expr()
        whens = []
        while self.take("WHEN"):
            condition = self.expr()
            self.expect("THEN")
            whens.append((condition, self.expr()))
        otherwise = self.expr() if self.take("ELSE") else None
        self.expect("END")
        if not whens:
            raise self.wrong()
        return Case(operand, whens, otherwise)

    def _call(self) -> Expr:
        name = self.advance().upper
        self.at += 1
        call = Call(FUNCTION_SPELLING.get(name, name), [])
        if self.take("*"):
            call.is_star = True
        elif self.now.upper != ")":
            call.is_distinct = self.take("DISTINCT")
            if not call.is_distinct:
                self.take("ALL")
            call.arguments = self.list_of(self.expr)
            if self.now.upper == "ORDER":
                raise NotInDialect("ORDER BY inside an aggregate")
        self.expect(")")
        call.is_star = call.is_star or (name == "COUNT" and not call.arguments)
        if self.now.upper == "FILTER" and self.peek(1).upper == "(":
            self._filter(call)
        if self.now.upper == "OVER" and (self.peek(1).upper == "(" or self.peek(1).kind == "word"):
            self.at += 1
            call.over = self._window()
        return call

    def _filter(self, call: Call) -> None:
        """`f(x) FILTER (WHERE c)` becomes `f(CASE WHEN c THEN x END)`: aggregates pass over NULL."""
        self.at += 2
        self.expect("WHERE")
        condition = self.expr()
        self.expect(")")
        if call.name not in ("COUNT", "SUM", "AVG", "MIN", "MAX", "TOTAL") or len(call.arguments) > 1:
            raise NotInDialect(f"FILTER behind {call.name}")
        counted = Literal("1") if call.is_star else call.arguments[0]
        call.is_star = False
        call.arguments = [Case(None, [(condition, counted)], None)]

    def _window(self) -> Window:
        if self.now.upper != "(":
            raise NotInDialect("a named window")
        self.at += 1
        window = Window([], [])
        if self.take("PARTITION"):
            self.expect("BY")
            window.partition = self.list_of(self.expr)
        if self.take("ORDER"):
            self.expect("BY")
            window.order = self.list_of(self.order_term)
        if self.now.upper != ")":
            raise NotInDialect("a window with a frame or a name")
        self.at += 1
        return window


def negated(expr: Expr) -> Expr:
    """`NOT expr`, with NOT inside where SQL has a form for it; what NULL gives stays the same."""
    if isinstance(expr, In | Between) and not expr.is_not:
        expr.is_not = True
        return expr
    if isinstance(expr, Binary) and expr.operator in PATTERNS:
        expr.operator = f"NOT {expr.operator}"
        return expr
    if isinstance(expr, Binary) and expr.operator == "IS":
        expr.operator = "IS NOT"
        return expr
    return Unary("NOT", expr)


def affinity(declared: str) -> str:
    """The type that CAST takes a declared one for, by SQLite's rules of affinity."""
    for parts, name in (
        (("INT",), "INTEGER"),
        (("CHAR", "CLOB", "TEXT"), "TEXT"),
        (("BLOB",), "BLOB"),
        (("REAL", "FLOA", "DOUB"), "REAL"),
    ):
        if any(part in declared for part in parts):
            return name
    return "NUMERIC"
