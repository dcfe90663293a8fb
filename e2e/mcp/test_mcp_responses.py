"""MCP tools in `/v1/responses`, with the official client's types: lists, calls, approvals, and their events."""

import json

import openai
import pytest

from harness.server import MODEL
from mcp_support import misfit

QUESTION = "What is the weather in Paris?"
ANSWER = "The weather in Paris is sunny with 21 degrees."
OUTPUT = '{"temperature": 21, "condition": "sunny"}'
TOOL = {"type": "mcp", "server_label": "demo", "allowed_tools": ["get_weather"], "require_approval": "never"}
ASKING = TOOL | {"require_approval": "always"}


@pytest.fixture
def weather(tools):
    server = tools({"demo": misfit()})
    yield server
    server.wait_idle()


@pytest.fixture
def client(weather):
    with weather.client() as client:
        yield client


def body(tool: dict, text=QUESTION, **fields) -> dict:
    return {"model": MODEL, "input": text, "temperature": 0, "reasoning": {"effort": "none"}, "tools": [tool]} | fields


def test_the_server_lists_calls_and_answers(client):
    response = client.responses.create(**body(TOOL))
    listed, call, message = response.output
    assert response.status == "completed" and response.output_text == ANSWER
    assert (listed.type, listed.server_label, [tool.name for tool in listed.tools]) == ("mcp_list_tools", "demo", ["get_weather"])
    assert listed.tools[0].input_schema["properties"].keys() == {"location"}
    assert (call.type, call.name, call.server_label, call.status) == ("mcp_call", "get_weather", "demo", "completed")
    assert (json.loads(call.arguments), call.output, call.error) == ({"location": "Paris"}, OUTPUT, None)
    assert call.approval_request_id is None and message.type == "message"
    assert (listed.id[:5], call.id[:4]) == ("mcpl_", "mcp_")
    assert response.tools[0].server_label == "demo" and response.tools[0].require_approval == "never"

    # The answer is the whole of the next question's past, and tools are listed once.
    again = client.responses.create(**body(TOOL, "Thank you!", previous_response_id=response.id))
    assert "mcp_list_tools" not in [item.type for item in again.output]
    by_hand = [{"role": "user", "content": QUESTION}, *response.output, {"role": "user", "content": "Thank you!"}]
    by_hand = client.responses.create(**body(TOOL, by_hand))
    assert by_hand.output_text == again.output_text and by_hand.usage.input_tokens == again.usage.input_tokens
    stored = client.responses.retrieve(response.id)
    assert [item.type for item in stored.output] == ["mcp_list_tools", "mcp_call", "message"]


def test_the_stream_tells_the_same(client):
    kinds, arguments, final = [], "", None
    for event in client.responses.create(**body(TOOL), stream=True):
        if not kinds or kinds[-1] != event.type:
            kinds.append(event.type)
        if event.type == "response.mcp_call_arguments.delta":
            arguments += event.delta
        if event.type == "response.mcp_call_arguments.done":
            assert event.arguments == arguments
        if event.type == "response.completed":
            final = event.response
    assert json.loads(arguments) == {"location": "Paris"}
    assert kinds[:13] == [
        "response.created", "response.in_progress",
        "response.output_item.added", "response.mcp_list_tools.in_progress", "response.mcp_list_tools.completed",
        "response.output_item.done",
        "response.output_item.added", "response.mcp_call.in_progress", "response.mcp_call_arguments.delta",
        "response.mcp_call_arguments.done", "response.mcp_call.completed", "response.output_item.done",
        "response.output_item.added",
    ]
    whole = client.responses.create(**body(TOOL))
    plain = lambda item: {key: value for key, value in item.model_dump().items() if key != "id"}
    assert [plain(item) for item in final.output] == [plain(item) for item in whole.output]


