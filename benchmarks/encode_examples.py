"""Encode data sets for the training benchmarks: our prompts and labels as token ids, in one small file.

    python -m benchmarks.encode_examples OUT.npz MODEL DATA [DATA ...] [--dialect raw]

DATA as on the command line of groundql, such as spider:DIR#train. Only the tokenizer of MODEL is loaded.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.examples_file import save_examples
from groundql.config import PromptSettings
from groundql.encoding import encode_labels
from groundql.models.chat import turns_of
from groundql.models.load import load_tokenizer
from groundql.models.source import find_base
from groundql.prompts.render import prompt_fingerprint
from groundql.questions.load import load_data
from groundql.training.examples import Example


def main() -> None:
    """Write the file and print its facts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("model")
    parser.add_argument("data", nargs="+")
    parser.add_argument("--dialect", default="canonical", choices=["raw", "canonical", "from_first"])
    asked = parser.parse_args()
    prompt = PromptSettings(max_tokens=4096, descriptions=False, n_examples=1, dialect=asked.dialect)

    tokenizer = load_tokenizer(find_base(asked.model))
    turns = turns_of(tokenizer)
    examples: list[Example] = []
    counts: dict[str, dict[str, Any]] = {}
    for spec in asked.data:
        name = spec.partition(":")[0]
        encoded = encode_labels(load_data(spec), prompt, tokenizer, turns)
        counts[name] = {
            "questions": len(encoded.examples),
            "too_long": encoded.n_too_long,
            "shrunk": sum(bool(one.shrunk) for one in encoded.prompts),
            "not_in_dialect": encoded.n_not_in_dialect,
            "why_not": dict(encoded.reasons.most_common(5)),
        }
        examples += [
            replace(e, question_id=f"{name}-{e.question_id}", db_id=f"{name}/{e.db_id}")
            for e in encoded.examples
        ]
    facts = {
        "model": Path(asked.model).name,
        "vocabulary": len(tokenizer),
        "pad_id": tokenizer.pad_token_id,
        "end_id": tokenizer.convert_tokens_to_ids(turns.end),
        "prompt": prompt.model_dump(by_alias=True),
        "prompt_fingerprint": prompt_fingerprint(prompt, turns),
        "data": counts,
        "questions": len(examples),
        "tokens_alone": sum(e.n_tokens for e in examples),
        "label_tokens": sum(len(e.answer) for e in examples),
    }
    save_examples(asked.out, examples, facts)
    print(json.dumps(facts, indent=1))
    print(f"{asked.out}: {asked.out.stat().st_size / 2**20:.2f} MiB")


if __name__ == "__main__":
    main()
