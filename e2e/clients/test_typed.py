"""Answers as values of a type: each helper of the Python packages that takes a class and gives one back."""

from typing import Literal

import anthropic
import ollama
import pytest
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, Field

from harness.ask import PLAIN, user
from harness.server import MODEL

ASK = "Give me an order for bolts."


class Part(BaseModel):
    code: str = Field(max_length=6)
    count: int = Field(ge=1, le=9)


class Order(BaseModel):
    customer: str = Field(max_length=20)
    parts: list[Part] = Field(min_length=1, max_length=2)


class Parcel(BaseModel):
    """Without bounds on strings, which Anthropic's package takes out of a schema: the demo model may write without end."""

    customer: Literal["Ada", "Grace"]
    code: Literal["M5", "M6", "M8"]
    express: bool


CHAT = {"model": MODEL, "messages": user(ASK), "max_tokens": 300, "temperature": 0, "extra_body": PLAIN}
RESPONSE = {"model": MODEL, "input": ASK, "max_output_tokens": 300, "temperature": 0, "reasoning": {"effort": "none"}}
MESSAGE = {"model": MODEL, "messages": user(ASK), "max_tokens": 300}


def chat_parse(openai_client, _):
    return openai_client.chat.completions.parse(**CHAT, response_format=Order).choices[0].message.parsed


def chat_parse_by_its_older_name(openai_client, _):
    return openai_client.beta.chat.completions.parse(**CHAT, response_format=Order).choices[0].message.parsed


def chat_stream(openai_client, _):
    with openai_client.chat.completions.stream(**CHAT, response_format=Order) as stream:
        seen = [event.parsed for event in stream if event.type == "content.delta" and event.parsed]
        final = stream.get_final_completion().choices[0].message.parsed
    assert len(seen) > 1, "it is seen growing"
    return final


def responses_parse(openai_client, _):
    return openai_client.responses.parse(**RESPONSE, text_format=Order).output_parsed


def responses_stream(openai_client, _):
    with openai_client.responses.stream(**RESPONSE, text_format=Order) as stream:
        stream.until_done()
        return stream.get_final_response().output_parsed


def messages_parse(_, claude):
    return claude.messages.parse(**MESSAGE, output_format=Parcel).parsed_output


def messages_stream(_, claude):
    with claude.messages.stream(**MESSAGE, output_format=Parcel) as stream:
        return stream.get_final_message().parsed_output


HELPERS = [
    chat_parse, chat_parse_by_its_older_name, chat_stream, responses_parse, responses_stream, messages_parse, messages_stream,
]


@pytest.mark.parametrize("helper", HELPERS, ids=lambda helper: helper.__name__)
def test_a_class_goes_in_and_its_value_comes_out(server, client, helper):
    with anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0) as claude:
        order = helper(client, claude)
    assert isinstance(order, Parcel) or isinstance(order, Order) and 1 <= len(order.parts) <= 2


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_langchain(server, method):
    model = ChatOpenAI(
        base_url=f"{server.url}/v1", api_key="none", model=MODEL, temperature=0, max_retries=0, max_tokens=300, extra_body=PLAIN
    )
    assert isinstance(model.with_structured_output(Order, method=method).invoke(ASK), Order)


def test_ollama(server):
    client = ollama.Client(host=server.url)
    reply = client.chat(
        MODEL, user(ASK), think=False, format=Order.model_json_schema(), options={"temperature": 0, "num_predict": 300}
    )
    assert isinstance(Order.model_validate_json(reply.message.content), Order)
