"""Finds which text values of a database a question mentions, so that the prompt can spell them as the rows do.

An index holds the distinct short texts of each column, bounded in number and in work; a value is found by the
three-letter pieces that it shares with the question, then measured by the longest run of letters in common. Only rows
and the words of the question and its evidence are looked at. Rows that were made from gold queries would give answers
away: `value_source` has none for them.
"""

import functools
import re
import time
from collections import defaultdict
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path

import apsw
import numpy as np

from groundql.databases.engines import duckdb_path
from groundql.databases.executor import Job, run_many
from groundql.databases.files import has_rows, sqlite_file
from groundql.databases.schema import quoted
from groundql.errors import DataError
from groundql.records import DatabaseFiles, Schema, dialect_of

MAX_VALUES = (
    1000  # distinct values of a column: one with more names things by the thousand, and the first serve
)
MAX_CHARS = 60  # longer texts are prose
MAX_STEPS = (
    5_000_000  # of SQLite's virtual machine for a column, about 0.1 s; not a clock, so always the same values
)
CHECK_STEPS = 10_000
ENGINE_S = 2.0  # for the distinct texts of one column of another engine
SERVER_S = 900
TEXT_TYPE = re.compile(r"(?:n?var|bp)?char(?!.*\[)|character|text|string|citext", re.IGNORECASE)
N_INDEXES = 64  # kept in memory
MIN_SHARED = 0.6  # of a value's three-letter pieces
MIN_ALIKE = 0.84  # run of common letters, as a part of a value that is not in the question whole
MIN_INEXACT_CHARS = 5
N_MEASURED = 100  # candidates that are measured by common run
PER_COLUMN = 3
# Values that most questions hold as words of their own.
COMMON = frozenset(
    (
        "all", "and", "any", "are", "average", "by", "count", "date", "day", "each", "every", "first",
        "for", "from", "has", "have", "highest", "how", "id", "in", "is", "last", "list", "lowest",
        "many", "max", "min", "month", "more", "most", "name", "names", "no", "not", "number", "of",
        "on", "or", "other", "than", "the", "there", "these", "time", "title", "to", "total", "type",
        "was", "were", "what", "when", "where", "which", "who", "whose", "with", "year", "yes",
    )
)  # fmt: skip

_WORD = re.compile(r"[^\W_]+")

Matches = dict[tuple[str, str], list[str]]


@dataclass(frozen=True)
class ValueIndex:
    """Distinct texts of one database's columns, and which of them hold a three-letter piece."""

    places: tuple[tuple[str, str], ...]  # table and column of each value
    values: tuple[str, ...]
    normal: tuple[str, ...]
    n_pieces: "np.ndarray[tuple[int], np.dtype[np.int32]]"
    having: dict[str, "np.ndarray[tuple[int], np.dtype[np.int32]]"]  # piece -> numbers of the values

    def find(self, text: str, n: int) -> list[int]:
        """Numbers of at most `n` values that the text mentions, the surest first, longer ones before shorter."""
        if not self.values:
            return []
        asked = _normal(text)
        hits = np.zeros(len(self.values), dtype=np.int32)
        for piece in _pieces(asked):
            if piece in self.having:
                hits[self.having[piece]] += 1
        shared = hits / self.n_pieces
        likely = np.flatnonzero(shared >= MIN_SHARED)
        likely = likely[np.argsort(-shared[likely], kind="stable")][: max(N_MEASURED, n)]
        scored = [(_likeness(self.values[i], self.normal[i], text, asked), int(i)) for i in likely]
        ranked = sorted((-score, -len(self.normal[i]), i) for score, i in scored if score >= MIN_ALIKE)
        return self._without_parts([i for _, _, i in ranked])[:n]

    def _without_parts(self, ranked: list[int]) -> list[int]:
        """At most `PER_COLUMN` a column, none that is a part of one before it in the same column."""
        kept: dict[tuple[str, str], list[int]] = defaultdict(list)
        for i in ranked:
            known = kept[self.places[i]]
            if len(known) < PER_COLUMN and not any(self.normal[i] in self.normal[j] for j in known):
                known.append(i)
        chosen = {i for numbers in kept.values() for i in numbers}
        return [i for i in ranked if i in chosen]


def nearest_values(text: str, schema: Schema, source: Path | str, n: int) -> Matches:
    """At most `n` values of text columns that `text` mentions, by (table, column), the surest first.

    `source` is a SQLite file, or the URL of another engine's database: that is asked under guard, and an index of a
    server's values is made anew after some minutes.

    Raises:
        DataError: the file is no SQLite database.
    """
    if n < 1:
        return {}
    if isinstance(source, str):
        texts = tuple(
            (table.name, column.name)
            for table in schema.tables
            for column in table.columns
            if TEXT_TYPE.match(column.type)
        )
        index = _engine_index(source, _age(source), texts)
    else:
        columns = tuple((table.name, column.name) for table in schema.tables for column in table.columns)
        stat = source.stat()
        index = _index(str(source), stat.st_mtime_ns, stat.st_size, columns)
    found: Matches = {}
    for i in index.find(text, n):
        found.setdefault(index.places[i], []).append(index.values[i])
    return found


