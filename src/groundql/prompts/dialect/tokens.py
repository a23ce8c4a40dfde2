"""Cuts SQLite's SQL into tokens."""

import re
from dataclasses import dataclass

from groundql.errors import NotInDialect

_TOKEN = re.compile(
    r"""(?P<gap>\s+|--[^\n]*|/\*.*?(?:\*/|\Z))
      | (?P<blob>[xX]'[^']*')
      | (?P<string>'(?:[^']|'')*')
      | (?P<double>"(?:[^"]|"")*")
      | (?P<tick>`(?:[^`]|``)*`)
      | (?P<bracket>\[[^\]]*\])
      | (?P<number>0[xX][0-9a-fA-F]+|(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
      | (?P<word>[^\W\d][\w$]*)
      | (?P<sign>->>|->|\|\||<<|>>|<=|>=|<>|!=|==|[-+*/%&|~<>=(),.;])
      | (?P<wrong>.)""",
    re.DOTALL | re.VERBOSE,
)
QUOTES = {"double": '"', "tick": "`", "bracket": "["}


@dataclass(frozen=True, slots=True)
class Token:
    """One token: `upper` serves to compare words and signs, and is empty for quoted names and literals."""

    kind: str  # word, string, double, tick, bracket, number, sign, end
    text: str  # without its quotes
    upper: str
    start: int
    end: int


def tokens(sql: str) -> list[Token]:
    """All tokens of `sql` without comments, and an end; NotInDialect at what SQLite would not read."""
    found = []
    for match in _TOKEN.finditer(sql):
        kind, text = str(match.lastgroup), match[0]
        if kind == "gap":
            continue
        if kind in ("wrong", "blob"):
            raise NotInDialect(f"{text[:20]!r} is not in the dialect")
        upper = text.upper() if kind in ("word", "sign") else ""
        if kind in ("string", "double", "tick"):
            text = text[1:-1].replace(text[0] * 2, text[0])
        elif kind == "bracket":
            text = text[1:-1]
        found.append(Token(kind, text, upper, match.start(), match.end()))
    found.append(Token("end", "", "", len(sql), len(sql)))
    return found


def string_literal(text: str) -> str:
    """`text` in single quotes; NotInDialect where it holds a line break or NUL."""
    if any(letter in text for letter in "\n\r\0"):
        raise NotInDialect("a string literal holds a line break")
    return "'" + text.replace("'", "''") + "'"


def number_literal(text: str) -> str:
    """A number without what may be left out or has another spelling: 007, 5., .5, 1e3, 0x1F."""
    if text[:2] in ("0x", "0X"):
        value = int(text, 16)
        return str(value if value < 2**63 else value - 2**64)
    if text.isdigit():
        return text.lstrip("0") or "0"
    if "e" in text.lower():
        plain = repr(float(text))
        if "e" in plain or "n" in plain:
            raise NotInDialect(f"the number {text} has no spelling without an exponent")
        return plain
    whole, _, fraction = text.partition(".")
    return f"{whole.lstrip('0') or '0'}.{fraction or '0'}"
