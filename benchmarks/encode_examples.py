"""Encode data sets for the training benchmarks: our prompts and the gold SQL as token ids, in one small file.

    python -m benchmarks.encode_examples OUT.npz MODEL DATA [DATA ...] [--canonical]

DATA as on the command line of groundql, such as spider:DIR#train. Only the tokenizer of MODEL is loaded.
`--canonical` writes each gold in the dialect that is decoded in, and leaves it as it is where it has no such form.
"""

import argparse
import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from benchmarks.examples_file import save_examples
from groundql.config import PromptSettings
from groundql.databases.binding import prepare
from groundql.generating import make_prompts, read_schemas
from groundql.models.chat import turns_of
from groundql.models.load import load_tokenizer
from groundql.models.source import find_base
from groundql.prompts.render import prompt_fingerprint
from groundql.questions.load import load_data
from groundql.records import Schema
from groundql.training.examples import Example, encode_examples
from groundql.training.preflight import check_labels

PROMPT = PromptSettings(max_tokens=4096, descriptions=False, n_examples=1)


def main() -> None:
    """Write the file and print its facts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("model")
    parser.add_argument("data", nargs="+")
    parser.add_argument("--canonical", action="store_true")
    asked = parser.parse_args()
    canonical = _canonical_sql() if asked.canonical else None

    tokenizer = load_tokenizer(find_base(asked.model))
    examples: list[Example] = []
    counts: dict[str, dict[str, int]] = {}
    for spec in asked.data:
        name = spec.partition(":")[0]
        found, counts[name] = encode(spec, tokenizer, canonical)
        examples += [
            Example(f"{name}-{e.question_id}", f"{name}/{e.db_id}", e.prefix, e.suffix, e.answer)
            for e in found
        ]
    facts = {
        "model": Path(asked.model).name,
        "vocabulary": len(tokenizer),
        "pad_id": tokenizer.pad_token_id,
        "end_id": tokenizer.convert_tokens_to_ids(turns_of(tokenizer).end),
        "prompt": PROMPT.model_dump(by_alias=True),
        "prompt_fingerprint": prompt_fingerprint(PROMPT, turns_of(tokenizer)),
        "canonical": asked.canonical,
        "data": counts,
        "questions": len(examples),
        "tokens_alone": sum(e.n_tokens for e in examples),
        "label_tokens": sum(len(e.answer) for e in examples),
    }
    save_examples(asked.out, examples, facts)
    print(json.dumps(facts, indent=1))
    print(f"{asked.out}: {asked.out.stat().st_size / 2**20:.2f} MiB")


def encode(
    spec: str, tokenizer: Any, canonical: Callable[[str, Schema], str | None] | None
) -> tuple[list[Example], dict[str, int]]:
    """Examples of one data set whose gold binds and whose prompt fits, and how many were left out or rewritten."""
    data = load_data(spec)
    turns = turns_of(tokenizer)
    schemas = read_schemas(data, PROMPT.n_examples)
    kept = [q for q in data.questions if q.gold_sql and prepare(schemas[q.db_id], q.gold_sql) is None]
    count = lru_cache(4096)(lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"]))
    prompts, too_long = make_prompts(kept, schemas, settings=PROMPT, turns=turns, count_tokens=count)
    golds = {q.question_id: q.gold_sql or "" for q in kept}
    n_canonical = 0
    if canonical:
        for question in kept:
            rewritten = canonical(golds[question.question_id], schemas[question.db_id])
            if rewritten is not None:
                golds[question.question_id] = rewritten
                n_canonical += 1
    chosen = [golds[prompt.question_id] for prompt in prompts]
    examples = encode_examples(prompts, chosen, tokenizer, turns)
    check_labels(examples, chosen, tokenizer, turns)
    return examples, {
        "questions": len(examples),
        "does_not_bind": len(data.questions) - len(kept),
        "too_long": len(too_long),
        "shrunk": sum(bool(prompt.shrunk) for prompt in prompts),
        "canonical": n_canonical,
    }


def _canonical_sql() -> Callable[[str, Schema], str | None]:
    """The rewriting of a gold into the dialect that is decoded in."""
    from groundql.prompts.dialect import canonical_sql

    return canonical_sql  # type: ignore[no-any-return]


if __name__ == "__main__":
    main()
