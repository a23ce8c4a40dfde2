"""The report of judged runs: one HTML page that opens from disk, and the same facts as Markdown and JSON."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from groundql import __version__
from groundql.errors import DataError
from groundql.records import write_text
from groundql.reports.browse import browse_data, embed_json, features_of, top_rung
from groundql.reports.causes import CHAIN, RIGHT, UNDECIDED, fell_at
from groundql.reports.choices import choice_lines
from groundql.reports.comparison import LEVEL, compare, p_text
from groundql.reports.curves import curves_svg, log_curves
from groundql.reports.markdown import report_markdown
from groundql.reports.runs import JudgedRun, TrainingLog, read_judged_runs, read_training_logs
from groundql.reports.sql_features import FEATURE_ORDER
from groundql.reports.tally import FAULTS, LADDER, MEANS, RATES, RATIOS, Tally, skipped_lines, tally, tally_by

TEMPLATES = Path(__file__).parent / "templates"
SLICES = ("by_difficulty", "by_feature", "by_database")


def write_report(paths: Sequence[Path], out_dir: Path) -> Path:
    """Write report.html, report.md and report.json of every verdicts.jsonl in or below `paths`; the page's path.

    The page needs no network and no other file. The first run is the baseline that the others are compared
    with. Raises DataError where a path holds no verdicts, or a file beside them cannot be read.
    """
    runs, logs = read_judged_runs(paths), read_training_logs(paths)
    facts = report_facts(runs, logs)
    page_path = out_dir / "report.html"
    write_text(out_dir / "report.json", json.dumps(facts, indent=2, allow_nan=False) + "\n")
    write_text(out_dir / "report.md", _writable(report_markdown(facts)))
    write_text(page_path, report_page(facts, runs, logs))
    return page_path


def report_facts(runs: Sequence[JudgedRun], logs: Sequence[TrainingLog] = ()) -> dict[str, Any]:
    """Every number of the report: what report.json holds."""
    top = top_rung(runs)
    return {
        "groundql": __version__,
        "top_rung": top,
        "runs": [_run_facts(run, top) for run in runs],
        "comparisons": [_compared(runs[0], run) for run in runs[1:]],
        "training": [{"label": log.label, **log.facts} for log in logs],
    }


def report_page(facts: dict[str, Any], runs: Sequence[JudgedRun], logs: Sequence[TrainingLog] = ()) -> str:
    """The HTML page as text."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    curves = [
        curve for log in logs for curve in log_curves(log.label if len(logs) > 1 else "loss", log.lines)
    ]
    data = browse_data(runs) | {"slices": {name: _slice_rows(facts, name) for name in SLICES}}
    page = environment.get_template("judged.html.j2").render(
        facts=facts,
        labels=[run.label for run in runs],
        rungs=_rung_groups(facts),
        means=_mean_rows(facts),
        ends=[
            name for name in (*CHAIN, RIGHT, UNDECIDED) if any(name in run["fell"] for run in facts["runs"])
        ],
        choices=[(number, run["label"], run["tally"]) for number, run in enumerate(facts["runs"])],
        choice_lines=choice_lines,
        warnings=_warnings(facts),
        skipped=skipped_lines(facts["runs"][0]["tally"]["skipped"]),
        curves=curves,
        curves_svg=curves_svg(curves),
        training=[
            (log["label"], _flat({k: v for k, v in log.items() if k != "label"})) for log in facts["training"]
        ],
        data=embed_json(data),
        style=(TEMPLATES / "judged.css").read_text(encoding="utf-8"),
        script=(TEMPLATES / "judged.js").read_text(encoding="utf-8"),
    )
    return _writable(page)


