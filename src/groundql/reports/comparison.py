"""Two runs on the same questions: what the second gained and lost, and whether that is more than noise."""

import math
from collections.abc import Sequence
from typing import Any

from groundql.errors import DataError
from groundql.records import Verdict
from groundql.reports.statistics import bootstrap_mean, bootstrap_over_groups, mcnemar_p
from groundql.reports.tally import FAULTS, MEANS, RATES, RATIOS, geometric_mean, rate

Comparison = dict[str, Any]

LEVEL = 0.05  # a p above it is called noise
FEW_DATABASES = 8  # below it the bootstrap over databases has too few units to draw from
_SHOWN_IDS = 12


def compare(a: Sequence[Verdict], b: Sequence[Verdict]) -> Comparison:
    """Each rung of A and B over the questions that both judge, paired by id; differences are B minus A.

    `gained` and `lost` hold the ids where just one of them passes (for invented names: is free of the fault).
    A question undecided in A or B counts as not passed in its rate and as no change in the difference.
    Raises DataError where no question is in both, or where one id means two questions.
    """
    of_a, of_b = verdicts_by_id(a, "A"), verdicts_by_id(b, "B")
    ids = [question_id for question_id in of_a if question_id in of_b]
    if not ids:
        raise DataError("A and B have no question in common; compare needs verdicts on the same data set")
    for question_id in ids:
        if of_a[question_id].db_id != of_b[question_id].db_id:
            raise DataError(
                f"question {question_id} is asked of {of_a[question_id].db_id} in A and of "
                f"{of_b[question_id].db_id} in B; compare needs verdicts on the same data set"
            )
    pairs = [(of_a[question_id], of_b[question_id]) for question_id in ids]
    found: Comparison = {
        "n": len(ids),
        "n_databases": len({v.db_id for v, _ in pairs}),
        "only_in_a": [question_id for question_id in of_a if question_id not in of_b],
        "only_in_b": [question_id for question_id in of_b if question_id not in of_a],
        "changed": [v.question_id for v, w in pairs if (v.question, v.gold_sql) != (w.question, w.gold_sql)],
        "rungs": {name: _compare_rate(name, pairs) for name in RATES if _is_decided(name, pairs)},
        "means": {name: _compare_mean(name, pairs) for name in MEANS if _is_decided(name, pairs)}
        | {name: _compare_ratio(name, pairs) for name in RATIOS if _is_decided(name, pairs)},
    }
    return found | {"warnings": _warnings(found, pairs)}


def verdicts_by_id(verdicts: Sequence[Verdict], whose: str) -> dict[str, Verdict]:
    """Verdicts by question id, in their order; DataError where two have one id."""
    by_id: dict[str, Verdict] = {}
    for verdict in verdicts:
        if verdict.question_id in by_id:
            raise DataError(
                f"{whose} has two verdicts for question {verdict.question_id}; judge writes one each"
            )
        by_id[verdict.question_id] = verdict
    return by_id


def comparison_table(found: Comparison) -> str:
    """The table for people: both rates, the difference in points, the test; then gained, lost and warnings."""
    digits = len(str(found["n"]))
    width = max(map(len, [*found["rungs"], *found["means"], "questions"]))
    side_width = digits + 1 + len("100.0 % [100.0, 100.0]")
    lines = [
        f"{'questions':<{width}}  {found['n']} in both, {count_text(found['n_databases'], 'database')}",
        f"{'':<{width}}  {'A, 95 %':<{side_width}} {'B, 95 %':<{side_width}} {'B - A, points':<21}"
        f"{'over databases':<16}{'only A':>6}{'only B':>7}{'McNemar p':>10}",
    ]
    for name, rung in found["rungs"].items():
        sides = " ".join(f"{rung[side]['count']:>{digits}} {_percent(rung[side])}" for side in "ab")
        test = f"{rung['only_a']:>6}{rung['only_b']:>7}{p_text(rung['mcnemar_p']):>10}"
        lines.append(f"{name:<{width}}  {sides} {_difference_text(rung, 100, '.1f')}{test}")
    for name, mean in found["means"].items():
        sides = " ".join(f"{mean[side]:<{side_width}.3f}" for side in "ab")
        lines.append(f"{name:<{width}}  {sides} {_difference_text(mean, 1, '.3f')}".rstrip())
    told = "ex_strict" if "ex_strict" in found["rungs"] else list(found["rungs"])[-1]
    lines += [
        f"{word:<{width}}  {_id_text(found['rungs'][told][word])} on {told}" for word in ("gained", "lost")
    ]
    lines += [
        f"{'only in ' + side.upper():<{width}}  {_id_text(found[f'only_in_{side}'])}"
        for side in "ab"
        if found[f"only_in_{side}"]
    ]
    lines += [f"{'warning':<{width}}  {line}" for line in found["warnings"]]
    return "\n".join(lines) + "\n"


