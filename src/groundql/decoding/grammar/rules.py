r"""The rule list: which SQL may be written about a schema, in the canonical dialect.

Each rule is a name and a body. A name in upper case is a terminal: a lexer matches it as a whole, as long as it can,
and never goes back. So where two terminals may stand at the same place and one begins the other, what follows the
shorter one must differ at once from what the longer one goes on with. That is why a keyword carries its own spaces
(`" IS NOT NULL"`, never `" IS "` and then `"NOT"`), and why white space is never a terminal of its own between words.

A body is written in what Lark and GBNF share: "literals" with \\ and \" and \n, [character classes], names, and
( ) | ? * + {m,n}.

Each rule of an expression exists at three levels, told apart by its last letter: `s` holds no aggregate, `a` may hold
aggregates, `w` windows as well. WHERE, ON and GROUP BY take `s`, HAVING `a`, SELECT and ORDER BY `w`. A subquery
starts again at its own levels. So an aggregate in WHERE or in another aggregate cannot be derived at all.

What the rules do not know is left to the scope tracker: which table an alias is, which columns it has, how wide a
set operand is, how deep parentheses go.
"""

import re
from collections.abc import Iterable

from groundql.decoding.grammar.functions import arity_groups
from groundql.prompts.render import quoted
from groundql.records import Schema

MAX_SOURCES = 6  # tables in one FROM: no gold query of BIRD or Spider has more
MAX_TEXT_CHARS = 200  # in one string literal: the longest in BIRD train has 166
# Chains end: a model that was kept from the name it wanted repeats conditions until its budget is spent. In brackets
# the most that a training gold of BIRD, Spider or pocket has.
MAX_CONDITIONS = 10  # joined by AND or OR (8)
MAX_ON_CONDITIONS = 4  # the same in ON (3)
MAX_TERMS = 8  # of a sum or product (6)
MAX_ITEMS = 24  # of a list: columns, values, terms of an order (8)
MAX_CASES = 10  # WHEN of one CASE (6)
MAX_OPERANDS = 4  # of a set operation (2)
LEVELS = ("s", "a", "w")

Rules = tuple[tuple[str, str], ...]  # (name, body); the first is the start

_QUERY: Rules = (
    ("start", '" "? query ";"?'),
    ("query", '("WITH " cte (", " cte)* " ")? body'),
    ("cte", 'CTE " AS (" body ")"'),
    ("body", f"core (SETOP core){{0,{MAX_OPERANDS - 1}}} tail"),
    ("core", f'"SELECT " "DISTINCT "? item (", " item){{0,{MAX_ITEMS - 1}}} rest?'),
    ("item", '"*" | QUALIFIER "*" | exprw (" AS " OUTPUT)?'),
    # One column: for IN (...) and for a subquery that stands as a value.
    ("bodyone", f"coreone (SETOP coreone){{0,{MAX_OPERANDS - 1}}} tail"),
    ("coreone", '"SELECT " "DISTINCT "? exprw (" AS " OUTPUT)? rest?'),
    ("rest", f'" FROM " source join{{0,{MAX_SOURCES - 1}}} (" WHERE " exprs)? group?'),
    ("group", f'" GROUP BY " exprs (", " exprs){{0,{MAX_ITEMS - 1}}} (" HAVING " expra)?'),
    ("join", f'JOIN source " ON " tests (BOOL tests){{0,{MAX_ON_CONDITIONS - 1}}} | " CROSS JOIN " source'),
    ("source", 'SOURCE (" AS " ALIAS)?'),
    ("tail", '(" ORDER BY " orders)? (" LIMIT " INT (" OFFSET " INT)?)?'),
    ("orders", f'order (", " order){{0,{MAX_ITEMS - 1}}}'),
    ("order", "exprw DIRECTION?  NULLS?"),
    ("JOIN", '" JOIN " | " INNER JOIN " | " LEFT JOIN " | " LEFT OUTER JOIN "'),
    ("SETOP", '" UNION " | " UNION ALL " | " INTERSECT " | " EXCEPT "'),
    ("DIRECTION", '" DESC" | " ASC"'),
    ("NULLS", '" NULLS FIRST" | " NULLS LAST"'),
)

_LEVEL: Rules = (
    ("expr@", f"test@ (BOOL test@){{0,{MAX_CONDITIONS - 1}}}"),
    ("test@", '"NOT "? sum@ tail@?'),
    (
        "tail@",
        'COMPARE sum@ | NULLTEST | LIKE sum@ (" ESCAPE " CHAR)? | GLOB sum@ | BETWEEN sum@ " AND " sum@ | IN inside@ ")"',
    ),
    ("inside@", "bodyone | list@"),
    ("list@", f'expr@ (", " expr@){{0,{MAX_ITEMS - 1}}}'),
    ("sum@", f"unary@ (ARITHMETIC unary@){{0,{MAX_TERMS - 1}}}"),
    ("unary@", '"-"? value@'),
    (
        "value@",
        'COLUMN | QUALIFIER COLUMN | NUMBER | TEXT | CONSTANT | "(" expr@ ")" | "(" bodyone ")" | "EXISTS (" body ")"'
        ' | "CAST(" expr@ " AS " TYPE ")" | case@ | call@ | MINMAX expr@ (", " expr@){1,3} ")"',
    ),
    (
        "case@",
        '"CASE " (expr@ " WHEN " | "WHEN ") expr@ " THEN " expr@'
        f' (" WHEN " expr@ " THEN " expr@){{0,{MAX_CASES - 1}}} (" ELSE " expr@)? " END"',
    ),
)

