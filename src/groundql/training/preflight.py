"""Checks before the first step, loud and quick: each stands for a way in which fine-tuning silently goes wrong."""

from collections.abc import Sequence
from typing import Any

from groundql.errors import AskedWrongly
from groundql.records import DataSet, Question, Turns
from groundql.training.examples import Example


def check_labels(examples: Sequence[Example], golds: Sequence[str], tokenizer: Any, turns: Turns) -> None:
    """The tokens that carry loss are the gold SQL and the end token, nothing more or less.

    Raises:
        AskedWrongly: a tokenizer that does not give the SQL back, or an end mark that is no single token.
    """
    end = tokenizer.convert_tokens_to_ids(turns.end)
    # Not a test for the unknown token: StarCoder2's end is that too.
    if end is None or tokenizer.convert_ids_to_tokens(end) != turns.end:
        raise AskedWrongly(
            f"the end mark {turns.end!r} is no token of this tokenizer: the model could not learn to stop"
        )
    for example, gold in zip(examples, golds, strict=True):
        decoded = tokenizer.decode(list(example.answer[:-1]))
        if example.answer[-1] != end or decoded != gold:
            raise AskedWrongly(
                f"question {example.question_id}: the labels decode to {decoded!r}, the gold is {gold!r}"
            )


def check_splits(parts: dict[str, DataSet]) -> None:
    """No database stands in two of the parts: a score on a database seen in training says nothing about a new one.

    Raises:
        AskedWrongly: names the parts and the databases they share.
    """
    named = [(name, {q.db_id for q in part.questions}) for name, part in parts.items()]
    for i, (name, databases) in enumerate(named):
        for other, others in named[i + 1 :]:
            shared = sorted(databases & others)
            if shared:
                raise AskedWrongly(
                    f"{name} and {other} share {len(shared)} database(s), such as {shared[0]}: split by database "
                    "(groundql sample --split-databases), or a score would not hold for a new one"
                )


def without_leaks(train: Sequence[Question], evaluated: Sequence[Question]) -> tuple[list[Question], int]:
    """`train` less the questions whose text stands in `evaluated` too, and how many these were."""
    asked = {_normal(question.text) for question in evaluated}
    kept = [question for question in train if _normal(question.text) not in asked]
    return kept, len(train) - len(kept)


def _normal(text: str) -> str:
    return " ".join(text.lower().split())
