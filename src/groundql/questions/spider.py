"""Spider in its official layout: question files, `tables.json` and `database/<db>/<db>.sqlite`."""

from pathlib import Path

from groundql.errors import DataError
from groundql.questions.entries import read_json_entries, unique_ids
from groundql.questions.layout import locate_databases, look_around, pick_file
from groundql.records import DataSet

QUESTION_FILES = {  # split -> names it goes by, the official one first
    "train": ("train_spider.json",),  # without train_others.json, which is its own split
    "train_others": ("train_others.json",),
    "dev": ("dev.json",),
    "realistic": ("dev_realistic.json", "spider-realistic.json"),
    "test": ("test.json",),
}


def load_spider(spec: str, place: str, split: str) -> DataSet:
    """Questions of a Spider folder or question file. No evidence; ids are row numbers from 0; no difficulty.

    Spider has no difficulty field: its hardness classes are computed from the gold SQL when it is judged.
    """
    path = Path(place).expanduser()
    prefixes: tuple[str, ...]
    if path.is_file():
        questions_path, prefixes = path, (path.stem,)
    else:
        split, questions_path = pick_file(path, split, QUESTION_FILES, "spider")
        prefixes = ("test",) if split == "test" else ()
    entries = read_json_entries(questions_path)
    first = entries[0]
    if "query" not in first.values and "SQL" in first.values:
        raise DataError(
            f"{first.where}: the gold is under `SQL`, as in BIRD; write bird: in place of spider:"
        )
    around = look_around(questions_path.parent, prefixes, any_prefix=path.is_file())
    questions = unique_ids(
        [entry.question(row, sql_key="query") for row, entry in enumerate(entries)], entries, same_again=False
    )
    databases = locate_databases(questions, entries, around)
    return DataSet(
        spec=spec, name="spider", split=split or path.stem, questions=questions, databases=databases
    )
