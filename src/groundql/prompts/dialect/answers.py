"""Gold SQL to what the model learns to write, and what it wrote back to SQL, in the dialect of the settings."""

from groundql.config import OutputDialect
from groundql.errors import NotInDialect
from groundql.prompts.dialect.canonical import canonical_sql
from groundql.prompts.dialect.clause_order import from_first, standard_sql
from groundql.prompts.extract import extract_from_first, extract_sql
from groundql.records import Schema


def in_dialect(gold_sql: str, schema: Schema, dialect: OutputDialect) -> str:
    """The gold as the model is to write it; `raw` leaves it as it is. NotInDialect where it has no such form."""
    if dialect == "raw":
        return gold_sql
    canonical = canonical_sql(gold_sql, schema)
    return from_first(canonical) if dialect == "from_first" else canonical


def answered_sql(text: str, dialect: OutputDialect) -> str | None:
    """The SQL in what a model wrote, its clauses in the usual order; None where there is nothing like a query.

    A FROM-first text that does not parse comes back as it is: it is the model's answer, and it will not bind.
    """
    turned = extract_from_first(text) if dialect == "from_first" else None
    if turned is None:
        return extract_sql(text)
    try:
        return standard_sql(turned)
    except NotInDialect:
        return turned
