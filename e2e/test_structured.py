"""Structured output with the openai package: whatever the model, the answer has its format."""

import asyncio
import json
import re
from datetime import date
from enum import StrEnum

import jsonschema
import openai
import pytest
from pydantic import BaseModel, Field

from harness.ask import PLAIN, ask, user
from harness.server import MODEL

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["a", "b", "c"]}, "minItems": 1, "maxItems": 3},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}
EXAMPLE = "Write an example JSON object with the keys name, age and tags."


FORMATS = jsonschema.FormatChecker()


@FORMATS.checks("date", raises=ValueError)
def is_date(text) -> bool:
    """RFC 3339 counts years from 0000, Python from 1; both 0 and 4 are leap years."""
    return not isinstance(text, str) or bool(date.fromisoformat(re.sub("^0000-", "0004-", text)))


def schema_format(schema: dict, name: str = "answer") -> dict:
    return {"type": "json_schema", "json_schema": {"name": name, "schema": schema, "strict": True}}


def held(client, schema: dict, text: str = EXAMPLE, **options):
    options = {"max_tokens": 200, "response_format": schema_format(schema)} | options
    return ask(client, text, **options)


def test_a_strict_schema_holds(client):
    answer = held(client, PERSON)
    assert answer.choices[0].finish_reason == "stop"
    jsonschema.validate(json.loads(answer.choices[0].message.content), PERSON)


def test_a_stream_has_the_same_text(client):
    whole = held(client, PERSON).choices[0].message.content
    parts = [chunk.choices[0].delta.content or "" for chunk in held(client, PERSON, stream=True) if chunk.choices]
    assert "".join(parts) == whole


class Colour(StrEnum):
    red = "red"
    green = "green"


class Part(BaseModel):
    colour: Colour
    count: int = Field(ge=0, le=9)


class Order(BaseModel):
    customer: str = Field(max_length=20)
    parts: list[Part] = Field(min_length=1, max_length=2)
    note: str | None = Field(max_length=10)


def test_parse_returns_a_model(client):
    answer = client.chat.completions.parse(
        model=MODEL, messages=user("Give me an order."), response_format=Order, max_tokens=300, extra_body=PLAIN
    )
    order = answer.choices[0].message.parsed
    assert isinstance(order, Order) and 1 <= len(order.parts) <= 2


def test_a_parsed_stream_ends_with_a_model(client):
    arguments = {"model": MODEL, "messages": user("Give me an order."), "max_tokens": 300, "extra_body": PLAIN}
    with client.chat.completions.stream(response_format=Order, **arguments) as events:
        for _ in events:
            pass
        assert isinstance(events.get_final_completion().choices[0].message.parsed, Order)


def test_json_object(client):
    answer = ask(client, EXAMPLE, max_tokens=200, response_format={"type": "json_object"})
    assert isinstance(json.loads(answer.choices[0].message.content), dict)


@pytest.mark.parametrize(
    ("outputs", "pattern"),
    [
        ({"regex": r"[A-Z]{3}-\d{4}"}, r"[A-Z]{3}-\d{4}"),
        ({"choice": ["positive", "negative", "neutral"]}, "positive|negative|neutral"),
        ({"grammar": 'start: "x=" NUMBER (" + " NUMBER)~2\nNUMBER: /[0-9]{1,3}/'}, r"x=\d{1,3}( \+ \d{1,3}){2}"),
        ({"grammar": 'root ::= "(" item{2} ")"\nitem ::= [a-c] "!"'}, r"\(([a-c]!){2}\)"),
        ({"json": {"type": "integer", "minimum": 10, "maximum": 12}, "disable_any_whitespace": True}, "1[012]"),
    ],
    ids=["regex", "choice", "lark", "ebnf", "json"],
)
@pytest.mark.parametrize("temperature", [0, 1.5])
def test_other_formats(client, outputs, pattern, temperature):
    extra = {"structured_outputs": outputs}
    answer = ask(client, "What do you think?", max_tokens=100, temperature=temperature, extra=extra)
    assert re.fullmatch(pattern, answer.choices[0].message.content), answer.choices[0].message.content
    (name, value) = next(iter(outputs.items()))
    extra = {f"guided_{name}": value}
    answer = client.completions.create(
        model=MODEL, prompt="Once", max_tokens=100, temperature=temperature, extra_body=extra
    )
    assert re.fullmatch(rf"\s*({pattern})", answer.choices[0].text), answer.choices[0].text


