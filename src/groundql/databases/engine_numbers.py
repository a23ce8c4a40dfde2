"""A text as the number that SQLite takes it for, in the SQL of DuckDB and PostgreSQL; trees of sqlglot.

In a comparison SQLite reads a text as a number where all of it is one; any other text is greater than every number.
So is NaN in both engines, and equal to none: it stands for such a text. In arithmetic the number that a text begins
with counts, else 0. Numbers become doubles: integers of more than 2**53 lose their last digits.
"""

import re

from sqlglot import exp

_NUMBER = (
    r"[[:space:]]*[+-]?(?:[0-9]+(?:[.][0-9]*)?|[.][0-9]+)(?:[eE][+-]?[0-9]+)?"  # of RE2 and PostgreSQL alike
)
_WHOLE = rf"^{_NUMBER}[[:space:]]*$"
_LEADING = rf"^{_NUMBER}"
_OF_PYTHON = re.compile(_NUMBER.replace("[[:space:]]", r"[ \t\n\v\f\r]"))
_SPACES = " \t\n\v\f\r"
_INT64 = range(-(2**63), 2**63)


def literal_text(node: exp.Expr) -> str | None:
    """The text of a literal in single quotes; None for all else."""
    return str(node.this) if isinstance(node, exp.Literal) and node.is_string else None


def literal_number(node: exp.Expr) -> str | None:
    """The digits of a number that stands in the query, with its sign; None for all else."""
    if isinstance(node, exp.Neg):
        inner = literal_number(node.this)
        return f"-{inner}" if inner is not None and not inner.startswith("-") else None
    return str(node.this) if isinstance(node, exp.Literal) and not node.is_string else None


def number_of_text(text: str) -> exp.Expr | None:
    """The literal of the number that `text` is; None where it is none."""
    if not _OF_PYTHON.fullmatch(text.rstrip(_SPACES)):
        return None
    return _literal(text.strip(_SPACES))


def text_of_number(digits: str) -> str:
    """How SQLite writes the number as a text: 2.50 is '2.5', 1e3 is '1000.0'.

    >>> text_of_number("2.50"), text_of_number("1e3"), text_of_number("-7")
    ('2.5', '1000.0', '-7')
    """
    if re.fullmatch(r"-?[0-9]+", digits) and int(digits) in _INT64:
        return str(int(digits))
    try:
        written = f"{float(digits):.15g}"
    except ValueError:  # hexadecimal
        return str(int(digits, 16))
    mantissa, e, exponent = written.partition("e")
    return (mantissa if "." in mantissa else f"{mantissa}.0") + e + exponent


def no_number() -> exp.Expr:
    """Greater than every number and equal to none, as a text is in SQLite."""
    return exp.cast(exp.Literal.string("NaN"), "double")


def whole_number(text: exp.Expr) -> exp.Expr:
    """The number that all of the text is, NaN where it is none, NULL where it is NULL."""
    literal = literal_text(text)
    if literal is not None:
        return number_of_text(literal) or no_number()
    is_number = exp.RegexpLike(this=text.copy(), expression=exp.Literal.string(_WHOLE))
    number = exp.TryCast(this=text.copy(), to=exp.DataType.build("double"))
    return exp.Case(ifs=[exp.If(this=is_number, true=number), exp.If(this=_is_given(text), true=no_number())])


def no_number_unless_null(text: exp.Expr) -> exp.Expr:
    """NaN for every text, NULL for NULL: beside a number when neither is a column."""
    if literal_text(text) is not None:
        return no_number()
    return exp.Case(ifs=[exp.If(this=_is_given(text), true=no_number())])


def leading_number(text: exp.Expr, is_postgres: bool) -> exp.Expr:
    """The number that the text begins with, else 0, NULL for NULL."""
    literal = literal_text(text)
    if literal is not None:
        found = _OF_PYTHON.match(literal)
        return (_literal(found[0].strip(_SPACES)) if found else None) or exp.Literal.number(0)
    pattern = exp.Literal.string(_LEADING)
    part = (
        exp.Substring(this=text.copy(), start=pattern)  # SUBSTRING(text FROM pattern)
        if is_postgres
        else exp.RegexpExtract(this=text.copy(), expression=pattern)
    )
    number = exp.TryCast(this=part, to=exp.DataType.build("double"))
    known = exp.Coalesce(this=number, expressions=[exp.Literal.number(0)])
    return exp.Case(ifs=[exp.If(this=_is_given(text), true=known)])


def undo_numbers(tree: exp.Expr) -> None:
    """The texts themselves again, where `whole_number` and `leading_number` stand; changed in place."""
    for node in list(tree.find_all(exp.RegexpLike, exp.RegexpExtract, exp.Substring)):
        pattern = node.args.get("start" if isinstance(node, exp.Substring) else "expression")
        if pattern is not None and literal_text(pattern) in (_WHOLE, _LEADING):
            around = node.find_ancestor(exp.Case)
            if around is not None:
                around.replace(node.this)


def _literal(digits: str) -> exp.Expr:
    """A number as both engines write it, without a bare point."""
    if re.fullmatch(r"[+-]?[0-9]+", digits):
        number = str(int(digits))
    else:
        value = float(digits)
        is_whole = value.is_integer() and abs(value) < 2**53
        number = str(int(value)) if is_whole else repr(value)
    if number.lstrip("-") in ("inf", "nan"):
        return exp.cast(exp.Literal.string(number), "double")
    literal = exp.Literal.number(number.lstrip("-"))
    return exp.Neg(this=literal) if number.startswith("-") else literal


def _is_given(text: exp.Expr) -> exp.Expr:
    return exp.Not(this=exp.Is(this=text.copy(), expression=exp.Null()))
