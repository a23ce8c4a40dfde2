"""The gate: a text may end as a query only where SQLite itself prepares it as one read-only SELECT.

Where the database is another engine's, that engine is asked too: it binds the query in its own SQL.
"""

import re
from collections.abc import Callable
from pathlib import Path

from groundql.databases.binding import prepare
from groundql.records import Schema

Binds = Callable[
    [str], str | None
]  # what the engine says of a canonical query in its own SQL; None: it binds
ENGINE = "the engine: "  # begins its words
N_KEPT = 64  # answers kept by text: an end is often asked for twice, when proposed and when taken
_QUERY_WORD = re.compile(r"(?:SELECT|WITH)\b")
# The thing that SQLite's message names: `no such column: T1.x`, `misuse of aggregate: COUNT()`, `near "x": ...`
_NAMED = re.compile(
    r'near "(?P<near>.+)": syntax error'
    r"|(?:no such (?:column|table|function)|ambiguous column name|misuse of aggregate|misuse of window function): (?P<name>.+)"
    r"|misuse of (?:aliased )?(?:aggregate|window function) (?P<alias>.+)"
    r"|wrong number of arguments to function (?P<function>.+)"
    r"|.*Function with name (?P<unknown>\w+) does not exist.*"  # DuckDB
    r"|.*No function matches the given name and argument types '(?P<unfit>\w+)\(.*"
    r"|.*function (?P<missing>\w+)\(.*\) does not exist.*",  # PostgreSQL
    re.DOTALL,
)


class Gate:
    """Asks one database's empty twin about finished texts; not for use from several threads at once.

    `source` is the schema, or a SQLite file (its views and types as they are). Double-quoted strings are off: an
    unknown "name" is an error, not a text. Writes, PRAGMA, ATTACH and a second statement are refused.
    """

    def __init__(self, source: Schema | Path, binds: Binds | None = None) -> None:
        self.source = source
        self.binds = binds
        self._kept: dict[str, str | None] = {}

    def refusal(self, text: str) -> str | None:
        """None where `text` may be returned as a query, else why not, in SQLite's words. About 0.1 ms, with an engine 3."""
        if text not in self._kept:
            if len(self._kept) >= N_KEPT:
                self._kept.pop(next(iter(self._kept)))
            is_query = _QUERY_WORD.match(text)
            refusal = prepare(self.source, text) if is_query else "not a SELECT"
            if refusal is None and self.binds and (words := self.binds(text)) is not None:
                refusal = ENGINE + words
            self._kept[text] = refusal
        return self._kept[text]


def named_in(message: str) -> str | None:
    """The column, table or function that a message of SQLite names, as SQLite writes it (without quotes).

    >>> named_in("no such column: T1.Due Date"), named_in("misuse of aggregate: COUNT()"), named_in("incomplete input")
    ('T1.Due Date', 'COUNT', None)
    """
    found = _NAMED.search(message)
    if not found:
        return None
    name = next(group for group in found.groups() if group is not None)
    return name.removesuffix("()")


def first_use(name: str, text: str) -> int | None:
    """Where in `text` the column, table or function `name` is first used outside literals: the offset to choose anew at.

    For a qualified name that is where the column begins, behind the dot.
    """
    qualifier, dot, last = name.rpartition(".")
    plain = _blanked(text)
    patterns = [_spelt(last)]
    if dot:
        patterns.insert(0, f"{_spelt(qualifier)}\\.(?P<last>{_spelt(last)})")
        patterns.append(_spelt(name))
    for pattern in patterns:
        found = re.search(rf"(?<![\w`]){pattern}(?![\w`])", plain, re.IGNORECASE)
        if found:
            return found.start("last") if "last" in found.groupdict() else found.start()
    return None


def _spelt(name: str) -> str:
    return rf"(?:{re.escape(name)}|`{re.escape(name.replace('`', '``'))}`)"


def _blanked(text: str) -> str:
    """`text` with what stands in string literals blanked out, each character by one."""
    parts = re.findall(r"`(?:[^`]|``)*`|'(?:[^']|'')*'?|[^'`]+|`", text)
    return "".join("'" * len(part) if part[0] == "'" else part for part in parts)
