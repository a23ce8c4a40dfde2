"""Where things lie in a data set's folder: question files, SQLite files, schemas, descriptions, and what the rows are."""

import re
from dataclasses import dataclass
from pathlib import Path

from groundql.errors import DatabaseMissing, DataError
from groundql.questions.entries import Entry, did_you_mean, read_json
from groundql.records import DatabaseFiles, Question, RowsAre, read_text

SQLITE_MAGIC = b"SQLite format 3\x00"


@dataclass(frozen=True)
class Surroundings:
    """What lies beside a question file."""

    databases_dir: Path | None
    tables_path: Path | None
    schemas_dir: Path | None
    folder: Path


def pick_file(
    folder: Path, split: str, names: dict[str, tuple[str, ...]], data_format: str
) -> tuple[str, Path]:
    """The split and its question file in `folder`; without a split, the only one that is there.

    DataError says which splits there are, or in which subfolder the file lies.
    """
    if not folder.is_dir():
        raise DataError(
            f"{folder} is not there; give the folder of the data set or its question file: {data_format}:DIR#dev"
        )
    if split and split not in names:
        raise DataError(f"{data_format} has no split {split!r}{did_you_mean(split, list(names))}")
    there = {
        name: found
        for name in names
        for found in [_first_file(folder, names[name])]
        if found and split in ("", name)
    }
    if len(there) == 1:
        return next(iter(there.items()))
    if there:
        raise DataError(
            f"{folder} has several splits; say which: "
            + ", ".join(f"{data_format}:{folder}#{name}" for name in there)
        )
    wanted = names[split][0] if split else " or ".join(files[0] for files in names.values())
    for name, files in names.items():
        below = [path for file in files for path in sorted(folder.glob(f"*/{file}")) if split in ("", name)]
        if below:
            raise DataError(
                f"{folder} has no {wanted}; {below[0]} is there: try {data_format}:{below[0].parent}#{name}"
            )
    raise DataError(f"{folder} has no {wanted}; give the folder that holds it, or the question file itself")


def _first_file(folder: Path, names: tuple[str, ...]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)


def look_around(folder: Path, prefixes: tuple[str, ...], *, any_prefix: bool) -> Surroundings:
    """The first `PREFIX_databases/`, `PREFIX_database/`, `databases/` or `database/`, and tables file, in `folder`.

    `any_prefix`: where none of these is there, the only `*_databases/` and the only `*_tables.json` count too.
    """
    folders = [f"{prefix}_{ending}" for prefix in prefixes for ending in ("databases", "database")]
    tables = [f"{prefix}_tables.json" for prefix in prefixes]
    databases_dir = _first(folder, [*folders, "databases", "database"])
    tables_path = _first(folder, [*tables, "tables.json"])
    if any_prefix:
        databases_dir = databases_dir or _only(folder, "*_databases")
        tables_path = tables_path or _only(folder, "*_tables.json")
    return Surroundings(databases_dir, tables_path, _first(folder, ["schemas"]), folder)


def _first(folder: Path, names: list[str]) -> Path | None:
    return next((folder / name for name in names if (folder / name).exists()), None)


def _only(folder: Path, pattern: str) -> Path | None:
    found = sorted(folder.glob(pattern))
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise DataError(
            f"{folder} holds {names}: which belongs to the questions is unclear; keep one, or rename it to match the file"
        )
    return found[0] if found else None


