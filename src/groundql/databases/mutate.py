"""Changed copies of a database: rows dropped and doubled, values swapped, emptied and moved near given constants.

Keys keep their values, so that joins still find partners. The same seed makes the same copy.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

from groundql.databases.schema import quoted

MAX_ROWS = 5000  # of each table, the first; what holds on these is what the copy can show
P_DROP = 0.2
P_DOUBLE = 0.1
P_SWAP = 0.15  # of the values of a column, with those of other rows
P_EMPTY = 0.05
P_NEAR = 0.15  # replaced by a constant of the column, or one step beside it

Value = None | int | float | str | bytes
Constants = Mapping[tuple[str, str], Sequence[Value]]


def write_mutant(source: Path, target: Path, *, seed: int, constants: Constants) -> None:
    """A changed copy of `source` as a new file `target`; `constants` by lower-case (table, column).

    A table that cannot be copied (a virtual one) stays empty. Views and indexes are copied, triggers are not.
    """
    reader = apsw.Connection(
        f"{source.absolute().as_uri()}?mode=ro", flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    )
    writer = apsw.Connection(str(target))
    writer.execute(
        "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA foreign_keys = OFF; BEGIN"
    ).fetchall()
    parts = reader.execute(
        "SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL AND type != 'trigger' AND name NOT LIKE 'sqlite\\_%' "
        "ESCAPE '\\' ORDER BY type != 'table', type = 'index', rowid"
    ).fetchall()
    for kind, name, sql in parts:
        try:
            writer.execute(str(sql)).fetchall()
            if kind == "table":
                _copy_table(reader, writer, str(name), random.Random(f"{seed} {name}"), constants)
        except (apsw.Error, UnicodeDecodeError):
            continue
    writer.execute("COMMIT")
    writer.close()
    reader.close()


def _copy_table(
    reader: apsw.Connection, writer: apsw.Connection, table: str, rng: random.Random, constants: Constants
) -> None:
    infos = [i for i in reader.execute(f"PRAGMA table_xinfo({quoted(table)})").fetchall() if i[6] == 0]
    names = [str(info[1]) for info in infos]
    linked = {str(key[3]).lower() for key in reader.execute(f"PRAGMA foreign_key_list({quoted(table)})")}
    columns = ", ".join(map(quoted, names))
    rows = [list(row) for row in reader.execute(f"SELECT {columns} FROM {quoted(table)} LIMIT {MAX_ROWS}")]
    kinds = [
        Kind(
            name=str(info[1]).lower(),
            is_key=bool(info[5]),
            is_linked=str(info[1]).lower() in linked,
            may_be_empty=not info[3],
        )
        for info in infos
    ]
    kept, doubled = changed_rows(table, rows, kinds, rng, constants)
    holes = ", ".join("?" * len(names))
    for some in (kept, doubled):
        writer.executemany(f"INSERT OR IGNORE INTO {quoted(table)} ({columns}) VALUES ({holes})", some)


@dataclass(frozen=True)
class Kind:
    """What a column may go through; its name in lower case."""

    name: str
    is_key: bool  # of the primary key
    is_linked: bool  # of a foreign key
    may_be_empty: bool


def changed_rows(
    table: str, rows: list[list[Any]], kinds: Sequence[Kind], rng: random.Random, constants: Constants
) -> tuple[list[list[Any]], list[list[Any]]]:
    """(rows that stay, changed; rows doubled under new keys). `rows` are changed in place."""
    kept = [row for row in rows if rng.random() >= P_DROP] or rows[:1]
    for at, kind in enumerate(kinds):
        if kept and not (kind.is_key or kind.is_linked):
            near = constants.get((table.lower(), kind.name), ())
            _change_column(kept, at, rng, near, may_be_empty=kind.may_be_empty)
    doubled = [list(row) for row in kept if rng.random() < P_DOUBLE]
    key = [at for at, kind in enumerate(kinds) if kind.is_key]
    if len(key) > 1:
        return kept, []
    if key and doubled:
        _give_new_keys(doubled, key[0], kept)
    return kept, doubled


def _change_column(
    rows: list[list[Value]], at: int, rng: random.Random, near: Sequence[Value], *, may_be_empty: bool
) -> None:
    for row in rows:
        chance = rng.random()
        if chance < P_SWAP:
            other = rng.choice(rows)
            row[at], other[at] = other[at], row[at]
        elif chance < P_SWAP + P_EMPTY and may_be_empty:
            row[at] = None
        elif near and chance < P_SWAP + P_EMPTY + P_NEAR:
            row[at] = _beside(rng.choice(near), rng)


def _beside(constant: Value, rng: random.Random) -> Value:
    """The constant, or a value one step from it."""
    if isinstance(constant, (int, float)):
        return constant + rng.choice((-1, 0, 0, 1))
    return rng.choice((constant, constant, constant + "x")) if isinstance(constant, str) else constant


def _give_new_keys(rows: list[list[Value]], at: int, others: list[list[Value]]) -> None:
    numbers = [row[at] for row in others if isinstance(row[at], int)]
    highest = max((number for number in numbers if isinstance(number, int)), default=0)
    for step, row in enumerate(rows, start=1):
        row[at] = highest + step if numbers else f"{row[at]!s}-{step}"
