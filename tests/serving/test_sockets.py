"""What only a socket shows: clients that hang up, trickle or say nothing."""

import asyncio
import json
import socket
import time
from contextlib import closing

import httpx
import pytest

from groundql.serving import server
from groundql.serving.asks import Ask
from tests.serving.served import QUERIES, desk_on, listening

COUNT = "How many products are there?"


@pytest.fixture(scope="module")
def address(desk):
    """A server for what changes nothing of it."""
    with listening(desk) as address:
        yield address


def connected(address: str) -> socket.socket:
    host, port = address.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=5)


def request(path: str, body: object, *, length: int | None = None) -> bytes:
    text = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length or len(text)}\r\n\r\n"
    return head.encode() + text


def until(is_so, limit_s: float = 3.0) -> bool:
    ends = time.monotonic() + limit_s
    while not is_so():
        if time.monotonic() > ends:
            return False
        time.sleep(0.005)
    return True


@pytest.mark.parametrize("stream", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_client_that_hangs_up_costs_no_place_and_is_not_asked_for(shared_paths, stream):
    with desk_on(shared_paths, delay_s=0.15, batch=1) as desk, listening(desk) as address:
        running = desk.ask(Ask("shop", COUNT))
        path, body = "/ask", {"database": "shop", "question": COUNT}
        if stream:
            path = "/v1/chat/completions"
            body = {
                "model": "groundql/shop",
                "messages": [{"role": "user", "content": COUNT}],
                "stream": True,
            }
        with closing(connected(address)) as client:
            client.sendall(request(path, body))
            assert until(lambda: desk.batcher.n_open == 2)
        assert until(lambda: desk.batcher.n_open == 1)
        running.result(5)
        assert httpx.post(f"{address}/ask", json={"database": "shop", "question": COUNT}).status_code == 200
        assert 'groundql_given_up_total{why="gone"} 1.0' in desk.metrics.text().decode()
        assert len(desk._writes.batches) == 2  # the first and the last; not that of the client which hung up


def test_a_body_that_trickles_is_given_up(shared_paths):
    with (
        desk_on(shared_paths, body_s=0.1) as desk,
        listening(desk) as address,
        closing(connected(address)) as client,
    ):
        client.sendall(request("/ask", {}, length=1000))
        assert client.recv(100).startswith(b"HTTP/1.1 408")
        assert until(lambda: client.recv(1000) == b"")


@pytest.mark.slow
def test_a_head_that_trickles_is_given_up_and_a_kept_connection_is_not_cut_early(shared_paths, monkeypatch):
    monkeypatch.setattr(server, "HEAD_S", 0.15)
    with desk_on(shared_paths, delay_s=0.2) as desk, listening(desk) as address:
        with httpx.Client(base_url=address) as client:
            assert client.post("/ask", json={"database": "shop", "question": COUNT}).status_code == 200
        for begin in (b"", b"GET / HTTP/1.1\r\nHost: localhost\r\n"):
            with closing(connected(address)) as idle:
                start = time.monotonic()
                idle.sendall(begin)
                while time.monotonic() - start < 0.1:  # bytes that come put nothing off
                    idle.sendall(b"X" if begin else b"")
                    time.sleep(0.03)
                assert idle.recv(100) == b""
                assert 0.1 < time.monotonic() - start < 1


def test_a_long_body_is_refused_before_it_is_sent(address):
    with closing(connected(address)) as client:
        client.sendall(request("/ask", {}, length=10**10))
        assert client.recv(100).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(
    "sent",
    [b"\x00" * 100, b"GET / HTTP/1.1\r\n\r\n", b"GET /" + b"a" * 100_000, b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"A: b\r\n" * 20_000, b"\x16\x03\x01\x02\x00\x01"],
    ids=["zeros", "no host", "long path", "many headers", "TLS"],
)  # fmt: skip
def test_what_is_no_request_of_ours_is_refused_and_the_server_goes_on(address, sent):
    with closing(connected(address)) as client:
        try:
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)
            answer = client.recv(100)
        except OSError:  # closed on us while we sent
            answer = b""
    assert answer == b"" or answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 421"))
    assert httpx.get(f"{address}/health").status_code == 200


def test_a_smuggled_second_request_is_refused(address):
    with closing(connected(address)) as client:
        client.sendall(
            b"POST /ask HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 5\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /schema/shop HTTP/1.1\r\nHost: localhost\r\n\r\n"
        )
        assert b"product" not in client.recv(10_000)


def test_an_answer_does_not_wait_for_a_delayed_acknowledgement(address):
    with httpx.Client(base_url=address) as client:
        client.get("/health")
        start = time.monotonic()
        for _ in range(10):
            assert client.get("/health").status_code == 200
        assert time.monotonic() - start < 0.35  # ten delays alone are 0.4 s


@pytest.mark.slow
def test_sixty_questions_at_once_each_get_their_own_rows(shared_paths):
    marks = {f"mark {i}": f"SELECT 'mark {i}' AS mark" for i in range(60)}
    with desk_on(shared_paths, marks | QUERIES, per_client=100) as desk, listening(desk) as address:

        async def all_of_them():
            async with httpx.AsyncClient(base_url=address, limits=httpx.Limits(max_connections=30)) as client:
                return await asyncio.gather(
                    *(client.post("/ask", json={"database": "shop", "question": mark}) for mark in marks)
                )

        answers = asyncio.run(all_of_them())
    assert [answer.json()["outcome"]["rows"] for answer in answers] == [[[mark]] for mark in marks]
    assert max(desk._writes.batches) == 8
