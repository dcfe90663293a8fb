"""Questions with known answers, in Anthropic's words, and what an answer must be."""

import json

import anthropic

from harness.questions import FRANCE, listed
from harness.server import MODEL

THINKING = {"type": "enabled", "budget_tokens": 1024}


def claude_of(server, key: str = "none", **options) -> anthropic.Anthropic:
    """The official client; it must not retry, or it would hide errors."""
    return anthropic.Anthropic(base_url=server.url, api_key=key, max_retries=0, timeout=120, **options)


def user(text: str) -> list[dict]:
    return [{"role": "user", "content": text}]


def body(text: str = FRANCE["messages"][0]["content"], **fields) -> dict:
    """A request as keyword arguments, or as a raw body."""
    return {"model": MODEL, "max_tokens": 100, "messages": user(text)} | fields


def asking(question: dict, **fields) -> dict:
    """One of the known questions. They are in OpenAI's shape."""
    system = [message["content"] for message in question["messages"] if message["role"] == "system"]
    known = body(messages=list(turns(question["messages"])))
    if system:
        known["system"] = system[0]
    if question["tools"]:
        known["tools"] = [tool(each["function"]) for each in question["tools"]]
    if question["enable_thinking"]:
        known |= {"thinking": THINKING, "max_tokens": 2000}
    return known | fields


def counting(question: dict) -> dict:
    """The same for `count_tokens`."""
    return {name: value for name, value in asking(question).items() if name != "max_tokens"}


def is_kept(question: dict) -> bool:
    """Whether its tools come out of the conversion as they went in: fields in the usual order, and none but the usual."""
    def there_and_back(function):
        given = tool(function) | {"parameters": function["parameters"]}
        return {name: given[name] for name in ("name", "description", "parameters") if name in given}

    functions = [each["function"] for each in question["tools"] or []]
    usual = all(list(each) == ["type", "function"] for each in question["tools"] or [])
    return usual and json.dumps(functions) == json.dumps([there_and_back(each) for each in functions])


def tool(function: dict) -> dict:
    given = {"name": function["name"], "input_schema": function["parameters"]}
    return given | ({"description": function["description"]} if "description" in function else {})


def turns(messages: list[dict]):
    for message in messages:
        match message["role"]:
            case "user":
                yield {"role": "user", "content": message["content"]}
            case "assistant":
                thinking = message.get("reasoning_content")
                blocks = [{"type": "thinking", "thinking": thinking, "signature": "x"}] if thinking else []
                blocks += [{"type": "text", "text": message["content"]}] if message["content"] else []
                yield {"role": "assistant", "content": blocks + [call(each) for each in message.get("tool_calls", [])]}
            case "tool":
                block = {"type": "tool_result", "tool_use_id": message["tool_call_id"], "content": message["content"]}
                yield {"role": "user", "content": [block]}


def call(call: dict) -> dict:
    arguments = json.loads(call["function"]["arguments"])
    return {"type": "tool_use", "id": call["id"], "name": call["function"]["name"], "input": arguments}


def expected(question: dict) -> list[tuple]:
    """The blocks of the known answer, as `blocks` shows them."""
    return listed(question, "thinking", "text", "tool_use")


def blocks(message) -> list[tuple]:
    """What a message says. Ids of calls differ each time, and how text is laid out is the model's business."""
    return [shown(block) for block in message.content]


def shown(block) -> tuple:
    match block.type:
        case "text":
            return ("text", block.text.strip())
        case "thinking":
            assert block.signature
            return ("thinking", block.thinking.strip())
        case "tool_use":
            return ("tool_use", block.name, block.input)
    raise AssertionError(f"an unknown block: {block}")


def streamed(client, **fields):
    """The same request as a stream, put together by the official helper."""
    with client.messages.stream(**fields) as stream:
        return stream.get_final_message()


def without_id(message) -> dict:
    """All of a message but what differs each time: its id, the ids of calls, and how much was cached."""
    whole = message.model_dump(exclude={"id", "usage"}, exclude_none=True)
    for block in whole["content"]:
        block.pop("id", None)
        block.pop("parsed_output", None)
    usage = message.usage
    whole["input"] = usage.input_tokens + usage.cache_read_input_tokens + usage.cache_creation_input_tokens
    whole["output"] = (usage.output_tokens, usage.output_tokens_details.thinking_tokens)
    return whole
