"""What a writer says of its own answers, against what the judge says: abstentions, and strain as a warning of error."""

import math
from collections.abc import Sequence
from typing import Any

from groundql.records import Verdict
from groundql.reports.statistics import Z_95, wilson

N_BINS = 5
COVERAGES = (0.5, 0.8, 0.95, 1.0)  # shares of the answers, least strained first
LEAST_STRAINED = 10  # answers with a strain, below which bins say nothing


def choice_facts(verdicts: Sequence[Verdict], rung: str = "ex_strict") -> dict[str, Any]:
    """`abstained` with the rate of `rung` among the answered, and `strain` in bins; each where there is any."""
    found: dict[str, Any] = {}
    n_abstained = sum(verdict.abstained for verdict in verdicts)
    if n_abstained:
        found["abstained"] = _rate(n_abstained, len(verdicts))
        answered = [verdict for verdict in verdicts if not verdict.abstained]
        if answered:
            n_right = sum(bool(getattr(verdict, rung)) for verdict in answered)
            found["answered"] = {"n": len(answered), "rung": rung, **_rate(n_right, len(answered))}
    pairs = [
        (verdict.strain, bool(getattr(verdict, rung)))
        for verdict in verdicts
        if verdict.strain is not None and math.isfinite(verdict.strain) and not verdict.abstained
    ]
    if pairs:
        found["strain"] = {"n": len(pairs), "rung": rung, **separation(pairs)}
        enough = len(pairs) >= LEAST_STRAINED
        found["strain"]["bins"] = strain_bins(pairs) if enough else []
        found["strain"]["coverage"] = risk_by_coverage(pairs) if enough else []
    return found


def strain_bins(pairs: Sequence[tuple[float, bool]], n_bins: int = N_BINS) -> list[dict[str, Any]]:
    """Answers by strain in up to `n_bins` groups of about equal size, each with its rate of right ones.

    Equal strains stay in one group, so that there may be fewer. `pairs` are (strain, right).
    """
    ordered = sorted(pairs)
    groups: list[list[tuple[float, bool]]] = [[]]
    for place, pair in enumerate(ordered):
        is_due = place >= len(groups) * len(ordered) / n_bins
        if groups[-1] and is_due and pair[0] != groups[-1][-1][0]:
            groups.append([])
        groups[-1].append(pair)
    return [
        {
            "low_strain": group[0][0],
            "high_strain": group[-1][0],
            "n": len(group),
            **_rate(sum(right for _, right in group), len(group)),
        }
        for group in groups
    ]


def separation(pairs: Sequence[tuple[float, bool]]) -> dict[str, Any]:
    """How often a wrong answer has more strain than a right one, ties half: 1 separates, 0.5 says nothing.

    `auroc` with a 95 % interval; None where all are right or all are wrong. Source of the interval: Hanley and
    McNeil, Radiology 143 (1982), 29-36.
    """
    right = sorted(strain for strain, is_right in pairs if is_right)
    wrong = sorted(strain for strain, is_right in pairs if not is_right)
    if not right or not wrong:
        return {"auroc": None}
    n_above = below = equal = 0
    for strain in wrong:
        while below < len(right) and right[below] < strain:
            below += 1
        equal = max(equal, below)
        while equal < len(right) and right[equal] == strain:
            equal += 1
        n_above += 2 * below + (equal - below)
    area = n_above / (2 * len(right) * len(wrong))
    one, two = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + (len(wrong) - 1) * (one - area**2) + (len(right) - 1) * (two - area**2)
    half = Z_95 * math.sqrt(max(0.0, variance) / (len(right) * len(wrong)))
    return {"auroc": area, "low": max(0.0, area - half), "high": min(1.0, area + half)}


def risk_by_coverage(pairs: Sequence[tuple[float, bool]]) -> list[dict[str, Any]]:
    """The share of right answers among the least strained, for each of `COVERAGES`: the points of a risk-coverage curve.

    Answers of equal strain that a coverage cuts through count with their mean: no order of theirs is better. The
    interval is Wilson's for a count rounded to whole answers. `pairs` are (strain, right).

    >>> half = risk_by_coverage([(0.0, True), (0.0, False), (1.0, False), (2.0, False)])[0]
    >>> half["coverage"], half["n"], half["rate"]
    (0.5, 2, 0.5)
    """
    by_strain: dict[float, list[bool]] = {}
    for strain, right in sorted(pairs):
        by_strain.setdefault(strain, []).append(right)
    points = []
    for coverage in COVERAGES:
        n = max(1, round(coverage * len(pairs)))
        left, n_right, most = n, 0.0, 0.0
        for strain, rights in by_strain.items():
            if not left:
                break
            taken = min(left, len(rights))
            n_right += taken * sum(rights) / len(rights)
            left, most = left - taken, strain
        low, high = wilson(round(n_right), n)
        points.append(
            {"coverage": coverage, "n": n, "most_strain": most, "rate": n_right / n, "low": low, "high": high}
        )
    return points


def choice_lines(found: dict[str, Any]) -> list[str]:
    """The same for people, a line each."""
    lines = []
    if "abstained" in found:
        given = found.get("answered")
        rest = (
            f"; of the {given['n']} others {100 * given['rate']:.1f} % [{100 * given['low']:.1f}, "
            f"{100 * given['high']:.1f}] are {given['rung']}"
            if given
            else ""
        )
        lines.append(f"{found['abstained']['count']} abstained: they pass no rung{rest}")
    strain = found.get("strain")
    if strain and strain["auroc"] is not None:
        lines.append(
            f"a wrong answer has more strain than a right one in {100 * strain['auroc']:.1f} % of pairs "
            f"[{100 * strain['low']:.1f}, {100 * strain['high']:.1f}], n = {strain['n']}; 50 % says nothing"
        )
    points = strain.get("coverage", []) if strain else []
    if points:
        kept = ", ".join(f"{100 * p['coverage']:.0f} %: {100 * p['rate']:.1f} %" for p in points)
        lines.append(f"right among the least strained answers, by the share that is kept: {kept}")
    return lines


def _rate(count: int, n: int) -> dict[str, Any]:
    low, high = wilson(count, n)
    return {"count": count, "rate": count / n, "low": low, "high": high}
