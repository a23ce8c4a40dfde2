"""CSV, TSV and Parquet files as tables of one DuckDB file in the cache, which is then read like any other.

DuckDB could read such files in place, but a connection that may read files may read all of them: so our own code
imports them once, by content, and the model's queries run on the locked copy.
"""

import hashlib
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from groundql.databases.duckdb_engine import duckdb_module, first_part
from groundql.databases.engine_values import quoted_name
from groundql.databases.files import cache_dir
from groundql.errors import DatabaseMissing, DataError

READERS = {".csv": "read_csv", ".tsv": "read_csv", ".parquet": "read_parquet"}
KEY_NAMES = ("id", "code", "no", "key")
ENDS = (*READERS, ".csv.gz", ".tsv.gz")


def is_table_file(path: Path) -> bool:
    """Whether the name is that of a CSV, TSV or Parquet file."""
    return path.name.lower().endswith(ENDS)


def table_files(place: Path) -> list[Path]:
    """The table files that `place`, one of them or a folder, stands for, by name; DatabaseMissing where there is none."""
    if not place.is_dir():
        return [place]
    found = sorted(path for path in place.iterdir() if path.is_file() and is_table_file(path))
    if not found:
        raise DatabaseMissing(
            f"{place} holds no .csv, .tsv or .parquet file; name a database file, or such a folder"
        )
    return found


def import_tables(paths: Sequence[Path]) -> Path:
    """A DuckDB file in the cache with one table a file, made once for each content.

    Raises:
        DataError: a file that DuckDB cannot read or that is empty, or two files for one table name.
        DependencyMissing: DuckDB is not installed.
    """
    duckdb = duckdb_module()
    names: dict[str, Path] = {}
    for path in paths:
        name = table_name(path)
        same = next((known for known in names if known.lower() == name.lower()), None)
        if same:
            raise DataError(
                f"{path} would be a second table {name!r} beside {names[same].name}; rename one of them"
            )
        if path.stat().st_size == 0:
            raise DataError(f"{path} holds no table: it is empty")
        names[name] = path
    target = cache_dir() / "databases" / f"{_digest(paths)}.duckdb"
    if target.is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".import.") as folder:
        beside = Path(folder) / target.name
        connection = duckdb.connect(str(beside))
        try:
            for name, path in names.items():
                reader = READERS[Path(path.name.lower().removesuffix(".gz")).suffix]
                source = f"{reader}({_literal(str(path.resolve()))})"
                try:
                    connection.execute(f"CREATE TEMP TABLE {quoted_name(name)} AS SELECT * FROM {source}")
                except duckdb.Error as error:
                    raise DataError(f"{path} cannot be read as a table: {first_part(error)}") from None
            _keep_with_keys(connection, list(names))
        finally:
            connection.close()
        beside.replace(target)
    return target


def _keep_with_keys(connection: Any, names: list[str]) -> None:
    """The temporary tables as lasting ones, with the keys that their names and values show; those pointed to come first."""
    columns = {
        name: [
            (str(column), str(kind))
            for column, kind, *_ in connection.execute(f"DESCRIBE temp.{quoted_name(name)}").fetchall()
        ]
        for name in names
    }
    keys = {name: key for name in names if (key := _own_key(connection, name, columns[name]))}
    points = {name: _pointers(connection, name, columns, keys) for name in names}
    done: list[str] = []
    while waiting := [name for name in names if name not in done]:
        ready = [name for name in waiting if all(target in (*done, name) for target in points[name].values())]
        if not ready:  # they point at each other: one pointer less
            points[waiting[0]] = {}
            continue
        done += ready
    for name in done:
        parts = [f"{quoted_name(column)} {kind}" for column, kind in columns[name]]
        if name in keys:
            parts.append(f"PRIMARY KEY ({quoted_name(keys[name])})")
        parts += [
            f"FOREIGN KEY ({quoted_name(column)}) REFERENCES {quoted_name(target)} ({quoted_name(keys[target])})"
            for column, target in points[name].items()
            if target != name
        ]
        here = f"{quoted_name(_catalog(connection))}.main.{quoted_name(name)}"
        connection.execute(f"CREATE TABLE {here} ({', '.join(parts)})")
        connection.execute(f"INSERT INTO {here} SELECT * FROM temp.{quoted_name(name)}")


def _catalog(connection: Any) -> str:
    return str(connection.execute("SELECT current_database()").fetchone()[0])


def _own_key(connection: Any, name: str, columns: list[tuple[str, str]]) -> str:
    """The first column named id, TABLE_id or such, if its values are all there and all different; else ""."""
    for column, _ in columns:
        if _is_key_of(column, name):
            rows, distinct = connection.execute(
                f"SELECT COUNT(*), COUNT(DISTINCT {quoted_name(column)}) FROM temp.{quoted_name(name)}"
            ).fetchone()
            return column if rows == distinct > 0 else ""
    return ""


def _is_key_of(column: str, table: str) -> bool:
    """Whether the name of a column says that it numbers the rows of `table`: id, author_id or authorId of authors."""
    plain, stem = column.lower().replace("_", ""), table.lower().replace("_", "")
    singulars = {stem, stem.removesuffix("s"), stem.removesuffix("es"), re.sub("ies$", "y", stem)}
    return plain in KEY_NAMES or any(plain == f"{one}{end}" for one in singulars for end in KEY_NAMES)


def _pointers(
    connection: Any, name: str, columns: dict[str, list[tuple[str, str]]], keys: dict[str, str]
) -> dict[str, str]:
    """Columns of one table that hold only values of another's key, whose name they have or are made of."""
    found = {}
    for column, kind in columns[name]:
        for target, key in keys.items():
            named = column.lower() == key.lower() and column.lower() not in KEY_NAMES
            named = named or (_is_key_of(column, target) and column.lower() not in KEY_NAMES)
            if target == name or not named or dict(columns[target])[key] != kind:
                continue
            own, theirs = quoted_name(column), quoted_name(key)
            (strays,) = connection.execute(
                f"SELECT COUNT(*) FROM temp.{quoted_name(name)} WHERE {own} IS NOT NULL "
                f"AND {own} NOT IN (SELECT {theirs} FROM temp.{quoted_name(target)})"
            ).fetchone()
            if not strays:
                found[column] = target
    return found


def table_name(path: Path) -> str:
    """The file's name without its end, as a name that needs no quotes.

    >>> table_name(Path("data/2024 sales.csv.gz"))
    't_2024_sales'
    """
    stem = path.name[
        : -len(next(end for end in sorted(ENDS, key=len, reverse=True) if path.name.lower().endswith(end)))
    ]
    name = re.sub(r"\W+", "_", stem).strip("_") or "table_1"
    return f"t_{name}" if name[0].isdigit() else name


def _digest(paths: Sequence[Path]) -> str:
    """Of names, sizes and times of the last change: content is not read."""
    digest = hashlib.sha256()
    for path in paths:
        try:
            stat = path.stat()
        except OSError as error:
            raise DatabaseMissing(f"{path} cannot be read: {error.strerror or error}") from None
        digest.update(repr((str(path.resolve()), stat.st_size, stat.st_mtime_ns)).encode())
    return digest.hexdigest()[:24]


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