def _writable(text: str) -> str:
    """The text with `?` for what UTF-8 cannot hold: names of files may hold such bytes."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _run_facts(run: JudgedRun, top: str) -> dict[str, Any]:
    rungs = CHAIN[: CHAIN.index(top) + 1]
    fell = Counter(fell_at(verdict, rungs) or RIGHT for verdict in run.verdicts)
    features = [features_of(v.gold_sql) if v.gold_sql else () for v in run.verdicts]
    by_feature = tally_by(run.verdicts, features)
    tallied = tally(run.verdicts)
    tallied["warnings"] = [*run.trust, *tallied["warnings"]]
    return {
        "label": run.label,
        "tally": tallied,
        "fell": dict(fell),
        "by_database": tally_by(run.verdicts, [(v.db_id,) for v in run.verdicts]),
        "by_feature": {name: by_feature[name] for name in FEATURE_ORDER if name in by_feature},
    }


def _compared(first: JudgedRun, other: JudgedRun) -> dict[str, Any]:
    names = {"a": first.label, "b": other.label}
    try:
        return names | compare(first.verdicts, other.verdicts)
    except DataError as error:
        return names | {"warnings": [f"not compared: {error}"]}


def _rung_groups(facts: dict[str, Any]) -> list[dict[str, Any]]:
    """One group a rung with one row a run: what the table of rungs shows."""
    groups = []
    for name, meaning in RATES.items():
        rows = []
        for number, run in enumerate(facts["runs"]):
            if name in run["tally"]:
                compared = facts["comparisons"][number - 1].get("rungs", {}).get(name) if number else None
                change = _change(compared) if compared else None
                rows.append(
                    {"number": number, "label": run["label"], "rate": run["tally"][name], "change": change}
                )
        if rows:
            fallen = [row["rate"] for row in rows if "fell" in row["rate"]]
            if fallen:
                meaning += "; of the matched fell " + ", ".join(f"{r['fell']} of {r['of']}" for r in fallen)
            groups.append({"name": name, "meaning": meaning, "is_fault": name in FAULTS, "rows": rows})
    return groups


def _change(compared: dict[str, Any]) -> dict[str, Any]:
    difference = compared["difference"]
    low, high = (100 * difference[end] for end in ("low", "high"))
    return {
        "points": f"{100 * difference['value']:+.1f}",
        "ends": f"[{low:+.1f}, {high:+.1f}]",
        "p": p_text(compared["mcnemar_p"]),
        "is_noise": compared["mcnemar_p"] >= LEVEL,
    }


def _mean_rows(facts: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "meaning": meaning,
            "label": run["label"],
            "value": f"{run['tally'][name]:.3f}",
            "ends": "[{low:.3f}, {high:.3f}]".format(**run["tally"]["intervals"][name]),
        }
        for name, meaning in (MEANS | RATIOS).items()
        for run in facts["runs"]
        if name in run["tally"]
    ]


def _slice_rows(facts: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    """Each slice with, for each run, its n and `[count, low, high]` of each rung of the ladder."""
    sliced = [run["tally"][kind] if kind == "by_difficulty" else run[kind] for run in facts["runs"]]
    names = dict.fromkeys(name for slices in sliced for name in slices)
    return [{"name": name, "runs": [_slice_cell(slices.get(name)) for slices in sliced]} for name in names]


def _slice_cell(tallied: Tally | None) -> dict[str, Any] | None:
    if tallied is None:
        return None
    rates = {name: tallied[name] for name in LADDER if name in tallied}
    ends = {name: [r["count"], round(r["low"], 4), round(r["high"], 4)] for name, r in rates.items()}
    return {"n": tallied["n"], **ends}


def _warnings(facts: dict[str, Any]) -> list[str]:
    """What to keep in mind, each once: of the runs, then of the comparisons."""
    found = [line for run in facts["runs"] for line in run["tally"]["warnings"]]
    for compared in facts["comparisons"]:
        whose = f"{compared['b']} against {compared['a']}: " if len(facts["comparisons"]) > 1 else ""
        found += [whose + line if "synthetic" not in line else "" for line in compared["warnings"]]
    return [line for line in dict.fromkeys(found) if line]


def _flat(value: Any, name: str = "") -> list[tuple[str, str]]:
    """Nested settings as `(dotted.name, text)` pairs."""
    if isinstance(value, dict) and value:
        return [
            pair
            for key, inner in value.items()
            for pair in _flat(inner, f"{name}.{key}" if name else str(key))
        ]
    return [(name, value if isinstance(value, str) else json.dumps(value))]
