"""Questions to training examples: prompts, and golds in the dialect as labels, all checked."""

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from groundql.config import PromptSettings
from groundql.databases.binding import prepare
from groundql.databases.translate import from_engine_sql
from groundql.errors import NotInDialect
from groundql.generating import make_prompts, read_schemas
from groundql.models.chat import encode_part
from groundql.prompts.dialect import in_dialect, standard_sql
from groundql.prompts.orders import in_table_orders
from groundql.records import DataSet, Dialect, Prompt, Question, Schema, Turns
from groundql.training.examples import Example, encode_examples
from groundql.training.preflight import check_labels, check_prompts


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """Questions as token ids, and what became of the others."""

    examples: list[Example]
    prompts: list[Prompt]
    n_too_long: int
    n_not_in_dialect: int
    reasons: Counter[str]  # why a gold is not in the dialect


def encode_labels(
    data: DataSet,
    settings: PromptSettings,
    tokenizer: Any,
    turns: Turns,
    *,
    n_orders: int = 1,
    seed: int = 0,
) -> Encoded:
    """Examples whose labels are golds in the dialect of the settings. A question without such a gold is left out.

    Their schemas list the tables in up to `n_orders` orders, drawn with `seed`.
    """
    schemas = read_schemas(data, settings.n_examples)
    count_tokens = lru_cache(4096)(lambda text: len(encode_part(tokenizer, text, turns)))
    labels: dict[str, str] = {}
    reasons: Counter[str] = Counter()
    for question in data.questions:
        try:
            dialect = data.databases[question.db_id].dialect
            labels[question.question_id] = _label(question, schemas[question.db_id], settings, dialect)
        except NotInDialect as error:
            reasons[str(error)] += 1
    prompts, too_long = make_prompts(
        [question for question in data.questions if question.question_id in labels],
        schemas,
        settings=settings,
        turns=turns,
        count_tokens=count_tokens,
        databases=data.databases,
    )
    if n_orders > 1:
        prompts = in_table_orders(prompts, turns, n_orders, seed)
    golds = [labels[prompt.question_id] for prompt in prompts]
    examples = encode_examples(prompts, golds, tokenizer, turns)
    check_labels(examples, golds, tokenizer, turns)
    check_prompts(examples, prompts, tokenizer)
    return Encoded(
        examples=examples,
        prompts=prompts,
        n_too_long=len(too_long),
        n_not_in_dialect=reasons.total(),
        reasons=reasons,
    )


def _label(question: Question, schema: Schema, settings: PromptSettings, engine: Dialect) -> str:
    """What the model is to write. NotInDialect where the gold has no such form, or one that does not bind."""
    gold = question.gold_sql or ""
    if settings.dialect != "raw":
        gold = from_engine_sql(gold, schema, engine)
    label = in_dialect(gold, schema, settings.dialect)
    if settings.dialect == "raw":
        return label
    refusal = prepare(schema, standard_sql(label) if settings.dialect == "from_first" else label)
    if refusal is not None:
        raise NotInDialect(f"its canonical form does not bind: {refusal}")
    return label