def locate_databases(
    questions: tuple[Question, ...], entries: list[Entry], around: Surroundings
) -> dict[str, DatabaseFiles]:
    """Files of every database that a question asks of; DatabaseMissing names the first question without a schema.

    Where the databases folder holds SQLite files, it must hold one for each of these databases: a half-copied
    folder would otherwise pass as questions without rows. Without such files the schema comes from `schemas/*.sql`
    or the tables file, and the rows are "none".
    """
    asked = {
        question.db_id: entry for question, entry in reversed(list(zip(questions, entries, strict=True)))
    }
    in_tables = _databases_in(around.tables_path)
    sqlite_paths = {db_id: _sqlite_of(db_id, around.databases_dir) for db_id in asked}
    has_rows = any(sqlite_paths.values())
    rows: RowsAre = rows_in(around) if has_rows else "none"
    located = {}
    for question in questions:
        db_id = question.db_id
        if db_id in located:
            continue
        if has_rows and sqlite_paths[db_id] is None:
            raise DatabaseMissing(
                f"{asked[db_id].where}: {around.databases_dir}/{db_id}/{db_id}.sqlite is not there, though other databases "
                f"are; copy it there, or move {around.databases_dir} away to work from the schemas alone"
            )
        sql_path = around.schemas_dir / f"{db_id}.sql" if around.schemas_dir else None
        files = DatabaseFiles(
            db_id=db_id,
            sqlite_path=sqlite_paths[db_id],
            sql_path=sql_path if sql_path and sql_path.is_file() else None,
            tables_path=around.tables_path if db_id in in_tables else None,
            descriptions_dir=_descriptions_of(db_id, around.databases_dir),
            rows=rows,
        )
        if not has_schema(files):
            raise DatabaseMissing(
                f"{asked[db_id].where}: database {db_id!r} has no schema under {around.folder}: no SQLite file in a databases "
                f"folder, no entry in a tables file, no schemas/{db_id}.sql; put one of them there"
            )
        located[db_id] = files
    return located


def has_schema(files: DatabaseFiles) -> bool:
    """Whether any of the files can say what tables the database has."""
    return any((files.sqlite_path, files.sql_path, files.tables_path, files.url))


def rows_in(around: Surroundings) -> RowsAre:
    """What the rows are: synthetic where a README in the questions' or the databases' folder says so, else real.

    The rule: README.txt or README.md in either folder has a line with both words ROWS and SYNTHETIC in capitals.
    Rows that a program made up cannot be told from the SQLite file itself.
    """
    for folder in (around.folder, around.databases_dir):
        for name in ("README.txt", "README.md"):
            if folder and (folder / name).is_file() and _says_synthetic(read_text(folder / name)):
                return "synthetic"
    return "real"


def _says_synthetic(text: str) -> bool:
    return any(
        re.search(r"\bROWS\b", line) and re.search(r"\bSYNTHETIC\b", line) for line in text.splitlines()
    )


def check_sqlite(path: Path) -> Path:
    """The path, if a SQLite file lies there; DatabaseMissing where it is empty or something else (a Git LFS pointer)."""
    try:
        with path.open("rb") as file:
            head = file.read(len(SQLITE_MAGIC))
    except OSError as error:
        raise DatabaseMissing(f"{path} cannot be read: {error.strerror or error}") from None
    if head != SQLITE_MAGIC:
        what = "empty" if not head else "not a SQLite database (a download or Git LFS stub?)"
        raise DatabaseMissing(f"{path} is {what}; copy the database again")
    return path


def _sqlite_of(db_id: str, databases_dir: Path | None) -> Path | None:
    if databases_dir is None:
        return None
    for path in (databases_dir / db_id / f"{db_id}.sqlite", databases_dir / f"{db_id}.sqlite"):
        if path.is_file():
            return check_sqlite(path)
    return None


def _descriptions_of(db_id: str, databases_dir: Path | None) -> Path | None:
    folder = databases_dir / db_id / "database_description" if databases_dir else None
    return folder if folder and folder.is_dir() else None


def _databases_in(tables_path: Path | None) -> set[str]:
    if tables_path is None:
        return set()
    content = read_json(tables_path)
    if not isinstance(content, list) or not all(
        isinstance(entry, dict) and "db_id" in entry for entry in content
    ):
        raise DataError(f"{tables_path} is not a tables file: a list of objects with `db_id`")
    return {str(entry["db_id"]) for entry in content}
