"""A person's own questions from a JSONL, JSON or CSV file, each gold run on the engine before it is believed."""

import contextlib
import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groundql.databases.open_database import OpenDatabase
from groundql.databases.translate import from_engine_sql
from groundql.errors import DataError, NotInDialect
from groundql.projects.golds import DEADLINE_S, Line
from groundql.prompts.dialect import canonical_sql
from groundql.records import read_text

N_TEST = 100  # own questions that are kept for the test before any is trained on
GOLD_ROWS = 100_000  # more than a draft's may have: a person asked for them
SQL_KEYS = ("sql", "query", "SQL", "gold")


@dataclass(frozen=True)
class Own:
    """Own questions as lines, and what was wrong with the others."""

    lines: list[Line]
    canonical: set[str]  # of the golds in the test part, where they have a canonical form
    faults: list[str]


def read_own(path: Path, database: OpenDatabase, n_test: int = N_TEST) -> Own:
    """The questions of `path`: the first `n_test` that can be judged are the test, the others are trained on.

    A question without SQL cannot be judged, nor can one whose SQL does not run, and one that stands there twice would
    count twice: all are told by line.

    Raises:
        DataError: the file cannot be read, or holds no question.
    """
    lines: list[Line] = []
    canonical: set[str] = set()
    faults: list[str] = []
    places: dict[tuple[str, str], str] = {}
    entries = _entries(path)
    for where, entry in entries:
        text, sql = _text_and_sql(where, entry, path)
        fault = _fault(text, sql, database)
        if not fault and (text.lower(), sql) in places:
            fault = f"stands there already: {places[text.lower(), sql]}"
        if fault:
            faults.append(f"{where}: {fault}")
            continue
        places[text.lower(), sql] = where
        split = "test" if len(lines) < n_test else "train"
        if split == "test":
            with contextlib.suppress(NotInDialect):
                canonical.add(
                    canonical_sql(from_engine_sql(sql, database.schema, database.dialect), database.schema)
                )
        lines.append(
            Line(
                question_id=f"own{len(lines) + 1}",
                text=text,
                sql=sql,
                split=split,
                source="own",
                evidence=str(entry.get("evidence") or "").strip(),
            )
        )
    if not entries:
        raise DataError(f"{path} holds no question")
    return Own(lines, canonical, faults)


def _text_and_sql(where: str, entry: Mapping[str, Any], path: Path) -> tuple[str, str]:
    """The question, and its SQL or "" where it has none; DataError where it has no question."""
    text = str(entry.get("question") or "").strip()
    if not text:
        form = (
            "the first line of a .csv names the columns: question,sql"
            if path.suffix.lower() == ".csv"
            else 'a line is {"question": ..., "sql": ...}'
        )
        raise DataError(f"{where}: `question` is missing or empty; {form}")
    return text, next((str(entry[key]).strip().rstrip(";") for key in SQL_KEYS if entry.get(key)), "")


def _fault(text: str, sql: str, database: OpenDatabase) -> str:
    """Why nothing can be judged by this gold; "" where something can."""
    if not sql:
        return f"has no SQL, so nothing can judge an answer to it: {text!r}"
    outcome = database.run(sql, deadline_s=DEADLINE_S, max_rows=GOLD_ROWS)
    return "" if outcome.status == "ok" else f"its SQL does not run ({outcome.status}): {outcome.error}"


def _entries(path: Path) -> list[tuple[str, Mapping[str, Any]]]:
    """Each object of the file, with its place."""
    text = read_text(path)
    try:
        if path.suffix.lower() == ".csv":
            rows = csv.DictReader(io.StringIO(text))
            return [(f"{path}, line {rows.line_num}", row) for row in rows]
        if path.suffix.lower() == ".json":
            found = json.loads(text)
            if not isinstance(found, list):
                raise DataError(f"{path} is not a list of questions")
            return [(f"{path}, entry {i}", _object(one, f"{path}, entry {i}")) for i, one in enumerate(found)]
        numbered = enumerate(text.split("\n"), start=1)
        places = [(f"{path}, line {n}", line) for n, line in numbered if line.strip()]
        return [(where, _object(json.loads(line), where)) for where, line in places]
    except json.JSONDecodeError as error:
        raise DataError(f"{path} is not JSON: {error}; give .jsonl, .json or .csv") from None


def _object(found: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(found, dict):
        raise DataError(f'{where}: is no object; a line is {{"question": ..., "sql": ...}}')
    return found
