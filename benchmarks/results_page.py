"""Draws docs/results.md and its plots from the JSON that `benchmarks/judge_rows.py` stores; nothing on it is typed in.

    python -m benchmarks.results_page [--check]

`--check` draws nothing and fails where the page is not what the stored numbers give. Rows of `ablation_rows.toml` that the
JSON does not hold are on the page as not run.
"""

import argparse
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence

from benchmarks.error_table import error_section
from benchmarks.headline import headline
from benchmarks.larger_models import larger_section
from benchmarks.row_files import sections
from benchmarks.stored_results import (
    ALL_HELD,
    ROOT,
    ROWS,
    TITLES,
    WORDS,
    Line,
    Row,
    lines_of,
    paired_text,
    rate_text,
    right,
    stored,
    table,
    times,
)
from groundql.reports.statistics import wilson

PAGE = ROOT / "docs" / "results.md"
PLOTS = ROOT / "docs" / "results"
ALONE = ("paper",)  # tables of the choice whose rows are compared with the row above, not with the base


def cost_text(row: Row) -> list[str]:
    """Steps, tokens, seconds, peak MiB and the settings' hash."""
    training = row.get("training", {})
    if not training:
        return ["-", "-", "-", "-", row.get("config_fingerprint", "-") if row.get("judged") else "-"]
    peak = training.get("peak_mib")
    return [
        f"{training['n_steps']:.0f}",
        f"{training['trained_tokens'] / 1e6:.2f} M",
        f"{training['elapsed_s']:.0f}",
        f"{peak:.0f}" if peak else "-",
        row["config_fingerprint"],
    ]


def ratio_text(summary: Row | None) -> str:
    """Gold's steps over the prediction's, where right: the part of VES that is the same on each machine."""
    return f"{summary['means']['step_ratio']:.2f}" if summary and "step_ratio" in summary["means"] else "-"


def partner_of(line: Line, above: Line | None, rows: dict[str, Row], base: Line) -> tuple[Line | None, str]:
    """What a line of the choice is compared with, and its name where that is not what the column says."""
    if line.way == "last":
        return Line(line.row, "grounded"), "the chosen checkpoint"
    if against := line.row.get("against"):
        return Line(rows[against], line.way), rows[against]["label"]
    return (above if line.row["table"] in ALONE else Line(base.row, line.way)), ""


def choice_table(rows: Sequence[Row], all_rows: Sequence[Row], base: Line) -> str:
    """One table of the choice: each row against the base, the row that it names, or the row above."""
    head = [
        "",
        "decoding",
        "Spider held: `ex_strict`",
        "`ast_equal`",
        "step ratio",
        "VES",
        "BIRD held: `grounded`",
        "`ex_strict` (synthetic)",
        "`ast_equal`",
        "`ex_strict` against " + ("the row above" if rows[0]["table"] in ALONE else "base") + ", points",
    ]
    shown: list[list[str]] = []
    by_name = {row["name"]: row for row in all_rows}
    above = None
    for row in rows:
        for line in lines_of(row, "choice"):
            if not row.get("judged"):
                shown.append([row["label"], WORDS[line.way], "not run", *["-"] * (len(head) - 3)])
                continue
            partner, name = partner_of(line, above, by_name, base)
            spider, bird = line.of("spider-held"), line.of("bird-held")
            difference = paired_text(line, partner, ("spider-held", "bird-held"), "ex_strict")
            shown.append(
                [
                    row["label"],
                    WORDS[line.way],
                    rate_text(spider, "ex_strict"),
                    rate_text(spider, "ast_equal"),
                    ratio_text(spider),
                    time_text(times().get(row["name"], {}).get("spider-held", {}).get(line.way))[0],
                    rate_text(bird, "grounded"),
                    rate_text(bird, "ex_strict"),
                    rate_text(bird, "ast_equal"),
                    f"{difference} (against: {name})" if name and difference != "-" else difference,
                ]
            )
            above = line
    return table(head, shown) + "".join(f"\n{note}\n" for row in rows for note in notes_of(row))


