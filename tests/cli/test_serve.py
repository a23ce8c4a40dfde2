"""groundql serve: what it refuses before any weight is loaded, and one server from start to stop."""

import os
import signal
import socket
import subprocess
import sys
import time

import httpx
import pytest

from groundql.cli.serve import named_places
from groundql.errors import AskedWrongly
from groundql.serving.server import is_loopback
from tests.command import groundql
from tests.serving.served import make_databases
from tests.tiny import save_tiny


@pytest.fixture
def shop(tmp_path):
    return make_databases(tmp_path)["shop"]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.20", "example.org", "128.0.0.1"])
def test_other_machines_are_not_listened_to_without_keys(shop, host):
    ended = groundql("serve", shop, "--host", host)
    assert ended.status == 2
    assert f"{host} can be reached from other machines" in ended.stderr
    assert "--keys FILE" in ended.stderr


@pytest.mark.parametrize(
    ("host", "is_so"),
    [("127.0.0.1", True), ("127.8.0.1", True), ("::1", True), ("[::1]", True), ("localhost", True), ("0.0.0.0", False), ("::ffff:10.0.0.1", False), ("", False)],
)  # fmt: skip
def test_loopback_is_told_from_the_rest(host, is_so):
    assert is_loopback(host) == is_so


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--limit", "row=5"], "did you mean rows?"),
        (["--limit", "rows=many"], "rows: Input should be a valid integer"),
        (["--limit", "rows=0"], "rows: Input should be greater than or equal to 1"),
        (["--keys", "no-such-file"], "no-such-file is not there"),
        (["--allow-origin", "example.org"], "write https://SITE"),
        (["--host", "192.0.2.1", "--insecure", "--port", "0"], "--host takes an address of this machine"),
    ],
)
def test_a_wrong_option_is_told_in_a_sentence(shop, options, words):
    ended = groundql("serve", shop, *options)
    assert ended.status == (1 if "192.0.2.1" in options else 2)
    assert words in ended.stderr


def test_a_port_that_is_taken_is_told(shop):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        ended = groundql("serve", shop, "--port", other.getsockname()[1])
    assert ended.status == 1
    assert "--port takes another" in ended.stderr


def test_a_missing_database_is_told(tmp_path):
    ended = groundql("serve", tmp_path / "none.sqlite")
    assert ended.status == 2
    assert "is not there" in ended.stderr


def test_databases_go_by_their_file_or_by_the_name_given(tmp_path, shop):
    (tmp_path / "more").mkdir()
    other = make_databases(tmp_path / "more")["shop"]
    assert named_places([str(shop), f"old={other}"]) == {"shop": str(shop), "old": str(other)}
    with pytest.raises(AskedWrongly, match="two databases go by the name shop; write NAME=DATABASE"):
        named_places([str(shop), str(other)])


@pytest.mark.slow
def test_a_server_answers_from_start_to_stop_and_ends_with_0(tmp_path, shop):
    model = save_tiny(tmp_path / "tiny", "llama")
    command = [sys.executable, "-m", "groundql", "serve", f"our={shop}", "--model", str(model)]
    command += ["--port", "0", "--max-new-tokens", "4", "--decoding", "free"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ) as process:
        try:
            address = next(line.split()[0] for line in process.stderr if line.startswith("http://"))
            answer = httpx.post(
                f"{address}/ask", json={"database": "our", "question": "How many?"}, timeout=60
            )
            assert answer.status_code == 200
            assert answer.json()["status"] in ("no_query", "does_not_bind", "answered", "not_run")
            assert httpx.get(f"{address}/v1/models").json()["data"][0]["id"] == "groundql/our"
            process.send_signal(signal.SIGTERM)
            start = time.monotonic()
            assert process.wait(20) == 0
            assert time.monotonic() - start < 10
        finally:
            process.kill()
