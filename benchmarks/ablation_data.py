"""The training databases in two parts, so that settings are chosen without a look at an evaluation set.

    python -m benchmarks.ablation_data ../shared/data data

OUT gets every file of DATA as a link, and folders in the official layouts, drawn from a fixed seed:

- `bird/fit`, `spider/fit`: what settings are trained on;
- `bird/held`, `spider/held`: up to 200 and 300 questions on 12 and 20 databases that the former do not hold;
- `spider/held_rest`: the other 558 questions on those 20 databases, for rows that lie close;
- `bird/seen`: 200 questions on the databases of `bird/fit`, themselves not in it: the seed paper's random split;
- `spider/inner`, `spider/inner_dev`: `spider/fit` without 10 of its databases, and 120 questions on these, for the row whose
  checkpoint is chosen by what its queries return.

BIRD's training set comes without rows. Those of `held` and `seen` are random ones that the golds' constants find, and the
folders say that they are synthetic.
"""

import json
import random
import shutil
import sqlite3
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from groundql.databases.schema import read_schema
from groundql.questions.load import load_data
from tests.prompts.twin import filled_twin

SEED = 11
N_HELD = {"bird": 12, "spider": 20}  # databases
N_ASKED = {"bird": 200, "spider": 300}  # questions on them, spread evenly
N_SEEN = 200
N_INNER, N_INNER_ASKED = 10, 120  # databases of spider/fit, and questions on them
N_TWINS = 16  # fillings of a database, of which the one is kept where most golds find something
Entry = dict[str, Any]


def split_databases(entries: Sequence[Entry], n_held: int, seed: int) -> tuple[list[Entry], list[Entry]]:
    """Entries on all other databases, and those on `n_held` that are drawn."""
    names = sorted({entry["db_id"] for entry in entries})
    held = set(random.Random(seed).sample(names, n_held))
    return [e for e in entries if e["db_id"] not in held], [e for e in entries if e["db_id"] in held]


def spread_entries(entries: Sequence[Entry], limit: int, seed: int) -> list[Entry]:
    """At most `limit`, the databases in turn, in their old order."""
    order = list(range(len(entries)))
    random.Random(seed).shuffle(order)
    turns: dict[str, int] = {}
    ranked = []
    for i in order:
        turn = turns[entries[i]["db_id"]] = turns.get(entries[i]["db_id"], 0) + 1
        ranked.append((turn, i))
    return [entries[i] for i in sorted(i for _, i in sorted(ranked)[:limit])]


def link(source: Path, target: Path) -> None:
    """A copy of `source` that takes no room, where the file system has such."""
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    target.symlink_to(source.resolve())


def write_json(path: Path, entries: Iterable[Entry]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(list(entries), indent=1), encoding="utf-8")


def write_bird(data: Path, out: Path) -> None:
    train = data / "bird" / "train"
    fit, held = split_databases(json.loads((train / "train.json").read_text()), N_HELD["bird"], SEED)
    held = spread_entries(held, N_ASKED["bird"], SEED)
    seen_ids = {e["question_id"] for e in random.Random(SEED).sample(fit, N_SEEN)}
    parts = {
        ("fit", "train"): [e for e in fit if e["question_id"] not in seen_ids],
        ("held", "dev"): held,
        ("seen", "dev"): [e for e in fit if e["question_id"] in seen_ids],
    }
    for (name, split), entries in parts.items():
        folder = out / "bird" / name
        write_json(folder / f"{split}.json", entries)
        link(train / "train_tables.json", folder / f"{split}_tables.json")
        link(train / "schemas", folder / "schemas")
        if split == "dev":
            fill_databases(folder, name)


def fill_databases(folder: Path, name: str) -> None:
    """A SQLite file of random rows for each database that is asked; the golds say which constants occur."""
    data = load_data(f"bird:{folder}#dev")
    golds: dict[str, list[str]] = {}
    for question in data.questions:
        golds.setdefault(question.db_id, []).append(question.gold_sql or "")
    for db_id, its in golds.items():
        schema = read_schema(data.databases[db_id], n_examples=2)
        tries = [filled_twin(schema, its, random.Random(f"{name} {db_id} {i}")) for i in range(N_TWINS)]
        best = max(tries, key=lambda twin: sum(returns_values(twin, gold) for gold in its))
        path = folder / "dev_databases" / db_id / f"{db_id}.sqlite"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        file = sqlite3.connect(path)
        best.backup(file)
        for connection in (file, *tries):
            connection.close()
    (folder / "README.txt").write_text(
        "THE ROWS ARE SYNTHETIC: random, with the constants of the gold queries.\n"
    )


def returns_values(twin: sqlite3.Connection, gold: str) -> bool:
    """Whether the query finds anything but NULL and 0: what says little about a prediction."""
    rows = twin.execute(gold).fetchmany(100)
    return any(cell not in (None, 0) for row in rows for cell in row)


def write_spider(data: Path, out: Path) -> None:
    spider = data / "spider"
    fit, held = split_databases(
        json.loads((spider / "train_spider.json").read_text()), N_HELD["spider"], SEED
    )
    asked = spread_entries(held, N_ASKED["spider"], SEED)
    inner, inner_dev = split_databases(fit, N_INNER, SEED)
    for name, file, entries in (
        ("fit", "train_spider.json", fit),
        ("held", "dev.json", asked),
        ("held_rest", "dev.json", [entry for entry in held if entry not in asked]),
        ("inner", "train_spider.json", inner),
        ("inner_dev", "dev.json", spread_entries(inner_dev, N_INNER_ASKED, SEED)),
    ):
        folder = out / "spider" / name
        write_json(folder / file, entries)
        link(spider / "tables.json", folder / "tables.json")
        link(spider / "database", folder / "database")


def main(data: Path, out: Path) -> None:
    for path in sorted((data / "bird").iterdir()) + sorted((data / "spider").iterdir()):
        link(path, out / path.relative_to(data))
    for made in (
        "bird/fit",
        "bird/held",
        "bird/seen",
        "spider/fit",
        "spider/held",
        "spider/held_rest",
        "spider/inner",
        "spider/inner_dev",
    ):
        shutil.rmtree(out / made, ignore_errors=True)
    write_bird(data, out)
    write_spider(data, out)
    for spec in (
        "bird:{}/bird/fit#train",
        "bird:{}/bird/held#dev",
        "bird:{}/bird/seen#dev",
        "spider:{}/spider/fit#train",
        "spider:{}/spider/held#dev",
        "spider:{}/spider/held_rest#dev",
        "spider:{}/spider/inner#train",
        "spider:{}/spider/inner_dev#dev",
    ):
        found = load_data(spec.format(out))
        print(f"{spec.format(out)}: {len(found.questions)} questions, {len(found.databases)} databases")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
