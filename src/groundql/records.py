"""The nouns that stages exchange: frozen, checked on the way in, JSON in and out."""

import functools
import hashlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from groundql.errors import DataError

Cell = None | int | float | str | bytes
Row = tuple[Cell, ...]
Difficulty = Literal["simple", "moderate", "challenging", "easy", "medium", "hard", "extra", ""]
RowsAre = Literal["real", "synthetic", "none"]
Dialect = Literal["sqlite", "duckdb", "postgres"]  # an engine, and sqlglot's name for its SQL
OutcomeStatus = Literal["ok", "error", "timeout", "refused", "too_large", "crashed"]


class Record(BaseModel):
    """Base of all records: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_bytes="base64", val_json_bytes="base64")

    @classmethod
    def unchecked(cls, **fields: Any) -> Self:
        """A record of fields that code of ours made, without looking at them: ten times faster than checking.

        A field that is left out has its default; None where it has none.
        """
        return cls.filled(fields)

    @classmethod
    def filled(cls, fields: dict[str, Any]) -> Self:
        """The same from a dict, which is faster where there are many fields."""
        return cls.from_whole({**_blank(cls)[0], **fields})

    @classmethod
    def from_whole(cls, fields: dict[str, Any]) -> Self:
        """The same from a dict of every field, in order; the record keeps the dict."""
        record = _new(cls)
        _set_fields(record, fields)
        _set_names(record, _blank(cls)[1])
        _set_extra(record, None)
        _set_private(record, None)
        return record


# a record's four slots, past the look-up by name and the check that it is frozen
_new = object.__new__
_set_fields, _set_names, _set_extra, _set_private = (
    BaseModel.__dict__[name].__set__
    for name in ("__dict__", "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__")
)


@functools.cache
def _blank(record: type[Record]) -> tuple[dict[str, Any], set[str]]:
    """Every field with its default, in order, and their names; neither is to be changed."""
    fields = record.model_fields
    defaults = {name: None if field.is_required() else field.get_default() for name, field in fields.items()}
    return defaults, set(defaults)


class Question(Record):
    """One question of a data set, with its gold SQL where there is one."""

    question_id: str  # unique in its data set: BIRD's question_id, else the row number from 0
    db_id: str
    text: str
    evidence: str = ""
    gold_sql: str | None = None
    difficulty: Difficulty = ""


class Column(Record):
    """A column as the prompt and the checks need it."""

    name: str
    type: str = ""  # as declared; "" where the schema gives none
    description: str = ""
    examples: tuple[str, ...] = ()  # SQL literals: 'Lyon', 42, NULL never
    not_null: bool = False


class ForeignKey(Record):
    """`columns` of this table point to `ref_columns` of `ref_table`."""

    columns: tuple[str, ...]
    ref_table: str
    ref_columns: tuple[str, ...]


class Table(Record):
    """A table with its columns and keys."""

    name: str
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...] = ()
    foreign_keys: tuple[ForeignKey, ...] = ()
    description: str = ""


class Schema(Record):
    """Tables of one database, in the database's own order."""

    db_id: str
    tables: tuple[Table, ...]

    def fingerprint(self) -> str:
        """16 hex digits that change with any name, type, key, description or example."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]


class DatabaseFiles(Record):
    """Where one database's rows, schema and descriptions lie; one of the first three or `url` is given."""

    db_id: str
    sqlite_path: Path | None = None
    sql_path: Path | None = None  # SQL text: CREATE TABLE, and INSERT where `sql_has_rows`
    tables_path: Path | None = None  # tables.json of BIRD or Spider; the entry is found by db_id
    descriptions_dir: Path | None = None  # BIRD's database_description/*.csv
    descriptions: dict[str, dict[str, str]] = {}  # table -> column -> meaning
    sql_has_rows: bool = False
    rows: RowsAre = "real"
    url: str = (
        ""  # duckdb:PATH or postgresql://USER@HOST/NAME: a database of another engine, in place of the paths
    )

    @property
    def dialect(self) -> Dialect:
        """The engine that this database runs on."""
        return dialect_of(self.url)


