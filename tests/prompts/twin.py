"""A copy of a database whose files are not at hand, filled with random rows that its golds find."""

import random
import re
import sqlite3
from collections import defaultdict
from collections.abc import Iterable

from groundql.databases.schema import schema_ddl
from groundql.records import Column, Schema

N_ROWS = 60
KEY_VALUES = range(1, 9)  # few, so that joins find partners
_VALUE = r"'(?:[^']|'')*'|-?\d+(?:\.\d+)?"
_COMPARED = re.compile(
    rf"[`\"\[]?(\w[\w ()%/-]*?)[`\"\]]?\s*(?:!=|<>|>=|<=|=|>|<|LIKE|BETWEEN|IN\s*\()\s*"
    rf"((?:{_VALUE})(?:\s*(?:,|AND)\s*(?:{_VALUE}))*)",
    re.IGNORECASE,
)

Cell = int | float | str | None


def filled_twin(schema: Schema, golds: Iterable[str], choose: random.Random) -> sqlite3.Connection:
    """The schema in memory, `N_ROWS` rows a table: keys from a small range, values that the golds compare with."""
    compared = _compared_values(golds)
    keys = {name.lower() for table in schema.tables for name in table.primary_key}
    for table in schema.tables:
        for key in table.foreign_keys:
            keys |= {name.lower() for name in (*key.columns, *key.ref_columns)}
    connection = sqlite3.connect(":memory:")
    connection.executescript(schema_ddl(schema).replace(" NOT NULL", ""))
    for table in schema.tables:
        choices = [_choices(column, compared[column.name.lower()], keys) for column in table.columns]
        name = table.name.replace('"', '""')
        marks = ", ".join("?" * len(choices))
        connection.executemany(
            f'INSERT OR IGNORE INTO "{name}" VALUES ({marks})',
            [[choose.choice(values) for values in choices] for _ in range(N_ROWS)],
        )
    connection.commit()
    return connection


def _compared_values(golds: Iterable[str]) -> dict[str, list[Cell]]:
    """By lower-case column name the values that stand behind a comparison, in the order of the golds."""
    found: dict[str, dict[Cell, None]] = defaultdict(dict)
    for gold in golds:
        for name, values in _COMPARED.findall(gold):
            for value in re.findall(_VALUE, values):
                found[name.lower()][_cell(value)] = None
    return defaultdict(list, {name: list(values) for name, values in found.items()})


def _choices(column: Column, compared: list[Cell], keys: set[str]) -> list[Cell]:
    if column.name.lower() in keys:
        return [*KEY_VALUES, *compared[:3]]
    is_number = re.search("INT|REAL|NUM", column.type.upper())
    examples = [_cell(value) for value in column.examples if re.fullmatch(_VALUE, value)]
    return [*(compared[:6] or examples), *([1, 2, 3, 7.5] if is_number else ["a", "b", "2012-03-04"]), None]


def _cell(literal: str) -> Cell:
    if literal[0] == "'":
        return re.sub("[%_]", "", literal[1:-1].replace("''", "'"))
    return float(literal) if "." in literal else int(literal)
