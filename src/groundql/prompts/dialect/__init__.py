"""The canonical dialect: the one spelling of SQL that is trained on, decoded in and shown (docs/dialect.md)."""

from groundql.prompts.dialect.answers import answered_sql, in_dialect
from groundql.prompts.dialect.canonical import canonical_sql
from groundql.prompts.dialect.clause_order import from_first, standard_sql

__all__ = ["answered_sql", "canonical_sql", "from_first", "in_dialect", "standard_sql"]