def notes_of(row: Row) -> list[str]:
    """What a row tells beside its scores."""
    notes = []
    if found := row.get("rejection"):
        notes.append(
            f"Own queries: {found['texts']:,} texts for {found['questions_asked']:,} questions; {found['questions_with_a_right_text']:,} questions "
            f"had a right one; {found['kept']:,} queries were kept, of {found['kept_of_questions']:,} questions "
            f"({found.get('texts_written_as_gold', 0):,} right ones were written as gold)."
        )
    if scores := row.get("dev_scores"):
        shown = ", ".join(f"{100 * score:.1f} at step {step}" for step, score in scores)
        notes.append(
            f"Checkpoints of {row['label']}: `ex_strict` {shown}; kept: step {row['training']['best_step']:.0f}."
        )
    return notes


def seeds_table(choice: Sequence[Row], final: Sequence[Row]) -> str:
    """What each recipe has right with each seed that was tried."""
    shown = []
    for rows, of, n in ((choice, "500 held questions", 500), (final, "Spider dev", 972)):
        by_name = {row["name"]: row for row in rows}
        for first in dict.fromkeys(row["again"] for row in rows if "again" in row):
            members = [by_name[first], *(row for row in rows if row.get("again") == first)]
            lines = [Line(row, "grounded").of("spider-dev") for row in members]
            counts = [
                right(row) if of != "Spider dev" else line["counts"]["ex_strict"] if line else None
                for row, line in zip(members, lines, strict=True)
            ]
            known = [count for count in counts if count is not None]
            spread = f"{100 * (max(known) - min(known)) / n:.1f}" if len(known) > 1 else "-"
            mean = f"{100 * sum(known) / len(known) / n:.1f}" if known else "-"
            told = ", ".join("not run" if count is None else str(count) for count in counts)
            shown.append([by_name[first]["label"], of, told, mean, spread])
    return table(["", "asked", "right, a seed each", "mean, %", "largest difference, points"], shown)


def close_table(choice: Sequence[Row]) -> str:
    """The rows that were asked the other held questions too, each against the row that it names."""
    by_name = {row["name"]: row for row in choice}
    shown = []
    for row in choice:
        count = right(row, data=ALL_HELD)
        if count is None:
            continue
        other = by_name.get(row.get("against", ""))
        partner = Line(other, "grounded") if other else None
        n = sum(found["n"] for name in ALL_HELD if (found := Line(row, "grounded").of(name)))
        spider = [rate_text(Line(row, "grounded").of(name), "ex_strict") for name in ALL_HELD]
        difference = paired_text(Line(row, "grounded"), partner, ALL_HELD, "ex_strict")
        against = f" (against: {other['label']})" if other and difference != "-" else ""
        shown.append([row["label"], *spider, f"{count} of {n}", difference + against])
    head = ["", *(TITLES[name] for name in ALL_HELD), "together", "`ex_strict`, points, against"]
    return table(head, shown) if shown else "Not run.\n"


def final_table(rows: Sequence[Row], data: str) -> str:
    """One evaluation set: every row and way, each against the line above."""
    synthetic = " (synthetic)" if data == "bird-dev" else ""
    timed = {name: ways[data] for name, ways in times().items() if data in ways}
    head = ["", "decoding", "`sqlglot_accepts`", "`parsed`", "`grounded`", "`ran`", f"`ex_bird`{synthetic}",
            f"`ex_strict`{synthetic}", "`ast_equal`", f"step ratio{synthetic}", *(["VES", "R-VES"] if timed else []), "abstained", "`ex_strict` against the line above", "settings"]  # fmt: skip
    shown: list[list[str]] = []
    above: Line | None = None
    for row in rows:
        for line in lines_of(row, "final"):
            found = line.of(data)
            if found is None:
                if line.way not in sections(ROWS)["final"]["asked"][data].get("without", []):
                    shown.append([row["label"], WORDS[line.way], "not run", *["-"] * (len(head) - 3)])
                continue
            rungs = ("sqlglot_accepts", "parsed", "grounded", "ran", "ex_bird", "ex_strict", "ast_equal")
            shown.append(
                [
                    row["label"],
                    WORDS[line.way],
                    *(rate_text(found, rung) for rung in rungs),
                    ratio_text(found),
                    *(time_text(timed.get(row["name"], {}).get(line.way)) if timed else []),
                    str(found["abstained"]),
                    paired_text(line, above, (data,), "ex_strict"),
                    row["config_fingerprint"],
                ]
            )
            above = line
    return table(head, shown)


