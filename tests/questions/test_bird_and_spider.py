"""BIRD and Spider folders: what is read, where databases are found, and what a broken one says."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from groundql.errors import DatabaseMissing, DataError, DependencyMissing
from groundql.questions.load import load_data

MakeSqlite = Callable[[Path], Path]


def bird_entry(question_id: int, db_id: str = "shops", **changes: Any) -> dict[str, Any]:
    return {
        "question_id": question_id,
        "db_id": db_id,
        "question": f"Question {question_id}?",
        "evidence": "",
        "SQL": "SELECT name FROM shop",
        "difficulty": "simple",
        **changes,
    }


@pytest.fixture
def bird_dir(tmp_path: Path, make_sqlite: MakeSqlite) -> Path:
    """BIRD's dev layout with one database of two questions."""
    folder = tmp_path / "bird"
    make_sqlite(folder / "dev_databases" / "shops" / "shops.sqlite")
    (folder / "dev_databases" / "shops" / "database_description").mkdir()
    (folder / "dev_tables.json").write_text(json.dumps([{"db_id": "shops"}]))
    write_entries(folder / "dev.json", [bird_entry(7), bird_entry(8, evidence=" name refers to shop ")])
    return folder


def write_entries(path: Path, entries: list[dict[str, Any]]) -> Path:
    path.write_text(json.dumps(entries), encoding="utf-8")
    return path


def test_a_bird_folder_gives_questions_with_their_database_and_descriptions(bird_dir: Path) -> None:
    data = load_data(f"bird:{bird_dir}#dev")
    first, second = data.questions
    files = data.databases["shops"]
    assert (data.name, data.split, first.question_id, first.gold_sql) == (
        "bird",
        "dev",
        "7",
        "SELECT name FROM shop",
    )
    assert (first.difficulty, first.evidence, second.evidence) == ("simple", "", "name refers to shop")
    assert files.sqlite_path == bird_dir / "dev_databases" / "shops" / "shops.sqlite"
    assert files.tables_path == bird_dir / "dev_tables.json"
    assert files.descriptions_dir == bird_dir / "dev_databases" / "shops" / "database_description"
    assert files.rows == "real"


def test_the_only_split_of_a_folder_needs_no_name(bird_dir: Path) -> None:
    assert load_data(f"bird:{bird_dir}").split == "dev"


def test_several_splits_must_be_told_apart(bird_dir: Path) -> None:
    write_entries(bird_dir / "mini_dev_sqlite.json", [bird_entry(7)])
    with pytest.raises(DataError, match=r"several splits; say which: bird:.*#dev, bird:.*#mini_dev"):
        load_data(f"bird:{bird_dir}")


def test_mini_dev_uses_the_databases_of_dev(bird_dir: Path) -> None:
    write_entries(bird_dir / "mini_dev_sqlite.json", [bird_entry(7)])
    assert load_data(f"bird:{bird_dir}#mini_dev").databases["shops"].sqlite_path is not None


def test_a_question_file_finds_what_lies_beside_it_under_any_prefix(bird_dir: Path) -> None:
    write_entries(bird_dir / "hard.json", [bird_entry(8)])
    data = load_data(f"bird:{bird_dir / 'hard.json'}")
    assert data.split == "hard"
    assert data.databases["shops"].tables_path == bird_dir / "dev_tables.json"


def test_two_databases_folders_beside_a_question_file_are_not_guessed_between(bird_dir: Path) -> None:
    write_entries(bird_dir / "hard.json", [bird_entry(8)])
    (bird_dir / "test_databases").mkdir()
    with pytest.raises(
        DataError, match="dev_databases, test_databases: which belongs to the questions is unclear"
    ):
        load_data(f"bird:{bird_dir / 'hard.json'}")


def test_without_sqlite_files_the_schema_comes_from_tables_file_or_sql_text(tmp_path: Path) -> None:
    write_entries(tmp_path / "train.json", [bird_entry(1, "in_tables"), bird_entry(2, "in_sql")])
    write_entries(tmp_path / "train_tables.json", [{"db_id": "in_tables"}])
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas" / "in_sql.sql").write_text("CREATE TABLE shop (name TEXT);")
    data = load_data(f"bird:{tmp_path}#train")
    assert data.databases["in_tables"].tables_path == tmp_path / "train_tables.json"
    assert data.databases["in_sql"].sql_path == tmp_path / "schemas" / "in_sql.sql"
    assert {files.rows for files in data.databases.values()} == {"none"}


