"""Own questions as JSON Lines: where databases are found, what a broken line says, and what a sample keeps."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from groundql.errors import DatabaseMissing, DataError
from groundql.questions.jsonl import databases_path, write_questions
from groundql.questions.load import load_data
from groundql.records import DatabaseFiles, Question

MakeSqlite = Callable[[Path], Path]


def write_lines(path: Path, *lines: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


LINE = {"question": "Which shops?", "db_id": "shops"}


@pytest.mark.parametrize("place", ["databases/shops/shops.sqlite", "databases/shops.sqlite", "shops.sqlite"])
def test_a_database_is_found_beside_the_file(tmp_path: Path, make_sqlite: MakeSqlite, place: str) -> None:
    make_sqlite(tmp_path / place)
    data = load_data(f"jsonl:{write_lines(tmp_path / 'own.jsonl', LINE)}")
    assert data.databases["shops"].sqlite_path == tmp_path / place
    assert (data.split, data.questions[0].question_id, data.questions[0].gold_sql) == ("own", "0", None)


def test_a_database_may_be_named_by_a_path_from_the_file(tmp_path: Path, make_sqlite: MakeSqlite) -> None:
    make_sqlite(tmp_path / "elsewhere" / "any.db")
    path = write_lines(tmp_path / "own.jsonl", LINE | {"database": "elsewhere/any.db"})
    assert load_data(f"jsonl:{path}").databases["shops"].sqlite_path == tmp_path / "elsewhere" / "any.db"


@pytest.mark.parametrize(
    ("rows", "kind"), [("INSERT INTO shop VALUES ('x');", "real"), ("", "none")], ids=["with rows", "without"]
)
def test_a_database_may_be_sql_text(tmp_path: Path, rows: str, kind: str) -> None:
    (tmp_path / "shops.sql").write_text(f"CREATE TABLE shop (name TEXT); {rows}")
    path = write_lines(tmp_path / "own.jsonl", LINE | {"database": "shops.sql"})
    files = load_data(f"jsonl:{path}").databases["shops"]
    assert (files.rows, files.sql_has_rows) == (kind, kind == "real")


def test_a_question_without_a_database_is_named_with_its_line(
    tmp_path: Path, make_sqlite: MakeSqlite
) -> None:
    make_sqlite(tmp_path / "shops.sqlite")
    path = write_lines(tmp_path / "own.jsonl", LINE, LINE | {"db_id": "zoo"})
    with pytest.raises(
        DatabaseMissing, match=r"own.jsonl, line 2: database 'zoo' has no schema; put it at .*zoo.sqlite"
    ):
        load_data(f"jsonl:{path}")


def test_a_named_database_that_is_not_there_is_refused(tmp_path: Path, make_sqlite: MakeSqlite) -> None:
    make_sqlite(tmp_path / "shops.sqlite")
    path = write_lines(tmp_path / "own.jsonl", LINE | {"database": "shop.sqlite"})
    with pytest.raises(DatabaseMissing, match=r"line 1: the database .*shop.sqlite is not there"):
        load_data(f"jsonl:{path}")


def test_one_db_id_cannot_name_two_databases(tmp_path: Path, make_sqlite: MakeSqlite) -> None:
    make_sqlite(tmp_path / "a.sqlite")
    make_sqlite(tmp_path / "b.sqlite")
    path = write_lines(
        tmp_path / "own.jsonl", LINE | {"database": "a.sqlite"}, LINE | {"database": "b.sqlite"}
    )
    with pytest.raises(DataError, match="line 2: database 'shops' lies at .*b.sqlite, but an earlier line"):
        load_data(f"jsonl:{path}")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"question": "x", "db_id"', r"line 3: not valid JSON .* at character"),
        ('["x"]', "line 3: not an object"),
        ('{"db_id": "shops"}', "line 3: `question` is missing or empty"),
        (
            '{"question": "x", "db_id": "shops", "evidnce": "y"}',
            "line 3: 'evidnce' is not a key .* did you mean 'evidence'",
        ),
        (
            '{"question": "x", "db_id": "shops", "SQL": "y"}',
            "line 3: 'SQL' is not a key .* did you mean 'sql'",
        ),
        (
            '{"question": "x", "db_id": "shops", "question_id": "0"}',
            r"line 3: question_id '0' is already that of .*line 1",
        ),
    ],
)
def test_a_broken_line_is_named_with_its_number(
    tmp_path: Path, make_sqlite: MakeSqlite, line: str, message: str
) -> None:
    make_sqlite(tmp_path / "shops.sqlite")
    path = tmp_path / "own.jsonl"
    path.write_text(f"{json.dumps(LINE)}\n\n{line}\n")
    with pytest.raises(DataError, match=message):
        load_data(f"jsonl:{path}")


def test_keys_of_ones_own_are_passed_over(tmp_path: Path, make_sqlite: MakeSqlite) -> None:
    make_sqlite(tmp_path / "shops.sqlite")
    assert load_data(f"jsonl:{write_lines(tmp_path / 'own.jsonl', LINE | {'author': 'me'})}").questions


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_a_file_without_questions_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "own.jsonl").write_text(content)
    with pytest.raises(DataError, match="holds no question"):
        load_data(f"jsonl:{tmp_path / 'own.jsonl'}")


def test_text_that_is_not_utf8_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "own.jsonl").write_bytes(b'{"question": "caf\xe9"}')
    with pytest.raises(DataError, match=r"own.jsonl cannot be read"):
        load_data(f"jsonl:{tmp_path / 'own.jsonl'}")


QUESTION = Question(
    question_id="137-2",
    db_id="shops",
    text="Which\u2028shops?",
    evidence="café",
    gold_sql="SELECT name FROM shop",
    difficulty="challenging",
)


def test_what_is_written_is_read_back_with_every_place_of_its_database(
    tmp_path: Path, make_sqlite: MakeSqlite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_sqlite(Path("data/shops.sqlite"))
    Path("data/shops.sql").write_text("CREATE TABLE shop (name TEXT);")
    Path("data/database_description").mkdir()
    files = DatabaseFiles(
        db_id="shops",
        sqlite_path=Path("data/shops.sqlite"),
        sql_path=Path("data/shops.sql"),
        descriptions_dir=Path("data/database_description"),
        descriptions={"shop": {"name": "as on the sign"}},
        rows="synthetic",
    )
    write_questions(Path("out/part.jsonl"), [QUESTION], {"shops": files, "unasked": files})
    monkeypatch.chdir("/")  # relative paths would no longer lead anywhere
    data = load_data(f"jsonl:{tmp_path / 'out' / 'part.jsonl'}")
    read = data.databases["shops"]
    assert data.questions == (QUESTION,)
    assert list(data.databases) == ["shops"]
    assert read.sqlite_path == tmp_path / "data" / "shops.sqlite"
    assert read.sql_path == tmp_path / "data" / "shops.sql"
    assert read.descriptions_dir == tmp_path / "data" / "database_description"
    assert (read.rows, read.descriptions) == ("synthetic", {"shop": {"name": "as on the sign"}})


def test_databases_that_have_moved_since_are_named(tmp_path: Path, make_sqlite: MakeSqlite) -> None:
    files = DatabaseFiles(db_id="shops", sqlite_path=make_sqlite(tmp_path / "shops.sqlite"))
    write_questions(tmp_path / "part.jsonl", [QUESTION], {"shops": files})
    (tmp_path / "shops.sqlite").unlink()
    with pytest.raises(DatabaseMissing, match="shops.sqlite is not there any more; write the sample again"):
        load_data(f"jsonl:{tmp_path / 'part.jsonl'}")


def test_a_broken_list_of_databases_is_named(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "own.jsonl", LINE)
    databases_path(path).write_text('{"shops": {"sqlite": "x"}}')
    with pytest.raises(DataError, match=r"own.jsonl.databases.json, database 'shops': "):
        load_data(f"jsonl:{path}")


def test_a_split_takes_its_lines_and_ids_stay_those_of_the_whole_file(
    tmp_path: Path, make_sqlite: MakeSqlite
) -> None:
    make_sqlite(tmp_path / "shops.sqlite")
    path = write_lines(
        tmp_path / "own.jsonl",
        LINE | {"split": "train", "source": "drafted"},
        LINE | {"question": "How many?", "split": "test", "source": "own"},
        LINE | {"question": "Where?", "split": "test", "source": "drafted"},
    )
    data = load_data(f"jsonl:{path}#test")
    assert [question.question_id for question in data.questions] == ["1", "2"]
    assert (data.split, data.n_drafted) == ("test", 1)
    assert len(load_data(f"jsonl:{path}").questions) == 3
    with pytest.raises(DataError, match='no line has "split": "dev"; there are test, train'):
        load_data(f"jsonl:{path}#dev")


def test_a_file_that_does_not_say_who_asked_has_no_count_of_drafts(
    tmp_path: Path, make_sqlite: MakeSqlite
) -> None:
    make_sqlite(tmp_path / "shops.sqlite")
    data = load_data(f"jsonl:{write_lines(tmp_path / 'own.jsonl', LINE)}")
    assert data.n_drafted is None
