"""Work shared out over processes: all of it done once, faults told, a death survived."""

import contextlib
import gc
import os

import pytest

from groundql.errors import GroundqlError
from groundql.pipeline import judge_completions
from groundql.records import DatabaseFiles, DataSet
from groundql.verdicts import judge
from groundql.verdicts.processes import can_share, shared_out
from tests.databases.test_attacks import CASES as ATTACKS
from tests.verdicts.conftest import BOOKSHOP, GOLD, completion, data_of
from tests.verdicts.test_ladder import CASES as LADDER_CASES

DATA = data_of([GOLD])
pytestmark = pytest.mark.skipif(not can_share(), reason="forking is not safe here")


def results(tasks, work):
    return sorted(
        result
        for found in shared_out(tasks, work, lambda say_due: contextlib.nullcontext(10), 2)
        for result in found
    )


def test_every_task_is_done_once_with_the_process_s_own_tool():
    assert results([1, 2, 3], lambda task, tool: [task * tool] * 40) == [10] * 40 + [20] * 40 + [30] * 40


def test_results_of_any_kind_arrive_as_they_were():
    question = DATA.questions[0]
    assert results([1, 2], lambda task, tool: [(task, question)]) == [(1, question), (2, question)]


def test_the_collector_is_left_as_it_was_found():
    threshold, was_frozen = gc.get_threshold(), gc.get_freeze_count()
    gc.unfreeze()
    results([1, 2], lambda task, tool: [task])
    assert (gc.get_threshold(), gc.get_freeze_count()) == (threshold, 0)
    if was_frozen:
        gc.freeze()


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


def test_forked_processes_say_what_a_worker_says(monkeypatch):
    data, answers = two_databases(judge.LEAST_SHARED)
    told = []
    shared = judge_completions(data, answers, judge.Judging(n_workers=2), on_verdict=told.append)
    assert len(told) == len(answers)
    monkeypatch.setattr(judge, "LEAST_SHARED", len(answers) + 1)
    assert shared == judge_completions(data, answers, judge.Judging(n_workers=1))


def test_golden_cases_and_attacks_get_one_verdict_by_both_ways(monkeypatch):
    attacks = [sql for expected, _, sql in ATTACKS if expected != "timeout"]
    texts = [sql.strip() for _, _, sql in LADDER_CASES] + attacks
    texts += [GOLD] * max(0, judge.LEAST_SHARED - len(texts))
    answers = [completion(text, str(n)) for n, text in enumerate(texts)]
    data, _ = two_databases(len(texts))
    settings = judge.Judging(n_workers=2, ladder_only=True, deadline_s=20)
    shared = judge_completions(data, answers, settings)
    monkeypatch.setattr(judge, "LEAST_SHARED", len(answers) + 1)
    for one, other in zip(shared, judge_completions(data, answers, settings), strict=True):
        assert one == other, one.predicted_sql


def test_one_large_database_is_cut_for_as_many_processes_as_may_work():
    data, _ = two_databases(judge.LEAST_SHARED)
    cases = [judge.Case(question=q.model_copy(update={"gold_sql": f"SELECT {n // 3}"}), completion=None, files=data.databases["a"]) for n, q in enumerate(data.questions)]  # fmt: skip
    cases = [judge.Case(question=c.question.model_copy(update={"db_id": "a"}), completion=None, files=c.files) for c in cases]  # fmt: skip
    halves = judge._groups(cases, 2)
    assert sorted(map(len, halves)) == [50, 50]
    assert sorted(n for half in halves for n in half) == list(range(100))
    assert judge._groups(cases, 1) == [list(range(100))]


def test_six_endless_predictions_among_a_hundred_cost_no_right_one():
    data, answers = two_databases(judge.LEAST_SHARED)
    endless = "WITH RECURSIVE n(i) AS (SELECT {0} UNION ALL SELECT i + 1 FROM n) SELECT COUNT(*) FROM n"
    texts = [endless.format(n) for n in range(6)] + [GOLD] * (len(answers) - 6)
    verdicts = judge_completions(
        data,
        [completion(sql, str(n)) for n, sql in enumerate(texts)],
        judge.Judging(deadline_s=0.3, ladder_only=True),
    )
    assert [v.ex_strict for v in verdicts] == [False] * 6 + [True] * (len(answers) - 6)
    assert {v.error for v in verdicts[:6]} == {"timeout: did not end within 0.3 s"}


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
