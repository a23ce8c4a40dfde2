"""VES and R-VES of an ablation's stored completions, timed on this machine; the results page shows them beside the counts.

    python -m benchmarks.judge_times OUT.json BUNDLE.tar.xz ... [--rounds N] [--sets spider-dev real-rows]

Run it alone on the machine: one worker, N rounds in which each right prediction and its gold take turns. Lines that OUT holds
stay, unless a bundle has them again. No GPU.
"""

import argparse
import json
import platform
import tarfile
import time
from pathlib import Path
from typing import Any

from benchmarks.judge_rows import data_of
from benchmarks.row_files import restored
from groundql.pipeline import judge_completions
from groundql.records import write_text
from groundql.reports.tally import tally
from groundql.verdicts.cases import Judging


def processor() -> str:
    """The processor's name as Linux tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def timed(row: dict[str, Any], name: str, way: str, n_rounds: int) -> dict[str, Any]:
    """Means over all questions, with intervals, of one row on one set in one way."""
    where = row["data"][name]
    data = data_of(where["data"], where.get("limit"))
    settings = Judging(n_workers=1, n_timings=n_rounds)
    started = time.monotonic()
    found = tally(judge_completions(data, [restored(one) for one in row["predictions"][name][way]], settings))
    return {
        "n": found["n"],
        "right": found["ex_bird"]["count"],
        **{
            measure: [round(v, 4) for v in (found[measure], *map(found["intervals"][measure].get, ("low", "high")))]
            for measure in ("ves", "r_ves")
        },
        "rounds": n_rounds,
        "processor": processor(),
        "seconds": round(time.monotonic() - started, 1),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("bundles", type=Path, nargs="+")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--sets", nargs="+", default=["spider-dev", "real-rows"])
    options = parser.parse_args()
    lines: dict[str, Any] = json.loads(options.out.read_text()) if options.out.is_file() else {}
    for bundle in options.bundles:
        with tarfile.open(bundle) as archive:
            rows = [json.load(file) for member in archive if (file := archive.extractfile(member))]
        for row in rows:
            for name in options.sets:
                for way in row["predictions"].get(name, {}):
                    line = timed(row, name, way, options.rounds)
                    lines.setdefault(row["name"], {}).setdefault(name, {})[way] = line
                    print(row["name"], name, way, line, flush=True)
    write_text(options.out, json.dumps(lines, indent=1) + "\n")


if __name__ == "__main__":
    main()