_AGGREGATES: Rules = (
    (
        "aggregate",
        '"COUNT(*)" | (AGGREGATE | MINMAX) "DISTINCT "? exprs ")" | "GROUP_CONCAT(" ("DISTINCT "? exprs | exprs ", " TEXT) ")"',
    ),
    (
        "window",
        '(WINDOW | "COUNT(*)" | (AGGREGATE | MINMAX | WINDOWOF) expra ")" | "NTILE(" INT ")"'
        ' | "GROUP_CONCAT(" expra (", " TEXT)? ")"'
        ' | WINDOWAT expra (", " INT (", " expra)?)? ")") " OVER (" frame? ")"',
    ),
    ("frame", '"PARTITION BY " lista (" ORDER BY " framed)? | "ORDER BY " framed'),
    ("framed", 'expra DIRECTION? NULLS? (", " expra DIRECTION? NULLS?)*'),
    ("AGGREGATE", '"COUNT(" | "SUM(" | "AVG(" | "TOTAL("'),
    ("MINMAX", '"MIN(" | "MAX("'),
    ("WINDOW", '"ROW_NUMBER()" | "RANK()" | "DENSE_RANK()" | "PERCENT_RANK()" | "CUME_DIST()"'),
    ("WINDOWOF", '"FIRST_VALUE(" | "LAST_VALUE("'),
    ("WINDOWAT", '"LAG(" | "LEAD("'),
)

_TERMINALS: Rules = (
    ("BOOL", '" AND " | " OR "'),
    ("COMPARE", '" = " | " != " | " <> " | " < " | " <= " | " > " | " >= "'),
    ("NULLTEST", '" IS NULL" | " IS NOT NULL"'),
    ("LIKE", '" LIKE " | " NOT LIKE "'),
    ("GLOB", '" GLOB " | " NOT GLOB "'),
    ("BETWEEN", '" BETWEEN " | " NOT BETWEEN "'),
    ("IN", '" IN (" | " NOT IN ("'),
    ("ARITHMETIC", '" + " | " - " | " * " | " / " | " % " | " || "'),
    ("CONSTANT", '"NULL" | "CURRENT_DATE" | "CURRENT_TIME" | "CURRENT_TIMESTAMP"'),
    (
        "TYPE",
        '"INTEGER" | "INT" | "REAL" | "FLOAT" | "TEXT" | "NUMERIC" | "DECIMAL" | "BLOB" | "DATE" | "DATETIME"',
    ),
    # Bounded, or a weak model writes digits for ever. In LIMIT 18 digits, which always fit SQLite's integer.
    ("INT", '"0" | [1-9] [0-9]{0,17}'),
    ("NUMBER", '("0" | [1-9] [0-9]{0,18}) ("." [0-9]{1,15})?'),
    ("TEXT", f'"\'" ([^\'\\x00-\\x1f\\x7f] | "\'\'"){{0,{MAX_TEXT_CHARS}}} "\'"'),
    ("CHAR", '"\'" [^\'\\x00-\\x1f\\x7f] "\'"'),
    ("ALIAS", '"T" ("1" [0-9] | [1-9])'),
    ("OUTPUT", '"c" ("1" [0-9] | [1-9])'),
    ("CTE", '"Q" [1-9]'),
)


def sql_rules(schema: Schema) -> Rules:
    """The rules of the SQL that may be written about `schema`; names are spelt as `render.quoted` spells them."""
    tables = _literals(quoted(table.name) for table in schema.tables)
    columns = _literals(quoted(column.name) for table in schema.tables for column in table.columns)
    names: Rules = (
        ("SOURCE", "CTE" + "".join(f" | {table}" for table in tables)),
        ("COLUMN", "OUTPUT" + "".join(f" | {column}" for column in columns)),
        ("QUALIFIER", '(ALIAS | SOURCE) "."'),
    )
    groups = arity_groups()
    calls = tuple(
        (_group_name(least, most), _literals(f"{f}(" for f in group)) for (least, most), group in groups
    )
    call_terminals: Rules = tuple((name, " | ".join(literals)) for name, literals in calls)
    call_body = " | ".join(
        f'{_group_name(least, most)} {_arguments(least, most)} ")"' for (least, most), _ in groups
    )
    levels = [
        (name.replace("@", level), (body + _of_level(name, level)).replace("@", level))
        for level in LEVELS
        for name, body in (*_LEVEL, ("call@", call_body))
    ]
    return (*_QUERY, *levels, *_AGGREGATES, *_TERMINALS, *call_terminals, *names)


def function_names() -> frozenset[str]:
    """The functions that the rules can call."""
    of_rows = re.findall(r"([A-Z_]+)\(", " ".join(body for _, body in _AGGREGATES))
    return frozenset(of_rows).union(*(names for _, names in arity_groups())) - {"OVER"}


def _of_level(name: str, level: str) -> str:
    """What a value may be beside scalars: aggregates at level a, windows too at level w."""
    if name != "value@":
        return ""
    return {"s": "", "a": " | aggregate", "w": " | aggregate | window"}[level]


def _group_name(least: int, most: int) -> str:
    return f"CALL{least}TO{most}"


def _arguments(least: int, most: int) -> str:
    """`least` to `most` expressions."""
    some = "expr@" + (f' (", " expr@){{{max(0, least - 1)},{most - 1}}}' if most > 1 else "")
    return some if least else f"({some})?"


def _literals(texts: Iterable[str]) -> list[str]:
    """Each text once, as a literal of the rules."""
    return [f'"{_escaped(text)}"' for text in dict.fromkeys(texts)]


def _escaped(text: str) -> str:
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    return "".join(escapes.get(character, character) for character in text)
