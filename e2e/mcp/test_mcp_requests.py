"""MCP servers that a request brings, and those that it asks for in `/v1/messages`."""

import json
import subprocess
import sys

import anthropic
import openai
import pytest

from harness.process import until
from harness.server import MODEL
from mcp_support import SERVERS, free_port, listens, misfit

KEY = "remote-key-1234567890"
QUESTION = "What is the weather in Paris?"
ANSWER = "The weather in Paris is sunny with 21 degrees."
OUTPUT = '{"temperature": 21, "condition": "sunny"}'
OWN = {"type": "url", "name": "demo", "tool_configuration": {"allowed_tools": ["get_weather"]}}


@pytest.fixture(scope="module")
def remote():
    """The URL of a server of the official package."""
    port = free_port()
    with subprocess.Popen([sys.executable, SERVERS / "remote.py", "streamable-http", str(port)]) as process:
        try:
            until(lambda: listens(port), "the remote server listens")
            yield f"http://127.0.0.1:{port}/mcp"
        finally:
            process.kill()


@pytest.fixture
def weather(tools):
    server = tools({"demo": misfit()}, "--mcp-request-urls", "any")
    yield server
    server.wait_idle()


def claude(server) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0, timeout=120)


def message(servers: list, text=QUESTION, **fields) -> dict:
    messages = text if isinstance(text, list) else [{"role": "user", "content": text}]
    body = {"model": MODEL, "max_tokens": 200, "messages": messages, "mcp_servers": servers, "extra_body": {"temperature": 0}}
    return body | {"betas": ["mcp-client-2025-04-04"]} | fields


def test_messages_run_tools(weather):
    with claude(weather) as client:
        answer = client.beta.messages.create(**message([OWN]))
        use, result, text = answer.content
        assert (use.type, use.name, use.server_name, use.input) == ("mcp_tool_use", "get_weather", "demo", {"location": "Paris"})
        assert (result.type, result.tool_use_id, result.is_error) == ("mcp_tool_result", use.id, False)
        assert [part.text for part in result.content] == [OUTPUT] and use.id.startswith("mcptoolu_")
        assert (text.text, answer.stop_reason) == (ANSWER, "end_turn")

        with client.beta.messages.stream(**message([OWN])) as stream:
            kinds = [event.content_block.type for event in stream if event.type == "content_block_start"]
            streamed = stream.get_final_message()
        assert kinds == ["mcp_tool_use", "mcp_tool_result", "text"]
        plain = lambda block: {key: value for key, value in block.model_dump().items() if key not in ("id", "tool_use_id")}
        assert [plain(block) for block in streamed.content] == [plain(block) for block in answer.content]

        # All of it may come back.
        past = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": answer.content}]
        again = client.beta.messages.create(**message([OWN], [*past, {"role": "user", "content": "Thank you!"}]))
        assert again.content[-1].type == "text"
        # Cut behind the result, the model goes on from there.
        past[1]["content"] = answer.content[:2]
        assert client.beta.messages.create(**message([OWN], past)).content[-1].text == ANSWER


def test_toolsets_choose(weather):
    toolset = {"type": "mcp_toolset", "mcp_server_name": "demo", "default_config": {"enabled": False}}
    body = message([{"type": "url", "name": "demo"}], betas=["mcp-client-2025-11-20"])
    with claude(weather) as client:
        configs = {"get_weather": {"enabled": True}}
        answer = client.beta.messages.create(**body, tools=[toolset | {"configs": configs}])
        assert answer.content[0].type == "mcp_tool_use" and answer.content[-1].text == ANSWER
        without = client.beta.messages.create(**body, tools=[toolset])
        assert "mcp_tool_use" not in [block.type for block in without.content]


@pytest.mark.parametrize("servers, fields, words", [
    ([{"type": "url", "name": "nope"}], {}, "no MCP server `nope`"),
    ([OWN | {"tool_configuration": {"allowed_tools": ["nope"]}}], {}, "nope"),
    ([OWN | {"url": "https://example.org/mcp"}], {}, "another MCP server"),
    ([{"type": "url", "name": "x", "url": "file:///etc/passwd"}], {}, "https://"),
    ([OWN, OWN], {}, "mcp_servers.1.name"),
    ([], {"tools": [{"type": "mcp_toolset", "mcp_server_name": "demo"}]}, "mcp_server_name"),
])
def test_what_can_not_be_had_is_refused(weather, servers, fields, words):
    with claude(weather) as client, pytest.raises(anthropic.BadRequestError, match=words):
        client.beta.messages.create(**message(servers, **fields))


def test_a_server_comes_with_the_request(weather, remote):
    tool = {"type": "mcp", "server_label": "sums", "server_url": f"{remote}?x=1", "authorization": KEY, "require_approval": "never"}
    body = {"model": MODEL, "input": "What is 2 plus 40?", "temperature": 0, "max_output_tokens": 300, "tools": [tool],
            "reasoning": {"effort": "none"}}
    choice = {"type": "mcp", "server_label": "sums", "name": "add"}
    with weather.client() as client:
        answer = client.responses.create(**body, tool_choice=choice, max_tool_calls=1)
        kinds = [item.type for item in answer.output]
        assert kinds[:2] == ["mcp_list_tools", "mcp_call"], kinds
        assert [listed.name for listed in answer.output[0].tools] == ["add"]
        call = answer.output[1]
        arguments = json.loads(call.arguments)
        assert call.output == str(arguments["a"] + arguments["b"]), call
        said = answer.tools[0].model_dump()
        assert said["server_url"] == remote.removesuffix("/mcp") and KEY not in answer.model_dump_json()
        # Its configuration is the request's own.
        for wrong in ({"authorization": "other"}, {"server_url": "http://127.0.0.1:9/mcp"}):
            with pytest.raises(openai.BadRequestError, match="can't be used"):
                client.responses.create(**body | {"tools": [tool | wrong]})
        names = [server["name"] for server in weather.http.get("/v1/mcp/servers").json()["servers"]]
        assert names == ["demo"]
    with claude(weather) as client:
        server = {"type": "url", "name": "sums", "url": remote, "authorization_token": KEY}
        answer = client.beta.messages.create(**message([server], "What is 2 plus 40?", tool_choice={"type": "any"}))
        use, result = answer.content[:2]
        assert (use.server_name, use.name) == ("sums", "add")
        assert result.content[0].text == str(use.input["a"] + use.input["b"])
    assert KEY not in weather.stderr()


@pytest.mark.parametrize("which, words", [("public", "is private|can't be used"), ("none", "--mcp-request-urls")])
def test_private_addresses_need_the_operators_word(launch, remote, which, words):
    server = launch("--mcp-request-urls", which)
    tool = {"type": "mcp", "server_label": "sums", "authorization": KEY, "require_approval": "never"}
    urls = [remote, remote.replace("127.0.0.1", "localhost"), remote.replace("127.0.0.1", "[::ffff:127.0.0.1]")]
    with server.client() as client:
        for url in urls:
            with pytest.raises(openai.BadRequestError, match=words):
                client.responses.create(model=MODEL, input="Hello!", tools=[tool | {"server_url": url}])
