"""What the canonical form is made of: keys, where a node stands, and questions about expressions."""

from dataclasses import dataclass, field, replace
from urllib.parse import quote

from sqlglot import exp

from groundql.verdicts.facts import Facts

Key = str


class Uncertain(Exception):
    """The query is beyond the rules: it has no canonical form here."""


class NeedsUnmerged(Exception):
    """A picky SELECT came from a tree in which subqueries were merged: its text is lost."""


@dataclass(frozen=True)
class Place:
    """Where a node stands, as far as rules depend on it."""

    picky: bool = False  # the order of rows reaches the result
    boolean: bool = False  # only true, or not true, counts
    derived: dict[str, Key] = field(default_factory=dict)  # CTE name -> its key

    def of_value(self) -> "Place":
        """The same place where the value counts."""
        return replace(self, boolean=False) if self.boolean else self

    def of_truth(self) -> "Place":
        """The same place where truth alone counts."""
        return self if self.boolean else replace(self, boolean=True)

    def of_query(self) -> "Place":
        """The place of a query inside it."""
        return replace(self, picky=False, boolean=False) if self.picky or self.boolean else self


@dataclass(frozen=True)
class Rules:
    """`relaxed` adds rules that hold on most data alone."""

    facts: Facts
    relaxed: bool = False
    is_merged: bool = False  # derived tables were merged into the queries around them


def word(text: str) -> str:
    """`text` without blanks and brackets, which mean something in a key."""
    return quote(text, safe="")


def sexp(*parts: str) -> Key:
    """The parts between brackets."""
    return "(" + " ".join(parts) + ")"


def flattened(key: Key, word: str) -> list[Key]:
    """The parts of `(word a b ...)`, or the key itself."""
    opening = f"({word} "
    if not key.startswith(opening):
        return [key]
    parts, depth, start = [], 0, len(opening)
    body = key[:-1]
    for at in range(len(opening), len(body) + 1):
        mark = body[at] if at < len(body) else " "
        if mark == "(":
            depth += 1
        elif mark == ")":
            depth -= 1
        elif mark == " " and depth == 0:
            parts.append(body[start:at])
            start = at + 1
    return parts


def own(node: exp.Expr, kind: type) -> bool:
    """Whether `kind` stands in this expression, subqueries and window functions aside."""
    return any(
        isinstance(found, kind)
        and not (
            kind is exp.AggFunc and isinstance(found.parent, (exp.Window, exp.Filter)) and _in_window(found)
        )
        for found in node.walk(prune=lambda n: isinstance(n, exp.Query))
    )


def _in_window(node: exp.Expr) -> bool:
    parent = node.parent
    while isinstance(parent, (exp.Filter, exp.IgnoreNulls, exp.RespectNulls)):
        parent = parent.parent
    return isinstance(parent, exp.Window)


def bare_columns(node: exp.Expr, keys: set[str]) -> list[exp.Column]:
    """Columns outside aggregates, subqueries and expressions that are grouped by."""
    found: list[exp.Column] = []

    def visit(part: exp.Expr) -> None:
        if isinstance(part, (exp.AggFunc, exp.Query)) or part.sql() in keys:
            return
        if isinstance(part, exp.Column):
            found.append(part)
            return
        for child in part.iter_expressions():
            visit(child)

    visit(node)
    return found


def bare_select(node: exp.Expr) -> exp.Select | None:
    """The SELECT inside brackets; None where another kind of query stands there."""
    while isinstance(node, (exp.Subquery, exp.Paren)):
        node = node.this
    return node if isinstance(node, exp.Select) else None
