"""Rows of an ablation: each trains as `groundql train` would with some settings changed, and decodes questions it never saw.

    python -m benchmarks.ablations ROWS.toml SECTION OUT --model MODEL [--model NAME=DIR] --encoded DIR [--seconds S] [--workers N] [NAME ...]

SECTION may be several, `final,choice`: rows of the second fill the time that is left after those of the first.
Rows are taken in the order of the file, or of the names given, while their cost still fits the time, N at once. Each row is a process of its own, so
that it has the memory a first training has, and goes through the project's own training and decoding; what is spared is
encoding the questions again for each. What is there of all rows is in `OUT/rows-SECTION.tar.xz` after each training and
each data set decoded, so a run that is cut loses little; a row with `complete` false was cut. A row with `keep` leaves its
run folder at `SCRATCH/SECTION/run-NAME` and its adapter, in 16 bits, as `OUT/NAME.tar.00`, `.01`, ... Verdicts are made elsewhere
(`benchmarks/judge_rows.py`), from the SQL kept here.

Where several rows share a card, their seconds compare with nothing; the number of workers stands in each row.
"""

import argparse
import contextlib
import faulthandler
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.row_files import bundle, save_adapter, sections, start_over

Row = dict[str, Any]
LATE_S = 10  # after the time is up a row may go on so long


def run_one(options: argparse.Namespace) -> None:
    """The row `options.row`, in this process."""
    from benchmarks.row_run import (
        Bench,
        run_row,
    )  # torch, which the process that starts the rows does not need

    faulthandler.register(signal.SIGUSR1)
    section = sections(options.rows)[options.section]
    row = next(one for one in section["row"] if one["name"] == options.row)
    place = Path(options.scratch) / options.section
    rows_dir, folder = place / "rows", place / f"run-{row['name']}"

    def keep(found: Row) -> None:
        beside = rows_dir / f"{row['name']}.part"
        beside.write_text(json.dumps(found, separators=(",", ":")))
        beside.replace(rows_dir / f"{row['name']}.json")
        bundle(rows_dir, options.out / f"rows-{options.section}.tar.xz")
        if row.get("keep") and not found["predictions"] and folder.is_dir():
            save_adapter(folder, options.out, row["name"])

    started = time.monotonic()
    name = row.get("model", section["model"])
    encoded = options.encoded / name  # of another model, with its own tokenizer
    encoded = encoded if encoded.is_dir() else options.encoded
    bench = Bench(model_dir(options.model, name, section), encoded, options.workers)
    found = run_row(bench, row, section, folder, keep)
    if not row.get("keep"):
        shutil.rmtree(folder, ignore_errors=True)
    print(line_of(found, time.monotonic() - started), flush=True)


def model_dir(given: list[str], name: str, section: Row) -> str:
    """Where the model `name` is: NAME=DIR of `--model`, or the plain DIR for the section's own; "" where not given."""
    named = dict(one.split("=", 1) for one in given if "=" in one)
    plain = next((one for one in given if "=" not in one), "")
    return named.get(name, plain if name == section["model"] else "")


def place_in(names: list[str], row: Row) -> int:
    """Where the row stands among `names`, which hold it."""
    return min(names.index(one) for one in (row["name"], f"{row['section']}/{row['name']}") if one in names)


def run_all(options: argparse.Namespace) -> int:
    """Rows in processes of their own, `options.workers` at once, until none is left that fits the time; how many ran."""
    ends, left = time.time() + options.seconds, []
    for name in options.section.split(","):
        section = sections(options.rows)[name]
        done = start_over(Path(options.scratch) / name, options.go_on)
        for row in section["row"]:
            asked_for = not options.names or {row["name"], f"{name}/{row['name']}"} & set(options.names)
            has_model = model_dir(options.model, row.get("model", section["model"]), section)
            if row["name"] not in done and asked_for and has_model:
                left.append({"cost": section["cost"], **row, "section": name})
    if options.names:
        left.sort(key=lambda row: place_in(options.names, row))
    lock, n_taken = threading.Lock(), 0

    def take() -> Row | None:
        nonlocal n_taken
        with lock:
            for row in left:
                if time.time() + row["cost"] * options.slower <= ends:
                    left.remove(row)
                    n_taken += 1
                    return row
        return None

    def work() -> None:
        while row := take():
            command = [sys.executable, "-W", "ignore", "-m", "benchmarks.ablations", *sys.argv[1:]]
            command += ["--one", row["section"], row["name"]]
            child = subprocess.Popen(command, start_new_session=True)  # its own processes end with it
            try:
                child.wait(max(1.0, ends + LATE_S - time.time()))
            except subprocess.TimeoutExpired:
                child.send_signal(signal.SIGUSR1)  # it says where it is
                time.sleep(0.5)
                print(f"{row['name']}: stopped by the clock", flush=True)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)

    threads = [threading.Thread(target=work) for _ in range(options.workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return n_taken


def line_of(found: Row, took_s: float) -> str:
    training = found.get("training", {})
    decoding = {
        f"{name}/{way}": notes["seconds"]
        for name, ways in found.get("decoding", {}).items()
        for way, notes in ways.items()
    }
    return (
        f"{found['name']:22} {took_s:6.1f} s train {training.get('elapsed_s', 0):6.1f} step {found['seconds'].get('step', 0):.3f}"
        f" peak {training.get('peak_mib', 0):6.0f} MiB decode {decoding}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rows", type=Path)
    parser.add_argument("section")
    parser.add_argument("out", type=Path)
    parser.add_argument("names", nargs="*", help="only these rows, in this order: NAME or SECTION/NAME")
    parser.add_argument(
        "--model", required=True, action="append", help="DIR of the section's model, NAME=DIR of another"
    )
    parser.add_argument("--encoded", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=540)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--slower", type=float, default=1.0, help="rows' costs are multiplied by it")
    parser.add_argument("--scratch", default=str(Path(tempfile.gettempdir()) / "ablations"))
    parser.add_argument(
        "--go-on", action="store_true", help="keep the rows of an earlier call on this machine"
    )
    parser.add_argument("--one", nargs=2, help="a row, by section and name, in this process")
    options = parser.parse_args()
    if options.one:
        options.section, options.row = options.one
        run_one(options)
        return
    options.out.mkdir(parents=True, exist_ok=True)
    started = time.time()
    n_taken = run_all(options)
    print(f"{n_taken} rows taken in {time.time() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
