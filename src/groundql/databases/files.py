"""Finds the SQLite file behind `DatabaseFiles`, and builds it from SQL text where there is only that."""

import hashlib
import os
import tempfile
from pathlib import Path

import apsw

from groundql.databases.schema import load_sql
from groundql.errors import DatabaseMissing
from groundql.records import DatabaseFiles


def has_rows(files: DatabaseFiles) -> bool:
    """Whether a query on this database can return rows: there is a SQLite file, or SQL text that fills one."""
    if files.rows == "none":
        return False
    return _is_file(files.sqlite_path) or (_is_file(files.sql_path) and files.sql_has_rows)


def sqlite_file(files: DatabaseFiles) -> Path:
    """The SQLite file with rows. SQL text with rows is built once into the cache folder, by content.

    Several processes may ask at once: each builds beside and renames. Raises DatabaseMissing where there are no rows.
    """
    if files.sqlite_path is not None and files.sqlite_path.is_file():
        return files.sqlite_path
    if files.sql_path is not None and files.sql_path.is_file() and files.sql_has_rows:
        return _built(files, files.sql_path)
    named = files.sqlite_path or files.sql_path or files.tables_path
    raise DatabaseMissing(
        f"{files.db_id}: no database with rows ({named} has none); put {files.db_id}.sqlite beside the data to run queries"
    )


def cache_dir() -> Path:
    """Where built databases lie: $XDG_CACHE_HOME/groundql, or ~/.cache/groundql."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "groundql"


def _is_file(path: Path | None) -> bool:
    return path is not None and path.is_file()


def _built(files: DatabaseFiles, sql_path: Path) -> Path:
    digest = hashlib.sha256(sql_path.read_bytes()).hexdigest()[:24]
    target = cache_dir() / "databases" / f"{sql_path.stem}-{digest}.sqlite"
    if target.is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, beside = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    os.close(handle)
    Path(beside).unlink()
    try:
        memory = load_sql(files)
        memory.execute("VACUUM INTO ?", (beside,))
        memory.close()
        Path(beside).chmod(0o444)
        Path(beside).replace(target)
    except apsw.Error as error:
        raise DatabaseMissing(f"{target} cannot be built from {sql_path}: {error}") from None
    finally:
        Path(beside).unlink(missing_ok=True)
    return target
