"""Verdicts in, rates out: the object that `groundql judge --json` prints, and its table for people.

Every rate has all n questions as its denominator. A question that could not be decided (no rows at hand, a gold
that does not run) is not a pass; it is counted as `undecided`. Gold faults are listed under `skipped`.
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, get_args

from groundql.errors import DataError
from groundql.records import Difficulty, Verdict
from groundql.reports.choices import choice_facts, choice_lines
from groundql.reports.statistics import bootstrap_mean, wilson

Tally = dict[str, Any]

# Fields of a Verdict that hold True, False or None, in the order of the ladder, with what passing them says.
# A field that every verdict leaves at None is absent from the tally.
LADDER = {
    "extracted": "some SQL in the answer",
    "sqlglot_accepts": "the seed paper's rule, which accepts prose; for comparison only",
    "parsed": "one statement and a query",
    "read_only": "nothing in it writes",
    "grounded": "the engine prepares it on the true schema",
    "ran": "ended within its limits",
    "ex_bird": "rows equal as sets, BIRD's rule",
    "ex_strict": "rows equal as bags, in order where the gold orders",
    "ex_relaxed": "columns in any order, more columns than the gold allowed",
    "robust": "equal on changed copies of the database too",
    "ast_equal": "certified equal to the gold without running it",
    "ast_relaxed": "the same by rules that hold on most data alone",
    "spider_exec": "Spider's execution accuracy",
    "spider_match": "Spider's exact set match",
    "spider_match_any_syntax": "the same, also where Spider's parser cannot read the answer",
}
FAULTS = {
    "invented_table": "a table that the database does not have",
    "invented_alias": "a qualifier that no table of the query has",
    "invented_column": "a column that no table has",
    "misplaced_column": "a column that another table has",
    "invented_function": "a function that the engine does not have",
    "foreign_value": "a constant that neither its column nor the question holds",
    "keyless_join": "tables joined along no key",
}
MEANS = {
    "soft_f1": "mean overlap of cells, BIRD's rule, which the order of rows moves",
    "soft_f1_unordered": "mean overlap of cells, each row beside its best partner",
    "ves": "mean relative speed of what matched",
    "r_ves": "mean speed reward of what matched",
    "ast_similarity": "share of the gold's tree that is kept",
    "link_precision": "columns read that the gold reads too",
    "link_recall": "columns of the gold that are read",
    "link_f1": "of these two",
}
# Geometric means over the questions where `ex_bird` holds, not over all n: a ratio of nothing is no ratio.
RATIOS = {"step_ratio": "the gold's engine steps over the prediction's, where matched; 2 is half the work"}
RATES = LADDER | FAULTS
NEEDS_ROWS = (
    "ran",
    "ex_bird",
    "ex_strict",
    "ex_relaxed",
    "robust",
    "spider_exec",
    "foreign_value",
    "soft_f1",
    "soft_f1_unordered",
    "ves",
    "r_ves",
    *RATIOS,
)  # what synthetic rows make an estimate
UNCLASSED = "unclassed"  # the class of questions whose data set gives no difficulty, where others have one

WIDEST_HALF_WIDTH = 0.05  # beyond 5 points to each side (n < 381) a rate cannot carry a claim of some points
SYNTHETIC_WARNING = "ex_* on synthetic rows: an estimate, not BIRD EX"


def tally(verdicts: Sequence[Verdict]) -> Tally:
    """Counts, rates and intervals of all rungs, by difficulty too: what `judge --json` prints.

    Raises DataError where there is no verdict: no questions have no rate.
    """
    if not verdicts:
        raise DataError("no verdicts: there is nothing to count")
    found: Tally = {"n": len(verdicts), **_rates_and_means(verdicts)}
    classes = {name: [v for v in verdicts if v.difficulty == name] for name in get_args(Difficulty)}
    if any(members for name, members in classes.items() if name):
        found["by_difficulty"] = {
            name or UNCLASSED: {"n": len(members), **_rates_and_means(members)}
            for name, members in classes.items()
            if members
        }
    else:
        found["by_difficulty"] = {}
    found["skipped"] = [
        {"question_id": v.question_id, "db_id": v.db_id, "reason": v.gold_fault}
        for v in verdicts
        if v.gold_fault
    ]
    found |= choice_facts(verdicts)
    found["rows"] = dict(Counter(v.rows for v in verdicts))
    found["warnings"] = _warnings(found)
    return found


def tally_by(verdicts: Sequence[Verdict], names: Sequence[Sequence[str]]) -> dict[str, Tally]:
    """Rates of each slice, largest first; `names` holds the slices of each verdict (several, or none)."""
    slices: dict[str, list[Verdict]] = {}
    for verdict, its_names in zip(verdicts, names, strict=True):
        for name in its_names:
            slices.setdefault(name, []).append(verdict)
    ordered = sorted(slices.items(), key=lambda item: (-len(item[1]), item[0]))
    return {name: {"n": len(members), **_rates_and_means(members)} for name, members in ordered}


def rate(count: int, n: int) -> Tally:
    """A count as `{"count", "rate", "low", "high"}`."""
    low, high = wilson(count, n)
    return {"count": count, "rate": count / n, "low": low, "high": high}


def rung_table(tallied: Tally) -> str:
    """The table for people: count, percent and 95 % interval of each rung, then what to keep in mind."""
    n = tallied["n"]
    shown = (*RATES, *MEANS, *RATIOS, "questions")
    width = max(len(name) for name in [*tallied, "questions"] if name in shown)
    digits = len(str(n))
    lines = [f"{'questions':<{width}}  {n}"]
    for name, meaning in RATES.items():
        if name not in tallied:
            continue
        rung = tallied[name]
        undecided = f"; {rung['undecided']} undecided" if rung.get("undecided") else ""
        fell = f"; {rung['fell']} of {rung['of']} matched fell" if "fell" in rung else ""
        said = f"{meaning}{fell}{undecided}"
        lines.append(f"{name:<{width}}  {rung['count']:>{digits}}  {percent(rung)}   {said}")
    for name, meaning in (MEANS | RATIOS).items():
        if name in tallied:
            ends = tallied["intervals"][name]
            value = f"{tallied[name]:.3f}  [{ends['low']:.3f}, {ends['high']:.3f}]"
            lines.append(f"{name:<{width}}  {ends.get('n', ''):>{digits}}  {value}   {meaning}")
    lines += [f"choices    {line}" for line in choice_lines(tallied)]
    lines += [f"skipped    {line}" for line in skipped_lines(tallied["skipped"])]
    lines += [f"warning    {line}" for line in tallied["warnings"]]
    return "\n".join(lines) + "\n"


def percent(rung: Tally) -> str:
    """` 46.2 %  [41.9, 50.6]`, of one width."""
    ends = f"[{100 * rung['low']:.1f}, {100 * rung['high']:.1f}]"
    return f"{100 * rung['rate']:5.1f} %  {ends:<14}"


def skipped_lines(skipped: Sequence[Tally], n_ids: int = 5, n_reasons: int = 10) -> list[str]:
    """Gold faults, one line a reason: how many, why, the first ids; beyond `n_reasons` all in one line."""
    by_reason: dict[str, list[str]] = {}
    for entry in skipped:
        by_reason.setdefault(entry["reason"], []).append(entry["question_id"])
    ordered = sorted(by_reason.items(), key=lambda item: -len(item[1]))
    lines = []
    for reason, ids in ordered[:n_reasons]:
        more = ", ..." if len(ids) > n_ids else ""
        faults = "gold fault" if len(ids) == 1 else "gold faults"
        lines.append(f"{len(ids)} {faults}: {reason} ({', '.join(ids[:n_ids])}{more})")
    left = sum(len(ids) for _, ids in ordered[n_reasons:])
    return [*lines, f"{left} gold faults for {len(ordered) - n_reasons} other reasons"] if left else lines


def _rates_and_means(verdicts: Sequence[Verdict]) -> Tally:
    found: Tally = {}
    n = len(verdicts)
    for name in RATES:
        values = [getattr(v, name, None) for v in verdicts]
        undecided = values.count(None)
        if undecided < n:
            found[name] = rate(values.count(True), n) | ({"undecided": undecided} if undecided else {})
    if "robust" in found:
        found["robust"] |= _fallen(verdicts)
    intervals: Tally = {}
    for name in MEANS:
        values = [getattr(v, name, None) for v in verdicts]
        undecided = values.count(None)
        if undecided < n:
            filled = [value or 0.0 for value in values]  # undecided gives nothing, as on a rung
            found[name] = sum(filled) / n
            low, high = bootstrap_mean(filled)
            intervals[name] = {"low": low, "high": high} | ({"undecided": undecided} if undecided else {})
    for name in RATIOS:
        ratios = [value for value in (getattr(v, name) for v in verdicts) if value]
        if ratios:
            found[name] = geometric_mean(ratios)
            low, high = bootstrap_mean([math.log(ratio) for ratio in ratios])
            intervals[name] = {"low": math.exp(low), "high": math.exp(high), "n": len(ratios)}
    return found | ({"intervals": intervals} if intervals else {})


def geometric_mean(ratios: Sequence[float]) -> float:
    """The mean in which 2 and 1/2 cancel; ratios above 0."""
    return math.exp(math.fsum(map(math.log, ratios)) / len(ratios))


def _fallen(verdicts: Sequence[Verdict]) -> Tally:
    """How many of those that match do not on changed copies: right by luck, or by these rows alone."""
    asked = [v.robust for v in verdicts if v.ex_strict and v.robust is not None]
    return {"fell": asked.count(False), "of": len(asked)}


def _warnings(found: Tally) -> list[str]:
    warnings = []
    n = found["n"]
    if found["rows"].get("synthetic") and any(name in found for name in NEEDS_ROWS):
        share = "" if found["rows"]["synthetic"] == n else f" ({found['rows']['synthetic']} of {n} questions)"
        warnings.append(SYNTHETIC_WARNING + share)
    half_width = wilson(n // 2, n).half_width
    if half_width > WIDEST_HALF_WIDTH:
        points = 100 * half_width
        warnings.append(
            f"{n} questions carry no fine claim: a rate near 50 % is known to ±{points:.1f} points; "
            f"two separate sets of this size differ by up to {math.sqrt(2) * points:.1f} points by chance"
        )
    missing = {name: found[name]["undecided"] for name in LADDER if found.get(name, {}).get("undecided")}
    if missing:
        name, undecided = max(missing.items(), key=lambda item: item[1])
        warnings.append(f"undecided counts as not passed: {undecided} of {n} on {name}")
    return warnings
