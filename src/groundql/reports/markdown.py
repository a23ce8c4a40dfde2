"""The report as Markdown: the same tables as the page, for a pull request or a terminal."""

from collections.abc import Sequence
from typing import Any

from groundql.reports.choices import choice_lines
from groundql.reports.comparison import p_text
from groundql.reports.tally import MEANS, RATES, RATIOS, Tally, skipped_lines


def report_markdown(facts: dict[str, Any]) -> str:
    """Rungs side by side, comparisons, slices, gold faults and warnings."""
    runs = facts["runs"]
    top = facts["top_rung"]
    parts = ["# Report", _rung_table(runs)]
    parts += [_comparison_part(compared) for compared in facts["comparisons"]]
    shown = list(dict.fromkeys(["grounded", top]))
    for title, key in (
        ("By difficulty", "by_difficulty"),
        ("By database", "by_database"),
        ("By SQL feature", "by_feature"),
    ):
        sliced = [run["tally"][key] if key == "by_difficulty" else run[key] for run in runs]
        if any(sliced):
            parts.append(f"## {title}\n\n{_slice_table(runs, sliced, shown)}")
    choices = [f"{run['label']}: {line}" for run in runs for line in choice_lines(run["tally"])]
    if choices:
        parts.append("## What the writer says itself\n\n" + _bullets(choices))
    skipped = skipped_lines(runs[0]["tally"]["skipped"])
    if skipped:
        parts.append("## Gold faults\n\n" + _bullets(skipped))
    warnings = dict.fromkeys(line for run in runs for line in run["tally"]["warnings"])
    if warnings:
        parts.append("## Keep in mind\n\n" + _bullets(list(warnings)))
    return "\n\n".join(parts) + "\n"


def _rung_table(runs: Sequence[dict[str, Any]]) -> str:
    header = ["", *(run["label"] for run in runs)]
    rows = [["questions", *(str(run["tally"]["n"]) for run in runs)]]
    for name in RATES:
        if any(name in run["tally"] for run in runs):
            rows.append([f"`{name}`", *(_rate_cell(run["tally"].get(name)) for run in runs)])
    for name in MEANS | RATIOS:
        if any(name in run["tally"] for run in runs):
            rows.append([f"`{name}`", *(_mean_cell(run["tally"], name) for run in runs)])
    return _table(header, rows)


def _comparison_part(compared: dict[str, Any]) -> str:
    title = f"## {_cell(compared['b'])} against {_cell(compared['a'])}"
    rows = [
        [
            f"`{name}`",
            f"{100 * rung['difference']['value']:+.1f}",
            f"[{100 * rung['difference']['low']:+.1f}, {100 * rung['difference']['high']:+.1f}]",
            str(len(rung["gained"])),
            str(len(rung["lost"])),
            p_text(rung["mcnemar_p"]),
        ]
        for name, rung in compared.get("rungs", {}).items()
    ]
    header = ["", "points", "95 %", "gained", "lost", "McNemar p"]
    parts = [title, *([_table(header, rows)] if rows else []), _bullets(compared["warnings"])]
    return "\n\n".join(part for part in parts if part)


def _slice_table(
    runs: Sequence[dict[str, Any]], sliced: Sequence[dict[str, Tally]], shown: Sequence[str]
) -> str:
    header = ["", "n", *(f"{run['label']}: {name}" for name in shown for run in runs)]
    rows = []
    for slice_name in dict.fromkeys(name for slices in sliced for name in slices):
        tallies = [slices.get(slice_name, {}) for slices in sliced]
        n = max(found.get("n", 0) for found in tallies)
        cells = [_rate_cell(found.get(name)) for name in shown for found in tallies]
        rows.append([slice_name, str(n), *cells])
    return _table(header, rows)


def _rate_cell(rung: Tally | None) -> str:
    if rung is None:
        return ""
    return f"{rung['count']}, {100 * rung['rate']:.1f} % [{100 * rung['low']:.1f}, {100 * rung['high']:.1f}]"


def _mean_cell(tallied: Tally, name: str) -> str:
    if name not in tallied:
        return ""
    ends = tallied["intervals"][name]
    return f"{tallied[name]:.3f} [{ends['low']:.3f}, {ends['high']:.3f}]"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(_cell(text) for text in line) + " |" for line in lines)


def _cell(text: str) -> str:
    """Text that cannot break out of its cell."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {_cell(line)}" for line in lines)
