"""Prompts that fit: parts shrink in a stated order, the question and its evidence never, and it is all counted.

Order: 1 descriptions, 2 example values, 3 columns that nothing points to (no key, no foreign key, and no word in
common with the question or its evidence), 4 values of the rows. What still does not fit raises PromptTooLong.
"""

import re

from groundql.config import PromptSettings
from groundql.errors import PromptTooLong
from groundql.prompts.render import CountTokens, Values, render_prompt
from groundql.records import Prompt, Question, Schema, Table, Turns

_WORD = re.compile(r"[a-z]+|\d+")


def fit_prompt(
    question: Question,
    schema: Schema,
    *,
    settings: PromptSettings,
    turns: Turns,
    count_tokens: CountTokens,
    values: Values | None = None,
) -> Prompt:
    """The fullest prompt within `settings.max_tokens`; `shrunk` names what was left out, in order.

    Raises:
        PromptTooLong: even the barest form has too many tokens.
    """
    bare = settings.model_copy(update={"descriptions": False})
    barest = bare.model_copy(update={"n_examples": 0})
    steps = [
        ((), settings, schema),
        (("descriptions",), bare, schema),
        (("descriptions", "examples"), barest, schema),
        (("descriptions", "examples", "columns"), barest, None),
        (("descriptions", "examples", "columns", "values"), barest, None),
    ][: 5 if values else 4]
    absent = (
        {"descriptions"} if not settings.descriptions else set()
    )  # what was not asked for is not left out
    absent |= {"examples"} if not settings.n_examples else set()
    for shrunk, step_settings, step_schema in steps:
        kept = step_schema or keep_pointed_columns(question, schema)
        prompt = render_prompt(
            question,
            kept,
            settings=step_settings,
            turns=turns,
            count_tokens=count_tokens,
            values=None if "values" in shrunk else values,
        )
        if prompt.n_tokens <= settings.max_tokens:
            return prompt.model_copy(update={"shrunk": tuple(part for part in shrunk if part not in absent)})
    raise PromptTooLong(
        f"question {question.question_id} on {question.db_id}: {prompt.n_tokens} tokens without descriptions, examples "
        f"and unrelated columns; raise prompt.max_tokens (now {settings.max_tokens})"
    )


def keep_pointed_columns(question: Question, schema: Schema) -> Schema:
    """`schema` with keys, foreign keys on both sides, and the columns that share a word with question or evidence."""
    asked = _words(f"{question.text} {question.evidence}")
    targets = {
        (key.ref_table.lower(), name.lower())
        for t in schema.tables
        for key in t.foreign_keys
        for name in key.ref_columns
    }

    def kept(table: Table) -> Table:
        keys = {*table.primary_key, *(name for key in table.foreign_keys for name in key.columns)}
        columns = tuple(
            column
            for column in table.columns
            if column.name in keys
            or (table.name.lower(), column.name.lower()) in targets
            or _words(column.name) & asked
        )
        return table.model_copy(update={"columns": columns or table.columns[:1]})

    return schema.model_copy(update={"tables": tuple(kept(table) for table in schema.tables)})


def _words(text: str) -> set[str]:
    """Lower-case words of at least three letters, and numbers; camelCase and snake_case split, plural s dropped.

    >>> sorted(_words("OrderDates of shop_12"))
    ['12', 'date', 'order', 'shop']
    """
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text).lower()
    return {
        w.removesuffix("s") if w.isalpha() else w for w in _WORD.findall(spaced) if len(w) > 2 or w.isdigit()
    }