def time_text(line: Row | None) -> list[str]:
    """VES and R-VES with their intervals, as a mean over all questions, a wrong one 0."""
    if line is None:
        return ["not run", "not run"]
    return ["{:.3f} [{:.3f}, {:.3f}]".format(*line[measure]) for measure in ("ves", "r_ves")]


def about_times() -> str:
    """Where and how queries were timed."""
    lines = [line for sets in times().values() for ways in sets.values() for line in ways.values()]
    if not lines:
        return "VES and R-VES: not run.\n"
    rounds = sorted({line["rounds"] for line in lines})
    places = sorted({line["processor"] for line in lines})
    return (
        f"VES and R-VES are timed on {' and '.join(places)}, {' or '.join(map(str, rounds))} rounds in which prediction and gold take "
        "turns (`python -m benchmarks.judge_times`); both are means over all questions, so a wrong answer counts 0 "
        "and they follow `ex_bird`. A text that is gold's is not timed and counts 1. The step ratio is the same on every machine.\n"
    )


def page() -> str:
    """The whole of docs/results.md."""
    choice, final = stored("choice"), stored("final")
    base = Line(choice[0], "grounded")
    parts = [
        "# Results\n",
        headline(),
        "Drawn by `python -m benchmarks.results_page` from `benchmarks/results/2026-11-25-ablations-*.json`; a test draws it again and "
        "compares. `python -m benchmarks.judge_rows SECTION rows-SECTION.tar.xz` folds in the rows of a new run. Rates are in percent of all n questions with a 95 % Wilson interval; an abstention or an undecided "
        "question is not a pass. Differences are paired, p is McNemar's exact test. What the rungs mean: "
        "[metrics.md](metrics.md).\n",
        about(choice, final),
        error_section(),
        "## On the evaluation sets\n",
        "Asked once per row, after everything was chosen below. Databases of these sets are in no training set "
        "(preflight).\n",
        about_times(),
    ]
    plan = sections(ROWS)["final"]
    order = ["untuned", "paper", "paper-schema"]
    rows = sorted(final, key=lambda row: order.index(row["name"]) if row["name"] in order else len(order))
    for data in plan["ask"]:
        n = next((line.of(data) for row in rows for line in lines_of(row, "final") if line.of(data)), None)
        size = f", n = {n['n']}" if n else ""
        parts += [f"### {TITLES[data]}{size}\n", final_table(rows, data)]
    parts += [
        "What they cost:\n",
        cost_table(rows, {"decoding, s a set": decoding_text}),
        larger_section(),
        "## Chosen on held databases of the training sets\n",
        "12 databases of BIRD train (200 questions) and 20 of Spider train (300) are held out of every row here "
        "(`benchmarks/ablation_data.py`). BIRD train comes without rows: its `ex_strict` is taken on random rows and named "
        "synthetic. The base row is 45 % of the rest, one epoch; each other row changes what its label says; "
        "differences within those of two seeds say little. Step ratio: gold's steps in SQLite's machine over the prediction's, "
        "where right.\n",
        "### Seeds\n",
        seeds_table(choice, final),
        "### Close rows on more questions\n",
        "500 questions are few for rows that lie close. These were asked the other 558 questions on the 20 Spider databases too: "
        "`ex_strict`, grounded.\n",
        close_table(choice),
        "![scores of the rows](results/choice.png)\n",
    ]
    for name in dict.fromkeys(row["table"] for row in choice):
        members = [row for row in choice if row["table"] == name]
        parts += [f"### {name[0].upper()}{name[1:]}\n", choice_table(members, choice, base)]
    parts += [
        "### What the rows cost\n",
        cost_table(choice),
        "MiB of the first 22 rows include about 100 for every row that the same process had trained before: a CUDA graph left its "
        "workspaces behind, which it no longer does.\n",
        "## Loss\n",
        "![loss over steps](results/loss.png)\n",
        "## Commands\n",
        "The folders `data/*/fit` and `data/*/held` are made by `python -m benchmarks.ablation_data`.\n",
        *[
            f"- `{row['config_fingerprint']}` {row['label']}: `{row['command']}`"
            for row in (*rows, *choice)
            if row.get("judged")
        ],
    ]
    return "\n".join(parts).rstrip() + "\n"


