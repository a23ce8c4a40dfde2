"""What grounded decoding accepts, what random queries do to it, and what it costs.

    python benchmarks/decoding.py coverage TOKENIZER DATA...   gold queries accepted, in the canonical dialect
    python benchmarks/decoding.py fuzz TOKENIZER DATA...       random queries through the mask
    python benchmarks/decoding.py cost TOKENIZER DATA...       time to compile, and a token
    ... [--limit N] [--seed N] [--chars] [--gate off|on|both] [--out FILE]

TOKENIZER is a folder or a .gguf file. DATA names data sets, such as pocket#train, bird:DIR#train or spider:DIR#dev:
their gold queries for coverage and cost, their schemas for all three.
"""

import argparse
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from decoding_fuzz import awkward_schema, fuzz, tally, wide_schema

from groundql.databases.binding import prepare
from groundql.databases.schema import read_schema
from groundql.decoding.constraint import Constraints, Vocabulary
from groundql.decoding.grammar import lark_text, sql_rules
from groundql.decoding.scope import ScopeTracker
from groundql.errors import GroundqlError
from groundql.prompts.dialect import canonical_sql
from groundql.questions.load import load_data
from groundql.records import Schema


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("data", nargs="+")
    parser.add_argument(
        "--limit", type=int, default=0, help="gold queries of each data set, or random queries in all"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--gate", choices=("off", "on", "both"), default="both", help="fuzz: with which gate")
    parser.add_argument("--chars", action="store_true", help="coverage: every character prefix, too")
    parser.add_argument("--out", type=Path, help="also write the numbers as JSON")
    asked = parser.parse_args()
    numbers = PARTS[asked.part](asked, vocabulary_of(asked.tokenizer))
    text = json.dumps(numbers, indent=1, ensure_ascii=False)
    print(text)
    if asked.out:
        asked.out.write_text(text + "\n", encoding="utf-8")


def coverage(asked: argparse.Namespace, vocabulary: "Tokens") -> dict[str, Any]:
    """For each data set: golds that prepare, that have a canonical form, and that are accepted at every prefix."""
    return {spec: covered(spec, asked, vocabulary) for spec in asked.data}


def covered(spec: str, asked: argparse.Namespace, vocabulary: "Tokens") -> dict[str, Any]:
    counts: Counter[str] = Counter()
    lost: list[dict[str, str]] = []
    for schema, gold in golds(spec, asked.limit):
        counts["golds"] += 1
        if prepare(schema, gold) is not None:
            counts["gold does not prepare with double-quoted strings off"] += 1
        try:
            text = canonical_sql(gold, schema)
        except GroundqlError as error:
            counts["no canonical form"] += 1
            lost.append({"gold": gold, "why": f"dialect: {error}"})
            continue
        why = refused(vocabulary.constraints(schema), vocabulary.encode(text))
        if asked.chars and not why:
            why = refused(vocabulary.constraints(schema), vocabulary.bytewise(text))
        counts["accepted"] += not why
        if why:
            counts[f"refused by {why.split(':')[0]}"] += 1
            lost.append({"gold": gold, "canonical": text, "why": why})
    n = counts["golds"]
    rates = {
        "accepted_of_all": counts["accepted"] / n,
        "accepted_of_canonical": counts["accepted"] / (n - counts["no canonical form"]),
    }
    return {**counts, **rates, "lost": lost}


def refused(constraints: Constraints, tokens: list[int]) -> str:
    """Who refuses the text of `tokens` or its end, and where; "" where nobody does."""
    row = constraints.start()
    for token in (*tokens, *sorted(constraints.vocabulary.ends)[:1]):
        if not row.accepts(token):
            written = constraints.vocabulary.piece(token).decode("utf-8", "replace")
            return f"{row.refused_by}: {row.text} ^ {written}: {row.why_not(token)}"
        row.consume(token)
    return ""


def fuzzed(asked: argparse.Namespace, vocabulary: "Tokens") -> dict[str, Any]:
    """Random queries with the gate off and on, over the schemas of the data, an awkward one and one of 70 tables."""
    schemas = [awkward_schema(), wide_schema()]
    for spec in asked.data:
        files = load_data(spec).databases
        schemas += [read_schema(each) for each in files.values()]
    n = asked.limit or 1000
    found: dict[str, Any] = {"schemas": len(schemas)}
    for name, gated in (("gate off", False), ("gate on", True)):
        if asked.gate not in (name.removeprefix("gate "), "both"):
            continue
        start_s = time.process_time()
        texts = fuzz(vocabulary, schemas, n, seed=asked.seed, gated=gated)
        found[name] = tally(texts) | {"seconds": round(time.process_time() - start_s)}
        found[name]["faults"] = [
            {"db": text.db_id, "text": text.text, "end": text.end, "error": text.error or text.decoded.reason}
            for text in texts
            if text.end in ("fails", "gate", "dead end")
        ]
    return found


def cost(asked: argparse.Namespace, vocabulary: "Tokens") -> dict[str, Any]:
    """Milliseconds to compile a schema; microseconds of `accepts` and `consume` together for each token of gold."""
    token_us: list[float] = []
    end_us: list[float] = []
    schemas: dict[str, Schema] = {}
    rows = []
    for spec in asked.data:
        for schema, gold in golds(spec, asked.limit):
            schemas[schema.db_id] = schema
            try:
                rows.append((schema, vocabulary.encode(canonical_sql(gold, schema))))
            except GroundqlError:
                continue
    parts: dict[str, Any] = {
        "compile_ms": lambda schema: Constraints(vocabulary, schema),
        "of which the grammar's text": lambda schema: lark_text(sql_rules(schema)),
        "of which the scope tracker": ScopeTracker,
    }
    compiled = {
        name: summary([least_ms(part, schema) for schema in schemas.values()]) for name, part in parts.items()
    }
    (end,) = sorted(vocabulary.ends)[:1]
    for schema, tokens in rows:
        row = vocabulary.constraints(schema).start()
        for token in (*tokens, end):
            start_s = time.process_time()
            if not row.accepts(token):
                break
            row.consume(token)
            (end_us if token == end else token_us).append(1e6 * (time.process_time() - start_s))
    return {
        "vocabulary": vocabulary.n_tokens,
        "schemas": len(schemas),
        **compiled,
        "token_us": summary(token_us),
        "end_us": summary(end_us),
    }


PARTS = {"coverage": coverage, "fuzz": fuzzed, "cost": cost}


class Tokens(Vocabulary):
    """A vocabulary that also encodes."""

    def __init__(self, tokenizer: Any) -> None:
        super().__init__(tokenizer, {tokenizer.eos_token_id})
        self.tokenizer = tokenizer
        self.singles = {
            self.piece(token): token for token in range(self.n_tokens) if len(self.piece(token)) == 1
        }

    def encode(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def bytewise(self, text: str) -> list[int]:
        return [self.singles[bytes([byte])] for byte in text.encode()]


def vocabulary_of(path: Path) -> Tokens:
    from transformers import AutoTokenizer

    place = {"pretrained_model_name_or_path": str(path)}
    if path.suffix == ".gguf":
        place = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    return Tokens(AutoTokenizer.from_pretrained(**place, local_files_only=True))


def golds(spec: str, limit: int) -> list[tuple[Schema, str]]:
    data = load_data(spec)
    schemas = {name: read_schema(files) for name, files in data.databases.items()}
    questions = [question for question in data.questions if question.gold_sql]
    step = max(1, len(questions) // limit) if limit else 1
    return [(schemas[question.db_id], question.gold_sql or "") for question in questions[::step]]


def least_ms(work: Callable[[Schema], Any], schema: Schema) -> float:
    """The least of three, for other work on the machine only adds."""
    taken_s = []
    for _ in range(3):
        start_s = time.process_time()
        work(schema)
        taken_s.append(time.process_time() - start_s)
    return 1e3 * min(taken_s)


def summary(values: list[float]) -> dict[str, float]:
    ranked = sorted(values)
    return {
        "n": len(ranked),
        "mean": round(statistics.fmean(ranked), 2),
        "p50": round(ranked[len(ranked) // 2], 2),
        "p99": round(ranked[int(len(ranked) * 0.99)], 2),
        "max": round(ranked[-1], 2),
    }


if __name__ == "__main__":
    sys.exit(main())
