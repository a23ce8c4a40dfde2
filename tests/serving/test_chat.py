"""OpenAI's form, asked by its official client over a socket."""

import time
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

from groundql.serving.asks import Ask
from groundql.serving.keys import Keys
from tests.serving.served import QUERIES, desk_on, listening

KEY = "the-key-of-this-test-0"
COUNT = "How many products are there?"


@pytest.fixture(scope="module")
def address(desk):
    with listening(desk, keys=Keys([KEY])) as address:
        yield address


@pytest.fixture(scope="module")
def official(address):
    with openai.OpenAI(base_url=f"{address}/v1", api_key=KEY, max_retries=0) as official:
        yield official


def said(*turns):
    return [{"role": role, "content": content} for role, content in turns]


def test_the_models_are_the_databases(official):
    assert [model.id for model in official.models.list()] == ["groundql/shop", "groundql/club"]
    assert official.models.retrieve("groundql/club").owned_by == "scripted"


def test_a_completion_is_sql_alone_and_its_rows_are_beside_it(official):
    made = official.chat.completions.create(model="groundql/shop", messages=said(("user", COUNT)))
    assert made.choices[0].message.content == QUERIES[COUNT]
    assert made.choices[0].message.refusal is None
    assert made.choices[0].finish_reason == "stop"
    assert made.model == "groundql/shop"
    assert made.groundql["outcome"]["rows"] == [[3]]


def test_a_stream_gives_the_same_text_and_the_rows_at_its_end(official):
    chunks = list(
        official.chat.completions.create(
            model="groundql/shop",
            messages=said(("user", COUNT)),
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == QUERIES[COUNT]
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-2].groundql["outcome"]["rows"] == [[3]]
    assert chunks[-1].usage.total_tokens == 0
    assert len({chunk.id for chunk in chunks}) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_an_abstention_is_a_comment_that_runs_nothing_and_a_refusal(official, stream):
    made = official.chat.completions.create(
        model="groundql/shop", messages=said(("user", "What is love?")), stream=stream
    )
    if stream:
        deltas = [chunk.choices[0].delta for chunk in made]
        content, refusal = "".join(d.content or "" for d in deltas), deltas[-1].refusal
    else:
        content, refusal = made.choices[0].message.content, made.choices[0].message.refusal
    assert content == "-- no query: no query was found that binds to this schema (dead end)"
    assert refusal == "no query was found that binds to this schema (dead end)"


def test_the_last_user_turn_is_the_question_and_system_turns_are_its_evidence(desk, official, monkeypatch):
    asked = []
    monkeypatch.setattr(desk, "ask", lambda ask: asked.append(ask) or type(desk).ask(desk, ask))
    turns = said(
        ("system", "cheap is below 2"),
        ("user", "old"),
        ("assistant", "SELECT 1"),
        ("developer", "dear is above 3"),
    )
    turns.append({"role": "user", "content": [{"type": "text", "text": COUNT}]})
    official.chat.completions.create(model="groundql/shop", messages=turns)
    assert asked == [("shop", COUNT, "cheap is below 2\ndear is above 3")]


@pytest.mark.parametrize(
    ("change", "error", "code"),
    [
        ({"model": "gpt-4"}, openai.NotFoundError, "model_not_found"),
        ({"model": "groundql/bank"}, openai.NotFoundError, "model_not_found"),
        ({"model": "shop"}, openai.NotFoundError, "model_not_found"),
        ({"n": 2}, openai.BadRequestError, "unsupported_value"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, openai.BadRequestError, "unsupported_value"),
        ({"response_format": {"type": "json_object"}}, openai.BadRequestError, "unsupported_value"),
        ({"messages": []}, openai.BadRequestError, "empty_question"),
        ({"messages": said(("user", " "))}, openai.BadRequestError, "empty_question"),
        ({"messages": said(("user", "x" * 2001))}, openai.BadRequestError, "too_long"),
        ({"messages": said(("nobody", "x"))}, openai.BadRequestError, "wrong_body"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]}, openai.BadRequestError, "unsupported_value"),
        ({"messages": said(("user", "x" * 300_000))}, openai.APIStatusError, "body_too_long"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
def test_errors_have_openais_form_and_status(official, change, error, code, stream):
    asked = {"model": "groundql/shop", "messages": said(("user", COUNT)), "stream": stream} | change
    with pytest.raises(error) as raised:
        official.chat.completions.create(**asked)
    assert raised.value.code == code
    assert raised.value.body["message"]


def test_what_tools_send_and_we_do_not_use_is_passed_over(official):
    made = official.chat.completions.create(
        model="groundql/shop", messages=said(("user", COUNT)), temperature=0.7, max_tokens=5, top_p=0.9, stop=["x"], seed=1, user="me"
    )  # fmt: skip
    assert made.choices[0].message.content == QUERIES[COUNT]


def test_a_wrong_key_is_openais_authentication_error(address):
    with (
        openai.OpenAI(base_url=f"{address}/v1", api_key="wrong", max_retries=0) as stranger,
        pytest.raises(openai.AuthenticationError) as raised,
    ):
        stranger.models.list()
    assert raised.value.code == "invalid_api_key"


def test_a_full_server_says_when_to_come_back(shared_paths):
    with (
        desk_on(shared_paths, delay_s=0.05, queue=1, batch=1) as desk,
        listening(desk) as address,
        openai.OpenAI(base_url=f"{address}/v1", api_key="x", max_retries=0) as official,
    ):
        waiting = desk.ask(Ask("shop", COUNT))
        with pytest.raises(openai.InternalServerError) as raised:
            official.chat.completions.create(model="groundql/shop", messages=said(("user", COUNT)))
        assert raised.value.status_code == 503
        assert raised.value.response.headers["retry-after"] == "2"
        waiting.result(5)
        assert official.chat.completions.create(model="groundql/shop", messages=said(("user", COUNT)))


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_takes_too_long_is_a_timeout_also_within_a_stream(shared_paths, stream):
    asked = {"model": "groundql/shop", "messages": said(("user", COUNT)), "stream": stream}
    with (
        desk_on(shared_paths, delay_s=0.3, answer_s=0.05) as desk,
        listening(desk) as address,
        openai.OpenAI(base_url=f"{address}/v1", api_key="x", max_retries=0) as official,
    ):
        start = time.monotonic()
        with pytest.raises(openai.APIError) as raised:
            list(official.chat.completions.create(**asked))
        assert time.monotonic() - start < 0.3
    assert raised.value.code == "timeout"


def test_one_client_may_not_take_all_places(shared_paths):
    asked = {"model": "groundql/shop", "messages": said(("user", COUNT))}
    with (
        desk_on(shared_paths, delay_s=0.1, per_client=1) as desk,
        listening(desk) as address,
        openai.OpenAI(base_url=f"{address}/v1", api_key="x", max_retries=0) as official,
        ThreadPoolExecutor(3) as pool,
    ):
        futures = [pool.submit(official.chat.completions.create, **asked) for _ in range(3)]
        failed = [future.exception() for future in futures]
    assert sum(error is None for error in failed) == 1
    assert all(isinstance(error, openai.RateLimitError) for error in failed if error)
    assert desk.batcher.n_open == 0
