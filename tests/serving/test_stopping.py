"""A server process that is stopped, killed under load, or has a full disk."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.serving.served import make_databases

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


@contextlib.contextmanager
def process_on(
    path: Path, *, port: int = 0, delay_s: float = 0.0, limits: str = "", **options
) -> Iterator[tuple[subprocess.Popen, str]]:
    """The echo server on a database, and its address."""
    command = [sys.executable, "-m", "tests.serving.process", str(port), str(delay_s), limits, str(path)]
    options = {"cwd": ROOT, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True} | options
    with subprocess.Popen(command, **options) as process:
        try:
            said, port_said = process.stdout.readline().split()
            assert said == "ready"
            yield process, f"http://127.0.0.1:{port_said}"
        finally:
            process.kill()


def ask(address: str, mark: str, client: httpx.Client | None = None) -> httpx.Response:
    body = {"database": "shop", "question": mark}
    return (client or httpx).post(f"{address}/ask", json=body, timeout=20)


@contextlib.contextmanager
def all_asked(address: str, n: int) -> Iterator[list[Future[httpx.Response]]]:
    """Answers to come of n questions, every one of which is in."""
    with httpx.Client() as client, ThreadPoolExecutor(n) as pool:
        futures = [pool.submit(ask, address, f"mark {i}", client) for i in range(n)]
        ends = time.monotonic() + 20
        while f"groundql_in_flight {n + 1}.0" not in client.get(f"{address}/metrics").text:
            assert time.monotonic() < ends
        yield futures


def is_running(pid: int) -> bool:
    """Whether the process does anything; one that has ended and is not yet reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def children_of(pid: int) -> set[int]:
    """Processes that run its queries."""
    found = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    )
    return set(map(int, found.stdout.split()))


@pytest.fixture
def shop(tmp_path):
    return make_databases(tmp_path)["shop"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_stop_lets_every_question_that_is_in_be_answered(shop, number):
    with (
        process_on(shop, delay_s=0.5, limits="batch=2") as (process, address),
        all_asked(address, 6) as futures,
    ):
        process.send_signal(number)
        answers = [future.result(20) for future in futures]
        assert [answer.status_code for answer in answers] == [200] * 6
        assert [answer.json()["outcome"]["rows"][0][0] for answer in answers] == [
            f"mark {i}" for i in range(6)
        ]
        assert process.wait(20) == 0
        with pytest.raises(httpx.TransportError):
            ask(address, "late")


def test_what_a_drain_has_no_time_for_is_told_so_with_503(shop):
    with (
        process_on(shop, delay_s=2.0, limits="batch=1,drain_s=2.5") as (process, address),
        all_asked(address, 4) as futures,
    ):
        process.send_signal(signal.SIGTERM)
        statuses = [future.result(20).status_code for future in futures]
        assert process.wait(20) == 0
    assert set(statuses) == {200, 503}
    assert statuses.count(200) in (1, 2)


def test_killed_under_load_it_leaves_no_process_and_starts_again_on_its_port(shop):
    stop, refused, wrong = threading.Event(), [], []

    def load(address, name):
        n = 0
        while not stop.is_set():
            try:
                if ask(address, f"{name} {n}").json()["outcome"]["rows"][0][0] != f"{name} {n}":
                    wrong.append(name)
            except httpx.TransportError:
                refused.append(name)
                time.sleep(0.02)
            n += 1

    with process_on(shop, delay_s=0.02) as (process, address), ThreadPoolExecutor(4) as pool:
        try:
            futures = [pool.submit(load, address, name) for name in "abcd"]
            time.sleep(1)
            children = children_of(process.pid)
            assert children
            process.kill()
            process.wait(5)
            ends = time.monotonic() + 5
            while any(map(is_running, children)):
                assert time.monotonic() < ends
            with process_on(shop, port=int(address.rpartition(":")[2])) as (_, again):
                assert ask(again, "after").json()["outcome"]["rows"][0][0] == "after"
                stop.set()
                for future in futures:
                    future.result(20)
        finally:
            stop.set()
    assert refused
    assert not wrong


def test_more_connections_than_the_limit_are_a_503_and_those_within_it_are_answered(shop):
    with process_on(shop, limits="connections=3") as (_, address), contextlib.ExitStack() as stack:
        host, port = address.removeprefix("http://").split(":")
        assert ask(address, "before").status_code == 200
        held = [stack.enter_context(socket.create_connection((host, int(port)), timeout=5)) for _ in range(3)]
        assert ask(address, "one too many").status_code == 503
        held.pop().close()
        held.pop().close()
        ends = time.monotonic() + 5
        while (answer := ask(address, "after")).status_code != 200:
            assert time.monotonic() < ends
        assert answer.json()["outcome"]["rows"][0][0] == "after"


def test_a_full_disk_stops_no_answer(shop, tmp_path):
    """Every write to a file fails, the log's too: no file of the process may grow."""
    log = tmp_path / "log"

    def no_file_may_grow() -> None:
        import resource

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    env = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    with (
        log.open("w") as file,
        process_on(shop, stderr=file, preexec_fn=no_file_may_grow, env=env) as (process, address),
    ):
        for i in range(20):
            assert ask(address, f"mark {i}").json()["outcome"]["rows"][0][0] == f"mark {i}"
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert log.stat().st_size == 0
