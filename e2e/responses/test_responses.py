"""`/v1/responses` with the official client: answers whole and streamed, logprobs, errors, many at once."""

import json
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

from harness.process import until
from harness.questions import BY_ID, FRANCE, QUESTIONS, THINKING_SUM, TWO_CITIES, WEATHER
from harness.server import MODEL
from replies import asking, body, expected, failure, is_kept, streamed, told, without_ids

SHORT = [question for question in QUESTIONS if question["prompt_tokens"] < 600]
SAMPLE = SHORT[::8] + [FRANCE, WEATHER, TWO_CITIES, THINKING_SUM]


@pytest.mark.parametrize("question", SAMPLE, ids=lambda question: question["id"])
def test_known_answers_whole_and_streamed(client, question):
    fields = asking(question)
    response = client.responses.create(**fields)
    assert told(response) == expected(question)
    assert (response.object, response.status, response.error) == ("response", "completed", None)
    if is_kept(question):
        assert response.usage.input_tokens == question["prompt_tokens"]
    assert response.usage.output_tokens == question["completion_tokens"]
    assert without_ids(streamed(client, **fields)) == without_ids(response)


def test_the_answer_tells_the_request_again(client):
    response = client.responses.create(**body(
        instructions="Be brief.", max_output_tokens=50, temperature=0.5, top_p=0.9, metadata={"a": "b"}, user="me",
        truncation="auto", parallel_tool_calls=False, tool_choice="none", store=False, prompt_cache_key="k",
        tools=[{"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": False}],
    ))
    assert (response.instructions, response.max_output_tokens, response.temperature) == ("Be brief.", 50, 0.5)
    assert (response.top_p, response.metadata, response.user) == (0.9, {"a": "b"}, "me")
    assert (response.truncation, response.parallel_tool_calls, response.tool_choice) == ("auto", False, "none")
    assert response.tools[0].name == "f" and response.text.format.type == "text"
    assert (response.reasoning.effort, response.background, response.service_tier) == ("none", False, "default")
    assert response.model == MODEL and response.id.startswith("resp_")


def test_the_streaming_helper(client):
    for question in (FRANCE, WEATHER, THINKING_SUM):
        with client.responses.stream(**asking(question)) as stream:
            kinds = [event.type for event in stream]
            response = stream.get_final_response()
        assert kinds[0] == "response.created" and kinds[-1] == "response.completed"
        assert told(response) == expected(question)


@pytest.mark.parametrize("limit", [1, 3, 10, 20, 30, 40])
def test_an_answer_that_is_cut_off(client, limit):
    fields = asking(THINKING_SUM, max_output_tokens=limit)
    response = client.responses.create(**fields)
    assert response.status == "incomplete" and response.incomplete_details.reason == "max_output_tokens"
    assert response.usage.output_tokens == limit
    # The first token only opens the reasoning.
    assert limit == 1 or response.output[-1].status == "incomplete"
    assert without_ids(streamed(client, **fields)) == without_ids(response)


def test_reasoning_summaries_and_sealed_reasoning(client):
    plain = client.responses.create(**asking(THINKING_SUM))
    assert plain.output[0].summary == [] and plain.output[0].encrypted_content is None
    fields = asking(THINKING_SUM, reasoning={"effort": "medium", "summary": "auto"},
                    include=["reasoning.encrypted_content"], store=False)
    response = client.responses.create(**fields)
    reasoning = response.output[0]
    assert reasoning.summary[0].text == reasoning.content[0].text == plain.output[0].content[0].text
    assert without_ids(streamed(client, **fields)) == without_ids(response)
    assert response.usage.output_tokens_details.reasoning_tokens > 0
    # Clients that keep nothing but the seal send the same conversation.
    def count(item):
        history = fields["input"] + [item] + [response.output[1].model_dump()] + [
            {"type": "function_call_output", "call_id": response.output[1].call_id, "output": "42"}]
        return client.responses.input_tokens.count(model=MODEL, input=history, tools=fields["tools"]).input_tokens
    whole, sealed = reasoning.model_dump(), {"type": "reasoning", "summary": [], "encrypted_content": reasoning.encrypted_content}
    foreign = sealed | {"encrypted_content": "gAAAAB"}
    assert count(whole) == count(sealed) > count(foreign)