def test_structural_tags(client):
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}
    tag = {"begin": "<n>", "content": {"type": "json_schema", "json_schema": schema}, "end": "</n>"}
    format = {"type": "triggered_tags", "triggers": ["<n>"], "tags": [tag], "at_least_one": True, "stop_after_first": True}
    extra = {"structured_outputs": {"structural_tag": json.dumps({"format": format})}}
    answer = ask(client, max_tokens=200, extra=extra | {"logit_bias": {}}, temperature=0)
    text = answer.choices[0].message.content
    if answer.choices[0].finish_reason == "stop":
        jsonschema.validate(json.loads(re.fullmatch(r"(?s).*<n>(.*)</n>", text)[1]), schema)


def test_choices_differ_and_all_validate(client):
    options = {"text": "Tell me a story.", "n": 4, "temperature": 2, "seed": 5}
    answer = held(client, PERSON, **options)
    texts = [choice.message.content for choice in answer.choices]
    for choice in answer.choices:
        if choice.finish_reason == "stop":
            jsonschema.validate(json.loads(choice.message.content), PERSON)
    assert len(set(texts)) > 1
    again = held(client, PERSON, **options)
    assert [choice.message.content for choice in again.choices] == texts


def test_log_probabilities_are_the_models_own(client):
    fast = held(client, PERSON)
    slow = held(client, PERSON, logprobs=True, top_logprobs=2)
    assert slow.choices[0].message.content == fast.choices[0].message.content
    scored = slow.choices[0].logprobs.content
    assert "".join(token.token for token in scored).startswith("{")
    assert all(token.logprob <= 0 and len(token.top_logprobs) == 2 for token in scored)


SUM = {
    "type": "object",
    "properties": {"sum": {"type": "integer"}},
    "required": ["sum"],
    "additionalProperties": False,
}


def test_reasoning_comes_first_and_is_free(client):
    answer = client.chat.completions.create(
        model=MODEL,
        messages=user("What is 12 plus 30?"),
        response_format=schema_format(SUM),
        max_tokens=300,
        temperature=0,
        extra_body={"chat_template_kwargs": {"enable_thinking": True}},
    )
    message = answer.choices[0].message
    assert message.model_extra["reasoning_content"]
    assert isinstance(json.loads(message.content)["sum"], int)


def mixed(index: int) -> dict:
    kinds = [
        {"type": "integer", "minimum": index, "maximum": index + 20},
        {"enum": [f"a{index}", f"b{index}", None]},
        {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 4},
        {"type": "string", "pattern": f"^[a-f]{{2,5}}-{index}$"},
    ]
    names = ["id", "kind", "flags", "code"]
    properties = {name: kinds[(at + index) % 4] for at, name in enumerate(names[: 1 + index % 4])}
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def test_many_at_once_with_mixed_schemas(server):
    async def one(client, index: int):
        schema = mixed(index)
        answer = await client.chat.completions.create(
            model=MODEL,
            messages=user(f"Example {index}, please."),
            response_format=schema_format(schema),
            temperature=index % 3 / 2,
            seed=index,
            max_tokens=200,
            extra_body=PLAIN,
        )
        assert answer.choices[0].finish_reason == "stop", answer.choices[0]
        jsonschema.validate(json.loads(answer.choices[0].message.content), schema)

    async def all_of_them():
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
            await asyncio.gather(*(one(client, index) for index in range(64)))

    asyncio.run(all_of_them())
    metrics = server.metrics()
    assert metrics.value("millrace:grammar_cache_queries_total") > 64
    assert metrics.value("millrace:forced_tokens_total") > 0
    server.wait_idle()


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"response_format": schema_format({"type": "array", "uniqueItems": True})}, "uniqueItems"),
        ({"response_format": schema_format({"$ref": "https://example.org/schema.json"})}, "never fetched"),
        ({"response_format": schema_format({"type": "string", "format": "no-such"})}, "no-such"),
        ({"response_format": schema_format({"allOf": [{"type": "string"}, {"type": "null"}]})}, "nsatisfiable"),
        ({"structured_outputs": {"regex": "("}}, "regular expression"),
        ({"structured_outputs": {"regex": "a", "choice": ["b"]}}, "only use one kind"),
        ({"structured_outputs": {"choice": []}}, "empty"),
        ({"guided_grammar": "start: missing"}, "missing"),
    ],
)
def test_what_cannot_be_held_to_is_a_400(client, extra, words):
    with pytest.raises(openai.BadRequestError) as refusal:
        ask(client, extra=extra)
    assert words in refusal.value.message


def test_a_contradiction_is_an_error_and_no_token(client):
    extra = {"structured_outputs": {"choice": ["no"]}, "min_tokens": 50}
    with pytest.raises(openai.InternalServerError) as failure:
        ask(client, max_tokens=60, extra=extra)
    assert "No token is left" in failure.value.message


WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            # Bounded: the demo model may write a string without end.
            "properties": {"city": {"type": "string", "maxLength": 30}, "unit": {"enum": ["c", "f"]}},
            "required": ["city", "unit"],
            "additionalProperties": False,
        },
    },
}
TIME = {"type": "function", "function": {"name": "get_time", "parameters": {"type": "object", "properties": {}}}}


