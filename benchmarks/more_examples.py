"""What a row trains on beside its sample: a data set's questions twice, or the model's own queries that proved right.

Rejection sampling: a model writes several texts for each training question whose database has rows, all are run, and those
that return what gold returns (`ex_strict`) and are written otherwise are labels too.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from groundql.config import PromptSettings
from groundql.encoding import encode_labels
from groundql.pipeline import judge_completions
from groundql.records import Completion, DataSet, Question, Turns
from groundql.training.examples import Example
from groundql.verdicts.cases import Judging

DEADLINE_S = 2.0  # a query that takes longer is no good example either
More = Callable[[DataSet, list[Example]], list[Example]]


def twice(name: str) -> More:
    """The examples of the data set `name` once more, under their own ids."""

    def add(_: DataSet, examples: list[Example]) -> list[Example]:
        again = [e for e in examples if e.question_id.startswith(f"{name}/")]
        return [*examples, *(replace(e, question_id=f"{e.question_id}~2") for e in again)]

    return add


def right_texts(
    data: DataSet, samples: Sequence[Sequence[Completion]], n_workers: int
) -> dict[str, list[str]]:
    """By question id the distinct queries among its `samples` that return what gold returns, in the samples' order.

    `samples`: one inner sequence a round, each with a completion for every question at most.
    """
    found: dict[str, list[str]] = {question.question_id: [] for question in data.questions}
    settings = Judging(n_workers=n_workers, deadline_s=DEADLINE_S, max_rows=10_000, ladder_only=True)
    for one_round in samples:
        sql = {completion.question_id: completion.sql for completion in one_round}
        for verdict in judge_completions(data, one_round, settings):
            text = sql.get(verdict.question_id)
            if verdict.ex_strict and text and text not in found[verdict.question_id]:
                found[verdict.question_id].append(text)
    return found


def chosen_questions(
    data: DataSet, right: Mapping[str, Sequence[str]], labels: Mapping[str, tuple[int, ...]], encode: Any
) -> tuple[list[Example], Counter[str]]:
    """Examples of `right` queries, and how many were left out why.

    `labels`: the token ids of each question's gold. `encode`: a data set to examples with canonical labels.
    """
    by_id = {question.question_id: question for question in data.questions}
    asked: list[Question] = [
        by_id[question_id].model_copy(update={"question_id": f"{question_id}~{i + 1}", "gold_sql": text})
        for question_id, texts in right.items()
        for i, text in enumerate(texts)
    ]
    counts: Counter[str] = Counter({"right": len(asked)})
    examples: list[Example] = encode(data.model_copy(update={"questions": tuple(asked)})) if asked else []
    counts["not in the dialect"] = len(asked) - len(examples)
    seen: set[tuple[str, tuple[int, ...]]] = set()
    kept = []
    for example in examples:
        question_id = example.question_id.rpartition("~")[0]
        if example.answer == labels[question_id] or (question_id, example.answer) in seen:
            counts["written as gold"] += 1
            continue
        seen.add((question_id, example.answer))
        kept.append(example)
    return kept, counts


def at_most(kept: Sequence[Example], limit: int) -> list[Example]:
    """The first `limit` of each question."""
    taken: Counter[str] = Counter()
    some = []
    for example in kept:
        question_id = example.question_id.rpartition("~")[0]
        taken[question_id] += 1
        if taken[question_id] <= limit:
            some.append(example)
    return some


def own_examples(
    data: DataSet,
    samples: Sequence[Sequence[Completion]],
    examples: Sequence[Example],
    *,
    prompt: PromptSettings,
    tokenizer: Any,
    turns: Turns,
    limit: int,
    n_workers: int,
) -> tuple[list[Example], dict[str, int]]:
    """At most `limit` further examples a question, from `samples` of a model trained on `examples`, and their counts."""
    right = right_texts(data, samples, n_workers)
    labels = {example.question_id: example.answer for example in examples}
    kept, counts = chosen_questions(
        data, right, labels, lambda asked: encode_labels(asked, prompt, tokenizer, turns).examples
    )
    some = at_most(kept, limit)
    questions = len({example.question_id.rpartition("~")[0] for example in some})
    facts = {
        "questions_asked": len(data.questions),
        "texts": sum(map(len, samples)),
        "questions_with_a_right_text": sum(map(bool, right.values())),
        **{f"texts_{name.replace(' ', '_')}": n for name, n in counts.items()},
        "kept": len(some),
        "kept_of_questions": questions,
    }
    return some, facts