def test_logprobs_belong_to_the_text(client):
    fields = body(include=["message.output_text.logprobs"], top_logprobs=2)
    response = client.responses.create(**fields)
    (part,) = response.output[0].content
    assert "".join(token.token for token in part.logprobs).startswith(part.text)
    assert all(len(token.top_logprobs) == 2 and token.logprob <= 0 for token in part.logprobs)
    assert without_ids(streamed(client, **fields)) == without_ids(response)
    assert client.responses.create(**body()).output[0].content[0].logprobs == []


def test_counts_are_those_of_the_answer(client):
    for question in (FRANCE, WEATHER):
        fields = asking(question)
        counted = client.responses.input_tokens.count(**fields)
        assert counted.object == "response.input_tokens" and counted.input_tokens == question["prompt_tokens"]


def test_answers_are_held_to_a_schema(client):
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False}
    text = {"format": {"type": "json_schema", "name": "city", "schema": schema, "strict": True}}
    response = client.responses.create(**body(text=text, max_output_tokens=60))
    assert response.text.format.name == "city"
    if response.status == "completed":
        assert list(json.loads(response.output_text)) == ["city"]
    text["format"]["schema"] = {"type": "no such type"}
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(**body(text=text))
    assert refused.value.body["param"] == "text.format"


@pytest.mark.parametrize("fields, param", [
    ({"input": []}, "input"),
    ({"input": 3}, "input"),
    ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}, "input[0].content[0]"),
    ({"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]}, "input"),
    ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input"),
    ({"tools": [{"type": "web_search"}]}, "tools[0]"),
    ({"conversation": "conv_1"}, "conversation"),
    ({"prompt": {"id": "p"}}, "prompt"),
    ({"text": {"verbosity": "low"}}, "text.verbosity"),
    ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
    ({"temperature": 3}, "temperature"),
    ({"top_logprobs": 3}, "top_logprobs"),
    ({"top_logprobs": 30}, "top_logprobs"),
    ({"max_output_tokens": 0}, "max_output_tokens"),
    ({"include": ["everything"]}, "include[0]"),
    ({"metadata": {"a": 1}}, "metadata"),
    ({"service_tier": "flex"}, "service_tier"),
    ({"background": True, "store": False}, "background"),
    ({"stream_options": {"include_obfuscation": True}}, "stream_options"),
    ({"reasoning": {"summary": "concise"}}, "reasoning.summary"),
    ({"no_such_field": 1}, "no_such_field"),
    ({"previous_response_id": "resp_none"}, "previous_response_id"),
    ({"model": "none"}, "model"),
])
def test_what_cannot_be_honoured_is_refused_by_name(server, fields, param):
    reply = server.http.post("/v1/responses", json=body(**fields))
    assert reply.status_code in (400, 404), reply.text
    error = reply.json()["error"]
    assert error["param"] == param and error["message"] and error["code"] == reply.status_code


def test_a_context_that_is_too_small_is_told_or_cut(client):
    long = [{"role": "user", "content": "word " * 9000}, {"role": "assistant", "content": "Yes."}]
    question = asking(FRANCE)
    fields = question | {"input": long + question["input"]}
    assert "maximum context length" in failure(lambda: client.responses.create(**fields), 400)
    response = client.responses.create(**fields, truncation="auto")
    assert told(response) == expected(FRANCE)
    # The short answer to the long message fits.
    assert response.usage.input_tokens > FRANCE["prompt_tokens"]


def test_many_at_once(client):
    def ask(index):
        question = SAMPLE[index % len(SAMPLE)]
        response = streamed(client, **asking(question)) if index % 2 else client.responses.create(**asking(question))
        assert told(response) == expected(question)

    with ThreadPoolExecutor(32) as pool:
        list(pool.map(ask, range(64)))


def test_leaving_frees_everything(server, client):
    stream = client.responses.create(**body("Tell me a story.", max_output_tokens=4000), stream=True,
                                     extra_body={"temperature": 2.0, "seed": 1})
    identity = next(iter(stream)).response.id
    until(lambda: server.metrics().value("millrace:num_requests_running"), "it runs")
    stream.close()
    server.wait_idle()
    failure(lambda: client.responses.retrieve(identity), 404)
