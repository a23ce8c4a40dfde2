"""A schema for people: every table with its columns, keys, values, and what drafting takes them for."""

from collections.abc import Sequence

from groundql.questions.drafting import TableFacts
from groundql.records import Schema, Table

ROLES = {
    "key": "numbers rows or points to a table",
    "label": "names a row",
    "category": "sorts rows",
    "number": "measured",
    "date": "date",
    "truth": "yes or no",
    "other": "not asked for",
}


def described_schema(schema: Schema, facts: Sequence[TableFacts]) -> str:
    """Markdown."""
    by_name = {one.name: one for one in facts}
    parts = [
        f"# {schema.db_id}",
        "What was read from the database. A comment in the database is the meaning of a column here and in the prompt: "
        "the model reads it, so a good comment on an odd name is worth more than a hundred questions.",
    ]
    parts += [_described_table(table, by_name.get(table.name)) for table in schema.tables]
    return "\n\n".join(parts) + "\n"


def _described_table(table: Table, facts: TableFacts | None) -> str:
    head = f"## {table.name}"
    about = [table.description] if table.description else []
    if facts is None:
        about.append("No rows could be read: no question is drafted on it.")
    else:
        about.append(f'Spoken of as "{facts.one}", "{facts.many}".')
        about += [
            f"`{own}` points to `{target}.{theirs}`"
            + (" (guessed from names and values: no key says so)." if own in facts.guessed else ".")
            for own, target, theirs in facts.links
        ]
    lines = ["| column | type | meaning | taken as | values |", "|---|---|---|---|---|"]
    roles = {one.name: one for one in facts.columns} if facts else {}
    for column in table.columns:
        known = roles.get(column.name)
        is_key = column.name in table.primary_key
        cells = (
            f"`{column.name}`" + (" (key)" if is_key else ""),
            column.type,
            column.description or (f'"{known.said}"' if known else ""),
            ROLES[known.role] if known else "",
            ", ".join(column.examples),
        )
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n\n".join([head, *about, "\n".join(lines)])
