"""Writes the project folder: schema, questions, config and what they are good for."""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from groundql.databases.open_database import OpenDatabase
from groundql.databases.place import shown_place, without_password
from groundql.databases.schema import schema_ddl
from groundql.errors import AskedWrongly
from groundql.projects.described import described_schema
from groundql.projects.golds import Gold, Line, as_lines, first_rows, kept_drafts
from groundql.projects.own import N_TEST, Own, read_own
from groundql.projects.texts import config_text, readme_text
from groundql.questions.drafting import TableFacts, draft_questions, split_drafts, table_facts
from groundql.records import Dialect, dialect_of, write_text

QUESTIONS = "questions.jsonl"
TABLES = "tables.duckdb"  # a copy of what CSV and Parquet files hold, so that the project needs no cache

Say = Callable[[str], None]
Rephrase = Callable[[Sequence[Line]], list[Line]]


@dataclass(frozen=True)
class Made:
    """What a project folder holds."""

    folder: Path
    n_tables: int
    n_of: Counter[tuple[str, str]]  # questions by (split, source)
    left_out: Counter[str]  # drafts, by reason
    faults: list[str]  # own questions that cannot be used

    @property
    def test_split(self) -> str:
        """The split that is reported on: own questions where there are any."""
        return "test" if self.n_of["test", "own"] else "held-out"


def make_project(
    place: str,
    folder: Path,
    *,
    base: str,
    questions: Path | None = None,
    limit: int = 400,
    n_test: int = N_TEST,
    seed: int = 7,
    rephrase: Rephrase | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Made:
    """The project of the database at `place` in `folder`, which must be new or empty.

    Raises:
        AskedWrongly: the folder holds something, or nothing can be drafted.
        DatabaseMissing, DataError: the database or the questions cannot be read.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise AskedWrongly(f"{folder} is there and holds something; give another --out, or remove it")
    with OpenDatabase(place) as database:
        own = read_own(questions, database, n_test) if questions else Own([], set(), [])
        facts = table_facts(database.schema, first_rows(database))
        golds, left_out = _golds(database, facts, own, limit, seed, on_progress)
        lines = _lines(golds, own.lines, seed)
        if rephrase:
            lines += rephrase(lines)
        if not lines:
            raise AskedWrongly(
                f"no question could be drafted from {shown_place(place)}: its tables have no rows that can be read"
            )
        made = Made(
            folder=folder,
            n_tables=len(database.schema.tables),
            n_of=Counter((line.split, line.source) for line in lines),
            left_out=left_out,
            faults=own.faults,
        )
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder, database, lines, _written_place(place, database, folder))
        write_text(folder / "schema.md", described_schema(database.schema, facts))
        _write_texts(made, base, database.dialect)
    return made


def _golds(
    database: OpenDatabase,
    facts: Sequence[TableFacts],
    own: Own,
    limit: int,
    seed: int,
    on_progress: Callable[[int, int], None] | None,
) -> tuple[list[Gold], Counter[str]]:
    """Drafts whose golds run, without those that the own questions of the test ask, and how many were left out why."""
    drafts = draft_questions(facts, seed=seed)
    golds, left_out = kept_drafts(
        database,
        drafts,
        limit=limit,
        seed=seed,
        on_progress=(lambda done: on_progress(done, len(drafts))) if on_progress else None,
    )
    kept = [gold for gold in golds if gold.canonical not in own.canonical]
    left_out["asked by an own question of the test"] += len(golds) - len(kept)
    return kept, left_out


def _write_texts(made: Made, base: str, dialect: Dialect) -> None:
    """The config and the README."""
    spec = f"jsonl:{(made.folder / QUESTIONS).resolve()}"
    has_dev = made.n_of["dev", "drafted"] > 0
    write_text(made.folder / "config.toml", config_text(spec, base, made.test_split, has_dev=has_dev))
    write_text(
        made.folder / "README.md",
        readme_text(made.n_of, made.left_out, made.test_split, dialect, str(made.folder)),
    )


def _lines(golds: Sequence[Gold], own: Sequence[Line], seed: int) -> list[Line]:
    splits = split_drafts([gold.draft for gold in golds], seed=seed)
    return [*own, *as_lines(golds, splits, {line.text.lower() for line in own}, seed=seed)]


def _written_place(place: str, database: OpenDatabase, folder: Path) -> str:
    """What a line names its database by: an absolute path, a URL without its password, or the project's copy of tables."""
    if database.dialect == "postgres":
        return without_password(place)
    files = database.files
    if files.sqlite_path or files.sql_path:
        return str((files.sqlite_path or files.sql_path or Path()).resolve())
    path = Path(files.url.removeprefix("duckdb:"))
    is_imported = dialect_of(place) != "duckdb" and path.resolve() != Path(place).expanduser().resolve()
    if is_imported:
        shutil.copyfile(path, folder / TABLES)
        return f"duckdb:{TABLES}"
    return f"duckdb:{path}"


def _write(folder: Path, database: OpenDatabase, lines: Sequence[Line], written: str) -> None:
    schema = database.schema
    write_text(folder / "schema.json", schema.model_dump_json(indent=1) + "\n")
    write_text(folder / "schema.sql", schema_ddl(schema) + "\n")
    rows = []
    for line in lines:
        fields = {
            "question_id": line.question_id,
            "question": line.text,
            "evidence": line.evidence,
            "sql": line.sql,
            "split": line.split,
            "source": line.source,
            "difficulty": line.difficulty,
            "template": line.template,
            "db_id": database.db_id,
            "database": written,
        }
        rows.append(json.dumps({key: value for key, value in fields.items() if value}, ensure_ascii=False))
    write_text(folder / QUESTIONS, "\n".join(rows) + "\n")
