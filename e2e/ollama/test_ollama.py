"""Ollama's API, driven by the official package."""

import asyncio
import json

import ollama
import pytest

from ollama_asking import GREEDY, asking, expected, ollama_of, put_together, said, without_times
from harness.ask import PARIS, STORY
from harness.process import until
from harness.questions import FRANCE, QUESTIONS, THINKING_SUM, TWO_CITIES, WEATHER
from harness.server import MODEL

SAMPLE = [FRANCE, WEATHER, TWO_CITIES, THINKING_SUM]


@pytest.mark.parametrize("question", SAMPLE, ids=lambda question: question["id"])
def test_known_answers(llama, question):
    answer = llama.chat(**asking(question))
    assert said(answer.message) == expected(question)
    assert answer.done and answer.done_reason == "stop" and answer.model == MODEL
    assert answer.prompt_eval_count > 0 and answer.eval_count > 0
    assert 0 < answer.prompt_eval_duration < answer.total_duration
    assert answer.eval_duration < answer.total_duration


@pytest.mark.parametrize("question", [*SAMPLE, *QUESTIONS[20:60:4]], ids=lambda question: question["id"])
def test_a_stream_says_the_same_as_the_whole(llama, question):
    def bare(answer):
        answer = without_times(answer)
        for call in answer["message"].get("tool_calls", []):
            call.pop("id", None)
        return answer

    whole = llama.chat(**asking(question))
    assert bare(put_together(llama.chat(**asking(question), stream=True))) == bare(whole)


def test_results_of_tools_go_back(llama):
    first = llama.chat(**asking(WEATHER))
    [call] = first.message.tool_calls
    messages = [
        *asking(WEATHER)["messages"],
        first.message,
        {"role": "tool", "tool_name": call.function.name, "content": '{"temperature": 21, "condition": "sunny"}'},
    ]
    answer = llama.chat(**asking(WEATHER, messages=messages))
    assert answer.message.content and not answer.message.tool_calls


def test_thinking_on_and_off(llama):
    messages = asking(THINKING_SUM)["messages"]
    on = llama.chat(model=MODEL, messages=messages, think=True, options=GREEDY)
    off = llama.chat(model=MODEL, messages=messages, think=False, options=GREEDY)
    assert on.message.thinking and not off.message.thinking
    assert "<think>" not in on.message.content + off.message.content


def test_generate(llama):
    prompt = FRANCE["messages"][-1]["content"]
    whole = llama.generate(model=MODEL, prompt=prompt, think=False, options=GREEDY)
    assert whole.response.strip() == PARIS and whole.done_reason == "stop"
    parts = list(llama.generate(model=MODEL, prompt=prompt, think=False, options=GREEDY, stream=True))
    assert "".join(part.response for part in parts) == whole.response
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    assert parts[-1].eval_count == whole.eval_count


def test_raw_prompts_and_limits(llama, client):
    options = GREEDY | {"num_predict": 7}
    answer = llama.generate(model=MODEL, prompt=STORY, raw=True, options=options)
    same = client.completions.create(model=MODEL, prompt=STORY, max_tokens=7, temperature=0)
    assert (answer.response, answer.done_reason, answer.eval_count) == (same.choices[0].text, "length", 7)
    stopped = llama.generate(model=MODEL, prompt=STORY, raw=True, options=GREEDY | {"num_predict": 50, "stop": [" "]})
    assert " " not in stopped.response.strip() and stopped.done_reason == "stop"
    seeded = [llama.generate(model=MODEL, prompt=STORY, raw=True, options={"seed": 5, "num_predict": 9}).response for _ in "ab"]
    assert seeded[0] == seeded[1]


def test_the_system_field(llama, client):
    prompt, system = "Who are you?", "You are a pirate."
    mine = llama.generate(model=MODEL, prompt=prompt, system=system, think=False, options=GREEDY | {"num_predict": 20})
    messages = [{"role": "system", "content": system}, {"role": "user", "content": prompt}]
    kwargs = {"chat_template_kwargs": {"enable_thinking": False}}
    theirs = client.chat.completions.create(
        model=MODEL, messages=messages, temperature=0, max_tokens=20, extra_body=kwargs
    )
    assert mine.response == theirs.choices[0].message.content
    assert mine.prompt_eval_count == theirs.usage.prompt_tokens


def test_logprobs(server):
    body = asking(FRANCE, stream=False, logprobs=True, top_logprobs=2, options=GREEDY | {"num_predict": 3})
    answer = server.http.post("/api/chat", json=body).raise_for_status().json()
    assert len(answer["logprobs"]) == 3
    assert all(len(each["top_logprobs"]) == 2 and each["logprob"] <= 0 for each in answer["logprobs"])


def test_models(llama):
    [model] = llama.list().models
    assert model.model == f"{MODEL}:latest" and len(model.digest) == 64 and model.size > 1_000_000
    assert model.details.parameter_size.endswith("M") and model.details.family
    shown = llama.show(MODEL)
    assert {"completion", "tools", "thinking"} <= set(shown.capabilities)
    assert shown.modelinfo[f"{shown.details.family}.context_length"] > 0
    assert "messages" in shown.template
    [running] = llama.ps().models
    assert running.model == model.model and running.context_length > 0 and running.expires_at
    assert llama.chat(**asking(FRANCE, model=f"{MODEL}:latest")).message.content == PARIS


