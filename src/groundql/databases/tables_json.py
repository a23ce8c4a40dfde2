"""Reads one database's entry of tables.json, the schema format that Spider made and BIRD kept."""

import functools
import json
import re
from pathlib import Path
from typing import Any

from groundql.errors import DataError
from groundql.records import Column, ForeignKey, Table, read_text


def read_entry(path: Path, db_id: str) -> list[Table]:
    """The tables of `db_id`; empty where the file does not list it. DataError where the file is not of this format.

    A readable name that says more than the column's own name becomes its description. Names that differ in case
    alone are one name to SQLite; the first stays.
    """
    entry = _entries(str(path), path.stat().st_mtime_ns).get(db_id)
    if entry is None:
        return []
    try:
        return _tables(entry)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise DataError(f"{path}: the entry {db_id} is not in BIRD's or Spider's format: {error!r}") from None


@functools.lru_cache(16)
def _entries(path: str, mtime_ns: int) -> dict[str, Any]:
    try:
        return {entry["db_id"]: entry for entry in json.loads(read_text(Path(path)))}
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path} is not a tables.json of BIRD or Spider: {error!r}") from None


def _tables(entry: Any) -> list[Table]:
    names = entry["table_names_original"]
    originals = entry["column_names_original"]
    readable = entry.get("column_names") or originals
    types = entry.get("column_types") or []
    columns: list[dict[str, Column]] = [{} for _ in names]
    for index, (table, name) in enumerate(originals):
        if table >= 0:
            text = str(readable[index][1]) if index < len(readable) else ""
            column = Column(
                name=name,
                type=types[index] if index < len(types) else "",
                description=text.strip() if _letters(text) != _letters(name) else "",
            )
            columns[table].setdefault(name.lower(), column)
    primary = [_key_columns(entry, table) for table in range(len(names))]
    foreign: list[list[ForeignKey]] = [[] for _ in names]
    for column_index, target_index in entry.get("foreign_keys") or []:
        table, name = originals[column_index]
        target_table, target = originals[target_index]
        foreign[table].append(
            ForeignKey(columns=(name,), ref_table=names[target_table], ref_columns=(target,))
        )
    return [
        Table(
            name=name,
            columns=tuple(columns[table].values()),
            primary_key=tuple(primary[table]),
            foreign_keys=tuple(foreign[table]),
        )
        for table, name in enumerate(names)
        if columns[table]
    ]


def _key_columns(entry: Any, table: int) -> list[str]:
    """BIRD lists a composite key as a list, Spider only ever one column."""
    originals = entry["column_names_original"]
    for key in entry.get("primary_keys") or []:
        members = [originals[index] for index in (key if isinstance(key, list) else [key])]
        if members and members[0][0] == table:
            return [name for _, name in members]
    return []


def _letters(text: str) -> str:
    return re.sub(r"[\W_]", "", text).lower()
