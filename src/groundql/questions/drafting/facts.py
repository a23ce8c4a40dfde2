"""What the first rows of a table show of its columns: which name a row, which sort it, which are numbers or dates."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from groundql.questions.drafting.words import column_words, date_words, plural, singular, words
from groundql.records import Cell, Column, Row, Schema, Table

Role = Literal["key", "label", "category", "number", "date", "truth", "other"]

MAX_CATEGORIES = 40  # distinct texts of a column that sorts rows
MAX_VALUE_CHARS = 40  # longer texts are no values to ask for
LABELS = ("name", "title", "label", "full name", "description")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}(?:[ T]\d{2}:\d{2}.*)?")
_KEY = re.compile(r"(?:^|[ _])(?:id|key|code|no|uuid|guid)$|(?<=[a-z])(?:Id|ID|No|Key)$", re.IGNORECASE)


@dataclass(frozen=True)
class ColumnFacts:
    """One column and what its values are good for."""

    column: Column
    role: Role
    said: str  # what a person calls it
    values: tuple[str, ...]  # texts, the most frequent first
    numbers: tuple[float, ...]  # sorted
    n_null: int

    @property
    def name(self) -> str:
        """As the schema writes it."""
        return self.column.name


@dataclass(frozen=True)
class TableFacts:
    """One table, its columns by role, and the tables that it points to."""

    table: Table
    one: str  # "order item"
    many: str
    columns: tuple[ColumnFacts, ...]
    links: tuple[tuple[str, str, str], ...]  # own column, table pointed to, its column
    n_rows: int  # looked at
    guessed: tuple[str, ...] = ()  # own columns whose link no key declares

    @property
    def name(self) -> str:
        """As the schema writes it."""
        return self.table.name

    def of(self, *roles: Role) -> list[ColumnFacts]:
        """The columns that play one of the roles, in the table's order."""
        return [column for column in self.columns if column.role in roles]

    @property
    def label(self) -> ColumnFacts | None:
        """The column that names a row."""
        labels = self.of("label")
        return labels[0] if labels else None


def table_facts(schema: Schema, rows: dict[str, Sequence[Row]]) -> list[TableFacts]:
    """Facts of every table with rows; `rows` are its first ones by the table's name, columns in the schema's order."""
    facts = []
    for table in schema.tables:
        seen = rows.get(table.name, ())
        if not seen or not table.columns:
            continue
        declared = tuple(
            (key.columns[0], key.ref_table, key.ref_columns[0])
            for key in table.foreign_keys
            if len(key.columns) == 1
        )
        guessed = _guessed_links(table, schema, rows, {own for own, _, _ in declared})
        links = declared + guessed
        linked = {own for own, _, _ in links}
        columns = tuple(
            _column_facts(table, column, [row[at] for row in seen], linked)
            for at, column in enumerate(table.columns)
        )
        said = words(table.name)
        facts.append(
            TableFacts(
                table=table,
                one=singular(said),
                many=plural(said),
                columns=_with_one_label(columns),
                links=links,
                n_rows=len(seen),
                guessed=tuple(own for own, _, _ in guessed),
            )
        )
    return facts


def _column_facts(table: Table, column: Column, cells: Sequence[Cell], linked: set[str]) -> ColumnFacts:
    there = [cell for cell in cells if cell is not None]
    texts = Counter(cell for cell in there if isinstance(cell, str) and _is_askable(cell))
    numbers = sorted(float(cell) for cell in there if isinstance(cell, int | float) and cell == cell)
    role = _role(table, column, there, texts, linked)
    said = column_words(column.name, table.name, column.description)
    return ColumnFacts(
        column=column,
        role=role,
        said=said if role != "date" else date_words(said),
        values=tuple(text for text, _ in texts.most_common(MAX_CATEGORIES)),
        numbers=tuple(numbers),
        n_null=len(cells) - len(there),
    )


def _role(table: Table, column: Column, there: Sequence[Cell], texts: Counter[str], linked: set[str]) -> Role:
    if not there:
        return "other"
    if column.name in linked or column.name in table.primary_key:
        is_telling = column.name in table.primary_key and column.name not in linked and bool(texts)
        return "key" if not is_telling or _KEY.search(column.name) else "label"
    if "bool" in column.type.lower():
        return "truth"
    if all(isinstance(cell, int | float) for cell in there):
        return "key" if _KEY.search(column.name) else "number" if len(set(there)) > 2 else "other"
    if all(isinstance(cell, str) and _DATE.fullmatch(cell) for cell in there):
        return "date"
    if not texts or sum(texts.values()) < len(there) / 2:
        return "other"
    if len(texts) == len(there) or (len(texts) > MAX_CATEGORIES and len(texts) > len(there) / 2):
        return "other" if _KEY.search(column.name) else "label"
    return "category" if len(texts) <= MAX_CATEGORIES else "label"


def _with_one_label(columns: tuple[ColumnFacts, ...]) -> tuple[ColumnFacts, ...]:
    """At most one label: the column that is called so, else the first text that differs in every row, else a name."""
    called = [c for c in columns if c.said in LABELS and c.role in ("label", "category")]
    ending = [c for c in columns if c.said.endswith(LABELS) and c.role in ("label", "category")]
    best = next(iter(called or ending or [c for c in columns if c.role == "label"]), None)
    return tuple(
        c
        if c.role != "label" and c is not best
        else ColumnFacts(c.column, "label" if c is best else "other", c.said, c.values, c.numbers, c.n_null)
        for c in columns
    )


def _is_askable(text: str) -> bool:
    return 0 < len(text.strip()) == len(text) <= MAX_VALUE_CHARS and text.isprintable()


def _guessed_links(
    table: Table, schema: Schema, rows: dict[str, Sequence[Row]], known: set[str]
) -> tuple[tuple[str, str, str], ...]:
    """Columns without a declared key whose name is another table's key's, or TABLE_id, and whose values all stand there."""
    found = []
    for at, column in enumerate(table.columns):
        if column.name in known or column.name in table.primary_key:
            continue
        for other in schema.tables:
            if other.name == table.name or len(other.primary_key) != 1:
                continue
            key = other.primary_key[0]
            plain = column.name.lower().replace("_", "")
            stem = singular(words(other.name)).replace(" ", "")
            is_named = plain == f"{stem}id" or (plain == key.lower().replace("_", "") and plain != "id")
            place = [one.name for one in other.columns].index(key)
            theirs = {row[place] for row in rows.get(other.name, ())}
            own = {row[at] for row in rows.get(table.name, ())} - {None}
            if is_named and own and own <= theirs:
                found.append((column.name, other.name, key))
                break
    return tuple(found)
