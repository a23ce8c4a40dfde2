"""Question and schema to prompt: the only place with wording. Training, evaluation and use all come through here."""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence

from groundql.config import PromptSettings
from groundql.records import Column, ForeignKey, Prompt, Question, Schema, Table, Turns

INSTRUCTION = "Answer with one SQLite query. Use only these tables and columns."
INSTRUCTION_WITHOUT_SCHEMA = "Answer with one SQLite query."
TABLE = "CREATE TABLE "  # begins each table of a schema
_BARE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

N_TEXTS = 512  # schemas whose text is kept: a data set asks many questions of each

CountTokens = Callable[[str], int]
Values = Mapping[tuple[str, str], Sequence[str]]  # (table, column) -> texts, the surest first


_texts: dict[
    int, tuple[Schema, PromptSettings, str]
] = {}  # by id; the schema is kept, so that its id stays its own


def render_prompt(
    question: Question,
    schema: Schema,
    *,
    settings: PromptSettings,
    turns: Turns,
    count_tokens: CountTokens | None,
    values: Values | None = None,
) -> Prompt:
    """The prompt of one question at full width; `budget.fit_prompt` shrinks it where it is too long.

    `values` are those of the rows that the question mentions. `schema` may already be reduced; `n_tokens` is 0 without a counter. Prefix and suffix are always tokenised
    apart, so that a shared prefix gives the same ids as a prompt of its own.
    """
    system = INSTRUCTION_WITHOUT_SCHEMA
    if settings.schema_:
        system = f"{INSTRUCTION}\n\n{schema_text(schema, settings)}"
    user = question.text.strip()
    if settings.evidence and question.evidence.strip():
        user += f"\nHint: {question.evidence.strip()}"
    if values:
        user += f"\nValues: {values_text(values)}"
    prefix = turns.before_system + system + turns.after_system
    suffix = turns.before_user + user + turns.after_user
    n_tokens = count_tokens(prefix) + count_tokens(suffix) if count_tokens else 0
    return Prompt(
        question_id=question.question_id,
        db_id=question.db_id,
        prefix=prefix,
        suffix=suffix,
        n_tokens=n_tokens,
    )


def schema_text(schema: Schema, settings: PromptSettings) -> str:
    """The schema as the model reads it: CREATE TABLE statements, names quoted as SQL needs them.

    A table with example values or descriptions has a line a column, with those in a comment; one without is a single
    line. The form is one that base models know from their training text: on pocket's dev databases SmolLM2-135M did
    better with it than with a notation of our own (docs/log.md). Types are in lower case: fewer tokens.
    """
    known = _texts.get(id(schema))
    if known is None or known[0] is not schema or known[1] != settings:
        if len(_texts) >= N_TEXTS:
            _texts.pop(next(iter(_texts)))
        text = "\n".join(_table_text(table, settings) for table in schema.tables)
        known = _texts[id(schema)] = (schema, settings, text)
    return known[2]


def values_text(values: Values) -> str:
    """Values as conditions, as SQL spells them.

    >>> values_text({("city", "name"): ["Lyon", "L'Isle"], ("shop", "Due Date"): ["May"]})
    "city.name = 'Lyon', 'L''Isle'; shop.`Due Date` = 'May'"
    """
    literals = {
        place: ", ".join("'" + value.replace("'", "''") + "'" for value in texts)
        for place, texts in values.items()
    }
    return "; ".join(
        f"{quoted(table)}.{quoted(column)} = {texts}" for (table, column), texts in literals.items()
    )


def quoted(name: str) -> str:
    """`name` as SQLite must see it: in back-ticks where it is not a plain word or is reserved.

    >>> quoted("city"), quoted("Due Date"), quoted("order")
    ('city', '`Due Date`', '`order`')
    """
    if _BARE_NAME.fullmatch(name) and name.upper() not in RESERVED:
        return name
    return "`" + name.replace("`", "``") + "`"


def prompt_fingerprint(settings: PromptSettings, turns: Turns) -> str:
    """16 hex digits that change when wording, order, marks or settings of the prompt change, or the SQL's dialect.

    Taken over the rendering of a fixed question on a fixed schema that uses every feature.
    """
    prompt = render_prompt(
        _PROBE_QUESTION,
        _PROBE_SCHEMA,
        settings=settings,
        turns=turns,
        count_tokens=None,
        values=_PROBE_VALUES if settings.values else None,
    )
    further = (turns.end, str(settings.max_tokens), settings.dialect, str(settings.values))
    whole = "\x00".join((prompt.prefix, prompt.suffix, *further))
    return hashlib.sha256(whole.encode()).hexdigest()[:16]


