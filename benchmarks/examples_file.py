"""Training examples as token ids in one small file: a machine without the data sets can train on them.

An `.npz` with the token ids of all prefixes, suffixes and answers end to end, where each begins, and which prefix
belongs to which example. `facts` says how they were made.
"""

import json
import random
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundql.training.examples import Example


def save_examples(path: Path, examples: Sequence[Example], facts: dict[str, Any]) -> None:
    """Write `examples` and the `facts` of how they were made; each distinct prefix once."""
    places: dict[tuple[int, ...], int] = {}
    of_example = [places.setdefault(example.prefix, len(places)) for example in examples]
    pieces = {
        "prefix": list(places),
        "suffix": [example.suffix for example in examples],
        "answer": [example.answer for example in examples],
    }
    arrays: dict[str, Any] = {"of_example": np.array(of_example, dtype=np.int32)}
    for name, sequences in pieces.items():
        arrays[f"{name}_ids"] = np.array([i for ids in sequences for i in ids], dtype=np.int32)
        arrays[f"{name}_ends"] = np.cumsum([len(ids) for ids in sequences], dtype=np.int64)
    arrays["question_id"] = np.array([example.question_id for example in examples])
    arrays["db_id"] = np.array([example.db_id for example in examples])
    arrays["facts"] = np.array(json.dumps(facts))
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)


def load_examples(path: Path | str) -> list[Example]:
    """The examples in `path`, in the order in which they were saved; equal prefixes are one object."""
    with np.load(path, allow_pickle=False) as arrays:
        prefixes = _pieces(arrays["prefix_ids"], arrays["prefix_ends"])
        return [
            Example(question_id=question_id, db_id=db_id, prefix=prefixes[i], suffix=suffix, answer=answer)
            for question_id, db_id, i, suffix, answer in zip(
                arrays["question_id"].tolist(),
                arrays["db_id"].tolist(),
                arrays["of_example"].tolist(),
                _pieces(arrays["suffix_ids"], arrays["suffix_ends"]),
                _pieces(arrays["answer_ids"], arrays["answer_ends"]),
                strict=True,
            )
        ]


def made_up_examples(n: int, *, n_databases: int = 8, seed: int = 0) -> list[Example]:
    """Random ids of about BIRD's lengths below 500, for a machine without the data sets."""
    chance = random.Random(seed)

    def ids(low: int, high: int) -> tuple[int, ...]:
        return tuple(chance.randrange(3, 500) for _ in range(chance.randint(low, high)))

    prefixes = [ids(300, 900) for _ in range(n_databases)]
    return [
        Example(str(i), str(i % n_databases), prefixes[i % n_databases], ids(30, 70), ids(20, 90))
        for i in range(n)
    ]


def load_facts(path: Path | str) -> dict[str, Any]:
    """How the examples in `path` were made: data sets, prompt settings, tokenizer, counts."""
    with np.load(path, allow_pickle=False) as arrays:
        facts: dict[str, Any] = json.loads(str(arrays["facts"]))
        return facts


def _pieces(ids: NDArray[np.int32], ends: NDArray[np.int64]) -> list[tuple[int, ...]]:
    numbers = ids.tolist()
    return [tuple(numbers[start:end]) for start, end in pairwise([0, *ends.tolist()])]
