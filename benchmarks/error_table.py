"""The error analysis as a section of the results page, from the classes that `error_analysis.py` and readers stored."""

import json
from collections import Counter

from benchmarks.stored_results import ROOT, Row, table

ERRORS = ROOT / "benchmarks" / "results" / "2026-11-26-errors-spider-dev.json"
CLASSES = {  # class: what it is, and what may move it
    "join": (
        "a table that is missing, needless or wrong, or joined along the wrong columns",
        "a larger model; more data with link tables; keys spelled out in the prompt; refusing joins along no key (not tried)",
    ),
    "gold": (
        "gold contradicts its question, returns nothing for a misspelt literal, depends on a tie, or the question can be read two ways",
        "none: a right answer fails too. A judge that takes several golds",
    ),
    "column order": (
        "the right columns in another order, which `ex_bird` counts as wrong and Spider's own script does not",
        "training on golds that keep the question's order; some of these follow the question where gold does not",
    ),
    "value": (
        "a literal that is not spelled as stored, or sought in a column that does not hold it",
        "values in the prompt (`prompt.values`: rows of the prompt, below)",
    ),
    "nesting": (
        "a subquery or set operation that is missing, turned round or taken over values in place of keys",
        "a larger model; more nested questions in training; a vote of several texts",
    ),
    "column": ("a column missing, one too many, or another one", "a larger model; descriptions of columns in the prompt"),
    "condition": ("a condition missing, invented, or on another column", "a vote of several texts; a larger model"),
    "aggregation": ("another aggregate, none, or another grouping", "a larger model; more data"),
    "distinct": ("rows counted more than once", "more data with DISTINCT under an aggregate; a larger model"),
    "order or limit": ("another order or number of rows", "a larger model; more data"),
    "abstained": ("no query", "a larger budget of tokens"),
    "other": ("none of these by rule", ""),
}  # fmt: skip


def error_section() -> str:
    """Causes of the sampled failures, by reading and by rule; empty where none were stored."""
    if not ERRORS.is_file():
        return ""
    found: Row = json.loads(ERRORS.read_text(encoding="utf-8"))
    errors = found["errors"]
    by_reading = Counter(error["class"] for error in errors if error["by"] == "reading")
    by_rule = Counter(error["rule"] for error in errors)
    classes = Counter(error["class"] for error in errors)
    agree = sum(error["class"] == error["rule"] for error in errors if error["by"] == "reading")
    strain = found["strain"]
    n_unfair = classes["gold"] + classes["column order"]
    points = n_unfair / len(errors) * found["n_failures"] / strain["n"] * 100
    n_read, n_strained = by_reading.total(), sum(error["strain"] > 0 for error in errors)
    rows = [
        [name, f"{n}", f"{by_rule[name]}", *CLASSES[name]]
        for name, n in sorted(classes.items(), key=lambda item: (-item[1], item[0]))
    ]
    rows += [[name, "0", f"{n}", *CLASSES[name]] for name, n in by_rule.items() if name not in classes]
    return "\n".join(
        [
            "## Where the rest is lost\n",
            f"{len(errors)} of the {found['n_failures']} questions of Spider dev on which `{found['row']}`, the row that is shown as ours, grounded, fails `ex_bird`, drawn by seed "
            f"{found['seed']}. A rule gave each a class from both queries' trees (`benchmarks/error_analysis.py`); then question, gold and "
            f"prediction of {n_read} were read by one reader, a language model, who gave each one main cause, its classes being those of the table. "
            f"Rule and reader agree on {agree} of them: what the rule says alone is rough. A question may have several faults. Classes "
            "and notes: `benchmarks/results/2026-11-26-errors-spider-dev.json`.\n",
            table(["cause", "read", "by rule", "what it is", "what may move it"], rows),
            f"`gold` and `column order` together are {n_unfair} of {len(errors)}: about {points:.0f} points of all {strain['n']} questions, by this sample.\n",
            f"{n_strained} of the {len(errors)} have any strain: most are queries that the model wanted as they stand. Over all {strain['n']} "
            f"answers a wrong one (`ex_strict`) has more strain than a right one in {100 * strain['auroc']:.1f} % of pairs "
            f"[{100 * strain['low']:.1f}, {100 * strain['high']:.1f}], ties half. No lever was tried on these failures themselves; the vote has rows below. Among 100 failures of 2 epochs without values in the prompt 12 were `value`, by the same classes and another reading.\n",
        ]
    )
