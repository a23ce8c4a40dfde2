"""The queue: nothing lost, nothing mixed up, one failure or slow query concerns its own question alone."""

import threading
import time
from concurrent.futures import CancelledError, Future

import pytest

from groundql.answer import Answer
from groundql.errors import DatabaseMissing, PromptTooLong
from groundql.serving.asks import Ask
from groundql.serving.batcher import Batcher
from groundql.serving.faults import Fault, fault_of


def answer_to(question: str) -> Answer:
    return Answer(question=question, status="answered", sql=f"SELECT '{question}'", binds=True)


class Model:
    """Writes `SELECT '<question>'`; waits for `gate`; raises for the questions in `poison`."""

    def __init__(self, poison=()):
        self.gate = threading.Event()
        self.poison = set(poison)
        self.batches: list[list[str]] = []

    def __call__(self, asks):
        self.batches.append([ask.question for ask in asks])
        self.gate.wait(5)
        if self.poison & {ask.question for ask in asks}:
            raise ZeroDivisionError("the answer to a secret question")
        return [answer_to(ask.question) for ask in asks]


def batcher_of(model, *, run=lambda ask, answer: answer, n_open=64, n_batch=4, **more):
    return Batcher(model, run, n_open=n_open, n_batch=n_batch, **more)


def submit_while_busy(batcher, model, questions):
    """Futures of questions that all wait while the model is at a first one."""
    first = batcher.submit(Ask("db", "first"))
    while not model.batches:
        time.sleep(0.001)
    futures = [batcher.submit(Ask("db", question)) for question in questions]
    return [first, *futures]


def test_what_waits_goes_together_up_to_a_batch_in_order():
    model = Model()
    batcher = batcher_of(model)
    futures = submit_while_busy(batcher, model, "abcdef")
    model.gate.set()
    assert [future.result(5).answer.question for future in futures] == ["first", *"abcdef"]
    assert model.batches == [["first"], ["a", "b", "c", "d"], ["e", "f"]]
    assert futures[1].result().n_batch == 4


def test_the_first_of_a_batch_waits_a_moment_for_others_and_no_longer_than_for_a_whole_batch():
    model = Model()
    model.gate.set()
    batcher = batcher_of(model, gather_s=0.2)
    futures = [batcher.submit(Ask("db", question)) for question in "abc"]
    assert futures[0].result(5).queued_s >= 0.19
    futures = [batcher.submit(Ask("db", question)) for question in "abcd"]
    assert futures[0].result(5).queued_s < 0.19  # full: nothing to wait for
    assert model.batches == [["a", "b", "c"], ["a", "b", "c", "d"]]


def test_a_question_that_raises_fails_alone():
    model = Model(poison="b")
    model.gate.set()
    batcher = batcher_of(model)
    futures = submit_while_busy(batcher, model, "abc")
    assert futures[1].result(5).answer.sql == "SELECT 'a'"
    assert futures[3].result(5).answer.sql == "SELECT 'c'"
    with pytest.raises(ZeroDivisionError):
        futures[2].result(5)
    assert batcher.submit(Ask("db", "later")).result(5).answer.question == "later"


def test_a_question_whose_client_has_gone_is_not_asked():
    model = Model()
    batcher = batcher_of(model)
    futures = submit_while_busy(batcher, model, "ab")
    assert futures[1].cancel()
    assert batcher.n_open == 2
    model.gate.set()
    assert futures[2].result(5).answer.question == "b"
    assert model.batches == [["first"], ["b"]]


def test_a_full_queue_refuses_and_takes_again_when_there_is_room():
    model = Model()
    batcher = batcher_of(model, n_open=2)
    futures = submit_while_busy(batcher, model, "a")
    with pytest.raises(Fault) as refused:
        batcher.submit(Ask("db", "b"))
    assert refused.value.status == 503
    assert "Retry-After" in refused.value.headers()
    model.gate.set()
    futures[1].result(5)
    assert batcher.submit(Ask("db", "b")).result(5).answer.question == "b"


def test_a_slow_query_holds_up_its_own_answer_alone():
    slow = threading.Event()

    def run(ask, answer):
        if ask.question == "slow":
            slow.wait(5)
        return answer

    model = Model()
    model.gate.set()
    batcher = batcher_of(model, run=run, n_runners=2)
    first = batcher.submit(Ask("db", "slow"))
    assert batcher.submit(Ask("db", "quick")).result(5).answer.question == "quick"
    assert not first.done()
    slow.set()
    assert first.result(5).answer.question == "slow"


def test_draining_refuses_new_questions_and_answers_those_that_are_in():
    model = Model()
    batcher = batcher_of(model, n_batch=1)
    futures = submit_while_busy(batcher, model, "ab")
    batcher.drain()
    with pytest.raises(Fault, match="stopped"):
        batcher.submit(Ask("db", "late"))
    model.gate.set()
    assert batcher.close(5) == 0
    assert [future.result(0).answer.question for future in futures] == ["first", "a", "b"]
    assert not batcher.is_alive


def test_what_a_drain_does_not_reach_is_told_so():
    model = Model()
    batcher = batcher_of(model)
    futures = submit_while_busy(batcher, model, "ab")
    assert batcher.close(0.05) == 3
    for future in futures:
        with pytest.raises(Fault) as told:
            future.result(0)
        assert told.value.status == 503
    model.gate.set()  # the batch that was running ends after all, and harms nothing


def test_many_clients_at_once_each_get_their_own_answer():
    model = Model()
    model.gate.set()
    batcher = batcher_of(model, n_open=1000, n_batch=8, n_runners=4)
    mixed_up = []

    def client(name):
        for number in range(25):
            mark = f"{name}-{number}"
            if batcher.submit(Ask("db", mark)).result(10).answer.sql != f"SELECT '{mark}'":
                mixed_up.append(mark)

    threads = [threading.Thread(target=client, args=(name,)) for name in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert mixed_up == []
    assert sum(map(len, model.batches)) == 400
    assert batcher.n_open == 0


def test_an_answer_too_few_is_an_error_and_not_a_shift():
    batcher = batcher_of(lambda asks: [answer_to("x")] * (len(asks) + 1))
    future: Future = batcher.submit(Ask("db", "a"))
    with pytest.raises(RuntimeError, match="1 questions got 2 answers"):
        future.result(5)


def test_cancelled_futures_leave_the_queue_empty():
    model = Model()
    batcher = batcher_of(model)
    futures = submit_while_busy(batcher, model, "ab")
    for future in futures[1:]:
        future.cancel()
    model.gate.set()
    futures[0].result(5)
    with pytest.raises(CancelledError):
        futures[1].result(0)
    assert batcher.close(5) == 0


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (PromptTooLong("the schema does not fit"), 422, "does not fit"),
        (DatabaseMissing("/home/Ada/x.sqlite is not there"), 503, "is not there"),
        (ZeroDivisionError("row 7: Ada Lovelace"), 500, "ZeroDivisionError"),
    ],
)
def test_errors_have_their_status_and_foreign_words_stay_inside(error, status, words):
    fault = fault_of(error)
    assert fault.status == status
    assert words in str(fault)
    assert "Ada" not in str(fault)