class DataSet(Record):
    """Questions of one split and the databases they are asked of."""

    spec: str  # as given: bird:DIR#train
    name: str  # pocket, bird, spider, jsonl
    split: str
    questions: tuple[Question, ...]
    databases: dict[str, DatabaseFiles]
    n_drafted: int | None = None  # questions that templates wrote, where the file says who asked; else None

    def fingerprint(self) -> str:
        """16 hex digits over the questions' content, not over paths."""
        digest = hashlib.sha256()
        for question in self.questions:
            digest.update(question.model_dump_json().encode())
        return digest.hexdigest()[:16]


def dialect_of(place: str) -> Dialect:
    """The engine that a database URL names; a path names SQLite."""
    if place.startswith("duckdb:"):
        return "duckdb"
    return "postgres" if place.startswith(("postgresql://", "postgres://")) else "sqlite"


class Prompt(Record):
    """What the model reads: a prefix shared by all questions of a database, then the question's own part."""

    question_id: str
    db_id: str
    prefix: str
    suffix: str
    n_tokens: int
    shrunk: tuple[
        str, ...
    ] = ()  # what was left out to fit, in order: descriptions, examples, columns, values


class Turns(Record):
    """How a model family marks who speaks: text around the system's, the user's and the model's turn.

    A prompt is `before_system + system + after_system` (shared by all questions of a database) and then
    `before_user + user + after_user`. The model's SQL ends with the token `end`.
    """

    before_system: str
    after_system: str
    before_user: str
    after_user: str
    end: str


class Strain(Record):
    """How hard the constraint pulled on a text: -log(1 - the probability that it refused) of each token, in nats.

    Of the refused tokens only those count that were tried, ahead of the one that was taken: a lower bound.
    """

    total: float = 0.0
    largest: float = 0.0
    at: int | None = None  # the token with the largest, from 0; None: nothing was refused


CompletionStatus = Literal["free", "answer", "abstained"]


class Completion(Record):
    """What a model wrote for one question: one line of predictions.jsonl.

    Free text may hold a query or not, and the query may bind or not. An answer was let through by the engine's own
    prepare; an abstention has no SQL and a reason.
    """

    question_id: str
    db_id: str
    text: str  # raw model output
    sql: str | None  # extracted from `text`, clauses in the usual order; None where there is none
    n_prompt_tokens: int = 0
    n_new_tokens: int = 0
    stopped: bool = True  # the model ended by itself, not at the token limit
    shrunk: tuple[str, ...] = ()
    status: CompletionStatus = "free"
    reason: str = ""  # of an abstention, or why the query was closed
    strain: Strain | None = None
    n_backtracks: int = 0
    closed_at: int | None = (
        None  # of a query that did not end by itself: the token from which on its end was forced
    )
    n_samples: int = 1  # texts that were written for it, repairs counted; `n_new_tokens` is of all of them
    n_agreeing: int | None = None  # of several samples, how many have this one's result; None: no vote


class Outcome(Record):
    """What happened when SQL ran under guard."""

    status: OutcomeStatus
    columns: tuple[str, ...] = ()
    rows: tuple[Row, ...] = ()
    error: str = ""
    elapsed_s: float = 0.0
    vm_steps: int = 0  # SQLite virtual-machine steps, to the nearest 100


class ResultPreview(Record):
    """The head of a result, for people: the report shows it."""

    columns: tuple[str, ...] = ()
    rows: tuple[Row, ...] = ()  # the first few; long texts and blobs are cut for display
    n_rows: int = 0


