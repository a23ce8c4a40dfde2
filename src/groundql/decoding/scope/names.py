"""Tables, columns and how they are spelled: what the names of a query can stand for."""

import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from groundql.prompts.render import RESERVED, quoted
from groundql.records import Schema

SOURCE_ALIASES = tuple(f"T{n}" for n in range(1, 20))  # the dialect's names for sources
MAX_SOURCES = 6  # in one block; no gold query has more

MAX_KEPT = 2_000  # sets of bare names whose tables are remembered

_ALIAS = re.compile(r"[Tt](?:[1-9]|1[0-9])")
_UPPER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}


class Refusal(Exception):
    """The text cannot bind; the message says why."""


class Table(NamedTuple):
    """A table, view or CTE as a source of columns."""

    name: str
    key: str  # folded name
    columns: tuple[str, ...]  # as spelled; of a CTE those that have a name
    has: frozenset[str]  # folded column names
    spelled: Mapping[str, str]  # folded -> as spelled
    width: int  # columns that * stands for


def fold(name: str) -> str:
    """`name` as SQLite compares it: ASCII letters in lower case, all else as it is."""
    return name.lower() if name.isascii() else name.translate(_UPPER)


def is_source_alias(key: str) -> bool:
    """Whether a folded name is one of T1 to T19."""
    return _ALIAS.fullmatch(key) is not None


def make_table(name: str, columns: list[str | None]) -> Table:
    """A source with these columns in order; None is a column without a name, and of two equal names the first counts."""
    named = {fold(column): column for column in reversed(columns) if column is not None}
    return Table(name, fold(name), tuple(reversed(named.values())), frozenset(named), named, len(columns))


class Catalog:
    """The tables and CTEs that a block can name, with an index by column and one by spelling; never changed."""

    __slots__ = (
        "_signatures",
        "by_key",
        "column_spellings",
        "everything",
        "holders",
        "memo",
        "named",
        "table_spellings",
        "tables",
        "widths",
    )

    def __init__(self, tables: tuple[Table, ...]) -> None:
        self.tables = tables
        self.by_key = {table.key: n for n, table in enumerate(tables)}
        self.everything = (1 << len(tables)) - 1  # bit n: table n
        holders: dict[str, int] = {}
        for n, table in enumerate(tables):
            for key in table.has:
                holders[key] = holders.get(key, 0) | 1 << n
        self.holders = holders  # column key -> bits of the tables that have it
        self.column_spellings = sorted({(quoted(name), fold(name)) for t in tables for name in t.columns})
        self.table_spellings = sorted((quoted(table.name), table.key) for table in tables)
        self.widths = frozenset(table.width for table in tables)
        self.named = sum(1 << n for n, table in enumerate(tables) if table.has)  # tables with a named column
        self._signatures: dict[frozenset[str], tuple[int, ...]] = {}
        self.memo: dict[object, bool] = {}  # answers of the cover search, shared by all states

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Catalog) and self.tables == other.tables)

    def __hash__(self) -> int:
        return hash(tuple(self.by_key))

    def with_table(self, table: Table) -> "Catalog":
        """This and one more; it hides a table of the same name."""
        return Catalog((*(t for t in self.tables if t.key != table.key), table))

    def without(self, key: str) -> "Catalog":
        """This less one name."""
        return Catalog(tuple(t for t in self.tables if t.key != key)) if key in self.by_key else self

    def find(self, key: str) -> Table | None:
        """The table of a folded name."""
        n = self.by_key.get(key)
        return None if n is None else self.tables[n]

    def signatures(self, bare: frozenset[str]) -> tuple[int, ...]:
        """Of each table which of these names it has: bit k for the k-th of them in order."""
        known = self._signatures.get(bare)
        if known is None:
            found = [0] * len(self.tables)
            for k, name in enumerate(sorted(bare)):
                for n in bits_of(self.holders.get(name, 0)):
                    found[n] |= 1 << k
            if len(self._signatures) >= MAX_KEPT:
                self._signatures.clear()
            known = self._signatures[bare] = tuple(found)
        return known

    def can_sum_to(self, width: int, n: int) -> bool:
        """Whether at most `n` sources, at least one, have `width` columns together."""
        sums = {0}
        for _ in range(n):
            sums = {total + more for total in sums for more in self.widths if total + more <= width}
            if width in sums:
                return True
        return False

    def candidates(self, alias: str, need: frozenset[str]) -> int:
        """Bits of the tables that a source called `alias` with the columns `need` can be."""
        named = self.by_key.get(alias)
        bits = self.everything if is_source_alias(alias) else 0
        if named is not None:
            bits |= 1 << named
        for key in need:
            bits &= self.holders.get(key, 0)
        return bits


def bits_of(mask: int) -> Iterator[int]:
    """The positions of the bits that are set, lowest first."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def schema_catalog(schema: Schema) -> Catalog:
    """The catalog of a schema's own tables."""
    return Catalog(tuple(make_table(table.name, [c.name for c in table.columns]) for table in schema.tables))


def keys_from(spellings: list[tuple[str, str]], written: str) -> Iterator[str]:
    """Folded names of those whose spelling in the dialect begins with `written`; sorted list of (spelling, key)."""
    at = bisect_left(spellings, (written, ""))
    while at < len(spellings) and spellings[at][0].startswith(written):
        yield spellings[at][1]
        at += 1


def unquoted(written: str) -> str:
    """The name inside back-ticks."""
    return written[1:-1].replace("``", "`")


def is_reserved(upper: str) -> bool:
    """Whether a word in upper case can be no name without back-ticks."""
    return upper in RESERVED
