"""The page that `groundql explore` writes: one HTML file that opens from disk, plots inside."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from groundql.records import write_text
from groundql.reports.plots import bars, columns, histogram

TEMPLATES = Path(__file__).parent / "templates"
N_FUNCTIONS = 20

LENGTH_NAMES = {
    "question": "Question",
    "evidence": "Evidence, where there is some",
    "sql": "Gold SQL",
    "schema_": "Schema, one a database",
    "whole": "Schema + question + evidence + SQL",
}

Facts = Mapping[str, Any]  # what Exploration.model_dump(mode="json") gives


def write_explore_page(facts: Facts, path: Path) -> None:
    """Write the page of these facts; it needs no network and no other file."""
    write_text(path, explore_page(facts))


def explore_page(facts: Facts) -> str:
    """The page as text."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["thousands"] = lambda number: "–" if number is None else f"{number:,}"
    environment.filters["one_decimal"] = lambda number: "–" if number is None else f"{number:,.1f}"
    environment.filters["percent"] = lambda share: "–" if share is None else f"{100 * share:.1f} %"
    lengths = facts["lengths"]
    page = environment.get_template("explore.html.j2").render(
        facts=facts,
        warnings=warnings_of(facts),
        unit=lengths["unit"],
        category_plots=_category_plots(facts),
        complexity_plots=_complexity_plots(facts),
        evidence_plots=_evidence_plots(facts),
        length_plots=_length_plots(lengths),
        length_rows=[(name, lengths[key]) for key, name in LENGTH_NAMES.items() if lengths[key]],
        style=(TEMPLATES / "explore.css").read_text(encoding="utf-8"),
    )
    return page.encode("utf-8", "replace").decode("utf-8")


def warnings_of(facts: Facts) -> list[str]:
    """What a reader must know before using the numbers, one sentence each."""
    found = []
    rows, golds, lengths = facts["rows"], facts["golds"], facts["lengths"]
    if rows.get("synthetic"):
        found.append(
            f"Rows are synthetic in {rows['synthetic']} of {facts['n_databases']} databases: "
            "a result on them is not the data set's own figure."
        )
    if golds is None:
        found.append("The gold queries were not checked: there are no schemas.")
    elif golds["n_run"] < golds["n_gold"]:
        n_not_run = golds["n_gold"] - golds["n_run"]
        found.append(
            f"Gold queries that were prepared but not run: {n_not_run:,}; no rows at hand, or not asked for."
        )
    if lengths["unit"] == "characters":
        found.append(
            "Lengths are in characters, not tokens: no tokenizer was at hand or asked for; --model MODEL counts tokens."
        )
    if facts["complexity"]["not_parsed"]:
        n_lost = len(facts["complexity"]["not_parsed"])
        found.append(
            f"Gold queries that sqlglot does not parse: {n_lost:,}; they are missing from the complexity counts."
        )
    return found


def _category_plots(facts: Facts) -> list[tuple[str, str]]:
    plots = []
    n_all = facts["n_questions"]
    by_difficulty = {name or "(none)": count for name, count in facts["by_difficulty"].items()}
    if set(by_difficulty) != {"(none)"}:
        plots.append(
            ("Difficulty", bars("difficulty", "Questions by difficulty", by_difficulty, n_all=n_all))
        )
    if facts["by_shape"]:
        plots.append(
            ("Shape of the gold SQL", bars("shape", "Questions by shape", facts["by_shape"], n_all=n_all))
        )
    return plots


def _complexity_plots(facts: Facts) -> list[tuple[str, str]]:
    parts = facts["complexity"]
    n_parsed = parts["n_parsed"]
    if not n_parsed:
        return []
    plots = []
    for key, title, unit in (
        ("tables", "Tables", "different tables in the query"),
        ("joins", "Joins", "joins in the query"),
        ("depth", "Nesting", "depth; 1 is a flat query"),
    ):
        counts = {int(number): count for number, count in parts[key].items()}
        plots.append((title, columns(key, f"{title}: queries by number", counts, unit=unit)))
    plots.append(("Clauses", bars("clauses", "Queries with each clause", parts["clauses"], n_all=n_parsed)))
    functions = dict(list(parts["functions"].items())[:N_FUNCTIONS])
    if functions:
        plots.append(
            ("Functions", bars("functions", "Queries with each function", functions, n_all=n_parsed))
        )
    others = {
        **parts["set_operations"],
        "a subquery": parts["n_with_subquery"],
        "a window": parts["n_with_window"],
    }
    plots.append(
        ("Set operations, subqueries, windows", bars("others", "Queries with each", others, n_all=n_parsed))
    )
    return plots


def _evidence_plots(facts: Facts) -> list[tuple[str, str]]:
    found = facts["evidence_characters"]
    return (
        [("Length of the evidence, where there is some", _spread_plot("evidence", found, "characters"))]
        if found
        else []
    )


def _length_plots(lengths: Facts) -> list[tuple[str, str]]:
    wanted = ("question", "sql", "schema_", "whole")
    return [
        (LENGTH_NAMES[key], _spread_plot(f"length-{key}", lengths[key], lengths["unit"]))
        for key in wanted
        if lengths[key]
    ]


def _spread_plot(name: str, spread: Facts, unit: str) -> str:
    beyond = " (last column: this long and longer)" if spread["largest"] > spread["bin_edges"][-1] else ""
    return histogram(
        name,
        f"Histogram of {name} in {unit}",
        spread["bin_edges"],
        spread["bin_counts"],
        unit=unit + beyond,
        marks={"median": spread["median"], "95 %": spread["p95"]},
    )
