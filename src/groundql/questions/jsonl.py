"""Your own data: one question a line, SQLite files beside; also what `groundql sample` writes.

A line: {"question": ..., "db_id": ..., "sql"?, "evidence"?, "difficulty"?, "question_id"?, "database"?, "split"?,
"source"?}. `jsonl:FILE#test` takes the lines whose `split` is "test". A `source` says who asked: "own", or "drafted" by
`groundql init`.
The database of a line is, in this order: `database` (a path to a .sqlite or .sql file, taken from the JSONL file's
folder, or duckdb:PATH, or postgresql://USER@HOST/NAME), the entry in `FILE.databases.json`, `databases/DB/DB.sqlite`, `databases/DB.sqlite`, `DB.sqlite`.
"""

import json
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from pydantic import ValidationError

from groundql.errors import DatabaseMissing, DataError
from groundql.questions.entries import Entry, read_json, read_json_lines, unique_ids
from groundql.questions.layout import check_sqlite
from groundql.records import DatabaseFiles, DataSet, Question, dialect_of, first_fault, read_text, write_text

KEYS = ("question", "db_id", "sql", "evidence", "difficulty", "question_id", "database", "split", "source")
PATH_FIELDS = ("sqlite_path", "sql_path", "tables_path", "descriptions_dir")


def load_jsonl(spec: str, place: str, split: str = "") -> DataSet:
    """Questions of a JSON Lines file, or of one split of it; ids are the file's own, else row numbers from 0.

    Without `split` the data set's split is the file's name.
    """
    path = Path(place).expanduser()
    if path.is_dir():
        raise DataError(f"{path} is a folder; jsonl: takes a file, bird: and spider: take a folder")
    entries = read_json_lines(path)
    for entry in entries:
        _refuse_misspelt_keys(entry)
    questions = unique_ids(
        [entry.question(row, sql_key="sql") for row, entry in enumerate(entries)], entries, same_again=False
    )
    if split:
        kept = [row for row, entry in enumerate(entries) if entry.optional_text("split") == split]
        if not kept:
            raise DataError(_no_such_split(path, split, entries))
        entries, questions = [entries[row] for row in kept], tuple(questions[row] for row in kept)
    sources = [entry.optional_text("source") for entry in entries]
    known = read_databases(databases_path(path))
    databases: dict[str, DatabaseFiles] = {}
    for question, entry in zip(questions, entries, strict=True):
        files = _files_of(question.db_id, entry, path.parent, known, path)
        if databases.setdefault(question.db_id, files) != files:
            raise DataError(
                f"{entry.where}: database {question.db_id!r} lies at {files.sqlite_path or files.sql_path or 'its URL'}, but an earlier line "
                f"has it elsewhere; give the two different db_ids"
            )
    return DataSet(
        spec=spec,
        name="jsonl",
        split=split or path.stem,
        questions=questions,
        databases=databases,
        n_drafted=sources.count("drafted") if any(sources) else None,
    )


def _no_such_split(path: Path, split: str, entries: Sequence[Entry]) -> str:
    known = sorted({entry.optional_text("split") for entry in entries} - {""})
    if not known:
        return f'{path}: no line has a "split"; write jsonl:{path} for all of them'
    return f'{path}: no line has "split": "{split}"; there are {", ".join(known)}'


def databases_path(jsonl_path: Path) -> Path:
    """Where the locations of the databases of a JSONL file are written, if they do not lie beside it."""
    return jsonl_path.with_name(f"{jsonl_path.name}.databases.json")


def write_questions(path: Path, questions: Sequence[Question], databases: dict[str, DatabaseFiles]) -> None:
    """Write questions as JSONL and the locations of their databases beside, so that `jsonl:PATH` reads both back.

    Locations are absolute: the file may move, the databases may not.
    """
    lines = []
    for question in questions:
        fields = {
            "question_id": question.question_id,
            "db_id": question.db_id,
            "question": question.text,
            "evidence": question.evidence,
            "sql": question.gold_sql,
            "difficulty": question.difficulty,
        }
        lines.append(
            json.dumps({key: value for key, value in fields.items() if value}, ensure_ascii=False) + "\n"
        )
    asked = dict.fromkeys(question.db_id for question in questions)
    located = {
        db_id: _absolute(databases[db_id]).model_dump(mode="json", exclude_defaults=True) for db_id in asked
    }
    write_text(databases_path(path), json.dumps(located, ensure_ascii=False, indent=1) + "\n")
    write_text(path, "".join(lines))


