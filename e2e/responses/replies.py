"""Questions with known answers, in the Responses API's words, and what an answer must be."""

import json

import openai

from harness.questions import FRANCE, listed
from harness.server import MODEL

NO_THINKING = {"effort": "none"}


def body(text=FRANCE["messages"][0]["content"], /, **fields) -> dict:
    """A request as keyword arguments, or as a raw body."""
    return {"model": MODEL, "input": text, "reasoning": NO_THINKING} | fields


def asking(question: dict, **fields) -> dict:
    """One of the known questions. They are in the shape of chat completions."""
    system = [message["content"] for message in question["messages"] if message["role"] == "system"]
    known = body(input=[item for message in question["messages"] for item in items(message)])
    if system:
        known["instructions"] = system[0]
    if question["tools"]:
        known["tools"] = [{"type": "function"} | each["function"] for each in question["tools"]]
    if question["enable_thinking"]:
        known["reasoning"] = {"effort": "medium"}
    return known | fields


def is_kept(question: dict) -> bool:
    """Whether its tools come out of the conversion as they went in: fields in the usual order, and none but the usual."""
    usual = ["name", "description", "parameters"]
    tools = question["tools"] or []
    return all(list(each) == ["type", "function"] and list(each["function"]) == usual for each in tools)


def items(message: dict):
    match message["role"]:
        case "user":
            yield {"role": "user", "content": message["content"]}
        case "assistant":
            if thinking := message.get("reasoning_content"):
                yield {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": thinking}]}
            if message["content"]:
                yield {"role": "assistant", "content": message["content"]}
            for call in message.get("tool_calls", []):
                yield {"type": "function_call", "call_id": call["id"]} | call["function"]
        case "tool":
            yield {"type": "function_call_output", "call_id": message["tool_call_id"], "output": message["content"]}


def expected(question: dict) -> list[tuple]:
    """The items of the known answer, as `told` shows them."""
    return listed(question, "reasoning", "message", "function_call")


def told(response) -> list[tuple]:
    """What an answer says. Ids differ each time, and how text is laid out is the model's business."""
    return [shown(item) for item in response.output]


def shown(item) -> tuple:
    assert item.id and item.status == "completed"
    match item.type:
        case "message":
            (part,) = item.content
            assert part.type == "output_text" and part.annotations == [] and item.role == "assistant"
            return ("message", part.text.strip())
        case "reasoning":
            (part,) = item.content
            return ("reasoning", part.text.strip())
        case "function_call":
            assert item.call_id
            return ("function_call", item.name, json.loads(item.arguments))
    raise AssertionError(f"an unknown item: {item}")


def streamed(client: openai.OpenAI, **fields):
    """The same request as a stream, put together from its events: the order is checked, and that the pieces are the whole."""
    fields = {name: value for name, value in fields.items() if name != "stream"}
    events = list(client.responses.create(stream=True, **fields))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [event.type for event in events[:2]] == ["response.created", "response.in_progress"]
    assert events[0].response.status == "in_progress" and events[0].response.output == []
    final = events[-1].response
    assert events[-1].type == ("response.completed" if final.status == "completed" else "response.incomplete")
    assert rebuilt(events[2:-1]) == [item.model_dump(exclude_none=True) for item in final.output]
    return final


def rebuilt(events) -> list[dict]:
    """What a client makes of the events between the first two and the last."""
    output, open_item = [], None
    for event in events:
        kind = event.type.removeprefix("response.")
        if kind == "output_item.added":
            assert open_item is None and event.output_index == len(output)
            assert event.item.status == "in_progress"
            open_item = {"id": event.item.id, "type": event.item.type, "parts": [], "text": "", "summary": ""}
            continue
        assert event.output_index == len(output)
        if kind == "output_item.done":
            done = event.item.model_dump(exclude_none=True)
            assert (done["id"], done["type"]) == (open_item["id"], open_item["type"])
            assert open_item["parts"] == ["added", "done"] * (len(open_item["parts"]) // 2)
            whole = done["arguments"] if done["type"] == "function_call" else done["content"][0]["text"]
            assert whole == open_item["text"]
            if done.get("summary"):
                assert done["summary"][0]["text"] == open_item["summary"]
            output.append(done)
            open_item = None
            continue
        assert event.item_id == open_item["id"]
        match kind:
            case "content_part.added" | "content_part.done":
                assert event.content_index == 0
                open_item["parts"].append(kind.split(".")[1])
            case "output_text.delta" | "reasoning_text.delta" | "function_call_arguments.delta":
                assert event.delta
                open_item["text"] += event.delta
            case "output_text.done" | "reasoning_text.done":
                assert event.text == open_item["text"]
            case "function_call_arguments.done":
                assert event.arguments == open_item["text"]
            case "reasoning_summary_text.delta":
                open_item["summary"] += event.delta
            case "reasoning_summary_text.done":
                assert event.text == open_item["summary"]
            case "reasoning_summary_part.added" | "reasoning_summary_part.done":
                assert event.summary_index == 0
            case _:
                raise AssertionError(f"an unknown event: {event.type}")
    assert open_item is None
    return output


def without_ids(response) -> dict:
    """All of an answer but what differs each time: ids, times, and how much was cached."""
    whole = response.model_dump(exclude={"id", "created_at", "completed_at", "usage"})
    for item in whole["output"]:
        item.pop("id")
        item.pop("call_id", None)
        item.pop("parsed_arguments", None)
        for part in item.get("content") or []:
            part.pop("parsed", None)
    usage = response.usage
    return whole | {"counts": (usage.input_tokens, usage.output_tokens, usage.total_tokens,
                               usage.output_tokens_details.reasoning_tokens)}


def failure(call, status: int, param: str | None = None) -> str:
    """The message with which a call is refused."""
    try:
        call()
    except openai.APIStatusError as error:
        assert error.status_code == status, error
        assert param is None or error.param == param, error
        return error.body["message"]
    raise AssertionError("it was not refused")
