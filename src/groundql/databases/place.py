"""From what a person writes for a database (a path or a URL) to its `DatabaseFiles`."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from groundql.databases.postgres_connection import shown
from groundql.databases.table_files import import_tables, is_table_file, table_files
from groundql.errors import DatabaseMissing, DataError
from groundql.records import DatabaseFiles, dialect_of, read_text

SQLITE_HEAD = b"SQLite format 3\x00"
DUCKDB_HEAD = b"DUCK"  # from byte 8 on
FORMS = (
    "a SQLite file, duckdb:FILE, a .csv or .parquet file, a folder of them, or postgresql://USER@HOST/NAME"
)


def locate(place: str | Path) -> DatabaseFiles:
    """Where the database lies that `place` names: its engine is told by the URL, else by the file's first bytes.

    CSV, TSV and Parquet files are imported into a DuckDB file in the cache.

    Raises:
        DatabaseMissing: nothing is there, or it is empty.
        DataError: a URL of no engine that is known, or a file that is no database.
        DependencyMissing: the engine's package is not installed.
    """
    text = str(place)
    if not text.strip():
        raise DataError(f"no database is named; DATABASE is {FORMS}")
    if dialect_of(text) == "postgres":
        return DatabaseFiles(db_id=database_name(text), url=text)
    scheme, colon, rest = text.partition(":")
    if isinstance(place, str) and colon and scheme in ("duckdb", "sqlite"):
        path = Path(rest.removeprefix("//")).expanduser()
    elif "://" in text:
        raise DataError(f"{scheme}:// names no engine that is known; DATABASE is {FORMS}")
    else:
        path = Path(place).expanduser()
    if path.is_dir() or (path.is_file() and is_table_file(path)):
        found = import_tables(table_files(path))
        return DatabaseFiles(db_id=_plain(path), url=f"duckdb:{found}")
    if not path.is_file():
        raise DatabaseMissing(f"{path} is not there; DATABASE is {FORMS}")
    return _of_file(path, scheme if colon and scheme in ("duckdb", "sqlite") else "")


def shown_place(place: str | Path) -> str:
    """What a person wrote for a database, for messages: a URL without its password and settings."""
    text = str(place)
    return shown(text) if dialect_of(text) == "postgres" else text


def without_password(url: str) -> str:
    """A postgresql: URL that says the same but for its password, which may stand before the host or among the settings."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    settings = [
        one for one in parts.query.split("&") if not one.lower().startswith(("password=", "sslpassword="))
    ]
    query = f"?{'&'.join(settings)}" if any(settings) else ""  # urlunsplit would drop // where no host stands
    return f"{parts.scheme}://{user.partition(':')[0]}{at}{host}{parts.path}{query}"


def database_name(url: str) -> str:
    """The name of the database in a postgresql: URL; that of its user, or "postgres", where it has none."""
    parts = urlsplit(url)
    return unquote(parts.path.lstrip("/")) or parts.username or "postgres"


def _of_file(path: Path, scheme: str) -> DatabaseFiles:
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise DatabaseMissing(f"{path} cannot be read: {error.strerror or error}") from None
    if not head:
        raise DatabaseMissing(f"{path} holds no table: it is empty")
    if scheme == "duckdb" or head[8:12] == DUCKDB_HEAD:
        return DatabaseFiles(db_id=path.stem, url=f"duckdb:{path.resolve()}")
    if head == SQLITE_HEAD:
        return DatabaseFiles(db_id=path.stem, sqlite_path=path)
    if path.suffix == ".sql":
        has_rows = "insert into" in read_text(path).lower()
        return DatabaseFiles(
            db_id=path.stem, sql_path=path, sql_has_rows=has_rows, rows="real" if has_rows else "none"
        )
    raise DataError(f"{path} is no SQLite and no DuckDB file; DATABASE is {FORMS}")


def _plain(path: Path) -> str:
    name = path.resolve().name
    return name if path.is_dir() else name.partition(".")[0]