class Verdict(Record):
    """What the checks found for one question: one line of verdicts.jsonl, readable on its own.

    Each rung implies the one before; a rung that could not be decided (no rows to run on) is None.
    """

    question_id: str
    db_id: str
    difficulty: Difficulty = ""
    question: str
    evidence: str = ""
    gold_sql: str | None = None
    predicted_sql: str | None = None
    abstained: bool = False  # the writer chose to give no SQL; no rung is passed
    strain: float | None = None  # how hard the writer had to be held to write what binds, where it says so

    extracted: bool
    sqlglot_accepts: bool | None = None  # the seed paper's rule, for comparison only: it accepts prose
    parsed: bool  # one statement, a query, no fallback
    read_only: bool
    grounded: bool  # the engine prepares it on the true schema, double-quoted strings off
    ran: bool | None
    ex_bird: bool | None  # BIRD's official rule: results equal as sets
    ex_strict: bool | None  # bags; lists where the gold's outer query orders

    error: str = ""  # why the highest rung reached was not passed, in the engine's words where it has some
    gold_fault: str = ""  # why the gold cannot judge: does not bind, does not run, no rows at hand
    rows: RowsAre = "real"
    gold_result: ResultPreview | None = None
    predicted_result: ResultPreview | None = None

    # Beside the ladder. None: could not be decided, or was not asked for.
    ex_relaxed: bool | None = None  # gold's columns in any order, others beside them
    robust: bool | None = None  # ex_strict on every changed copy of the database
    ast_equal: bool | None = None  # certified equal without running; False says only that it is not certified
    ast_relaxed: bool | None = None  # the same by rules that hold on most data alone
    ast_similarity: float | None = None  # share of tree nodes that gold and prediction keep, 0 to 1
    soft_f1: float | None = None  # BIRD mini-dev's, which the order of rows moves
    soft_f1_unordered: float | None = None
    ves: float | None = None  # timed, so not the same each time; 1 is as fast as gold
    r_ves: float | None = None
    step_ratio: float | None = None  # gold's virtual-machine steps over the prediction's, where `ex_bird`
    spider_exec: bool | None = None  # Spider's execution accuracy
    spider_match: bool | None = None  # Spider's exact set match
    spider_match_any_syntax: bool | None = (
        None  # the same where Spider's own parser cannot read the prediction
    )
    spider_hardness: Difficulty = ""  # Spider's class of the gold

    # Names that stand for nothing, None where the answer does not parse.
    invented_table: bool | None = None
    invented_alias: bool | None = None
    invented_column: bool | None = None  # no table has it
    misplaced_column: bool | None = None  # another table has it
    invented_function: bool | None = None
    foreign_value: bool | None = (
        None  # a constant that its column does not hold and the question does not give
    )
    keyless_join: bool | None = None  # tables joined along no key
    findings: tuple[str, ...] = ()  # each of these as `kind: name`
    n_references: int = 0  # tables, columns and functions named
    n_bad_references: int = 0  # of these, how many stand for nothing

    # Columns read, prediction against gold, as the engine binds them.
    link_precision: float | None = None
    link_recall: float | None = None
    link_f1: float | None = None


AnyRecord = TypeVar("AnyRecord", bound=Record)


def read_jsonl(path: Path, record: type[AnyRecord]) -> list[AnyRecord]:
    """All records of a JSONL file; a bad line raises DataError with its number. Blank lines are passed over."""
    records = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            try:
                records.append(record.model_validate_json(line))
            except ValidationError as error:
                raise DataError(f"{path}, line {number}: {first_fault(error)}") from None
    return records


def read_text(path: Path) -> str:
    """The file as UTF-8 text; DataError that names it where that fails."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path} is not there") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None


def first_fault(error: ValidationError) -> str:
    """The first thing wrong in a record, as `field: what`."""
    fault = error.errors()[0]
    where = ".".join(str(part) for part in fault["loc"])
    return f"{where}: {fault['msg']}" if where else str(fault["msg"])


def write_jsonl(path: Path, records: Iterable[Record]) -> None:
    """All records, one a line; the file appears whole or not at all."""
    write_text(path, "".join(record.model_dump_json() + "\n" for record in records))


def write_text(path: Path, text: str) -> None:
    """Write beside `path`, then rename: no half-written file is ever taken for a whole one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(beside).chmod(0o644)
        Path(beside).replace(path)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise
