"""BIRD in its official layout: `train.json`, `dev.json`, `mini_dev_sqlite.json`, or the filtered train set of the hub."""

from pathlib import Path
from typing import Any

from groundql.errors import DatabaseMissing, DataError, DependencyMissing
from groundql.questions.entries import Entry, read_json_entries, unique_ids
from groundql.questions.layout import locate_databases, look_around, pick_file
from groundql.records import DatabaseFiles, DataSet, Question

HUB_NAME = "birdsql/bird23-train-filtered"  # 6,601 questions of 69 databases, CC BY-SA 4.0; questions only, no schemas
QUESTION_FILES = {  # split -> names it goes by, the official one first
    "train": ("train.json",),
    "dev": ("dev.json",),
    "mini_dev": ("mini_dev_sqlite.json", "mini_dev.json"),
}
PREFIXES = {
    "train": ("train",),
    "dev": ("dev",),
    "mini_dev": ("mini_dev", "dev"),
}  # of _databases/ and _tables.json


def load_bird(spec: str, place: str, split: str) -> DataSet:
    """Questions of a BIRD folder, a question file, or the hub (`hub`, `hub@DIR` with the schemas in DIR)."""
    if place == "hub" or place.startswith("hub@"):
        return _load_hub(spec, place.removeprefix("hub").removeprefix("@"), split)
    path = Path(place).expanduser()
    prefixes: tuple[str, ...]
    if path.is_file():
        questions_path, prefixes, any_prefix = path, (path.stem,), True
    else:
        split, questions_path = pick_file(path, split, QUESTION_FILES, "bird")
        prefixes, any_prefix = PREFIXES[split], False
    entries = read_json_entries(questions_path)
    around = look_around(questions_path.parent, prefixes, any_prefix=any_prefix)
    questions = _questions(entries)
    databases = locate_databases(questions, entries, around)
    return DataSet(spec=spec, name="bird", split=split or path.stem, questions=questions, databases=databases)


def _questions(entries: list[Entry]) -> tuple[Question, ...]:
    first = entries[0]
    if "SQL" not in first.values and "query" in first.values:
        raise DataError(
            f"{first.where}: the gold is under `query`, as in Spider; write spider: in place of bird:"
        )
    questions = [entry.question(row, sql_key="SQL") for row, entry in enumerate(entries)]
    return unique_ids(questions, entries, same_again=True)


def _load_hub(spec: str, folder: str, split: str) -> DataSet:
    if split not in ("", "train"):
        raise DataError(f"the hub set {HUB_NAME} has no split {split!r}; write bird:hub#train")
    entries = [Entry(f"{HUB_NAME}, row {row}", values) for row, values in enumerate(_hub_rows())]
    questions = _questions(entries)
    if folder:
        directory = Path(folder).expanduser()
        if not directory.is_dir():
            raise DataError(
                f"{directory} is not there; bird:hub@DIR#train takes schemas and databases from BIRD's train folder"
            )
        databases = locate_databases(
            questions, entries, look_around(directory, PREFIXES["train"], any_prefix=False)
        )
    else:
        names = dict.fromkeys(question.db_id for question in questions)
        databases = {db_id: DatabaseFiles(db_id=db_id, rows="none") for db_id in names}
    return DataSet(spec=spec, name="bird", split="train", questions=questions, databases=databases)


def _hub_rows() -> list[dict[str, Any]]:
    try:
        import datasets
    except ImportError:
        raise DependencyMissing(
            'bird:hub needs the `datasets` package: pip install "groundql[hub]"'
        ) from None
    try:
        return [dict(row) for row in datasets.load_dataset(HUB_NAME, split="train")]
    except (
        Exception
    ) as error:  # datasets, huggingface_hub and httpx raise unrelated kinds where the network is missing
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise DatabaseMissing(
            f"{HUB_NAME} could not be fetched from the hub ({reason}); check the network, or download BIRD's train set "
            "and write bird:DIR#train"
        ) from None