def test_a_database_without_any_schema_names_the_first_question_that_asks_of_it(bird_dir: Path) -> None:
    (bird_dir / "dev_databases" / "shops" / "shops.sqlite").unlink()
    write_entries(bird_dir / "dev.json", [bird_entry(7), bird_entry(8, "zoo"), bird_entry(9, "zoo")])
    with pytest.raises(
        DatabaseMissing, match=r"dev.json, entry 1 \(counted from 0\): database 'zoo' has no schema"
    ):
        load_data(f"bird:{bird_dir}#dev")


def test_a_half_copied_databases_folder_is_not_taken_for_one_without_rows(bird_dir: Path) -> None:
    write_entries(bird_dir / "dev_tables.json", [{"db_id": "shops"}, {"db_id": "zoo"}])
    write_entries(bird_dir / "dev.json", [bird_entry(7), bird_entry(8, "zoo")])
    with pytest.raises(DatabaseMissing, match=r"zoo/zoo.sqlite is not there, though other databases are"):
        load_data(f"bird:{bird_dir}#dev")


@pytest.mark.parametrize(
    ("content", "what"),
    [(b"", "is empty"), (b"version https://git-lfs.github.com/spec/v1\n", "not a SQLite database")],
)
def test_an_empty_file_or_a_stub_is_no_database(bird_dir: Path, content: bytes, what: str) -> None:
    (bird_dir / "dev_databases" / "shops" / "shops.sqlite").write_bytes(content)
    with pytest.raises(DatabaseMissing, match=what):
        load_data(f"bird:{bird_dir}#dev")


@pytest.mark.parametrize("place", [".", "dev_databases"])
def test_rows_are_synthetic_where_a_readme_says_so_in_capitals(bird_dir: Path, place: str) -> None:
    (bird_dir / place / "README.txt").write_text("Note.\n*** THE ROWS HERE ARE SYNTHETIC ***\n")
    assert load_data(f"bird:{bird_dir}#dev").databases["shops"].rows == "synthetic"


def test_rows_are_real_where_a_readme_only_mentions_the_word(bird_dir: Path) -> None:
    (bird_dir / "README.txt").write_text("These are real ROWS.\nThe synthetic ones are elsewhere.\n")
    assert load_data(f"bird:{bird_dir}#dev").databases["shops"].rows == "real"


def test_an_entry_that_is_repeated_whole_is_kept_under_another_id(bird_dir: Path) -> None:
    """BIRD's mini-dev has two such entries and counts both."""
    write_entries(bird_dir / "dev.json", [bird_entry(7), bird_entry(8), bird_entry(7), bird_entry(7)])
    ids = [question.question_id for question in load_data(f"bird:{bird_dir}#dev").questions]
    assert ids == ["7", "8", "7-2", "7-3"]


def test_two_different_questions_with_one_id_are_refused(bird_dir: Path) -> None:
    write_entries(bird_dir / "dev.json", [bird_entry(7), bird_entry(7, question="Another?")])
    with pytest.raises(DataError, match=r"entry 1 .*question_id '7' is already that of .*entry 0"):
        load_data(f"bird:{bird_dir}#dev")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"question": "  "}, "`question` is missing or empty"),
        ({"db_id": None}, "`db_id` is missing or empty"),
        ({"SQL": ["SELECT 1"]}, "`SQL` must be text"),
        ({"difficulty": "medium-hard"}, "difficulty 'medium-hard' is unknown; use one of simple"),
        ({"question_id": True}, "`question_id` must be a text or a whole number"),
    ],
)
def test_a_broken_entry_is_named_with_its_number(
    bird_dir: Path, changes: dict[str, Any], message: str
) -> None:
    write_entries(bird_dir / "dev.json", [bird_entry(7), bird_entry(8) | changes])
    with pytest.raises(DataError, match=rf"entry 1 \(counted from 0\): {message}"):
        load_data(f"bird:{bird_dir}#dev")


def test_broken_json_names_its_line(bird_dir: Path) -> None:
    (bird_dir / "dev.json").write_text('[\n{"question_id": 1,\n"db_id": }\n]')
    with pytest.raises(DataError, match=r"dev.json, line 3: not valid JSON"):
        load_data(f"bird:{bird_dir}#dev")


def test_a_gold_is_optional(bird_dir: Path) -> None:
    """BIRD's test set comes without SQL."""
    write_entries(bird_dir / "dev.json", [bird_entry(7, SQL="")])
    assert load_data(f"bird:{bird_dir}#dev").questions[0].gold_sql is None


