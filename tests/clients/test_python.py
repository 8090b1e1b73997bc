"""The official Python client, unmodified, through the gateway: what it can do with OpenAI's API it can do here.

The blocking client runs in a thread of its own; gateway and backends share the test's event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel
from tests.clients.backends import CALL, VECTOR
from tests.clients.conftest import Line
from tests.support.engine import until

T = TypeVar("T")
HELLO: Any = [{"role": "user", "content": "Hello?"}]
TOOL: Any = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
TEXT = "first one two three"


@pytest.fixture
async def client(line: Line) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=line.url, api_key="unused", max_retries=0, timeout=10) as made:
        yield made


async def blocking(line: Line, work: Callable[[OpenAI], T], **options: Any) -> T:
    """`work` with the blocking client, as an application without asyncio would do it."""

    def run() -> T:
        with OpenAI(**({"base_url": line.url, "api_key": "unused", "max_retries": 0, "timeout": 10} | options)) as c:
            return work(c)

    return await asyncio.to_thread(run)


# ---- chat


async def test_chat(line: Line, client: AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(model="chat", messages=HELLO)
    assert answer.choices[0].message.content == TEXT
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3
    assert answer._request_id
    assert await blocking(line, lambda c: c.chat.completions.create(model="chat", messages=HELLO)) is not None


async def test_chat_stream(line: Line, client: AsyncOpenAI) -> None:
    chunks = [c async for c in await client.chat.completions.create(model="chat", messages=HELLO, stream=True)]
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == TEXT
    assert not any(c.usage for c in chunks), "usage that was not asked for"
    assert chunks[-1].choices[0].finish_reason == "stop"

    def work(c: OpenAI) -> str:
        options: Any = {"include_usage": True}
        stream = c.chat.completions.create(model="chat", messages=HELLO, stream=True, stream_options=options)
        chunks = list(stream)
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.completion_tokens == 3
        return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)

    assert await blocking(line, work) == TEXT


async def test_stream_helper(client: AsyncOpenAI) -> None:
    async with client.chat.completions.stream(model="chat", messages=HELLO) as stream:
        kinds = {event.type async for event in stream}
        final = await stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= kinds
    assert final.choices[0].message.content == TEXT


async def test_tools(line: Line, client: AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(model="chat", messages=HELLO, tools=[TOOL], tool_choice="auto")
    calls = answer.choices[0].message.tool_calls
    assert calls is not None
    assert calls[0].model_dump() == CALL
    path, body = line.first.bodies[-1]
    assert (path, body["tools"], body["tool_choice"], body["model"]) == ("/v1/chat/completions", [TOOL], "auto", "m")


async def test_tools_in_a_stream(client: AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(model="chat", messages=HELLO, tools=[TOOL], stream=True)
    arguments = ""
    async for chunk in stream:
        for call in chunk.choices[0].delta.tool_calls or ():
            assert call.function is not None
            arguments += call.function.arguments or ""
    assert arguments == '{"city":"Ulm"}'


async def test_structured_output_goes_up_as_it_was_asked(line: Line, client: AsyncOpenAI) -> None:
    class City(BaseModel):
        name: str

    with pytest.raises(Exception, match="Invalid JSON"):  # the backend's words are no City: the client says so
        await client.chat.completions.parse(model="chat", messages=HELLO, response_format=City)
    assert line.first.bodies[-1][1]["response_format"]["json_schema"]["name"] == "City"


async def test_fields_that_no_one_knows_go_up(line: Line, client: AsyncOpenAI) -> None:
    extra = {"guided_choice": ["a"], "new": {"model": "x", "deep": [None, 1.5]}}
    await client.chat.completions.create(model="chat", messages=HELLO, extra_body=extra)
    assert extra.items() <= line.first.bodies[-1][1].items()


# ---- the other operations


async def test_completions(line: Line, client: AsyncOpenAI) -> None:
    answer = await client.completions.create(model="chat", prompt=["Hello?"], suffix="!")
    assert answer.choices[0].text == TEXT
    stream = await client.completions.create(model="chat", prompt="Hello?", stream=True)
    assert "".join([c.choices[0].text async for c in stream]) == TEXT
    assert line.first.bodies[0] == ("/v1/completions", {"model": "m", "prompt": ["Hello?"], "suffix": "!"})

    def work(c: OpenAI) -> str:
        return "".join(c.choices[0].text for c in c.completions.create(model="chat", prompt="Hello?", stream=True))

    assert await blocking(line, work) == TEXT


async def test_embeddings(line: Line, client: AsyncOpenAI) -> None:
    packed = await client.embeddings.create(model="chat", input=["a", "b"])
    assert [row.embedding for row in packed.data] == [VECTOR, VECTOR]
    assert line.first.bodies[-1][1]["encoding_format"] == "base64", "the client's own default"
    plain = await client.embeddings.create(model="chat", input="a", encoding_format="float", dimensions=3)
    assert plain.data[0].embedding == VECTOR
    assert plain.usage.prompt_tokens == 3
    one = await blocking(line, lambda c: c.embeddings.create(model="chat", input="a"))
    assert one.data[0].embedding == VECTOR


async def test_responses(line: Line, client: AsyncOpenAI) -> None:
    answer = await client.responses.create(model="chat", input="Hello?")
    assert answer.output_text == TEXT
    assert answer.usage is not None
    assert answer.usage.output_tokens == 3
    kinds, text = [], ""
    async for event in await client.responses.create(model="chat", input="Hello?", stream=True, store=False):
        kinds.append(event.type)
        if event.type == "response.output_text.delta":
            text += event.delta
    assert text == TEXT
    assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")
    assert (await blocking(line, lambda c: c.responses.create(model="chat", input="Hello?"))).output_text == TEXT


async def test_responses_stream_helper_and_tools(client: AsyncOpenAI) -> None:
    tool: Any = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": False}
    async with client.responses.stream(model="chat", input="Hello?", tools=[tool]) as stream:
        async for _ in stream:
            pass
        final = await stream.get_final_response()
    call: Any = final.output[0]
    assert (call.type, call.name, call.arguments) == ("function_call", "weather", '{"city":"Ulm"}')


async def test_models(line: Line, client: AsyncOpenAI) -> None:
    assert [m.id async for m in client.models.list()] == ["chat"]
    assert (await client.models.retrieve("chat")).owned_by == "pointsman"
    with pytest.raises(openai.NotFoundError, match="'other'"):
        await client.models.retrieve("other")
    assert [m.id for m in await blocking(line, lambda c: c.models.list())] == ["chat"]


# ---- fallback, seen by a client


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("operation", ["chat", "completions", "responses"])
async def test_fallback_is_invisible_but_for_its_headers(
    operation: str, stream: bool, line: Line, client: AsyncOpenAI
) -> None:
    line.first.fails(500)
    calls: dict[str, Any] = {
        "chat": lambda: client.chat.completions.with_raw_response.create(model="chat", messages=HELLO, stream=stream),
        "completions": lambda: client.completions.with_raw_response.create(model="chat", prompt="x", stream=stream),
        "responses": lambda: client.responses.with_raw_response.create(
            model="chat", input="x", stream=stream, store=False
        ),
    }
    raw = await calls[operation]()
    assert raw.headers["x-pointsman-backend"] == "second"
    assert raw.headers["x-pointsman-attempts"] == "2"
    answer = raw.parse()
    text = "".join([str(e.model_dump()) async for e in answer]) if stream else str(answer.model_dump())
    assert "second" in text
    assert "first" not in text


async def test_fallback_of_embeddings(line: Line, client: AsyncOpenAI) -> None:
    line.first.fails(503)
    raw = await client.embeddings.with_raw_response.create(model="chat", input="a")
    assert raw.headers["x-pointsman-backend"] == "second"


# ---- errors


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, openai.BadRequestError),
        (409, openai.ConflictError),
        (422, openai.UnprocessableEntityError),
    ],
)
async def test_what_is_wrong_with_a_request_is_said_by_the_backend(
    status: int, kind: type[openai.APIStatusError], line: Line, client: AsyncOpenAI
) -> None:
    line.first.fails(status, "temperature must be at most 2", "bad_value")
    with pytest.raises(kind, match="temperature must be at most 2") as caught:
        await client.chat.completions.create(model="chat", messages=HELLO)
    assert caught.value.code == "bad_value"
    assert caught.value.request_id
    assert not line.second.bodies, "the caller's own mistake is no reason to ask another backend"


async def test_each_error_of_ours_has_its_class(line: Line, client: AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        await client.chat.completions.create(model="gpt-9", messages=HELLO)
    assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.NotFoundError, match="Unknown request URL: POST /v1/moderations") as path:
        await client.moderations.create(input="x")
    assert (path.value.code, path.value.type) == ("unknown_url", "invalid_request_error")
    line.both_fail(500)
    with pytest.raises(openai.InternalServerError) as broken:
        await client.chat.completions.create(model="chat", messages=HELLO)
    assert broken.value.status_code == 502
    assert "- first (m): Failure, ServerError" in broken.value.message
    line.both_fail(401, "Incorrect API key provided: sk-ours")
    with pytest.raises(openai.InternalServerError) as denied:
        await client.chat.completions.create(model="chat", messages=HELLO)
    assert denied.value.status_code == 503
    assert "sk-ours" not in str(denied.value.body)


async def test_rate_limits_of_all_backends(line: Line, client: AsyncOpenAI) -> None:
    line.both_fail(429)
    line.first.headers = line.second.headers = {"Retry-After": "7"}
    with pytest.raises(openai.RateLimitError) as caught:
        await client.chat.completions.create(model="chat", messages=HELLO)
    assert caught.value.response.headers["retry-after"] == "7"


async def test_nobody_listens() -> None:
    async with AsyncOpenAI(base_url="http://127.0.0.1:9/v1", api_key="unused", max_retries=0) as nowhere:
        with pytest.raises(openai.APIConnectionError):
            await nowhere.models.list()


@pytest.mark.parametrize("operation", ["chat", "responses"])
async def test_stream_that_breaks_after_content_raises(operation: str, line: Line, client: AsyncOpenAI) -> None:
    line.first.breaks = True
    stream: Any
    if operation == "chat":
        stream = await client.chat.completions.create(model="chat", messages=HELLO, stream=True)
    else:
        stream = await client.responses.create(model="chat", input="x", stream=True)
    seen: list[str] = []

    async def read() -> None:
        async for event in stream:
            seen.append(str(event.model_dump()))

    with pytest.raises(openai.APIError, match="the answer was cut short"):
        await read()
    assert "three" in seen[-1]
    assert not line.second.bodies, "after its first content an answer is never begun again"


# ---- retries, timeouts, cancelling


async def test_client_retries_what_may_pass(line: Line) -> None:
    failures = [500] * 3  # one request: its three attempts
    line.first.error = line.second.error = lambda: (failures.pop(), "boom", "") if failures else None
    async with AsyncOpenAI(base_url=line.url, api_key="unused", max_retries=2, timeout=10) as client:
        answer = await client.chat.completions.create(model="chat", messages=HELLO)
    assert answer.choices[0].message.content == TEXT
    assert len(line.gateway.meter.requests) == 2


async def test_client_does_not_retry_what_cannot_pass(line: Line) -> None:
    line.both_fail(401)
    async with AsyncOpenAI(base_url=line.url, api_key="unused", max_retries=3, timeout=10) as client:
        with pytest.raises(openai.InternalServerError) as caught:
            await client.chat.completions.create(model="chat", messages=HELLO)
        assert caught.value.response.headers["x-should-retry"] == "false"
        assert len(line.gateway.meter.requests) == 1
        with pytest.raises(openai.NotFoundError):
            await client.chat.completions.create(model="gpt-9", messages=HELLO)
        assert len(line.gateway.meter.requests) == 2


@pytest.mark.parametrize("stream", [False, True])
async def test_timeout_of_the_client_frees_the_backend(stream: bool, line: Line, client: AsyncOpenAI) -> None:
    line.first.silent = True
    quick: Any = client.with_options(timeout=2)
    with pytest.raises(openai.APITimeoutError):
        await quick.chat.completions.create(model="chat", messages=HELLO, stream=stream)
    await asyncio.wait_for(line.first.left.wait(), 10)


async def test_closed_stream_frees_the_backend_at_once(line: Line, client: AsyncOpenAI) -> None:
    line.first.endless = True
    stream = await client.chat.completions.create(model="chat", messages=HELLO, stream=True)
    async for _ in stream:
        break
    await stream.close()
    await asyncio.wait_for(line.first.left.wait(), 10)
    assert line.gateway.meter.verdicts == [("first", "Cancelled", "ClientGone")]


async def test_closed_stream_of_the_blocking_client(line: Line) -> None:
    line.first.endless = True

    def work(c: OpenAI) -> None:
        with c.responses.create(model="chat", input="x", stream=True, store=False) as stream:
            for event in stream:
                if event.type == "response.output_text.delta":
                    return

    await blocking(line, work)
    await asyncio.wait_for(line.first.left.wait(), 10)


async def test_cancelled_task_frees_the_backend_at_once(line: Line, client: AsyncOpenAI) -> None:
    line.first.silent = True
    task = asyncio.create_task(client.embeddings.create(model="chat", input="x"))
    await until(lambda: line.first.bodies)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(line.first.left.wait(), 10)
