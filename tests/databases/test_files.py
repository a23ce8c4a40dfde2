"""Where rows come from."""

import multiprocessing
from pathlib import Path

import apsw
import pytest

from groundql.databases.files import has_rows, sqlite_file
from groundql.errors import DatabaseMissing
from groundql.records import DatabaseFiles

SQL_PATH = Path(__file__).resolve().parents[1] / "golden" / "bookshop.sql"
FROM_SQL = DatabaseFiles(db_id="bookshop", sql_path=SQL_PATH, sql_has_rows=True)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_sqlite_file_is_taken_as_it_is(bookshop):
    files = DatabaseFiles(db_id="b", sqlite_path=bookshop)
    assert has_rows(files)
    assert sqlite_file(files) == bookshop


def test_sql_text_with_rows_is_built_once_into_the_cache(cache):
    path = sqlite_file(FROM_SQL)
    assert path.is_relative_to(cache / "groundql")
    made = path.stat().st_mtime_ns
    assert sqlite_file(FROM_SQL) == path
    assert path.stat().st_mtime_ns == made
    assert apsw.Connection(str(path)).execute("SELECT COUNT(*) FROM book").fetchone() == (4,)
    assert [found.name for found in path.parent.iterdir()] == [path.name]


def test_other_text_makes_another_file(tmp_path):
    other = tmp_path / "bookshop.sql"
    other.write_text(SQL_PATH.read_text() + "DELETE FROM book;")
    assert sqlite_file(FROM_SQL) != sqlite_file(FROM_SQL.model_copy(update={"sql_path": other}))


def _build(_: int) -> str:
    return str(sqlite_file(FROM_SQL))


def test_processes_that_build_at_once_agree(cache):
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        assert len(set(pool.map(_build, range(6)))) == 1
    assert len(list((cache / "groundql" / "databases").iterdir())) == 1


def test_a_schema_alone_has_no_rows():
    files = DatabaseFiles(db_id="b", sql_path=SQL_PATH)
    assert not has_rows(files)
    with pytest.raises(DatabaseMissing, match="no database with rows"):
        sqlite_file(files)


def test_sql_text_that_does_not_run_leaves_nothing_behind(tmp_path, cache):
    bad = tmp_path / "bad.sql"
    bad.write_text("CREATE TABLE t (a); INSERT INTO nowhere VALUES (1);")
    with pytest.raises(DatabaseMissing, match="nowhere"):
        sqlite_file(DatabaseFiles(db_id="bad", sql_path=bad, sql_has_rows=True))
    assert list((cache / "groundql" / "databases").iterdir()) == []