def test_a_folder_above_the_data_is_told_where_the_data_is(bird_dir: Path) -> None:
    with pytest.raises(DataError, match=rf"try bird:{bird_dir}#dev"):
        load_data(f"bird:{bird_dir.parent}#dev")


def spider_dir(folder: Path, make_sqlite: MakeSqlite) -> Path:
    make_sqlite(folder / "database" / "shops" / "shops.sqlite")
    write_entries(folder / "tables.json", [{"db_id": "shops"}])
    entry = {
        "db_id": "shops",
        "question": "Which shops?",
        "query": "SELECT name FROM shop",
        "sql": {"except": None},
    }
    for name in ("train_spider.json", "dev.json", "dev_realistic.json"):
        write_entries(folder / name, [entry, entry])
    return folder


@pytest.mark.parametrize("split", ["train", "dev", "realistic"])
def test_spider_ids_are_row_numbers_and_difficulty_is_left_to_the_judge(
    tmp_path: Path, make_sqlite: MakeSqlite, split: str
) -> None:
    data = load_data(f"spider:{spider_dir(tmp_path, make_sqlite)}#{split}")
    assert [question.question_id for question in data.questions] == ["0", "1"]
    assert data.questions[0].gold_sql == "SELECT name FROM shop"
    assert data.questions[0].difficulty == ""
    assert data.databases["shops"].sqlite_path == tmp_path / "database" / "shops" / "shops.sqlite"


def test_bird_and_spider_files_are_not_taken_for_each_other(
    bird_dir: Path, tmp_path_factory: pytest.TempPathFactory, make_sqlite: MakeSqlite
) -> None:
    spider = spider_dir(tmp_path_factory.mktemp("spider"), make_sqlite)
    with pytest.raises(DataError, match="write bird: in place of spider:"):
        load_data(f"spider:{bird_dir}#dev")
    with pytest.raises(DataError, match="write spider: in place of bird:"):
        load_data(f"bird:{spider}#dev")


HUB_ROWS = [{"db_id": "shops", "question": "Which?", "evidence": "", "SQL": "SELECT name FROM shop"}]


def test_the_hub_set_without_the_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DependencyMissing, match=r"pip install \"groundql\[hub\]\""):
        load_data("bird:hub#train")


def test_the_hub_set_without_a_network_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str, split: str) -> list[dict[str, str]]:
        raise ConnectionError("Couldn't reach the hub")

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=fail))
    with pytest.raises(
        DatabaseMissing, match=r"could not be fetched .*Couldn't reach the hub.*bird:DIR#train"
    ):
        load_data("bird:hub#train")


def test_the_hub_set_takes_its_schemas_from_a_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=lambda name, split: HUB_ROWS))
    (tmp_path / "train_tables.json").write_text(json.dumps([{"db_id": "shops"}]))
    data = load_data(f"bird:hub@{tmp_path}#train")
    assert data.questions[0].question_id == "0"
    assert data.databases["shops"].tables_path == tmp_path / "train_tables.json"


def test_the_hub_set_alone_has_no_schemas_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=lambda name, split: HUB_ROWS))
    with pytest.raises(DatabaseMissing, match="questions but no schemas; write bird:hub@DIR#train"):
        load_data("bird:hub#train")
    assert len(load_data("bird:hub#train", needs_schemas=False).questions) == 1


# Counts of ../shared/data/README.md.
SHARED_SETS = [
    ("bird:{}/bird/train#train", 5667, 60, 5266, "none"),
    ("bird:{}/bird/dev#dev", 1534, 11, 1386, "synthetic"),
    ("bird:{}/bird/dev#mini_dev", 500, 11, 498, "synthetic"),
    ("bird:{}/bird/real_rows/real_rows.json", 213, 2, 179, "real"),
    ("spider:{}/spider#train", 6638, 135, 0, "real"),
    ("spider:{}/spider#dev", 972, 19, 0, "real"),
    ("spider:{}/spider/dev_realistic.json", 476, 18, 0, "real"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("spec", "n_questions", "n_databases", "n_with_evidence", "rows"), SHARED_SETS)
def test_the_shared_sets_have_the_counts_of_their_readme(
    shared_data: Path, spec: str, n_questions: int, n_databases: int, n_with_evidence: int, rows: str
) -> None:
    data = load_data(spec.format(shared_data))
    assert len(data.questions) == n_questions
    assert len({question.question_id for question in data.questions}) == n_questions
    assert len(data.databases) == n_databases
    assert sum(bool(question.evidence) for question in data.questions) == n_with_evidence
    assert {files.rows for files in data.databases.values()} == {rows}