def cost_table(rows: Sequence[Row], further: Mapping[str, Callable[[Row], str]] | None = None) -> str:
    """What each row that was run cost, and `further` columns by their heads."""
    further = further or {}
    return table(
        ["", "steps", "tokens", "training, s", "peak MiB", "settings", *further],
        [
            [row["label"], *cost_text(row), *(text(row) for text in further.values())]
            for row in rows
            if row.get("judged")
        ],
    )


def decoding_text(row: Row) -> str:
    """`Spider dev free 8.1, grounded 6.4`."""
    shown = []
    for name, ways in row.get("decoding", {}).items():
        seconds = ", ".join(f"{way} {notes['seconds']:.1f}" for way, notes in ways.items())
        shown.append(f"{TITLES[name]} {seconds}")
    return "; ".join(shown)


def about(choice: Sequence[Row], final: Sequence[Row]) -> str:
    """Where the rows were run."""
    ran = [row for row in (*choice, *final) if row.get("judged")]
    if not ran:
        return "Nothing has been run yet.\n"
    devices = sorted({row["device"] for row in ran})
    workers = sorted({row["workers"] for row in ran})
    versions = ran[0]["versions"]
    shown = ", ".join(
        f"{name} {versions[name]}"
        for name in ("torch", "transformers", "peft", "bitsandbytes")
        if name in versions
    )
    return (
        f"Qwen2.5-Coder-0.5B-Instruct, weights from a Q4_K_M GGUF file. {' and '.join(devices)}; {shown}. Up to {max(workers)} rows "
        f"ran on the card at a time, so seconds compare roughly, and only within a table. {len(ran)} of {len(choice) + len(final)} "
        "rows were run.\n"
    )


def draw_plots() -> None:
    """Scores of the choice with their intervals, and loss curves."""
    from matplotlib.figure import Figure

    PLOTS.mkdir(exist_ok=True)
    rows = [row for row in stored("choice") if row.get("judged")]
    lines = [
        (row, line)
        for row in rows
        for line in lines_of(row, "choice")
        if line.way == "grounded" and line.of("spider-held")
    ]
    figure = Figure(figsize=(7.5, 0.6 + 0.24 * max(1, len(lines))), layout="constrained")
    axes = figure.add_subplot()
    for place, (_, line) in enumerate(lines):
        for name, colour, shift in (("spider-held", "tab:blue", -0.12), ("bird-held", "tab:orange", 0.12)):
            found = line.of(name)
            if found and "ex_strict" in found["counts"]:
                count, n = found["counts"]["ex_strict"], found["n"]
                low, high = wilson(count, n)
                axes.plot([100 * low, 100 * high], [place + shift] * 2, color=colour, linewidth=1)
                axes.plot(
                    100 * count / n,
                    place + shift,
                    "o",
                    color=colour,
                    markersize=4,
                    label=TITLES[name] if not place else None,
                )
    labels = [textwrap.fill(row["label"], 56) for row, _ in lines]
    axes.set_yticks(range(len(lines)), labels, fontsize=7)
    axes.margins(y=0.01)
    axes.invert_yaxis()
    axes.set_xlabel("ex_strict, %, grounded (BIRD: synthetic rows)", fontsize=8)
    if lines:
        figure.legend(loc="outside upper right", ncols=2, fontsize=7)
    figure.savefig(PLOTS / "choice.png", dpi=110, metadata={"Software": None})
    figure = Figure(figsize=(7.5, 3.6), layout="constrained")
    axes = figure.add_subplot()
    for row in [row for row in (*stored("final"), *rows) if row.get("log")][:9]:
        axes.plot(
            [step for step, _ in row["log"]],
            [loss for _, loss in row["log"]],
            label=row["label"][:46],
            linewidth=1,
        )
    axes.set_xlabel("step")
    axes.set_ylabel("loss a label token")
    axes.set_yscale("log")
    if axes.lines:
        axes.legend(fontsize=6)
    figure.savefig(PLOTS / "loss.png", dpi=110, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true")
    if parser.parse_args().check:
        sys.exit(
            0
            if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == page()
            else f"{PAGE} is not what the stored rows give"
        )
    PAGE.write_text(page(), encoding="utf-8")
    draw_plots()
    print(PAGE)


if __name__ == "__main__":
    main()
