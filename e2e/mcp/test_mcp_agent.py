"""The loop on the server: the demo model calls a tool of an MCP server, which Millrace runs, and uses the result."""

import json
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

from harness.process import until
from harness.server import MODEL
from mcp_support import misfit

QUESTION = [{"role": "user", "content": "What is the weather in Paris?"}]
ANSWER = "The weather in Paris is sunny with 21 degrees."
# The demo model leaves the prefix out and calls `get_weather`.
ONLY = {"servers": ["demo"], "tools": ["get_weather"]}
NO_THINKING = {"chat_template_kwargs": {"enable_thinking": False}}
MINE = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the current weather for a city.",
        "parameters": {"type": "object", "properties": {"location": {"type": "string"}}, "required": ["location"]},
    },
}


@pytest.fixture
def weather(tools):
    server = tools({"demo": misfit()})
    yield server
    server.wait_idle()


def ask(server, mcp: dict | None = None, **fields):
    """The official client's answer."""
    extra = NO_THINKING | ({"mcp": mcp} if mcp is not None else {})
    options = {"model": MODEL, "messages": QUESTION, "temperature": 0, "extra_body": extra} | fields
    with server.client() as client:
        return client.chat.completions.create(**options)


def test_the_model_uses_a_tool(weather):
    answer = ask(weather, ONLY)
    (choice,) = answer.choices
    assert (choice.message.content, choice.finish_reason) == (ANSWER, "stop")
    assert choice.message.tool_calls is None
    (call,) = choice.message.model_extra["mcp_calls"]
    assert call.pop("id").startswith("call_")
    assert call == {
        "server": "demo", "name": "demo__get_weather", "arguments": '{"location": "Paris"}',
        "status": "completed", "output": '{"temperature": 21, "condition": "sunny"}',
    }
    log = weather.stderr()
    assert "`demo__get_weather` returned 41 bytes" in log and "sunny" not in log


def test_usage_is_of_all_rounds(weather):
    answer = ask(weather, ONLY)
    message = answer.choices[0].message
    (call,) = message.model_extra["mcp_calls"]
    # The same two rounds, with the loop on the client's side.
    tool = json.loads(json.dumps(MINE))
    tool["function"]["name"] = call["name"]
    first = ask(weather, tools=[tool])
    (asked,) = first.choices[0].message.tool_calls
    history = QUESTION + [
        {"role": "assistant", "content": "", "tool_calls": [asked.model_dump()]},
        {"role": "tool", "tool_call_id": asked.id, "content": call["output"]},
    ]
    second = ask(weather, messages=history, tools=[tool])
    assert second.choices[0].message.content == message.content
    for count in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert getattr(answer.usage, count) == getattr(first.usage, count) + getattr(second.usage, count)


def test_the_stream_shows_every_step(weather):
    body = {"model": MODEL, "messages": QUESTION, "temperature": 0, "mcp": ONLY, **NO_THINKING}
    body["stream_options"] = {"include_usage": True}
    with weather.events("/v1/chat/completions", body) as events:
        chunks = list(events)
    assert chunks.pop() == "[DONE]"
    usage = chunks.pop()["usage"]
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    news = [call for delta in deltas for call in delta.get("mcp_calls", [])]
    assert [call["index"] for call in news] == [0] * len(news)
    assert (news[0]["name"], news[0]["status"]) == ("demo__get_weather", "in_progress")
    assert "".join(call.get("arguments", "") for call in news) == '{"location": "Paris"}'
    assert (news[-1]["status"], json.loads(news[-1]["output"])["condition"]) == ("completed", "sunny")
    assert "".join(delta.get("content") or "" for delta in deltas) == ANSWER
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks if chunk["choices"][0]["finish_reason"]] == ["stop"]
    assert sum("role" in delta for delta in deltas) == 1
    whole = ask(weather, ONLY).usage
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (whole.prompt_tokens, whole.completion_tokens)


