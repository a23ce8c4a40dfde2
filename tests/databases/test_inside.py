"""Guarded statements inside a watched child: the same outcomes as in a worker process, the same bounds."""

import os
import time
from pathlib import Path

import pytest

from groundql.databases.executor import Job, run_many
from groundql.databases.inside import Inside, may_write
from groundql.verdicts.processes import can_share, shared_out
from tests.databases.test_attacks import CASES, PATIENCE_S, TIMEOUT_S

pytestmark = pytest.mark.skipif(not can_share(), reason="forking is not safe here")


def in_a_child(work):
    """What `work` returns, called in a forked child with an Inside."""
    ((found,),) = [found for found in shared_out([1], lambda _, inside: [work(inside)], Inside, 1) if found]
    return found


def statuses(inside: Inside, path: Path) -> list[str]:
    jobs = [
        Job(path, sql, deadline_s=TIMEOUT_S if expected == "timeout" else PATIENCE_S)
        for expected, _, sql in CASES
    ]
    return [outcome.status for _, outcome in inside.run_each(jobs)]


def test_every_attack_gets_its_outcome_and_changes_nothing(bookshop, monkeypatch):
    monkeypatch.chdir(bookshop.parent)
    before = bookshop.read_bytes()
    found = in_a_child(lambda inside: statuses(inside, bookshop))
    assert list(zip(found, CASES, strict=True)) == [(case[0], case) for case in CASES]
    assert bookshop.read_bytes() == before
    assert [path.name for path in bookshop.parent.iterdir()] == ["bookshop.sqlite"]


def test_rows_are_those_of_a_worker_process(bookshop):
    queries = ["SELECT * FROM book ORDER BY title", "SELECT x'00ff', 1.5, NULL", "SELECT titel FROM book", "SELECT 1 WHERE 0"]  # fmt: skip
    jobs = [Job(bookshop, sql) for sql in queries]
    found = in_a_child(lambda inside: [o.model_dump(exclude={"elapsed_s"}) for _, o in inside.run_each(jobs)])
    assert found == [outcome.model_dump(exclude={"elapsed_s"}) for outcome in run_many(jobs)]


def test_no_file_can_be_written_but_by_what_is_ours(bookshop):
    def write(inside: Inside) -> list[str]:
        with may_write():
            (bookshop.parent / "ours").write_text("x")
        try:
            (bookshop.parent / "theirs").write_text("x")
        except OSError:
            return ["refused"]
        return ["written"]

    assert in_a_child(write) == ["refused"]
    assert (bookshop.parent / "ours").read_text() == "x"
    assert (bookshop.parent / "theirs").read_text() == ""  # a name, and no byte behind it


def test_a_query_sees_one_state_of_the_file_and_lets_go_of_it(bookshop):
    import apsw

    def count(inside: Inside) -> list[tuple[object, ...]]:
        job = Job(bookshop, "SELECT COUNT(*) FROM book")
        return [outcome.rows[0] for _, outcome in inside.run_each([job])]

    def change_between(inside: Inside) -> list[object]:
        first = count(inside)
        with may_write():
            writer = apsw.Connection(str(bookshop))
            try:
                writer.execute("DELETE FROM book")
                was_kept_out = False
            except apsw.BusyError:
                was_kept_out = True
            inside.let_go()
            writer.execute("DELETE FROM book")
            writer.close()
        return [*first, was_kept_out, *count(inside)]

    assert in_a_child(change_between) == [(4,), True, (0,)]


def test_a_child_that_is_overdue_is_killed_and_another_does_the_rest():
    started = time.monotonic()

    def hang_at_one(task, say_due):
        if task == 1:
            say_due(time.monotonic() + 0.3)
            time.sleep(60)
        return [(task, os.getpid())]

    class Tool:
        def __init__(self, say_due):
            self.say_due = say_due

        def __enter__(self):
            return self.say_due

        def __exit__(self, *_):
            pass

    found = [result for results in shared_out([1, 2, 3], hang_at_one, Tool, 1) for result in results]
    assert [task for task, _ in found] == [2, 3]
    assert time.monotonic() - started < 20
