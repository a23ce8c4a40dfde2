"""Encoded questions kept in a file for each prompt setting: rows of an ablation start in a second in place of half a minute.

    python -m benchmarks.encoded OUT_DIR MODEL CONFIG DATA [KEY=VALUE ...]

encodes the questions of DATA as `groundql train CONFIG` would, checks and all. `Encoder(OUT_DIR)` then stands for
`encoding.encode_labels`: it looks questions up by what they are, and encodes anew where one is not there.
"""

import hashlib
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.examples_file import load_examples, load_facts, save_examples
from groundql.config import PromptSettings, load_config
from groundql.encoding import Encoded, encode_labels
from groundql.models.chat import encode_part, turns_of
from groundql.models.load import load_tokenizer
from groundql.models.source import find_base
from groundql.prompts.orders import in_table_orders
from groundql.prompts.render import prompt_fingerprint
from groundql.questions.load import load_data
from groundql.records import DataSet, Prompt, Question, Turns
from groundql.training.examples import Example


def key_of(question: Question) -> str:
    """16 hex digits of what is asked, of which database, with which gold: the same in any split of a data set."""
    db_id = question.db_id.rpartition("/")[2]
    whole = "\x00".join((db_id, question.text, question.evidence, question.gold_sql or ""))
    return hashlib.sha256(whole.encode()).hexdigest()[:16]


class Encoder:
    """`encode_labels` that looks up what was encoded before."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, tuple[dict[str, Example], dict[str, Any]]] = {}

    def __call__(
        self,
        data: DataSet,
        settings: PromptSettings,
        tokenizer: Any,
        turns: Turns,
        *,
        n_orders: int = 1,
        seed: int = 0,
    ) -> Encoded:
        fingerprint = prompt_fingerprint(settings, turns)
        examples, facts = self._load(fingerprint)
        keys = {question.question_id: key_of(question) for question in data.questions}
        left_out, too_long, shrunk = facts["left_out"], set(facts["too_long"]), facts["shrunk"]
        if any(k not in examples and k not in left_out and k not in too_long for k in keys.values()):
            return encode_labels(data, settings, tokenizer, turns, n_orders=n_orders, seed=seed)
        kept = [q for q in data.questions if keys[q.question_id] in examples]
        found = [
            replace(examples[keys[q.question_id]], question_id=q.question_id, db_id=q.db_id) for q in kept
        ]
        return Encoded(
            examples=in_orders(found, tokenizer, turns, n_orders, seed) if n_orders > 1 else found,
            prompts=[
                Prompt(
                    question_id=q.question_id,
                    db_id=q.db_id,
                    prefix="",
                    suffix="",
                    n_tokens=0,
                    shrunk=tuple(shrunk.get(keys[q.question_id], ())),
                )
                for q in kept
            ],
            n_too_long=sum(k in too_long for k in keys.values()),
            n_not_in_dialect=sum(k in left_out for k in keys.values()),
            reasons=Counter(left_out[k] for k in keys.values() if k in left_out),
        )

    def _load(self, fingerprint: str) -> tuple[dict[str, Example], dict[str, Any]]:
        if fingerprint not in self._known:
            path = self._folder / f"{fingerprint}.npz"
            if not path.is_file():
                return {}, {"left_out": {}, "too_long": [], "shrunk": {}}
            by_key = {example.question_id: example for example in load_examples(path)}
            self._known = {fingerprint: (by_key, load_facts(path))}  # one at a time: each takes 100 MB
        return self._known[fingerprint]


def in_orders(
    examples: Sequence[Example], tokenizer: Any, turns: Turns, n_orders: int, seed: int
) -> list[Example]:
    """`prompts.orders.in_table_orders` of examples that are token ids already."""
    texts = {prefix: tokenizer.decode(prefix) for prefix in {example.prefix for example in examples}}
    prompts = [
        Prompt(question_id=e.question_id, db_id=e.db_id, prefix=texts[e.prefix], suffix="", n_tokens=0)
        for e in examples
    ]
    encode = cache(lambda text: tuple(encode_part(tokenizer, text, turns)))
    return [
        replace(example, prefix=encode(prompt.prefix))
        for example, prompt in zip(examples, in_table_orders(prompts, turns, n_orders, seed), strict=True)
    ]


def encode_all(folder: Path, model: str, config_name: str, spec: str, overrides: list[str]) -> Path:
    """Encode every question of `spec` under its own key, and say what became of the others."""
    settings = load_config(config_name, [f"model.name={model}", f"data.train={spec}", *overrides]).prompt
    tokenizer = load_tokenizer(find_base(model))
    turns = turns_of(tokenizer)
    data = load_data(spec)
    first = {key_of(question): question for question in reversed(data.questions)}  # doubled questions once
    named = tuple(q.model_copy(update={"question_id": key}) for key, q in first.items())
    encoded = encode_labels(data.model_copy(update={"questions": named}), settings, tokenizer, turns)
    there = {example.question_id for example in encoded.examples}
    missing = [key for key in first if key not in there]
    facts = {
        "prompt": settings.model_dump(by_alias=True),
        "spec": spec,
        "left_out": dict.fromkeys(missing, "not in the dialect") if encoded.n_not_in_dialect else {},
        "too_long": missing if not encoded.n_not_in_dialect else [],
        "shrunk": {p.question_id: list(p.shrunk) for p in encoded.prompts if p.shrunk},
    }
    assert not (encoded.n_not_in_dialect and encoded.n_too_long), "which is which is not told apart"
    path = folder / f"{prompt_fingerprint(settings, turns)}.npz"
    save_examples(path, encoded.examples, facts)
    return path


if __name__ == "__main__":
    started = time.monotonic()
    out = encode_all(Path(sys.argv[1]), *sys.argv[2:5], sys.argv[5:])
    print(f"{out}: {out.stat().st_size / 2**20:.2f} MiB in {time.monotonic() - started:.0f} s")