def test_the_async_client(server):
    async def ask():
        client = ollama.AsyncClient(host=server.url)
        whole = await client.chat(**asking(FRANCE))
        parts = [part async for part in await client.chat(**asking(FRANCE), stream=True)]
        return whole.message.content, "".join(part.message.content for part in parts)

    assert asyncio.run(ask()) == (PARIS, PARIS)


def test_the_small_endpoints(server, llama):
    assert server.http.head("/").status_code == server.http.get("/").status_code == 200
    version = server.http.get("/api/version").json()["version"]
    assert tuple(map(int, version.split("."))) >= (0, 6, 4)
    assert [part.status for part in llama.pull(MODEL, stream=True)][-1] == "success"
    assert llama.pull(MODEL).status == "success"


@pytest.mark.parametrize(
    ("call", "status"),
    [
        (lambda c: c.chat(**asking(FRANCE, model="none")), 404),
        (lambda c: c.generate(model="none", prompt="x"), 404),
        (lambda c: c.show("none"), 404),
        (lambda c: c.pull("none"), 404),
        (lambda c: c.chat(**asking(FRANCE, format={"type": "no such type"})), 400),
        (lambda c: c.chat(**asking(FRANCE, options={"temperature": 9})), 400),
        (lambda c: c.chat(**asking(FRANCE, options={"mirostat": 2})), 400),
        (lambda c: c.generate(model=MODEL, prompt="x", suffix="y"), 400),
        (lambda c: c.generate(model=MODEL, prompt="x", template="y"), 400),
        (lambda c: c.generate(model=MODEL, prompt="x", images=[b"\x89PNG"]), 400),
        (lambda c: c.generate(model=MODEL, prompt="word " * 20_000), 400),
        (lambda c: c.embed(model=MODEL, input="x"), 400),
        (lambda c: c.embeddings(model=MODEL, prompt="x"), 400),
        (lambda c: c.delete(MODEL), 400),
        (lambda c: c.copy(MODEL, "other"), 400),
        (lambda c: c.create("other", from_=MODEL), 400),
        (lambda c: c.push(MODEL), 400),
    ],
)
def test_refusals(llama, call, status):
    with pytest.raises(ollama.ResponseError) as failure:
        call(llama)
    assert failure.value.status_code == status and failure.value.error


def test_bodies_that_are_none(server):
    for body in (b"", b"{", b"[]", b'{"model": 3}', b"{}", b'{"model": "' + MODEL.encode() + b'", "messages": 3}'):
        answer = server.http.post("/api/chat", content=body)
        assert answer.status_code == 400 and set(answer.json()) == {"error"}, body
    # curl's own content type is taken, but not from a web page.
    body = json.dumps(asking(FRANCE, stream=False))
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert server.http.post("/api/chat", content=body, headers=form).json()["message"]["content"] == PARIS
    page = form | {"origin": "https://example.org"}
    assert server.http.post("/api/chat", content=body, headers=page).status_code == 400
    assert server.http.get("/api/nothing").json()["error"]


def test_a_cancelled_stream_ends_with_its_reason(server):
    body = {"model": MODEL, "prompt": STORY, "raw": True, "options": {"num_predict": 6000, "stop": ["\x00"]}}
    name = {"x-request-id": "to-be-cancelled"}
    with server.http.stream("POST", "/api/generate", json=body, headers=name) as response:
        assert response.headers["content-type"] == "application/x-ndjson"
        lines = response.iter_lines()
        assert json.loads(next(lines))["done"] is False
        server.http.delete("/v1/requests/to-be-cancelled")
        last = [json.loads(line) for line in lines][-1]
    assert last["done"] and last["done_reason"] in ("abort", "stop")
    server.wait_idle()


def test_loading_and_unloading(launch):
    server = launch("--kv-cache-memory", "64M")
    llama = ollama_of(server)
    loaded = llama.generate(model=MODEL, prompt="", keep_alive="5m")
    assert loaded.done and loaded.done_reason == "load" and loaded.response == ""
    assert len(llama.ps().models) == 1
    unloaded = llama.chat(model=MODEL, messages=[], keep_alive=0)
    assert unloaded.done_reason == "unload"
    until(lambda: not llama.ps().models, "the model is unloaded")
    again = llama.chat(**asking(FRANCE))
    assert again.message.content == PARIS and again.load_duration > 1_000_000
    # The time that a client asks for holds until the model goes.
    llama.chat(**asking(FRANCE, keep_alive="0"))
    until(lambda: not llama.ps().models, "the model is unloaded after its request")


def test_keys(launch):
    server = launch("--api-key", "k", "--kv-cache-memory", "64M")
    with pytest.raises(ollama.ResponseError) as failure:
        ollama_of(server).list()
    assert failure.value.status_code == 401
    client = ollama.Client(host=server.url, headers={"authorization": "Bearer k"})
    assert client.list().models
