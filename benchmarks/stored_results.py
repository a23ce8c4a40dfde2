"""Rows that `benchmarks/judge_rows.py` stored, and rates, differences and tables of them as text."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.row_files import passed_in, sections
from groundql.reports.statistics import mcnemar_p, wilson

ROOT = Path(__file__).resolve().parents[1]
ROWS = ROOT / "benchmarks" / "ablation_rows.toml"
STORED = {
    name: ROOT / "benchmarks" / "results" / f"2026-11-25-ablations-{name}.json"
    for name in ("choice", "final")
}
TIMES = ROOT / "benchmarks" / "results" / "2026-11-25-ves.json"  # of benchmarks/judge_times.py
Row = dict[str, Any]
TITLES = {
    "spider-held": "Spider, held databases",
    "spider-held-rest": "Spider, held databases, the other questions",
    "bird-held": "BIRD, held databases",
    "bird-seen": "BIRD, random split",
    "spider-dev": "Spider dev",
    "real-rows": "BIRD questions on real rows",
    "bird-dev": "BIRD dev",
    "pocket-test": "pocket test",
}
HELD = ("spider-held", "bird-held")  # what every row of the choice is asked
ALL_HELD = (*HELD, "spider-held-rest")
WORDS = {
    "free": "free",
    "grounded": "grounded",
    "last": "grounded, last checkpoint",
    "vote": "grounded, vote of 8, repair",
}


@dataclass(frozen=True)
class Line:
    """One row decoded in one way."""

    row: Row
    way: str

    def of(self, data: str) -> Row | None:
        """Its summary on a data set."""
        found: Row | None = self.row.get("judged", {}).get(data, {}).get(self.way)
        return found


def stored(section: str) -> list[Row]:
    """Every row of the section's file in its order: as stored, or with its name and label alone."""
    path = STORED[section]
    found = {row["name"]: row for row in json.loads(path.read_text())["rows"]} if path.is_file() else {}
    plan = sections(ROWS)[section]["row"]
    return [
        found.get(
            row["name"],
            {"name": row["name"], "label": row.get("label", row["name"]), "ways": row.get("ways")},
        )
        | {"table": row.get("table", ""), "label": row.get("label", row["name"])}
        | {key: row[key] for key in ("again", "against") if key in row}
        for row in plan
    ]


def lines_of(row: Row, section: str) -> Iterator[Line]:
    """A line for each way that the row was, or would have been, decoded."""
    ways = next(iter(row["judged"].values())) if row.get("judged") else row.get("ways")
    for way in sorted(ways or sections(ROWS)[section]["ways"], key=list(WORDS).index):
        yield Line(row, way)


def times() -> dict[str, Any]:
    """By row, data set and way: VES and R-VES; empty where nothing was timed."""
    found: dict[str, Any] = json.loads(TIMES.read_text()) if TIMES.is_file() else {}
    return found


def right(row: Row, way: str = "grounded", data: Sequence[str] = HELD) -> int | None:
    """`ex_strict` of a row on these sets together; None where it was not asked one of them."""
    found = [Line(row, way).of(name) for name in data]
    counts = [one["counts"]["ex_strict"] for one in found if one]
    return sum(counts) if len(counts) == len(data) else None


def rate_text(summary: Row | None, rung: str) -> str:
    """`61.4 [56.1, 66.5]`, in percent of all n; a dash where the rung was not decided."""
    if summary is None or rung not in summary["counts"]:
        return "-"
    n, count = summary["n"], summary["counts"][rung]
    low, high = wilson(count, n)
    return f"{100 * count / n:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def paired_text(line: Line, other: Line | None, data: Sequence[str], rung: str) -> str:
    """Difference in points over all questions of `data`, and McNemar's p; a dash without a partner."""
    only_a = only_b = n_all = 0
    for name in data:
        mine, theirs = line.of(name), other.of(name) if other else None
        if mine is None or theirs is None or rung not in mine["bits"] or rung not in theirs["bits"]:
            continue
        n = mine["n"]
        pairs = list(zip(passed_in(mine["bits"][rung], n), passed_in(theirs["bits"][rung], n), strict=True))
        only_a += sum(a and not b for a, b in pairs)
        only_b += sum(b and not a for a, b in pairs)
        n_all += n
    if not n_all:
        return "-"
    p = mcnemar_p(only_a, only_b)
    return f"{100 * (only_a - only_b) / n_all:+.1f}, p " + (f"{p:.3f}" if p >= 0.001 else "< 0.001")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    marks = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(one) + " |" for one in (head, marks, *rows)) + "\n"