def count_text(count: int, noun: str) -> str:
    """`1 database`, `7 databases`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def p_text(p: float) -> str:
    """A p to four places; smaller ones as `<0.0001`."""
    return "<0.0001" if p < 0.0001 else f"{p:.4f}"


def _percent(rung: Comparison) -> str:
    ends = f"[{100 * rung['low']:.1f}, {100 * rung['high']:.1f}]"
    return f"{100 * rung['rate']:5.1f} % {ends:<14}"


def _id_text(ids: Sequence[str]) -> str:
    shown = ", ".join(ids[:_SHOWN_IDS]) + (", ..." if len(ids) > _SHOWN_IDS else "")
    return f"{len(ids)} ({shown})" if ids else "0"


def _difference_text(found: Comparison, scale: float, form: str) -> str:
    difference = found["difference"]
    over = found.get("over_databases")
    wide = _ends_text(over, scale, form) if over else "one database"
    return f"{scale * difference['value']:>+5{form}} {_ends_text(difference, scale, form):<15}{wide:<16}"


def _ends_text(ends: Comparison, scale: float, form: str) -> str:
    return f"[{scale * ends['low']:+{form}}, {scale * ends['high']:+{form}}]"


def _is_decided(name: str, pairs: Sequence[tuple[Verdict, Verdict]]) -> bool:
    return any(getattr(v, name, None) is not None and getattr(w, name, None) is not None for v, w in pairs)


def _compare_rate(name: str, pairs: Sequence[tuple[Verdict, Verdict]]) -> Comparison:
    values = [(v.question_id, getattr(v, name), getattr(w, name)) for v, w in pairs]
    decided = [(question_id, x, y) for question_id, x, y in values if x is not None and y is not None]
    only_a = [question_id for question_id, x, y in decided if x and not y]
    only_b = [question_id for question_id, x, y in decided if y and not x]
    changes = [0.0 if x is None or y is None else float(y) - float(x) for _, x, y in values]
    gained, lost = (only_a, only_b) if name in FAULTS else (only_b, only_a)
    undecided = len(values) - len(decided)
    return {
        "a": rate(sum(x is True for _, x, _ in values), len(values)),
        "b": rate(sum(y is True for _, _, y in values), len(values)),
        "only_a": len(only_a),
        "only_b": len(only_b),
        "mcnemar_p": mcnemar_p(len(only_a), len(only_b)),
        **_differences(changes, pairs),
        **({"undecided": undecided} if undecided else {}),
        "gained": gained,
        "lost": lost,
    }


def _compare_mean(name: str, pairs: Sequence[tuple[Verdict, Verdict]]) -> Comparison:
    values = [(getattr(v, name), getattr(w, name)) for v, w in pairs]
    changes = [0.0 if x is None or y is None else y - x for x, y in values]
    return {
        "a": sum(x or 0.0 for x, _ in values) / len(values),
        "b": sum(y or 0.0 for _, y in values) / len(values),
        **_differences(changes, pairs),
    }


def _compare_ratio(name: str, pairs: Sequence[tuple[Verdict, Verdict]]) -> Comparison:
    """Geometric means over the questions where both have the ratio; the difference is the mean of log(B / A)."""
    both = [(v, w) for v, w in pairs if getattr(v, name) and getattr(w, name)]
    of_a, of_b = ([getattr(pair[side], name) for pair in both] for side in (0, 1))
    changes = [math.log(y / x) for x, y in zip(of_a, of_b, strict=True)]
    return {
        "a": geometric_mean(of_a),
        "b": geometric_mean(of_b),
        "n": len(both),
        **_differences(changes, both),
    }


def _differences(changes: Sequence[float], pairs: Sequence[tuple[Verdict, Verdict]]) -> Comparison:
    """The paired difference and its interval over questions, and over databases where there are several."""
    low, high = bootstrap_mean(changes)
    found: Comparison = {"difference": {"value": sum(changes) / len(changes), "low": low, "high": high}}
    databases = [v.db_id for v, _ in pairs]
    if len(set(databases)) > 1:
        low, high = bootstrap_over_groups(changes, databases)
        found["over_databases"] = {"low": low, "high": high}
    return found


def _warnings(found: Comparison, pairs: Sequence[tuple[Verdict, Verdict]]) -> list[str]:
    warnings = []
    if found["only_in_a"] or found["only_in_b"]:
        n_a, n_b = len(found["only_in_a"]), len(found["only_in_b"])
        warnings.append(f"left out because only one side judges them: {n_a} of A, {n_b} of B")
    if found["changed"]:
        warnings.append(f"the question or its gold differs between A and B: {_id_text(found['changed'])}")
    kinds = sorted({v.rows for pair in pairs for v in pair})
    if any(v.rows != w.rows for v, w in pairs):
        warnings.append(f"A and B ran on different rows ({', '.join(kinds)}): their results do not compare")
    elif "synthetic" in kinds:
        warnings.append("ex_* on synthetic rows: an estimate, not BIRD EX")
    differing = {name: rung for name, rung in found["rungs"].items() if rung["only_a"] or rung["only_b"]}
    noise = [name for name, rung in differing.items() if rung["mcnemar_p"] >= LEVEL]
    if noise:
        warnings.append(f"no more than noise (McNemar p of {LEVEL} or above): {', '.join(noise)}")
    narrow = [
        name
        for name, rung in differing.items()
        if rung["mcnemar_p"] < LEVEL and "over_databases" in rung and _holds_zero(rung["over_databases"])
    ]
    if narrow:
        warnings.append(f"may not hold on other databases (that interval holds 0): {', '.join(narrow)}")
    if found["n_databases"] < FEW_DATABASES:
        warnings.append(f"{count_text(found['n_databases'], 'database')} cannot say much about a new one")
    return warnings


def _holds_zero(ends: dict[str, float]) -> bool:
    return ends["low"] <= 0 <= ends["high"]
