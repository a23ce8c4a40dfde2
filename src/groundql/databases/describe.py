"""What people wrote about columns: comments in CREATE TABLE text, and BIRD's database_description/*.csv."""

import csv
import io
import re
import textwrap
from pathlib import Path

from groundql.errors import DataError

TOKEN = re.compile(
    r"""(?P<comment>--[^\n]*)
      | (?P<block>/\*.*?(?:\*/|$))
      | (?P<quoted>"(?:[^"]|"")*" | `(?:[^`]|``)*` | \[[^\]]*\])
      | (?P<string>'(?:[^']|'')*')
      | (?P<word>[^\s"'`\[\](),;]+)
      | (?P<mark>[(),;])
      | (?P<newline>\n)""",
    re.VERBOSE | re.DOTALL,
)
TABLE_RULES = frozenset(["constraint", "primary", "foreign", "unique", "check"])
DESCRIPTION_CHARS = 240  # BIRD's longest has 1,037; the first sentences carry the meaning
EXAMPLE = re.compile(r"example:\s*(.+)", re.IGNORECASE | re.DOTALL)


def ddl_comments(sql: str) -> tuple[str, dict[str, tuple[str, str]]]:
    """(the table's comment, lower-cased column -> (description, example literal)) of one CREATE TABLE.

    A `-- comment` belongs to the column that its line ends with; before the first column it belongs to the table.
    `-- example: 'x'` gives an example, anything else a description.
    """
    table_note = ""
    notes: dict[str, tuple[str, str]] = {}
    column: str | None = None
    depth, expects_name = 0, False
    for token in TOKEN.finditer(sql):
        kind, text = token.lastgroup, token.group()
        if kind == "mark":
            depth += {"(": 1, ")": -1}.get(text, 0)
            expects_name = expects_name if depth > 1 else depth == 1 and text in "(,"
        elif kind == "newline":
            column = None if expects_name else column
        elif kind == "comment":
            note = text[2:].strip()
            example = EXAMPLE.fullmatch(note)
            if column is not None:
                before = notes.get(column, ("", ""))
                notes[column] = (before[0], example[1].strip()) if example else (note, before[1])
            elif not notes and not example:
                table_note = note
        elif kind in ("quoted", "word", "string") and expects_name:
            expects_name = False
            is_rule = kind == "word" and text.lower() in TABLE_RULES
            column = None if is_rule else _bare_name(text).lower()
    return table_note, notes


def _bare_name(text: str) -> str:
    for opening, closing in ('""', "``", "[]", "''"):
        if len(text) > 1 and text[0] == opening and text[-1] == closing:
            return text[1:-1].replace(closing * 2, closing)
    return text


def csv_descriptions(descriptions_dir: Path) -> dict[str, dict[str, str]]:
    """Table -> column -> one line, of BIRD's description files; a folder that is not there gives none."""
    if not descriptions_dir.is_dir():
        return {}
    return {path.stem.strip(): _csv_columns(path) for path in sorted(descriptions_dir.glob("*.csv"))}


def _csv_columns(path: Path) -> dict[str, str]:
    rows = csv.DictReader(io.StringIO(_decoded(path), newline=""))
    names = {(name or "").strip().lower(): name for name in rows.fieldnames or ()}
    if "original_column_name" not in names:
        raise DataError(f"{path} has no column original_column_name")
    columns = {}
    for row in rows:

        def field(name: str, row: dict[str, str | None] = row) -> str:
            text = (row.get(names.get(name, name)) or "").replace("\ufffd", " ")  # BIRD's lost bullet points
            return " ".join(text.split())

        name = field("original_column_name")
        meaning = field("column_description")
        if _letters(meaning) in ("", _letters(name)):
            meaning = field("column_name")
        values = field("value_description")
        parts = [meaning if _letters(meaning) != _letters(name) else "", values if _letters(values) else ""]
        columns[name] = textwrap.shorten(
            "; ".join(part for part in parts if part), DESCRIPTION_CHARS, placeholder=" ..."
        )
    return columns


def _decoded(path: Path) -> str:
    """BIRD's files are UTF-8 with or without a mark, or Windows-1252; Latin-1 takes what neither does."""
    content = path.read_bytes()
    for encoding in ("utf-8-sig", "cp1252"):
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            continue
    return content.decode("latin-1")


def _letters(text: str) -> str:
    return re.sub(r"[\W_]", "", text).lower()
