"""The pocket benchmark: databases as SQL text with rows and questions as JSON, shipped in the package."""

from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from groundql.errors import DatabaseMissing, DataError
from groundql.questions.entries import did_you_mean, read_json
from groundql.records import DatabaseFiles, DataSet, Difficulty, Question, Record, first_fault

POCKET_DIR = Path(__file__).parent / "pocket"
SPLITS = ("train", "dev", "test")


class PocketQuestion(Record):
    """One entry under `questions` of a pocket file."""

    question: str
    evidence: str
    sql: str
    difficulty: Difficulty


class PocketFile(Record):
    """One pocket file: a database's split, descriptions and questions."""

    db_id: str
    split: Literal["train", "dev", "test"]
    domain: str
    descriptions: dict[str, dict[str, str]] = {}
    questions: tuple[PocketQuestion, ...]


def load_pocket(spec: str, split: str = "", folder: Path = POCKET_DIR) -> DataSet:
    """Questions of one split, or of all ("all"), databases in the order of their names.

    A question's id is `DB-ROW`, rows counted from 0 in its database, so it is the same in the split and in the whole.
    """
    if split and split not in SPLITS:
        raise DataError(f"pocket has no split {split!r}{did_you_mean(split, list(SPLITS))}")
    questions: list[Question] = []
    databases = {}
    for file in _pocket_files(folder):
        if split in ("", file.split):
            questions.extend(
                Question(
                    question_id=f"{file.db_id}-{row}",
                    db_id=file.db_id,
                    text=entry.question,
                    evidence=entry.evidence.strip(),
                    gold_sql=entry.sql,
                    difficulty=entry.difficulty,
                )
                for row, entry in enumerate(file.questions)
            )
            databases[file.db_id] = _files_of(file, folder)
    if not questions:
        raise DatabaseMissing(
            f"{folder} holds no question of pocket{'#' + split if split else ''}; install GroundQL again"
        )
    return DataSet(
        spec=spec, name="pocket", split=split or "all", questions=tuple(questions), databases=databases
    )


def _files_of(file: PocketFile, folder: Path) -> DatabaseFiles:
    sql_path = folder / f"{file.db_id}.sql"
    if not sql_path.is_file():
        raise DatabaseMissing(f"{sql_path} is not there; install GroundQL again")
    return DatabaseFiles(
        db_id=file.db_id, sql_path=sql_path, sql_has_rows=True, descriptions=file.descriptions, rows="real"
    )


@cache
def _pocket_files(folder: Path) -> tuple[PocketFile, ...]:
    files = []
    for path in sorted(folder.glob("*.json")):
        try:
            file = PocketFile.model_validate(read_json(path))
        except ValidationError as error:
            raise DataError(f"{path}: {first_fault(error)}") from None
        if file.db_id != path.stem:
            raise DataError(f"{path}: its db_id is {file.db_id!r}, not the file's name")
        files.append(file)
    return tuple(files)
