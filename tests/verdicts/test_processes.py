"""Work shared out over processes: all of it done once, faults told, a death survived."""

import contextlib
import os

import pytest

from groundql.errors import GroundqlError
from groundql.pipeline import judge_completions
from groundql.records import DatabaseFiles, DataSet
from groundql.verdicts import judge
from groundql.verdicts.processes import can_share, shared_out
from tests.verdicts.conftest import BOOKSHOP, GOLD, completion

pytestmark = pytest.mark.skipif(not can_share(), reason="forking is not safe here")


def results(tasks, work):
    return sorted(
        result
        for found in shared_out(tasks, work, lambda say_due: contextlib.nullcontext(10), 2)
        for result in found
    )


def test_every_task_is_done_once_with_the_process_s_own_tool():
    assert results([1, 2, 3], lambda task, tool: [task * tool] * 40) == [10] * 40 + [20] * 40 + [30] * 40


def test_a_fault_of_ours_is_raised_here():
    def fail(task, tool):
        raise GroundqlError("no such file")

    with pytest.raises(GroundqlError, match="no such file"):
        results([1, 2], fail)


def test_a_process_that_dies_leaves_its_own_task_alone():
    def die_at_one(task, tool):
        if task == 1:
            os._exit(1)
        return [task]

    assert results([1, 2, 3], die_at_one) == [2, 3]


def two_databases(n: int) -> tuple[DataSet, list]:
    from groundql.records import Question

    files = {name: DatabaseFiles(**BOOKSHOP.model_dump() | {"db_id": name}) for name in ("a", "b")}
    questions = tuple(
        Question(question_id=str(i), db_id="ab"[i % 2], text="?", gold_sql=GOLD) for i in range(n)
    )
    data = DataSet(spec="test", name="test", split="", questions=questions, databases=files)
    return data, [completion(GOLD if i % 3 else "SELECT titel FROM book", str(i)) for i in range(n)]


def test_several_processes_say_what_one_says():
    data, answers = two_databases(judge.LEAST_SHARED)
    told = []
    shared = judge_completions(data, answers, judge.Judging(n_workers=2), on_verdict=told.append)
    assert shared == judge_completions(data, answers, judge.Judging(n_workers=1))
    assert len(told) == len(answers)


def test_what_a_dead_process_leaves_is_judged_by_the_parent(monkeypatch):
    parent = os.getpid()
    judge_one = judge.judge_one

    def die_in_a_child(*args, **kwargs):
        if os.getpid() != parent:
            os._exit(1)
        return judge_one(*args, **kwargs)

    monkeypatch.setattr(judge, "judge_one", die_in_a_child)
    data, answers = two_databases(judge.LEAST_SHARED)
    assert len(judge_completions(data, answers, judge.Judging(n_workers=2))) == len(answers)