@pytest.mark.parametrize("stored", [True, False])
def test_an_approved_call_is_run(client, stored):
    first = client.responses.create(**body(ASKING, store=stored))
    listed, request = first.output
    assert first.status == "completed" and listed.type == "mcp_list_tools"
    assert (request.type, request.name, json.loads(request.arguments)) == (
        "mcp_approval_request", "get_weather", {"location": "Paris"})
    word = {"type": "mcp_approval_response", "approval_request_id": request.id, "approve": True}
    if stored:
        then = body(ASKING, [word], previous_response_id=first.id)
    else:
        then = body(ASKING, [{"role": "user", "content": QUESTION}, *first.output, word])
    second = client.responses.create(**then)
    call, message = second.output
    assert (call.type, call.approval_request_id, call.output, call.status) == ("mcp_call", request.id, OUTPUT, "completed")
    assert second.output_text == ANSWER
    # Nobody runs it twice.
    if stored:
        third = client.responses.create(**body(ASKING, "Thank you!", previous_response_id=second.id))
        assert "mcp_call" not in [item.type for item in third.output]


def test_a_declined_call_is_not_run(weather, client):
    first = client.responses.create(**body(ASKING))
    request = first.output[-1]
    word = {"type": "mcp_approval_response", "approval_request_id": request.id, "approve": False, "reason": "Too private"}
    second = client.responses.create(**body(ASKING, [word], previous_response_id=first.id))
    assert "mcp_call" not in [item.type for item in second.output]
    assert "returned" not in weather.stderr()


@pytest.mark.parametrize("approval, asks", [
    ({"always": {"tool_names": ["get_weather"]}}, True),
    ({"never": {"tool_names": ["get_weather"]}}, False),
    ({"always": {"tool_names": ["other"]}}, False),
    (None, True),
])
def test_who_is_asked(client, approval, asks):
    tool = TOOL | {"require_approval": approval}
    kinds = [item.type for item in client.responses.create(**body(tool)).output]
    assert ("mcp_approval_request" in kinds, "mcp_call" in kinds) == (asks, not asks)


def test_failures_and_limits(client):
    tool = TOOL | {"allowed_tools": ["get_weather"]}
    few = client.responses.create(**body(tool, max_tool_calls=1))
    assert few.output_text == ANSWER
    short = client.responses.create(**body(tool, max_output_tokens=25))
    assert short.usage.output_tokens <= 25 and short.status == "incomplete"


@pytest.mark.parametrize("tool, fields, status, param", [
    (TOOL | {"server_label": "nope"}, {}, 400, "tools"),
    (TOOL | {"allowed_tools": ["nope"]}, {}, 400, "tools"),
    (TOOL | {"server_url": "https://example.org/mcp"}, {}, 400, "tools"),
    (TOOL | {"connector_id": "connector_x"}, {}, 400, "tools[0].connector_id"),
    (TOOL, {"tool_choice": {"type": "mcp", "server_label": "nope"}}, 400, "tool_choice.server_label"),
    (TOOL, {"tool_choice": {"type": "mcp", "server_label": "demo", "name": "nope"}}, 400, "tool_choice"),
    (TOOL | {"headers": {"x": "y"}}, {}, 400, "tools[0].headers"),
    (TOOL | {"require_approval": "sometimes"}, {}, 400, "tools[0].require_approval"),
    (TOOL, {"input": [{"type": "mcp_approval_response", "approval_request_id": "mcpr_x", "approve": True}]}, 400, "input"),
])
def test_what_can_not_be_had_is_refused(client, tool, fields, status, param):
    with pytest.raises(openai.APIStatusError) as error:
        client.responses.create(**body(tool) | fields)
    assert (error.value.status_code, error.value.body["param"]) == (status, param)


def test_without_servers_it_is_refused(server):
    with server.client() as client, pytest.raises(openai.BadRequestError, match="--mcp-config"):
        client.responses.create(**body(TOOL))


def test_calls_are_counted(weather, client):
    client.responses.create(**body(TOOL))
    metrics = weather.http.get("/metrics").text
    assert 'millrace:mcp_calls_total{server="demo",outcome="ok"} 1' in metrics
    assert 'millrace:mcp_call_seconds_count{server="demo"} 1' in metrics
    assert 'millrace:mcp_server_up{server="demo"} 1' in metrics
    assert 'millrace:mcp_server_restarts_total{server="demo"} 0' in metrics
