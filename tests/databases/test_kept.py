"""Outcomes kept on disk: found again by content, and never beyond the limits or after a change."""

from pathlib import Path

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundql.databases.kept import KeptOutcomes, same_text
from groundql.records import Outcome

LIMITS = {"deadline_s": 30.0, "max_rows": 100}
SQL = "SELECT a FROM t"
OUTCOME = Outcome(
    status="ok", columns=("a",), rows=((1,), (2.5,), ("x",), (b"\x00",), (None,)), elapsed_s=2.0, vm_steps=300
)


@pytest.fixture
def database(tmp_path) -> Path:
    path = tmp_path / "shop.sqlite"
    apsw.Connection(str(path)).execute("CREATE TABLE t(a)")
    return path


def kept(database: Path) -> KeptOutcomes:
    return KeptOutcomes(database, database.parent / "kept")


def saved(database: Path, outcome: Outcome = OUTCOME) -> KeptOutcomes:
    store = kept(database)
    store.put(SQL, outcome)
    store.save()
    return kept(database)


def test_what_was_kept_is_found_by_the_same_query(database):
    assert saved(database).get(f" {SQL};", **LIMITS) == OUTCOME
    assert saved(database).get("SELECT b FROM t", **LIMITS) is None


def test_one_changed_row_makes_all_unknown(database):
    saved(database)
    apsw.Connection(str(database)).execute("INSERT INTO t VALUES (1)")
    assert kept(database).get(SQL, **LIMITS) is None


@pytest.mark.parametrize(
    "limits", [{"deadline_s": 1.9, "max_rows": 100}, {"deadline_s": 30.0, "max_rows": 4}]
)
def test_what_these_limits_would_have_stopped_is_not_known(database, limits):
    assert saved(database).get(SQL, **limits) is None


@pytest.mark.parametrize("status", ["error", "timeout", "too_large", "crashed"])
def test_what_did_not_end_well_is_not_kept(database, status):
    assert saved(database, Outcome(status=status, error="x")).get(SQL, **LIMITS) is None


def test_a_damaged_file_holds_nothing(database):
    path = saved(database).path
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    assert kept(database).get(SQL, **LIMITS) is None


def test_beside_an_unwritten_log_nothing_is_kept(database):
    saved(database)
    Path(f"{database}-wal").touch()
    assert saved(database).get(SQL, **LIMITS) is None


def test_a_folder_that_cannot_be_written_costs_the_cache_alone(database):
    (database.parent / "kept").write_text("a file where the folder would be")
    assert saved(database).get(SQL, **LIMITS) is None


def test_a_huge_result_is_run_again_rather_than_kept(database):
    assert saved(database, OUTCOME.model_copy(update={"rows": (("x" * 2**21,),)})).get(SQL, **LIMITS) is None


@pytest.mark.parametrize(
    ("sql", "other", "same"),
    [
        ("SELECT  a\nFROM\tt ;", "SELECT a FROM t", True),
        ("SELECT a FROM t WHERE b = 'x  y'", "SELECT a FROM t WHERE b = 'x y'", False),
        ("SELECT a FROM t WHERE b = 'it''s  x' AND  c", "SELECT a FROM t WHERE b = 'it''s  x' AND c", True),
        ("SELECT a -- b\nFROM t", "SELECT a -- b FROM t", False),
        ("SELECT a /*\n*/ FROM t", "SELECT a /* */ FROM t", False),
        ('SELECT "a  b" FROM t', 'SELECT "a b" FROM t', False),
        ("SELECT `a  b` FROM t", "SELECT `a b` FROM t", False),
        ("SELECT [a  b] FROM t", "SELECT [a b] FROM t", False),
        ("SELECT a\u00a0FROM t", "SELECT a FROM t", False),  # a name, to SQLite
    ],
)
def test_texts_are_one_query_where_only_white_space_outside_texts_differs(sql, other, same):
    assert (same_text(sql) == same_text(other)) is same


@given(
    st.lists(
        st.sampled_from(["'", "''", " ", "  ", "\n", "a", "1", ";", "--", "(", ")", ",", "FROM"]), max_size=25
    )
)
@settings(max_examples=300, deadline=None)
def test_what_same_text_makes_equal_sqlite_reads_alike(parts):
    """Both are run: the same rows, or both refused."""
    sql = "SELECT " + "".join(parts)
    connection = apsw.Connection(":memory:")

    def found(text: str) -> object:
        try:
            return connection.execute(text).fetchall()
        except apsw.Error as error:
            return type(error)

    assert found(sql) == found(same_text(sql))


def test_two_processes_that_save_keep_what_both_know(database):
    one, other = kept(database), kept(database)
    one.put("SELECT 1", OUTCOME)
    other.put("SELECT 2", OUTCOME)
    one.save()
    other.save()
    again = kept(database)
    assert again.get("SELECT 1", **LIMITS)
    assert again.get("SELECT 2", **LIMITS)


def test_an_outcome_without_steps_is_unknown_to_who_needs_them(database):
    store = kept(database)
    store.put("SELECT 1", OUTCOME, has_steps=False)
    assert store.get("SELECT 1", **LIMITS) is None
    assert store.get("SELECT 1", **LIMITS, needs_steps=False).vm_steps == 0


def test_two_that_began_with_nothing_and_write_one_after_the_other_keep_both(database):
    first, second = kept(database), kept(database)
    first.put(SQL, OUTCOME)
    second.put("SELECT b FROM t", OUTCOME)
    first.save()
    second.save()
    assert kept(database).get(SQL, **LIMITS) == kept(database).get("SELECT b FROM t", **LIMITS) == OUTCOME


def test_a_file_that_was_cut_off_is_written_anew_by_the_next_run(database):
    folder = database.parent / "kept"
    saved(database)
    (file,) = folder.iterdir()
    file.write_bytes(file.read_bytes()[:-1])
    assert kept(database).get(SQL, **LIMITS) is None
    assert saved(database).get(SQL, **LIMITS) == OUTCOME