def _table_text(table: Table, settings: PromptSettings) -> str:
    points_to = {key.columns[0]: key for key in table.foreign_keys if len(key.columns) == 1}
    single_key = table.primary_key[0] if len(table.primary_key) == 1 else None
    parts = [
        (
            _column_text(column, column.name == single_key, points_to.get(column.name)),
            _notes(column, table, settings),
        )
        for column in table.columns
    ]
    if len(table.primary_key) > 1:
        parts.append((f"PRIMARY KEY {_names(table.primary_key)}", ""))
    for key in table.foreign_keys:
        if len(key.columns) > 1:
            target = f"{quoted(key.ref_table)}{_names(key.ref_columns)}"
            parts.append((f"FOREIGN KEY {_names(key.columns)} REFERENCES {target}", ""))
    head = f"{TABLE}{quoted(table.name)} ("
    about = f" -- {table.description}" if settings.descriptions and table.description else ""
    if not about and not any(note for _, note in parts):
        return head + ", ".join(text for text, _ in parts) + ");"
    lines = [f"{text},{note and f' -- {note}'}" for text, note in parts]
    return "\n".join([head + about, *lines, ");"])


def _names(names: tuple[str, ...]) -> str:
    return f"({', '.join(map(quoted, names))})"


def _column_text(column: Column, is_key: bool, points_to: ForeignKey | None) -> str:
    text = quoted(column.name)
    if column.type:
        text += f" {column.type.lower()}"
    if is_key:
        text += " PRIMARY KEY"
    if points_to:
        text += f" REFERENCES {quoted(points_to.ref_table)}{_names(points_to.ref_columns)}"
    return text


def _notes(column: Column, table: Table, settings: PromptSettings) -> str:
    """Example values and description; the values of keys say little and are left out."""
    keys = {name for key in table.foreign_keys if len(key.columns) == 1 for name in key.columns}
    if len(table.primary_key) == 1:
        keys |= set(table.primary_key)
    notes = []
    examples = column.examples[: settings.n_examples]
    if examples and column.name not in keys:
        notes.append(", ".join(examples))
    if settings.descriptions and column.description:
        notes.append(column.description)
    return "; ".join(notes)


# SQLite's keywords that cannot stand as a bare name: each of https://sqlite.org/lang_keywords.html was tried on SQLite
# 3.54 as a column and as a table; the words of joins work bare in places and are quoted all the same.
RESERVED = frozenset(
    [
        "ADD",
        "ALL",
        "ALTER",
        "AND",
        "AS",
        "AUTOINCREMENT",
        "BETWEEN",
        "CASE",
        "CAST",
        "CHECK",
        "COLLATE",
        "COMMIT",
        "CONSTRAINT",
        "CREATE",
        "CROSS",
        "CURRENT_DATE",
        "CURRENT_TIME",
        "CURRENT_TIMESTAMP",
        "DEFAULT",
        "DEFERRABLE",
        "DELETE",
        "DISTINCT",
        "DROP",
        "ELSE",
        "ESCAPE",
        "EXCEPT",
        "EXISTS",
        "FOREIGN",
        "FROM",
        "FULL",
        "GROUP",
        "HAVING",
        "IN",
        "INDEX",
        "INNER",
        "INSERT",
        "INTERSECT",
        "INTO",
        "IS",
        "ISNULL",
        "JOIN",
        "LEFT",
        "LIMIT",
        "NATURAL",
        "NOT",
        "NOTHING",
        "NOTNULL",
        "NULL",
        "ON",
        "OR",
        "ORDER",
        "OUTER",
        "PRIMARY",
        "RAISE",
        "REFERENCES",
        "RETURNING",
        "RIGHT",
        "SELECT",
        "SET",
        "TABLE",
        "THEN",
        "TO",
        "TRANSACTION",
        "UNION",
        "UNIQUE",
        "UPDATE",
        "USING",
        "VALUES",
        "WHEN",
        "WHERE",
    ]
)

_PROBE_QUESTION = Question(
    question_id="0", db_id="probe", text="How many open orders?", evidence="open: state = 'O'"
)
_PROBE_VALUES = {("order", "Due Date"): ("2024-01-31", "o'clock"), ("shop", "site"): ("Lyon",)}
_PROBE_SCHEMA = Schema(
    db_id="probe",
    tables=(
        Table(
            name="order",
            columns=(
                Column(name="id", type="INTEGER"),
                Column(
                    name="Due Date",
                    type="TEXT",
                    examples=tuple(f"'2024-{day}'" for day in ("01-31", "02-29", "03-31", "04-30", "05-31")),
                ),
                Column(name="state", type="TEXT", description="O open, C closed", examples=("'O'",)),
                Column(name="shop", type="INTEGER"),
            ),
            primary_key=("id",),
            foreign_keys=(ForeignKey(columns=("shop",), ref_table="shop", ref_columns=("id",)),),
        ),
        Table(
            name="shop",
            columns=(Column(name="id"), Column(name="site")),
            primary_key=("id", "site"),
            foreign_keys=(ForeignKey(columns=("id", "site"), ref_table="order", ref_columns=("id", "shop")),),
            description="where orders are placed",
        ),
    ),
)