def calls_of(choice) -> list[tuple[str, dict]]:
    return [(call.function.name, json.loads(call.function.arguments)) for call in choice.message.tool_calls or []]


def check(name: str, arguments: dict):
    tool = next(tool for tool in (WEATHER, TIME) if tool["function"]["name"] == name)
    jsonschema.validate(arguments, tool["function"]["parameters"])


@pytest.mark.parametrize("text", ["Hello!", "What is the weather in Paris?"])
@pytest.mark.parametrize("temperature", [0, 1.3])
def test_a_required_call_is_made(client, text, temperature):
    options = {"tools": [WEATHER, TIME], "tool_choice": "required", "temperature": temperature, "seed": 3}
    choice = ask(client, text, max_tokens=300, parallel_tool_calls=False, **options).choices[0]
    assert choice.finish_reason == "tool_calls" and choice.message.content is None
    ((name, arguments),) = calls_of(choice)
    check(name, arguments)


def test_the_named_function_is_called(client):
    named = {"type": "function", "function": {"name": "get_time"}}
    choice = ask(client, tools=[WEATHER, TIME], tool_choice=named, max_tokens=300, parallel_tool_calls=False).choices[0]
    assert [name for name, _ in calls_of(choice)] == ["get_time"]


def test_a_required_call_comes_after_reasoning(client):
    choice = client.chat.completions.create(
        model=MODEL,
        messages=user("What is the weather in Rome?"),
        tools=[WEATHER],
        tool_choice="required",
        temperature=0,
        max_tokens=400,
        extra_body={"chat_template_kwargs": {"enable_thinking": True}},
    ).choices[0]
    for name, arguments in calls_of(choice):
        check(name, arguments)
    assert calls_of(choice) and choice.finish_reason == "tool_calls"


ORDER = {
    "type": "function",
    "function": {
        "name": "place_order",
        "parameters": {
            "type": "object",
            "properties": {
                "item": {"type": "string", "minLength": 1, "maxLength": 12},
                "count": {"type": "integer", "minimum": 1, "maximum": 99},
                "size": {"enum": ["small", "large"]},
                "gift": {"type": "boolean"},
                "notes": {"type": "array", "items": {"type": "string", "maxLength": 6}, "maxItems": 2},
                "day": {"type": "string", "format": "date"},
            },
            "required": ["item", "count", "size", "day"],
            "additionalProperties": False,
        },
    },
}


@pytest.mark.parametrize("family", [
    "qwen3_coder", "glm45", "minimax_m2", "deepseek_v32", "seed_oss", "pythonic", "olmo3", "gemma4", "kimi_k2",
    "functionary",
])
def test_calls_are_forced_in_every_kind_of_format(launch, family):
    """The demo model knows none of these formats; the grammar makes it write them, and the parser reads them."""
    server = launch("--tool-call-parser", family)
    with server.client() as client:
        for seed in range(4):
            choice = ask(
                client, "I want two large apples.", tools=[ORDER], tool_choice="required", temperature=seed / 2, seed=seed,
                max_tokens=400, parallel_tool_calls=False,
            ).choices[0]
            assert choice.finish_reason == "tool_calls" and not choice.message.content
            ((name, arguments),) = calls_of(choice)
            assert name == "place_order"
            jsonschema.validate(arguments, ORDER["function"]["parameters"], format_checker=FORMATS)
    server.wait_idle()


@pytest.mark.parametrize("text", ["Hello!", "What is the weather in Oslo, in c?"])
def test_strict_tools_leave_text_alone_and_hold_calls(client, text):
    strict = {"type": "function", "function": WEATHER["function"] | {"strict": True}}
    plain = ask(client, text, tools=[WEATHER], max_tokens=200).choices[0]
    choice = ask(client, text, tools=[strict], max_tokens=200).choices[0]
    assert bool(plain.message.tool_calls) == bool(choice.message.tool_calls)
    if not plain.message.tool_calls:
        assert choice.message.content
    for name, arguments in calls_of(choice):
        check(name, arguments)


def test_a_format_and_tools_may_stand_together(client):
    strict = {"type": "function", "function": WEATHER["function"] | {"strict": True}}
    options = {"tools": [strict], "response_format": schema_format(PERSON), "max_tokens": 300}
    choice = ask(client, EXAMPLE, **options).choices[0]
    if calls_of(choice):
        for name, arguments in calls_of(choice):
            check(name, arguments)
    else:
        jsonschema.validate(json.loads(choice.message.content), PERSON)
    with pytest.raises(openai.BadRequestError, match="not both"):
        ask(client, tool_choice="required", **options)