def read_databases(path: Path) -> dict[str, DatabaseFiles]:
    """Databases by db_id, as `write_questions` wrote them; relative paths start at the file's folder. {} without a file."""
    if not path.exists():
        return {}
    content = read_json(path)
    if not isinstance(content, dict):
        raise DataError(f"{path} is not an object with one entry a database; write the sample again")
    located = {}
    for db_id, fields in content.items():
        try:
            files = DatabaseFiles.model_validate(fields)
        except ValidationError as error:
            raise DataError(f"{path}, database {db_id!r}: {first_fault(error)}") from None
        updates = {
            name: path.parent / value for name in PATH_FIELDS if (value := getattr(files, name)) is not None
        }
        for found in updates.values():
            if not found.exists():
                raise DatabaseMissing(
                    f"{path}, database {db_id!r}: {found} is not there any more; write the sample again"
                )
        if files.url:
            url = _with_absolute_path(files.url, path.parent, f"{path}, database {db_id!r}")
            files = files.model_copy(update={"url": url})
        located[db_id] = files.model_copy(update=updates)
    return located


def _absolute(files: DatabaseFiles) -> DatabaseFiles:
    paths = {name: getattr(files, name) for name in PATH_FIELDS}
    return files.model_copy(update={name: path.resolve() for name, path in paths.items() if path is not None})


def _with_absolute_path(url: str, folder: Path, where: str) -> str:
    """The URL; a path in it starts at `folder`, and DatabaseMissing says where no file is."""
    if dialect_of(url) != "duckdb":
        return url
    path = folder / Path(url.removeprefix("duckdb:")).expanduser()
    if not path.is_file():
        raise DatabaseMissing(
            f"{where}: the database {path} is not there; a relative path starts at {folder}/"
        )
    return f"duckdb:{path.resolve()}"


def _files_of(
    db_id: str, entry: Entry, folder: Path, known: dict[str, DatabaseFiles], jsonl_path: Path
) -> DatabaseFiles:
    """Files of one line's database; DatabaseMissing says where it was looked for."""
    named = entry.optional_text("database")
    if named and dialect_of(named) != "sqlite":
        return DatabaseFiles(db_id=db_id, url=_with_absolute_path(named, folder, entry.where))
    if named:
        path = folder / Path(named).expanduser()
        if not path.is_file():
            raise DatabaseMissing(
                f"{entry.where}: the database {path} is not there; a relative path starts at {folder}/"
            )
        if path.suffix == ".sql":
            has_rows = "insert into" in read_text(path).lower()
            return DatabaseFiles(
                db_id=db_id, sql_path=path, sql_has_rows=has_rows, rows="real" if has_rows else "none"
            )
        return DatabaseFiles(db_id=db_id, sqlite_path=check_sqlite(path))
    if db_id in known:
        return known[db_id]
    for path in (
        folder / "databases" / db_id / f"{db_id}.sqlite",
        folder / "databases" / f"{db_id}.sqlite",
        folder / f"{db_id}.sqlite",
    ):
        if path.is_file():
            descriptions_dir = path.parent / "database_description"
            has_descriptions = path.parent.name == db_id and descriptions_dir.is_dir()
            return DatabaseFiles(
                db_id=db_id,
                sqlite_path=check_sqlite(path),
                descriptions_dir=descriptions_dir if has_descriptions else None,
            )
    raise DatabaseMissing(
        f"{entry.where}: database {db_id!r} has no schema; put it at {folder}/databases/{db_id}.sqlite, "
        f'or add "database": PATH to the line (looked in {databases_path(jsonl_path).name} too)'
    )


def _refuse_misspelt_keys(entry: Entry) -> None:
    """DataError for a key that is nearly one of ours; others are the user's own business and are passed over."""
    for key in entry.values:
        close = get_close_matches(key.lower(), KEYS, n=1, cutoff=0.8)
        if key not in KEYS and close and close[0] not in entry.values:
            raise DataError(f"{entry.where}: {key!r} is not a key that is read; did you mean {close[0]!r}?")
