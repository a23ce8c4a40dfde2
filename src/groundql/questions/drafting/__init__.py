"""Questions drafted from a schema and its rows by templates; pure: whoever calls it reads the rows and runs the golds."""

from groundql.questions.drafting.drafts import Draft, draft_questions
from groundql.questions.drafting.facts import TableFacts, table_facts
from groundql.questions.drafting.splits import split_drafts

__all__ = ["Draft", "TableFacts", "draft_questions", "split_drafts", "table_facts"]
