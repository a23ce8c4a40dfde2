"""A draft, a pointer between two tables, and how names, values and thresholds are written in them."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from groundql.questions.drafting.facts import ColumnFacts, TableFacts
from groundql.records import Difficulty

N_VALUES = 3  # values of one column that a template is filled with


@dataclass(frozen=True)
class Draft:
    """One query with the ways in which it may be asked for."""

    template: str
    tables: tuple[str, ...]  # sorted
    sql: str  # SQLite's; names in back-ticks
    texts: tuple[str, ...]
    difficulty: Difficulty = "simple"


@dataclass(frozen=True)
class Link:
    """`child.own` points to `parent.theirs`."""

    child: TableFacts
    own: str
    parent: TableFacts
    theirs: str


def drafted(
    template: str,
    tables: Sequence[TableFacts],
    sql: str,
    texts: Sequence[str],
    difficulty: Difficulty = "simple",
) -> Draft:
    """A draft on `tables`."""
    return Draft(template, tuple(sorted({one.name for one in tables})), sql, tuple(texts), difficulty)


def q(name: str) -> str:
    """The name in back-ticks."""
    return "`" + name.replace("`", "``") + "`"


def text_literal(value: str) -> str:
    """The value as an SQL string."""
    return "'" + value.replace("'", "''") + "'"


def some_values(column: ColumnFacts, random: Random, n: int = N_VALUES) -> list[str]:
    """A few values of the column, in no order."""
    return random.sample(column.values, min(n, len(column.values)))


def thresholds(column: ColumnFacts, random: Random, n: int = 2) -> list[str]:
    """Round numbers between the first and the last quarter of the column's values, as SQL writes them."""
    numbers = column.numbers
    if len(numbers) < 4:
        return []
    found = [_rounded(numbers[int(len(numbers) * share)], numbers) for share in (0.25, 0.5, 0.75)]
    return random.sample(list(dict.fromkeys(found)), min(n, len(set(found))))


def _rounded(value: float, numbers: Sequence[float]) -> str:
    """Two digits of `value`, or whole where all numbers are and are small."""
    if all(number == int(number) for number in numbers):
        whole = int(value)
        size = len(str(abs(whole)))
        return str(whole if size <= 3 else round(whole, 2 - size))
    return f"{float(f'{value:.2g}'):g}" if abs(value) < 1e6 else str(int(float(f"{value:.2g}")))
