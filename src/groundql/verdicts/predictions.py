"""Reads predictions: our JSONL, BIRD's predict_*.json and Spider's text file, told apart by their content."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from groundql.errors import DataError
from groundql.records import Completion, DataSet, first_fault, read_text

Extract = Callable[[str], str | None]
Format = Literal["jsonl", "bird", "spider"]

BIRD_SEPARATOR = "\t----- bird -----\t"
BIRD_NO_STRING = " "  # what BIRD's script runs where an entry is no string
KNOWN_KEYS = set(Completion.model_fields)


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """Completions as a file gives them, doubled and foreign ones too."""

    format: Format
    completions: tuple[Completion, ...]
    is_verbatim: bool  # the official script would run each `text` as it stands
    notes: tuple[str, ...] = ()  # what a reader of the score should know of the file


@dataclass(frozen=True, kw_only=True)
class Matched:
    """Completions by question, and the ids of those that do not fit. The first of several counts."""

    by_id: dict[str, Completion]
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    doubled: tuple[str, ...]
    other_database: tuple[str, ...]  # the completion names another database than its question


def first_by_id(completions: Sequence[Completion]) -> dict[str, Completion]:
    """Completions by the id of their question, the first of doubled ones."""
    return {completion.question_id: completion for completion in reversed(completions)}


def match_completions(data: DataSet, completions: tuple[Completion, ...] | list[Completion]) -> Matched:
    """Completions joined to questions by id alone, so that a missing one never shifts the rest."""
    questions = {question.question_id: question for question in data.questions}
    by_id: dict[str, Completion] = {}
    for completion in completions:
        if completion.question_id in questions:
            by_id.setdefault(completion.question_id, completion)
    counts = Counter(completion.question_id for completion in completions)
    return Matched(
        by_id=by_id,
        missing=tuple(name for name in questions if name not in by_id),
        extra=tuple(dict.fromkeys(c.question_id for c in completions if c.question_id not in questions)),
        doubled=tuple(name for name, count in counts.items() if count > 1),
        other_database=tuple(
            name for name, completion in by_id.items() if completion.db_id not in ("", questions[name].db_id)
        ),
    )


def read_predictions(path: Path, data: DataSet, extract: Extract) -> Predictions:
    """The predictions in `path`. Its content tells the format; DataError where it is none of the three.

    JSONL: one object a line with `question_id` and `sql` or `text`, and any field of Completion. BIRD: one object
    from the running index, as text, to SQL, with or without the separator and the database. Spider: one query a
    line, with or without a tab and the database; the line's number is the question's.
    """
    text = read_text(path)
    head = text.lstrip()[:1]
    if not head:
        raise DataError(f"{path} is empty; `groundql generate` writes predictions")
    if head == "[":
        raise DataError(
            f"{path} is a JSON list; predictions are JSONL, BIRD's JSON object or Spider's lines of SQL"
        )
    if head == "{":
        whole = _whole_json(text)
        if isinstance(whole, _Pairs) and "question_id" not in dict(whole):
            return _from_bird(path, whole, data, extract)
        return _from_jsonl(path, text, extract)
    return _from_spider(path, text, data, extract)


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as its pairs, so that doubled keys are seen."""


def _whole_json(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_Pairs)
    except ValueError:
        return None


def _from_jsonl(path: Path, text: str, extract: Extract) -> Predictions:
    completions = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                entry = json.loads(line)
                completions.append(_completion(entry, extract))
            except ValidationError as error:
                raise DataError(f"{path}, line {number}: {first_fault(error)}") from None
            except ValueError as error:
                raise DataError(f"{path}, line {number}: {error}") from None
    return Predictions(format="jsonl", completions=tuple(completions), is_verbatim=False)


def _completion(entry: Any, extract: Extract) -> Completion:
    if not isinstance(entry, dict) or "question_id" not in entry or not {"sql", "text"} & set(entry):
        raise ValueError('a prediction is an object with "question_id" and "sql" or "text"')
    unknown = sorted(set(entry) - KNOWN_KEYS)
    if unknown:
        raise ValueError(
            f"{unknown[0]} is not a field of a prediction; known are {', '.join(sorted(KNOWN_KEYS))}"
        )
    given = {"db_id": "", **entry, "question_id": str(entry["question_id"])}
    if not isinstance(given.get("sql", ""), (str, type(None))) or not isinstance(given.get("text", ""), str):
        raise ValueError("sql and text are texts")
    written = given["text"] if given.get("sql", "") == "" else given["sql"]
    given["sql"] = extract(written) if written else None
    given.setdefault("text", written or "")
    return Completion.model_validate(given)


def _from_bird(path: Path, entries: _Pairs, data: DataSet, extract: Extract) -> Predictions:
    keys = [key for key, _ in entries]
    ids = [question.question_id for question in data.questions]
    positions = {str(number): question_id for number, question_id in enumerate(ids)}
    notes = []
    if set(keys) <= set(positions) or not set(keys) <= set(ids):
        names = positions
    else:
        names = {question_id: question_id for question_id in ids}
        notes.append("its keys are question ids, not BIRD's running index; they are read as ids")
    known = [key for key in dict.fromkeys(keys) if key in names]
    if known != sorted(known, key=list(names).index):
        notes.append(
            "its entries are not in order: BIRD's script would join them by order, here their keys join them"
        )
    completions = []
    for key, value in entries:
        sql, _, db_id = (value if isinstance(value, str) else BIRD_NO_STRING).partition(BIRD_SEPARATOR)
        completions.append(
            Completion(
                question_id=names.get(key, f"key {key}"), db_id=db_id.strip(), text=sql, sql=extract(sql)
            )
        )
    return Predictions(format="bird", completions=tuple(completions), is_verbatim=True, notes=tuple(notes))


def _from_spider(path: Path, text: str, data: DataSet, extract: Extract) -> Predictions:
    lines = [line.rstrip("\r") for line in text.split("\n")]
    while lines and not lines[-1].strip():
        lines.pop()
    queries = [line.partition("\t") for line in lines]
    extracted = [extract(sql) for sql, _, _ in queries]
    if not any(extracted) and len(lines) != len(data.questions):
        raise DataError(
            f"{path} is neither JSONL nor BIRD's JSON, and no line looks like SQL; Spider's format is one query a line"
        )
    notes = []
    n_blank = sum(not line.strip() for line in lines)
    if n_blank:
        notes.append(
            f"{n_blank} of its lines are blank: each counts as no prediction for the question of its number"
        )
    completions = []
    for number, ((sql, _, db_id), found) in enumerate(zip(queries, extracted, strict=True)):
        if sql.strip():
            known = number < len(data.questions)
            question_id = data.questions[number].question_id if known else f"line {number + 1}"
            completions.append(Completion(question_id=question_id, db_id=db_id.strip(), text=sql, sql=found))
    return Predictions(format="spider", completions=tuple(completions), is_verbatim=True, notes=tuple(notes))
