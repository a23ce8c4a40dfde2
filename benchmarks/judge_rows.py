"""Verdicts on the rows of an ablation, as one small JSON file that the results page is drawn from.

    python -m benchmarks.judge_rows SECTION BUNDLE.tar.xz ... [--out OUT.json] [--timings N]

folds the rows of bundles (`rows-SECTION.tar.xz` of `benchmarks/ablations.py`) into OUT, which is what the page is drawn from
unless named. Run where `data/` is as `benchmarks/ablation_data.py` makes it. Rows that OUT already holds stay, unless a bundle
has them again and whole. For each row, data set and way of decoding it keeps counts and, for the rungs that are compared, which questions
passed: a bit a question, in the order of the data set, as hexadecimal digits.
"""

import argparse
import json
import tarfile
import time
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.row_files import bits_of, restored
from benchmarks.stored_results import STORED
from groundql import tuning
from groundql.pipeline import judge_completions
from groundql.questions.load import load_data
from groundql.records import DataSet, Verdict, write_text
from groundql.reports.causes import cause
from groundql.reports.tally import tally
from groundql.verdicts.cases import Judging

Row = dict[str, Any]
COMPARED = (
    "sqlglot_accepts",
    "parsed",
    "grounded",
    "ran",
    "ex_bird",
    "ex_strict",
    "ast_equal",
    "spider_exec",
)
MEANS = ("soft_f1_unordered", "r_ves", "ves", "step_ratio", "link_f1", "ast_similarity")
KEPT = (  # of what the training left
    "name",
    "model",
    "table",
    "label",
    "command",
    "config_fingerprint",
    "prompt_fingerprint",
    "workers",
    "device",
    "versions",
    "training",
    "first_training",
    "rejection",
    "counts",
    "data_fingerprints",
    "seconds",
    "decoding",
    "data",
)


@cache
def data_of(spec: str, limit: int | None) -> DataSet:
    data = load_data(spec)
    return data.model_copy(update={"questions": tuning.spread(data.questions, limit)}) if limit else data


def summary(verdicts: Sequence[Verdict]) -> Row:
    """Counts, means, causes of failure and the bits of one data set decoded in one way."""
    found = tally(verdicts)
    rungs = {name: found[name]["count"] for name in COMPARED if name in found}
    n_undecided = {name: sum(getattr(v, name) is None for v in verdicts) for name in rungs}
    return {
        "n": len(verdicts),
        "rows": found["rows"],
        "counts": rungs,
        "undecided": {name: n for name, n in n_undecided.items() if n},
        "means": {name: round(found[name], 4) for name in MEANS if name in found},
        "abstained": sum(v.abstained for v in verdicts),
        "causes": dict(Counter(cause(v) for v in verdicts).most_common()),
        "bits": {name: bits_of([getattr(v, name) is True for v in verdicts]) for name in rungs},
    }


def judged(row: Row, n_timings: int) -> Row:
    """The row with a summary in place of each list of predictions."""
    found = {name: row[name] for name in KEPT if name in row}
    found["log"] = [[e["step"], round(e["loss"], 4)] for e in row.get("log", []) if e.get("loss") is not None]
    scores = [[e["step"], e["eval_ex_strict"]] for e in row.get("log", []) if "eval_ex_strict" in e]
    found |= {"dev_scores": scores} if scores else {}
    found["judged"] = {}
    for name, ways in row["predictions"].items():
        where = row["data"][name]
        data = data_of(where["data"], where.get("limit"))
        settings = Judging(n_workers=2, n_timings=n_timings, spider=data.name == "spider")
        found["judged"][name] = {
            way: summary(judge_completions(data, [restored(one) for one in completions], settings))
            for way, completions in ways.items()
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("section")
    parser.add_argument("bundles", type=Path, nargs="+")
    parser.add_argument("--out", type=Path)
    parser.add_argument(
        "--timings", type=int, default=0, help="rounds that time right predictions, for R-VES"
    )
    options = parser.parse_args()
    out = options.out or STORED[options.section]
    rows = {row["name"]: row for row in json.loads(out.read_text())["rows"]} if out.is_file() else {}
    for bundle in options.bundles:
        with tarfile.open(bundle) as archive:
            for member in archive:
                file = archive.extractfile(member)
                assert file is not None
                row = json.loads(file.read())
                if row["name"] in rows and not row["complete"]:
                    print(f"{row['name']}: was cut, the stored one stays", flush=True)
                    continue
                started = time.monotonic()
                rows[row["name"]] = judged(row, options.timings)
                print(f"{row['name']}: {time.monotonic() - started:.1f} s", flush=True)
    write_text(out, json.dumps({"section": options.section, "rows": list(rows.values())}, indent=1) + "\n")


if __name__ == "__main__":
    main()
