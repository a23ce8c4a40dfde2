"""CSV, TSV and Parquet files as tables of one DuckDB file in the cache, which is then read like any other.

DuckDB could read such files in place, but a connection that may read files may read all of them: so our own code
imports them once, by content, and the model's queries run on the locked copy.
"""

import hashlib
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from groundql.databases.duckdb_engine import duckdb_module, first_part
from groundql.databases.engine_values import quoted_name
from groundql.databases.files import cache_dir
from groundql.errors import DatabaseMissing, DataError

READERS = {".csv": "read_csv", ".tsv": "read_csv", ".parquet": "read_parquet"}
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
        DataError: a file that DuckDB cannot read, or two files for one table name.
        DependencyMissing: DuckDB is not installed.
    """
    duckdb = duckdb_module()
    names: dict[str, Path] = {}
    for path in paths:
        name = table_name(path)
        if name.lower() in {known.lower() for known in names}:
            raise DataError(
                f"{path} would be a second table {name!r} beside {names[name].name}; rename one of them"
            )
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
                try:
                    connection.execute(
                        f"CREATE TABLE {quoted_name(name)} AS SELECT * FROM {reader}({_literal(str(path))})"
                    )
                except duckdb.Error as error:
                    raise DataError(f"{path} cannot be read as a table: {first_part(error)}") from None
        finally:
            connection.close()
        beside.replace(target)
    return target


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