def value_source(files: DatabaseFiles) -> Path | str | None:
    """The SQLite file or the URL whose values may be shown; None where its rows are synthetic, or there are none."""
    if files.rows != "real" or not (files.url or has_rows(files)):
        return None
    return files.url or sqlite_file(files)


@functools.lru_cache(N_INDEXES)
def _index(path: str, mtime_ns: int, n_bytes: int, columns: tuple[tuple[str, str], ...]) -> ValueIndex:
    try:
        connection = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY)
        found = [
            (place, value, _normal(value)) for place in columns for value in _distinct(connection, *place)
        ]
        connection.close()
    except apsw.Error as error:
        raise DataError(f"{path} cannot be read as a SQLite database: {error}") from None
    return _indexed(found)


@functools.lru_cache(N_INDEXES)
def _engine_index(url: str, _: int, columns: tuple[tuple[str, str], ...]) -> ValueIndex:
    """Of what each column's query gives within its deadline; a column that cannot be read has none."""
    jobs = [
        Job(
            url,
            f"SELECT DISTINCT {quoted(column)} FROM {quoted(table)} WHERE length({quoted(column)}) <= {MAX_CHARS} "
            f"LIMIT {MAX_VALUES}",
            ENGINE_S,
            MAX_VALUES,
        )
        for table, column in columns
    ]
    found = []
    for place, outcome in zip(columns, run_many(jobs), strict=True):
        texts = sorted(value for (value,) in outcome.rows if isinstance(value, str) and value.isprintable())
        found += [(place, text, _normal(text)) for text in texts]
    return _indexed(found)


def _age(url: str) -> int:
    """What changes when the values may have: a file's time, or the quarter of an hour of a server."""
    if dialect_of(url) == "duckdb":
        return duckdb_path(url).stat().st_mtime_ns
    return int(time.monotonic() // SERVER_S)


def _indexed(found: list[tuple[tuple[str, str], str, str]]) -> ValueIndex:
    found = [entry for entry in found if entry[2].strip()]
    pieces = [_pieces(normal) for _, _, normal in found]
    having: dict[str, list[int]] = defaultdict(list)
    for number, own in enumerate(pieces):
        for piece in own:
            having[piece].append(number)
    return ValueIndex(
        places=tuple(place for place, _, _ in found),
        values=tuple(value for _, value, _ in found),
        normal=tuple(normal for _, _, normal in found),
        n_pieces=np.array([len(own) for own in pieces], dtype=np.int32),
        having={piece: np.array(numbers, dtype=np.int32) for piece, numbers in having.items()},
    )


def _distinct(connection: apsw.Connection, table: str, column: str) -> list[str]:
    """Distinct short texts in the order of the rows; those found before the work becomes too much."""
    name = quoted(column)
    n_checks = 0

    def is_too_much() -> bool:
        nonlocal n_checks
        n_checks += 1
        return n_checks * CHECK_STEPS > MAX_STEPS

    values: list[str] = []
    connection.set_progress_handler(is_too_much, CHECK_STEPS)
    try:
        for (value,) in connection.execute(
            f"SELECT DISTINCT CAST({name} AS BLOB) FROM {quoted(table)} "
            f"WHERE typeof({name}) = 'text' AND length({name}) <= {MAX_CHARS} LIMIT {MAX_VALUES}"
        ):
            text = bytes(value).decode("utf-8", "replace")
            if text.isprintable() and "\ufffd" not in text:
                values.append(text)
    except apsw.InterruptError:
        pass
    finally:
        connection.set_progress_handler(None)
    return values


def _normal(text: str) -> str:
    """Lower-case words with a space before, between and behind."""
    return f" {' '.join(_WORD.findall(text.casefold()))} "


def _pieces(normal: str) -> set[str]:
    return {normal[i : i + 3] for i in range(len(normal) - 2)}


def _likeness(value: str, normal: str, text: str, asked: str) -> float:
    """1 where the question holds the value as whole words, else the part of it that begins words there; 0 for noise."""
    bare = normal.strip()
    if normal in asked:
        if bare in COMMON:
            return 0.0
        is_short = len(bare) < 3  # TX, but not "us" for US, nor any single letter
        is_named = (
            re.search(rf"(?<!\w){re.escape(value)}(?!\w)", text) and len(bare) == 2 and not value.islower()
        )
        return 1.0 if not is_short or is_named else 0.0
    if len(bare) < MIN_INEXACT_CHARS:
        return 0.0
    run = SequenceMatcher(None, asked, bare, autojunk=False).find_longest_match()
    begins_words = run.b == 0 and asked[run.a - 1] == " "  # "australian" has Australia, "course" not nurse
    return run.size / len(bare) if begins_words else 0.0
