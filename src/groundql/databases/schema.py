"""Reads a database's schema, from its file, its SQL text or BIRD's and Spider's tables.json, into a `Schema`."""

import math
import re
from collections.abc import Iterable

import apsw

from groundql.databases.describe import csv_descriptions, ddl_comments
from groundql.databases.guard import VALUE_BYTES
from groundql.databases.tables_json import read_entry
from groundql.errors import DatabaseMissing, DataError
from groundql.records import Column, DatabaseFiles, ForeignKey, Schema, Table, read_text

EXAMPLE_SCAN_ROWS = 2000  # example values come from the first rows of a table, so that reading stays fast
EXAMPLE_CHARS = 40  # longer texts are no examples: cut ones would be values that do not exist
PLAIN_TYPE = re.compile(r"[A-Za-z_]\w*(?: [A-Za-z_]\w*)*(?: ?\( ?\d+ ?(?:, ?\d+ ?)?\))?")
TYPE_ENDS = frozenset(
    [
        "generated",
        "always",
        "constraint",
        "primary",
        "not",
        "null",
        "unique",
        "check",
        "default",
        "collate",
        "references",
        "as",
    ]
)


def read_schema(files: DatabaseFiles, *, n_examples: int = 2) -> Schema:
    """Tables, columns, keys, descriptions and example values of one database.

    Structure comes from the SQLite file, else the SQL text, else the entry in tables.json; keys that the first lacks
    are taken from the others; a database of another engine is asked itself. Example values are read from real rows alone: where `files.rows` is "synthetic" they
    would give answers away, so there, and where there are no rows, those noted in the SQL text serve.
    Raises DatabaseMissing where none of the three is there, DataError where one cannot be read.
    """
    sources = _engine_source(files, n_examples) if files.url else _sources(files, n_examples)
    if not sources:
        if files.url:
            raise DatabaseMissing(f"{files.db_id}: no table that can be read at its URL")
        if files.sqlite_path and files.sqlite_path.is_file():
            raise DatabaseMissing(f"{files.sqlite_path} holds no table")
        raise DatabaseMissing(
            f"{files.db_id}: no SQLite file, SQL text or tables.json entry to read its schema from"
        )
    tables = sources[0]
    for further in sources[1:]:
        tables = _with_keys_and_notes(tables, further)
    described = [
        files.descriptions,
        csv_descriptions(files.descriptions_dir) if files.descriptions_dir else {},
    ]
    tables = [_described(table, [_lowered(source) for source in described]) for table in tables]
    return Schema(db_id=files.db_id, tables=tuple(_with_sound_references(tables)))


def schema_ddl(schema: Schema) -> str:
    """CREATE TABLE statements that make an empty twin of the database; every name is quoted."""
    return "\n\n".join(_create_table(table) for table in schema.tables)


def quoted(name: str) -> str:
    """The name in double quotes, as SQLite reads any name."""
    return '"' + name.replace('"', '""') + '"'


def _engine_source(files: DatabaseFiles, n_examples: int) -> list[list[Table]]:
    """What another engine says of its tables."""
    from groundql.databases.engines import read_engine_tables

    tables = read_engine_tables(files.url, n_examples if files.rows == "real" else 0)
    return [tables] if tables else []


