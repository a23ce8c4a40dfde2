"""Prompts and gold SQL to token ids: prefix, suffix and answer are tokenised apart, in training as in use."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from groundql.models.chat import encode_part, encode_plain
from groundql.records import Prompt, Turns


@dataclass(frozen=True)
class Example:
    """One question as token ids. Only `answer` carries loss."""

    question_id: str
    db_id: str
    prefix: tuple[int, ...]  # instruction and schema
    suffix: tuple[int, ...]  # question, evidence, and the mark where the SQL begins
    answer: tuple[int, ...]  # the SQL and the end token

    @property
    def n_tokens(self) -> int:
        """Tokens of the question as a sequence of its own."""
        return len(self.prefix) + len(self.suffix) + len(self.answer)


def encode_examples(
    prompts: Sequence[Prompt], golds: Sequence[str], tokenizer: Any, turns: Turns
) -> list[Example]:
    """One example for each prompt with its gold SQL. A prefix seen before is not tokenised again."""
    end = tokenizer.convert_tokens_to_ids(turns.end)
    prefixes: dict[str, tuple[int, ...]] = {}
    examples = []
    for prompt, gold in zip(prompts, golds, strict=True):
        if prompt.prefix not in prefixes:
            prefixes[prompt.prefix] = tuple(encode_part(tokenizer, prompt.prefix, turns))
        examples.append(
            Example(
                question_id=prompt.question_id,
                db_id=prompt.db_id,
                prefix=prefixes[prompt.prefix],
                suffix=tuple(encode_part(tokenizer, prompt.suffix, turns)),
                answer=(*encode_plain(tokenizer, gold), end),
            )
        )
    return examples
