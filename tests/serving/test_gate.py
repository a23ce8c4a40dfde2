"""What a request passes first: host, origin, key, size; each refusal has its status and says nothing else."""

import json

import pytest

from groundql.serving.gate import host_name
from groundql.serving.keys import Keys
from tests.serving.served import client_of, desk_on

KEY = "the-key-of-this-test-0"
ASK = {"database": "shop", "question": "How many products are there?"}
PAGES = ("/", "/health", "/databases", "/schema/shop", "/metrics", "/v1/models", "/openapi.json", "/nowhere")


@pytest.fixture(scope="module")
def keyed(desk):
    """A client of a server that wants a key."""
    with client_of(desk, keys=Keys([KEY])) as client:
        yield client


@pytest.mark.parametrize("path", ["/", "/schema/shop", "/nowhere"])
@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8000", "localhost@evil.example", "", "[::1", "127.0.0.1:80:80", "2130706433.", "host name"],
)  # fmt: skip
def test_a_name_that_the_server_does_not_go_by_is_refused_on_every_path(client, path, host):
    answer = client.get(path, headers={"Host": host})
    assert answer.status_code == 421
    assert answer.json()["error"]["code"] == "unknown_host"


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8000", "localhost.", "127.0.0.1", "[::1]:8000", "192.168.1.20:8000"]
)
def test_loopback_and_bare_addresses_pass_since_no_name_can_be_made_to_point_there(client, host):
    assert client.get("/health", headers={"Host": host}).status_code == 200


def test_two_hosts_in_one_request_are_refused(client):
    answer = client.get("/health", headers=[("Host", "localhost"), ("Host", "evil.example")])
    assert answer.status_code == 421


def test_a_further_name_may_be_allowed(desk):
    with client_of(desk, hosts=["SQL.example"]) as client:
        assert client.get("/health", headers={"Host": "sql.example:8000"}).status_code == 200


@pytest.mark.parametrize(
    ("header", "name"), [("a.b:80", "a.b"), ("[::1]:80", "::1"), ("[::1]x", ""), ("a:b", "")]
)
def test_the_name_in_a_host_header(header, name):
    assert host_name(header) == name


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "http://127.0.0.1:8001",
        "null",
        "file://",
        "https://127.0.0.1:8000.evil.example",
    ],
)
def test_another_site_may_not_ask(client, origin):
    answer = client.post("/ask", json=ASK, headers={"Origin": origin})
    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers
    assert client.options("/ask", headers={"Origin": origin}).status_code == 403


def test_the_page_of_the_server_itself_may_ask(client):
    answer = client.post(
        "/ask", json=ASK, headers={"Origin": "http://127.0.0.1:8000", "Sec-Fetch-Site": "same-origin"}
    )
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("mode", "kind", "status"),
    [("no-cors", "image", 403), ("navigate", "document", 200), ("navigate", "iframe", 403)],
)
def test_a_request_that_a_browser_marks_as_of_another_site_passes_as_a_link_alone(client, mode, kind, status):
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": kind}
    assert client.get("/", headers=headers).status_code == status


def test_a_site_that_was_let_in_may_ask_and_read(desk):
    with client_of(desk, origins=["https://friend.example"]) as client:
        headers = {"Origin": "https://friend.example", "Sec-Fetch-Site": "cross-site"}
        assert client.options("/ask", headers=headers).headers["access-control-allow-headers"]
        answer = client.post("/ask", json=ASK, headers=headers)
        assert answer.headers["access-control-allow-origin"] == "https://friend.example"
        assert client.post("/ask", json=ASK, headers={"Origin": "https://evil.example"}).status_code == 403


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""]
)
def test_a_body_that_a_plain_form_could_send_is_refused(client, kind):
    answer = client.post(
        "/run", content=json.dumps({"database": "shop", "sql": "SELECT 1"}), headers={"Content-Type": kind}
    )
    assert answer.status_code == 415


@pytest.mark.parametrize("path", [path for path in PAGES if path not in ("/", "/health")])
def test_with_keys_every_path_with_content_wants_one(keyed, path):
    for headers in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {KEY}"},
        {"Authorization": KEY},
    ):
        answer = keyed.get(path, headers=headers)
        assert answer.status_code == 401, headers
        assert answer.headers["www-authenticate"] == "Bearer"
    answer = keyed.get(path, headers={"Authorization": f"Bearer {KEY}"})
    assert answer.status_code == (404 if path == "/nowhere" else 200)


def test_page_and_health_need_no_key_and_name_no_database(keyed):
    for path in ("/", "/health"):
        answer = keyed.get(path)
        assert answer.status_code == 200
        assert "shop" not in answer.text


def test_a_key_is_asked_for_before_a_body_is_read(keyed):
    body, headers = b"{" * 10**6, {"Content-Type": "application/json"}
    assert keyed.post("/ask", content=body, headers=headers).status_code == 401


def bodies(n_bytes):
    """A body without a stated length."""
    for _ in range(n_bytes // 1000):
        yield b" " * 1000


def test_a_body_beyond_the_limit_is_refused_whether_its_length_is_stated_or_not(client):
    headers = {"Content-Type": "application/json"}
    assert client.post("/ask", content=b" " * 300_000, headers=headers).status_code == 413
    assert client.post("/ask", content=bodies(300_000), headers=headers).status_code == 413
    assert (
        client.post("/ask", content=b" ", headers=headers | {"Content-Length": "9" * 5000}).status_code == 413
    )


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 40_000, b'{"database": "shop", "question": "\\ud800"}', b'{"database": "shop", "question": 7}', b'{"database": "shop", "question": "x", "more": 1}', b'{"database": "shop"}', b"1e999", b"9" * 50_000],
    ids=lambda body: body[:20],
)  # fmt: skip
def test_a_body_that_is_no_question_is_a_422_and_not_echoed(client, body):
    answer = client.post("/ask", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert len(answer.content) < 500


def test_a_compressed_body_is_not_unpacked(client):
    answer = client.post(
        "/ask", content=b"\x1f\x8b", headers={"Content-Type": "application/json", "Content-Encoding": "gzip"}
    )
    assert answer.status_code == 415


@pytest.mark.parametrize(("field", "limit"), [("question", 2_000), ("evidence", 4_000)])
def test_a_text_beyond_its_limit_is_refused_with_the_limit(client, field, limit):
    answer = client.post("/ask", json=ASK | {field: "x" * (limit + 1)})
    assert answer.status_code == 422
    assert f"{limit:,}" in answer.json()["error"]["message"]
    assert client.post("/ask", json=ASK | {field: "x" * limit}).status_code == 200


def test_every_answer_has_the_safe_headers(client):
    for answer in (
        client.get("/"),
        client.get("/nowhere"),
        client.get("/health", headers={"Host": "evil.example"}),
    ):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-frame-options"] == "DENY"


def test_no_path_reads_files(client):
    for path in (
        "/schema/../../etc/passwd",
        "/schema/%2e%2e%2fetc%2fpasswd",
        "/static/../pyproject.toml",
        "//etc/passwd",
    ):
        assert client.get(path).status_code == 404


def test_counts_have_no_label_that_a_client_made_up(paths):
    with desk_on(paths) as desk, client_of(desk) as client:
        client.get("/made-up-path-1")
        client.get("/schema/made-up-database")
        client.request("MADEUP", "/health")
        client.post("/ask", json=ASK)
        text = client.get("/metrics").text
    assert "made" not in text.lower()
    assert 'groundql_requests_total{route="/ask",status="200"} 1.0' in text
    assert 'groundql_answers_total{database="shop",status="answered"} 1.0' in text
