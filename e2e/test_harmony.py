"""gpt-oss' format end to end: forced calls, formats and bounds on reasoning, where everything is a message with a header."""

import json
import re

import anthropic
import jsonschema
import pytest

from harness import harmony
from harness.server import Server

ORDER = {
    "type": "object",
    "properties": {
        "item": {"type": "string", "minLength": 1, "maxLength": 12},
        "count": {"type": "integer", "minimum": 1, "maximum": 99},
    },
    "required": ["item", "count"],
    "additionalProperties": False,
}
TOOLS = [{"type": "function", "function": {"name": name, "parameters": ORDER}} for name in ("order", "cancel")]
ASK = [{"role": "user", "content": "Two apples, please."}]


@pytest.fixture(scope="module")
def gpt(tmp_path_factory):
    with Server("--served-model-name", "gpt", model=harmony.make(tmp_path_factory.mktemp("harmony") / "model")) as server:
        yield server
        server.wait_idle()


def ids(server, text: str) -> list[int]:
    reply = server.http.post("/tokenize", json={"model": "gpt", "prompt": text, "add_special_tokens": False})
    return reply.raise_for_status().json()["tokens"]


def towards(server, text: str) -> dict:
    """A bias that makes the model choose this channel wherever it may."""
    return {str(ids(server, text)[0]): 100}


def chat(server, **fields):
    with server.client() as client:
        fields = {"model": "gpt", "messages": ASK, "max_tokens": 300} | fields
        extra = {"return_token_ids": True} | fields.pop("extra", {})
        return client.chat.completions.create(**fields, extra_body=extra)


def written(server, reply) -> str:
    """All that the model wrote, marks included."""
    tokens = reply.choices[0].model_extra["token_ids"]
    return server.http.post("/detokenize", json={"model": "gpt", "tokens": tokens}).json()["prompt"]


@pytest.mark.parametrize("choice, names", [
    ("required", {"order", "cancel"}), ({"type": "function", "function": {"name": "cancel"}}, {"cancel"}),
])
@pytest.mark.parametrize("temperature", [0, 1])
def test_forced_calls(gpt, choice, names, temperature):
    for seed in range(3):
        reply = chat(gpt, tools=TOOLS, tool_choice=choice, temperature=temperature, seed=seed,
                     logit_bias=towards(gpt, "commentary"))
        (answer,) = reply.choices
        (call,) = answer.message.tool_calls
        assert answer.finish_reason == "tool_calls" and not answer.message.content
        assert call.function.name in names
        jsonschema.validate(json.loads(call.function.arguments), ORDER)


def test_a_forced_call_streams_its_arguments(gpt):
    with gpt.client() as client:
        chunks = list(client.chat.completions.create(
            model="gpt", messages=ASK, tools=TOOLS, tool_choice="required", temperature=0, max_tokens=300, stream=True,
            logit_bias=towards(gpt, "commentary")))
    calls = [call for chunk in chunks for choice in chunk.choices for call in choice.delta.tool_calls or []]
    assert calls[0].function.name in ("order", "cancel") and len(calls) > 3
    jsonschema.validate(json.loads("".join(call.function.arguments for call in calls)), ORDER)
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


@pytest.mark.parametrize("budget", [0, 7])
def test_a_forced_call_comes_behind_bounded_reasoning(gpt, budget):
    """A bias towards analysis makes the model reason for ever, were it not for the budget."""
    reply = chat(gpt, tools=TOOLS, tool_choice="required", temperature=0, logit_bias=towards(gpt, "analysis"),
                 extra={"thinking_token_budget": budget})
    (answer,) = reply.choices
    assert answer.finish_reason == "tool_calls" and len(answer.message.tool_calls) == 1
    jsonschema.validate(json.loads(answer.message.tool_calls[0].function.arguments), ORDER)
    text = written(gpt, reply)
    found = re.match(r"<\|channel\|>analysis<\|message\|>(.*?)<\|end\|><\|start\|>assistant<\|channel\|>commentary to=", text, re.S)
    assert found and len(ids(gpt, found[1])) <= budget, text


def test_a_format_comes_behind_bounded_reasoning(gpt):
    reply = chat(gpt, temperature=0, logit_bias=towards(gpt, "analysis"), extra={
        "thinking_token_budget": 5, "structured_outputs": {"json": ORDER}})
    (answer,) = reply.choices
    assert answer.finish_reason == "stop" and answer.message.model_extra["reasoning_content"]
    jsonschema.validate(json.loads(answer.message.content), ORDER)
    assert "<|end|><|start|>assistant<|channel|>final<|message|>{" in written(gpt, reply)


def test_behind_reasoning_the_model_chooses_between_answer_and_call(gpt):
    """`strict` tools with `auto` leave text free; the analysis is closed, and not begun anew."""
    tools = [tool | {"function": tool["function"] | {"strict": True}} for tool in TOOLS]
    for channel in ("final", "commentary"):
        bias = {key: value * share for share, text in ((1, "analysis"), (0.5, channel)) for key, value in towards(gpt, text).items()}
        reply = chat(gpt, tools=tools, temperature=0, max_tokens=150, logit_bias=bias, extra={"thinking_token_budget": 4})
        text = written(gpt, reply)
        assert text.startswith("<|channel|>analysis<|message|>")
        _, _, rest = text.partition("<|end|><|start|>assistant<|channel|>")
        assert rest.startswith(channel), text


def test_the_watchdog_and_the_limit_for_all(tmp_path):
    model = harmony.make(tmp_path / "model")
    for flag, most in (("--max-thinking-tokens", 5), ("--answer-reserve", 100)):
        with Server("--served-model-name", "gpt", flag, str(most), model=model) as server:
            reply = chat(server, temperature=0, max_tokens=120, logit_bias=towards(server, "analysis"),
                         extra={"structured_outputs": {"json": ORDER}})
            jsonschema.validate(json.loads(reply.choices[0].message.content), ORDER)


def test_anthropics_budget(gpt):
    """It leads out of reasoning here too; the grammar lets the model go through it, or not."""
    with anthropic.Anthropic(base_url=gpt.url, api_key="none", max_retries=0) as claude:
        for temperature in (0, 1):
            message = claude.messages.create(
                model="gpt", max_tokens=1500, messages=ASK, thinking={"type": "enabled", "budget_tokens": 1024},
                output_config={"format": {"type": "json_schema", "schema": ORDER}}, extra_body={"temperature": temperature},
            )
            assert message.content[-1].type == "text" and message.stop_reason == "end_turn"
            jsonschema.validate(json.loads(message.content[-1].text), ORDER)
            assert message.usage.output_tokens < 1024 + 200