def _sources(files: DatabaseFiles, n_examples: int) -> list[list[Table]]:
    """What each file that is there says of the tables, the most trusted first."""
    sources = []
    n_from_rows = n_examples if files.rows == "real" else 0
    if files.sqlite_path and files.sqlite_path.is_file():
        connection = apsw.Connection(str(files.sqlite_path), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            sources.append(_read_tables(connection, n_from_rows))
        except apsw.Error as error:
            raise DataError(f"{files.sqlite_path} cannot be read as a SQLite database: {error}") from None
        connection.close()
    if files.sql_path and files.sql_path.is_file():
        connection = load_sql(files)
        sources.append(_read_tables(connection, n_from_rows if files.sql_has_rows else 0))
        connection.close()
    if files.tables_path and files.tables_path.is_file():
        entry = read_entry(files.tables_path, files.db_id)
        if entry:
            sources.append(entry)
    return [tables for tables in sources if tables]


def load_sql(files: DatabaseFiles) -> apsw.Connection:
    """The SQL text of `files` run in memory; DatabaseMissing names the text and what SQLite says of it."""
    assert files.sql_path is not None
    connection = apsw.Connection(":memory:")
    try:
        connection.execute(
            read_text(files.sql_path)
        ).fetchall()  # all statements, not only up to the first row
    except apsw.Error as error:
        raise DatabaseMissing(f"{files.sql_path} does not run in SQLite: {error}") from None
    return connection


def _read_tables(connection: apsw.Connection, n_examples: int) -> list[Table]:
    connection.limit(apsw.SQLITE_LIMIT_LENGTH, VALUE_BYTES)
    rows = connection.execute(
        "SELECT name, sql FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
        " ORDER BY rowid"
    ).fetchall()
    return [_read_table(connection, str(name), str(sql or ""), n_examples) for name, sql in rows]


def _read_table(connection: apsw.Connection, name: str, sql: str, n_examples: int) -> Table:
    table_note, notes = ddl_comments(sql)
    columns = []
    keys: list[tuple[int, str]] = []
    for _, column, kind, not_null, _, key_rank, hidden in connection.execute(
        f"PRAGMA table_xinfo({quoted(name)})"
    ):
        if hidden == 1:  # a virtual table's own arguments
            continue
        description, noted_example = notes.get(column.lower(), ("", ""))
        examples = tuple(_examples(connection, name, column, n_examples)) if n_examples else ()
        columns.append(
            Column(
                name=column,
                type=kind or "",
                description=description,
                examples=examples or ((noted_example,) if noted_example else ()),
                not_null=bool(not_null),
            )
        )
        if key_rank:
            keys.append((key_rank, column))
    return Table(
        name=name,
        columns=tuple(columns),
        primary_key=tuple(column for _, column in sorted(keys)),
        foreign_keys=tuple(_foreign_keys(connection, name)),
        description=table_note,
    )


def _foreign_keys(connection: apsw.Connection, table: str) -> Iterable[ForeignKey]:
    """In the order of declaration, which SQLite lists backwards; no target column means the primary key."""
    grouped: dict[int, list[tuple[int, str, str, str | None]]] = {}
    for number, rank, target, column, target_column, *_ in connection.execute(
        f"PRAGMA foreign_key_list({quoted(table)})"
    ):
        grouped.setdefault(number, []).append((rank, target, column, target_column))
    for number in sorted(grouped, reverse=True):
        parts = sorted(grouped[number])
        yield ForeignKey(
            columns=tuple(column for _, _, column, _ in parts),
            ref_table=parts[0][1],
            ref_columns=tuple(target for _, _, _, target in parts if target is not None),
        )


def _examples(connection: apsw.Connection, table: str, column: str, n_examples: int) -> list[str]:
    """The first distinct short values of the column, as SQL literals; text that is not UTF-8 is passed over."""
    name = quoted(column)
    values = connection.execute(
        f"SELECT DISTINCT typeof(v), CASE typeof(v) WHEN 'text' THEN CAST(v AS BLOB) ELSE v END "
        f"FROM (SELECT {name} AS v FROM {quoted(table)} LIMIT {EXAMPLE_SCAN_ROWS}) "
        f"WHERE v IS NOT NULL AND typeof(v) != 'blob' AND v != '' AND length(v) <= {EXAMPLE_CHARS}"
    )
    found: list[str] = []
    for kind, value in values:
        literal = _text_literal(value) if kind == "text" else _number_literal(value)
        if literal and literal not in found:
            found.append(literal)
        if len(found) == n_examples:
            break
    return found


def _number_literal(value: int | float) -> str:
    return repr(value) if math.isfinite(value) else ""


def _text_literal(value: bytes) -> str:
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        return ""
    return "'" + text.replace("'", "''") + "'" if text.isprintable() and text.strip() else ""


def _lowered(descriptions: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    return {
        table.strip().lower(): {column.strip().lower(): meaning for column, meaning in columns.items()}
        for table, columns in descriptions.items()
    }


def _described(table: Table, sources: list[dict[str, dict[str, str]]]) -> Table:
    """The table with each column's description from the first source that has one; "" is the table's own."""
    found = [source.get(table.name.strip().lower(), {}) for source in sources]

    def meaning(name: str, otherwise: str) -> str:
        return next((text for source in found if (text := source.get(name.strip().lower(), ""))), otherwise)

    columns = tuple(
        column.model_copy(update={"description": " ".join(meaning(column.name, column.description).split())})
        for column in table.columns
    )
    return table.model_copy(update={"columns": columns, "description": meaning("", table.description)})


def _with_keys_and_notes(tables: list[Table], further: list[Table]) -> list[Table]:
    """Each table with what it lacks: keys, descriptions, examples; matched by name without regard to case."""
    by_name = {table.name.lower(): table for table in further}
    return [
        _completed(table, by_name[table.name.lower()]) if table.name.lower() in by_name else table
        for table in tables
    ]


def _completed(table: Table, other: Table) -> Table:
    own_names = {column.name.lower(): column.name for column in table.columns}
    others = {column.name.lower(): column for column in other.columns}
    columns = []
    for column in table.columns:
        twin = others.get(column.name.lower())
        if twin:
            update = {
                "description": column.description or twin.description,
                "examples": column.examples or twin.examples,
                "type": column.type or twin.type,
            }
            column = column.model_copy(update=update)
        columns.append(column)
    primary_key = table.primary_key
    if not primary_key and all(name.lower() in own_names for name in other.primary_key):
        primary_key = tuple(own_names[name.lower()] for name in other.primary_key)
    return Table(
        name=table.name,
        columns=tuple(columns),
        primary_key=primary_key,
        foreign_keys=table.foreign_keys or other.foreign_keys,
        description=table.description or other.description,
    )


def _with_sound_references(tables: list[Table]) -> list[Table]:
    """Foreign keys with names as the tables write them; one that points to nothing is dropped."""
    by_name = {table.name.lower(): table for table in tables}
    return [
        table.model_copy(update={"foreign_keys": tuple(dict.fromkeys(_sound_keys(table, by_name)))})
        for table in tables
    ]


def _sound_keys(table: Table, by_name: dict[str, Table]) -> Iterable[ForeignKey]:
    own = {column.name.lower(): column.name for column in table.columns}
    for key in table.foreign_keys:
        target = by_name.get(key.ref_table.lower())
        if target is None:
            continue
        theirs = {column.name.lower(): column.name for column in target.columns}
        ref_columns = key.ref_columns or target.primary_key
        names_hold = all(name.lower() in own for name in key.columns) and all(
            n.lower() in theirs for n in ref_columns
        )
        if names_hold and len(ref_columns) == len(key.columns):
            yield ForeignKey(
                columns=tuple(own[name.lower()] for name in key.columns),
                ref_table=target.name,
                ref_columns=tuple(theirs[name.lower()] for name in ref_columns),
            )


def _create_table(table: Table) -> str:
    parts = [_column_definition(column) for column in table.columns]
    if table.primary_key:
        parts.append(f"PRIMARY KEY ({', '.join(map(quoted, table.primary_key))})")
    parts += [
        f"FOREIGN KEY ({', '.join(map(quoted, key.columns))}) "
        f"REFERENCES {quoted(key.ref_table)} ({', '.join(map(quoted, key.ref_columns))})"
        for key in table.foreign_keys
    ]
    return f"CREATE TABLE {quoted(table.name)} (\n  " + ",\n  ".join(parts) + "\n);"


def _column_definition(column: Column) -> str:
    """Name and type; a type that SQLite would not read as one is quoted, which keeps its affinity."""
    is_plain = PLAIN_TYPE.fullmatch(column.type) and not TYPE_ENDS & set(column.type.lower().split())
    kind = column.type if is_plain or not column.type else quoted(column.type)
    return f"{quoted(column.name)} {kind}".rstrip() + (" NOT NULL" if column.not_null else "")