def test_with_approval_the_client_gets_the_call(weather):
    answer = ask(weather, ONLY | {"require_approval": "always"})
    (choice,) = answer.choices
    assert choice.finish_reason == "tool_calls" and "mcp_calls" not in choice.message.model_extra
    (call,) = choice.message.tool_calls
    assert call.function.name == "demo__get_weather"
    # Approval is running it, and going on with the result.
    arguments = json.loads(call.function.arguments)
    body = {"tool_name": call.function.name, "arguments": arguments}
    result = weather.http.post("/v1/mcp/execute", json=body).json()["content"]
    history = QUESTION + [
        {"role": "assistant", "content": "", "tool_calls": [call.model_dump()]},
        {"role": "tool", "tool_call_id": call.id, "content": result},
    ]
    assert ask(weather, ONLY, messages=history).choices[0].message.content == ANSWER


def test_the_client_keeps_its_own_tools(weather):
    """The model's bare name means the client's tool where it has one of that name."""
    answer = ask(weather, ONLY, tools=[MINE])
    (choice,) = answer.choices
    assert choice.finish_reason == "tool_calls" and "mcp_calls" not in choice.message.model_extra
    assert choice.message.tool_calls[0].function.name == "get_weather"


def test_failures_are_the_models_to_read(tools):
    answer = ask(tools({"demo": misfit("--broken")}), ONLY)
    (call,) = answer.choices[0].message.model_extra["mcp_calls"]
    assert call["status"] == "failed" and "ended before it answered" in call["output"]
    assert answer.choices[0].finish_reason == "stop" and answer.choices[0].message.content


def test_max_tokens_is_for_all_rounds(weather):
    tool = json.loads(json.dumps(MINE))
    tool["function"]["name"] = "demo__get_weather"
    first = ask(weather, tools=[tool]).usage.completion_tokens
    answer = ask(weather, ONLY, max_tokens=first + 2)
    assert answer.usage.completion_tokens == first + 2
    assert answer.choices[0].finish_reason == "length"
    assert answer.choices[0].message.model_extra["mcp_calls"][0]["status"] == "completed"


@pytest.mark.parametrize("how", ["hang up", "cancel"])
def test_who_leaves_takes_the_calls_along(tools, how):
    server = tools({"demo": misfit("--slow")})
    body = {"model": MODEL, "messages": QUESTION, "temperature": 0, "mcp": ONLY, **NO_THINKING}
    with server.events("/v1/chat/completions", body) as events:
        for chunk in events:
            if chunk["choices"][0]["delta"].get("mcp_calls"):
                break
        until(lambda: "has been asked" in server.stderr(), "the tool runs")
        if how == "cancel":
            assert server.http.delete(f"/v1/requests/{chunk['id']}").status_code == 200
            finished = [c["choices"][0]["finish_reason"] for c in events if c != "[DONE]"]
            assert finished[-1] == "abort"
    until(lambda: "told to give up" in server.stderr(), "the tool's server is told")
    until(lambda: server.http.get("/load").json()["server_load"] == 0, "nothing is left")


def test_what_can_not_be_had_is_refused(weather):
    for mcp, fields, status, param in (
        ({"servers": ["nobody"]}, {}, 400, "mcp.servers"),
        ({"tools": ["nothing"]}, {}, 400, "mcp.tools"),
        ({"max_rounds": 0}, {}, 400, "mcp.max_rounds"),
        ({"colour": "red"}, {}, 400, "mcp.colour"),
        (ONLY, {"n": 2}, 400, "n"),
    ):
        with pytest.raises(openai.APIStatusError) as error:
            ask(weather, mcp, **fields)
        assert (error.value.status_code, error.value.body["param"]) == (status, param)


def test_without_servers_it_is_refused(server):
    with pytest.raises(openai.BadRequestError, match="--mcp-config"):
        ask(server, {})


def test_tool_choice_none_is_none(weather):
    message = ask(weather, ONLY, tools=[MINE], tool_choice="none").choices[0].message
    assert message.tool_calls is None and "mcp_calls" not in message.model_extra


def test_many_at_once(weather):
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: ask(weather, ONLY).choices[0].message.content, range(16)))
    assert answers == [ANSWER] * 16
