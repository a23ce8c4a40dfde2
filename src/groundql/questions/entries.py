"""Entries of a question file, each with its place, so that a fault names file, line and next step."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from groundql.errors import DataError
from groundql.records import Difficulty, Question, first_fault, read_text


@dataclass(frozen=True)
class Entry:
    """One JSON object of a question file."""

    where: str  # "FILE, line 13", or "FILE, entry 12 (counted from 0)"
    values: Mapping[str, Any]

    def text(self, key: str) -> str:
        """The text under `key`; DataError where it is missing, blank or no text."""
        value = self.optional_text(key)
        if not value.strip():
            raise DataError(f"{self.where}: `{key}` is missing or empty; every question needs it")
        return value

    def optional_text(self, key: str) -> str:
        """The text under `key`; "" where the key is absent or null."""
        value = self.values.get(key)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise DataError(f"{self.where}: `{key}` must be text, it is {json.dumps(value)[:60]}")
        return value

    def question_id(self, row: int) -> str:
        """The entry's own id, a text or a whole number; else its row number from 0."""
        value = self.values.get("question_id")
        if value is None:
            return str(row)
        if isinstance(value, bool) or not isinstance(value, int | str) or not str(value).strip():
            raise DataError(
                f"{self.where}: `question_id` must be a text or a whole number, it is {json.dumps(value)[:60]}"
            )
        return str(value)

    def question(self, row: int, *, sql_key: str, question_key: str = "question") -> Question:
        """The record; DataError where a field is missing or of the wrong kind. A gold that is blank is None."""
        difficulty = self.optional_text("difficulty")
        if difficulty not in get_args(Difficulty):
            allowed = ", ".join(name for name in get_args(Difficulty) if name)
            raise DataError(
                f"{self.where}: difficulty {difficulty!r} is unknown; use one of {allowed}, or leave it out"
            )
        fields = {
            "question_id": self.question_id(row),
            "db_id": self.text("db_id"),
            "text": self.text(question_key),
            "evidence": self.optional_text("evidence").strip(),
            "gold_sql": self.optional_text(sql_key).strip() or None,
            "difficulty": difficulty,
        }
        try:
            return Question.model_validate(fields)
        except ValidationError as error:
            raise DataError(f"{self.where}: {first_fault(error)}") from None


def read_json_entries(path: Path) -> list[Entry]:
    """The objects of a JSON list, with their row numbers; DataError names the line where the JSON breaks."""
    content = read_json(path)
    if not isinstance(content, list):
        raise DataError(f"{path} is not a list of questions; a JSON Lines file is read as jsonl:{path}")
    rows = ((f"{path}, entry {row} (counted from 0)", values) for row, values in enumerate(content))
    return _entries(path, rows)


def read_json_lines(path: Path) -> list[Entry]:
    """The objects of a JSON Lines file; blank lines are passed over. DataError names the line that is no object."""
    return _entries(path, _json_lines(path))


def _json_lines(path: Path) -> Iterator[tuple[str, Any]]:
    """Where each line stands, and its value."""
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            values = json.loads(line)
        except json.JSONDecodeError as error:
            hint = "; a JSON list is read as bird:FILE or spider:FILE" if line.strip() in ("[", "{") else ""
            raise DataError(
                f"{where}: not valid JSON ({error.msg} at character {error.colno}){hint}"
            ) from None
        yield where, values


def _entries(path: Path, found: Iterable[tuple[str, Any]]) -> list[Entry]:
    """An entry for each place and value; DataError where a value is no object, or there is none."""
    entries = []
    for where, values in found:
        if not isinstance(values, dict):
            raise DataError(f"{where}: not an object with `question` and `db_id`")
        entries.append(Entry(where, values))
    if not entries:
        raise DataError(f"{path} holds no question")
    return entries


def read_json(path: Path) -> Any:
    """The content of a JSON file; DataError names the line where it breaks."""
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}, line {error.lineno}: not valid JSON ({error.msg})") from None


def unique_ids(questions: list[Question], entries: list[Entry], *, same_again: bool) -> tuple[Question, ...]:
    """The questions, their ids unique; DataError names the entry that repeats one.

    `same_again`: an entry equal to an earlier one in everything is kept and gets `-2`, `-3` behind its id.
    BIRD's official mini-dev file holds two such entries (137 and 138), and its 500 count both.
    """
    first: dict[str, tuple[Question, str]] = {}
    n_seen: dict[str, int] = {}
    unique = []
    for question, entry in zip(questions, entries, strict=True):
        if question.question_id not in first:
            first[question.question_id] = (question, entry.where)
            n_seen[question.question_id] = 1
            unique.append(question)
            continue
        earlier, where = first[question.question_id]
        if not (same_again and question == earlier):
            raise DataError(
                f"{entry.where}: question_id {question.question_id!r} is already that of {where}; make it unique"
            )
        n_seen[question.question_id] += 1
        renamed = f"{question.question_id}-{n_seen[question.question_id]}"
        unique.append(question.model_copy(update={"question_id": renamed}))
    return tuple(unique)


def did_you_mean(word: str, known: list[str]) -> str:
    """`; did you mean X?` where a known word is close, else `; it is one of A, B`."""
    close = get_close_matches(word.lower(), known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else f"; it is one of {', '.join(known)}"
