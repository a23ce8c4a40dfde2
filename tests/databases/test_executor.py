"""Outcomes, and that no statement harms its neighbours."""

import os
import signal
import threading
import time

import pytest

from groundql.databases.executor import Executor, Job, run_many
from groundql.errors import GroundqlError

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT COUNT(*) FROM n"


def test_rows_come_with_column_names_and_types_kept(bookshop):
    sql = "SELECT title AS t, price, stock, NULL, x'00ff' FROM book WHERE book_id = 2"
    (outcome,) = run_many([Job(bookshop, sql)])
    assert outcome.status == "ok"
    assert outcome.columns == ("t", "price", "stock", "NULL", "x'00ff'")
    assert outcome.rows == (("Harbour", 12.5, 0, None, b"\x00\xff"),)


def test_an_empty_result_has_columns(bookshop):
    (outcome,) = run_many([Job(bookshop, "SELECT title, price FROM book WHERE 0")])
    assert (outcome.status, outcome.columns, outcome.rows) == ("ok", ("title", "price"), ())


def test_steps_are_the_same_each_time(bookshop):
    steps = {
        outcome.vm_steps for outcome in run_many([Job(bookshop, "SELECT * FROM book ORDER BY price")] * 3)
    }
    assert len(steps) == 1
    assert steps.pop() > 0


def test_six_endless_queries_cost_their_deadlines_and_nothing_else(bookshop):
    jobs = [Job(bookshop, ENDLESS, deadline_s=0.3)] * 6 + [Job(bookshop, "SELECT 1", deadline_s=0.3)] * 10
    started = time.monotonic()
    outcomes = run_many(jobs, n_workers=2)
    assert [outcome.status for outcome in outcomes] == ["timeout"] * 6 + ["ok"] * 10
    assert time.monotonic() - started < 6 * 0.3 + 3


def test_a_killed_worker_marks_only_the_job_it_was_at(bookshop):
    with Executor() as executor:
        outcomes = {}

        def kill_soon() -> None:
            time.sleep(0.4)
            os.kill(executor._workers[0].process.pid, signal.SIGKILL)

        threading.Thread(target=kill_soon).start()
        jobs = [Job(bookshop, "SELECT 1"), Job(bookshop, ENDLESS, deadline_s=20), Job(bookshop, "SELECT 2")]
        for number, outcome in executor.run_each(jobs):
            outcomes[number] = outcome.status
        assert outcomes == {0: "ok", 1: "crashed", 2: "ok"}


def test_a_worker_that_does_not_look_at_the_clock_is_killed(bookshop):
    with Executor() as executor:
        executor.run(bookshop, "SELECT 1")
        os.kill(executor._workers[0].process.pid, signal.SIGSTOP)
        jobs = [Job(bookshop, "SELECT 1", deadline_s=0.1), Job(bookshop, "SELECT 2")]
        assert {n: o.status for n, o in executor.run_each(jobs)} == {0: "timeout", 1: "ok"}


def test_an_abandoned_run_leaves_no_answer_for_the_next(bookshop):
    with Executor() as executor:
        for _ in executor.run_each([Job(bookshop, f"SELECT {n}") for n in range(50)]):
            break
        assert executor.run(bookshop, "SELECT 'mine'").rows == (("mine",),)


def test_more_rows_than_the_cap_are_too_large_and_never_cut(bookshop):
    with Executor() as executor:
        sql = "SELECT * FROM book"
        assert executor.run(bookshop, sql, max_rows=4).status == "ok"
        cut = executor.run(bookshop, sql, max_rows=3)
        assert (cut.status, cut.rows) == ("too_large", ())


def test_a_missing_file_is_an_error_and_is_not_created(tmp_path):
    missing = tmp_path / "none.sqlite"
    (outcome,) = run_many([Job(missing, "SELECT 1")])
    assert outcome.status == "error"
    assert not missing.exists()


def test_a_file_that_is_no_database_is_an_error(tmp_path):
    path = tmp_path / "text.sqlite"
    path.write_text("not a database " * 100)
    (outcome,) = run_many([Job(path, "SELECT * FROM book")])
    assert outcome.status == "error"


def test_a_path_with_odd_characters_is_opened(bookshop):
    odd = bookshop.with_name("a b?c#d%20é.sqlite")
    bookshop.rename(odd)
    (outcome,) = run_many([Job(odd, "SELECT COUNT(*) FROM book")])
    assert outcome.rows == ((4,),)


def test_quoted_strings_are_an_error_unless_asked_for(bookshop):
    sql = 'SELECT "titel" FROM author WHERE author_id = 1'
    off, on = run_many([Job(bookshop, sql), Job(bookshop, sql, quoted_strings=True)])
    assert off.status == "error"
    assert on.rows == (("titel",),)


def test_text_that_is_not_utf8_comes_back_marked_and_in_order(bookshop):
    sql = "SELECT CAST(x'41ff' AS TEXT) AS a, 2 AS a UNION ALL SELECT 'b', NULL ORDER BY 1 DESC;"
    (outcome,) = run_many([Job(bookshop, sql)])
    assert outcome.rows == (("b", None), ("A\\xff", 2))


@pytest.mark.parametrize("sql", ["", " ", ";", "-- nothing", "/* nothing */", ";;;"])
def test_text_without_a_statement_gives_no_rows_as_in_sqlite(bookshop, sql):
    (outcome,) = run_many([Job(bookshop, sql)])
    assert (outcome.status, outcome.rows) == ("ok", ())


@pytest.mark.parametrize(
    "sql", ["\ud800", "SELECT 1\0", "SELECT '\0'", "\x00", "(" * 5000, "SELECT " + "1+" * 60000 + "1"]
)
def test_text_that_sqlite_cannot_take_is_an_outcome(bookshop, sql):
    first, second = run_many([Job(bookshop, sql), Job(bookshop, "SELECT 1")])
    assert first.status in ("error", "too_large")
    assert second.rows == ((1,),)


def test_many_long_statements_do_not_block_the_pipe(bookshop):
    long = "SELECT '" + "x" * 90_000 + "'"
    outcomes = run_many([Job(bookshop, long)] * 40, n_workers=2)
    assert {len(outcome.rows[0][0]) for outcome in outcomes} == {90_000}


def test_run_may_be_called_from_several_threads(bookshop):
    with Executor() as executor:
        found = []
        threads = [
            threading.Thread(
                target=lambda n=n: found.append((n, executor.run(bookshop, f"SELECT {n}").rows[0][0]))
            )
            for n in range(20)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(found) == [(n, n) for n in range(20)]


def test_a_worker_that_cannot_start_is_our_fault_and_is_raised(bookshop, monkeypatch):
    monkeypatch.setattr("sys.executable", "/bin/false")
    with Executor() as executor, pytest.raises(GroundqlError, match="does not start"):
        executor.run(bookshop, "SELECT 1")


def test_a_database_in_wal_mode_is_read_without_new_files(bookshop):
    import apsw

    connection = apsw.Connection(str(bookshop))
    connection.execute("PRAGMA journal_mode = WAL; INSERT INTO author VALUES (4, 'Di', NULL)").fetchall()
    connection.close()
    before = bookshop.read_bytes()
    (outcome,) = run_many([Job(bookshop, "SELECT COUNT(*) FROM author")])
    assert outcome.rows == ((4,),)
    assert bookshop.read_bytes() == before
    assert [path.name for path in bookshop.parent.iterdir()] == ["bookshop.sqlite"]
