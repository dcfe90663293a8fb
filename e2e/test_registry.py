"""Several models in one process: loading, unloading, budgets, states."""

import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx2
import openai
import pytest

from harness.ask import FRANCE, PARIS, PLAIN, STORY, user
from harness.process import ROOT, binary, until

DEMO, DRAFT = "millrace-demo", "millrace-demo-draft"
MIB = 1 << 20
MODELS = ROOT / "models"


@pytest.fixture
def serve(launch, tmp_path):
    """serve(text) starts a server with a registry file."""

    def start(text: str, *flags: str):
        file = tmp_path / "models.yaml"
        file.write_text(text)
        return launch("--models", str(file), *flags)

    return start


def both(more: str = "", demo: str = "", draft: str = "") -> str:
    """A file with both embedded models and small caches."""
    return f"""
defaults: {{kv-cache-memory: 32M}}
{more}
models:
  - {{name: big, path: {DEMO}, aliases: [gpt-4o], {demo}}}
  - {{name: small, path: {DRAFT}, {draft}}}
"""


def states(server) -> dict[str, str]:
    return {model["id"]: model["state"] for model in admin(server)["data"]}


def admin(server) -> dict:
    return server.http.get("/v1/admin/models").raise_for_status().json()


def order(server, what: str, model: str):
    return server.http.post(f"/v1/admin/models/{what}", json={"model": model})


def say(server, model: str, **fields) -> str:
    body = {"model": model, "messages": user(FRANCE), "temperature": 0, "max_tokens": 12} | PLAIN | fields
    answer = server.http.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"] == model
    return answer.json()["choices"][0]["message"]["content"]


def test_models_are_loaded_on_their_first_use(serve):
    server = serve(both())
    assert states(server) == {"big": "unloaded", "small": "unloaded"}
    cards = {card.id: card for card in server.client().models.list().data}
    assert set(cards) == {"big", "gpt-4o", "small"}
    assert cards["small"].state == "unloaded" and cards["small"].max_model_len > 0
    assert {"completion", "chat"} <= set(cards["big"].capabilities)
    assert say(server, "gpt-4o") == PARIS
    assert states(server) == {"big": "ready", "small": "unloaded"}
    assert say(server, "small") != ""
    assert states(server) == {"big": "ready", "small": "ready"}
    with pytest.raises(openai.NotFoundError):
        server.client().chat.completions.create(model="other", messages=user(FRANCE))


def test_the_default_and_what_is_loaded_at_start(serve):
    server = serve(both("default: small", draft="load: start"))
    assert states(server) == {"small": "ready", "big": "unloaded"}
    reply = server.http.post("/v1/completions", json={"prompt": STORY, "max_tokens": 2}).json()
    assert reply["model"] == "small"


def test_one_load_for_all_who_wait(serve):
    server = serve(both())
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: say(server, "big"), range(8)))
    assert answers == [PARIS] * 8
    metrics = server.metrics()
    assert metrics.value("millrace:request_success_total", model_name="big") == 8
    assert metrics.value("millrace:model_ready", model_name="big") == 1


def test_the_budget_holds_and_the_other_model_makes_room(serve):
    needs = {model["id"]: model["memory"]["total"] for model in admin(serve(both()))["data"]}
    # Enough for either, too little for both.
    budget = max(needs.values()) + min(needs.values()) // 2
    server = serve(both(f"memory-budget: {budget}"))
    over = []
    done = threading.Event()

    def watch():
        with httpx2.Client(base_url=server.url) as http:
            while not done.is_set():
                now = http.get("/v1/admin/models").json()
                over.extend([now] if now["memory_used"] > now["memory_budget"] else [])

    with ThreadPoolExecutor(9) as pool:
        watching = pool.submit(watch)
        try:
            # Requests for both at once: each is answered in the end, by its own model.
            asked = [(name, pool.submit(say, server, name)) for name in ["big", "small"] * 4]
            answers = {(name, answer.result()) for name, answer in asked}
        finally:
            done.set()
        watching.result()
    assert ("big", PARIS) in answers and len(answers) == 2
    assert not over
    assert sorted(states(server).values()) == ["ready", "unloaded"]


def test_what_never_fits_ends_the_start(tmp_path):
    file = tmp_path / "models.yaml"
    for text, words in [
        (both("memory-budget: 30M"), "memory budget of 30.0 MiB"),
        (both("memory-budget: 150M", "load: start", "load: start, kv-cache-memory: 80M"), "together"),
        ("models: [{name: a, path: /no/such/folder}]", "/no/such/folder"),
        ("models: [{name: a, path: millrace-demo, max-model-len: 100k, load: start, cache-memory: 3}]", "did you mean"),
    ]:
        file.write_text(text)
        run = subprocess.run(
            [binary(), "serve", "--port", "0", "--models", file], capture_output=True, text=True, timeout=60
        )
        assert run.returncode == 1 and words in run.stderr and str(file) in run.stderr, run.stderr
        assert len(run.stderr.strip().splitlines()) == 1, run.stderr
    run = subprocess.run([binary(), "serve", "--models", file, "some/model"], capture_output=True, text=True, timeout=60)
    assert run.returncode == 2 and "--models" in run.stderr


def test_a_model_that_cannot_be_loaded_is_told(serve, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in ("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"):
        (broken / file).write_bytes((MODELS / "demo-draft" / file).read_bytes())
    server = serve(f"models: [{{name: broken, path: {broken}, kv-cache-memory: 32M}}, {{name: {DRAFT}, kv-cache-memory: 32M}}]")
    weights = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    body = {"model": "broken", "prompt": STORY, "max_tokens": 2}
    answer = server.http.post("/v1/completions", json=body)
    assert answer.status_code == 503 and "`broken` can't be loaded" in answer.json()["error"]["message"], answer.text
    assert int(answer.headers["retry-after"]) >= 1
    assert states(server)["broken"] == "failed"
    assert next(card for card in server.client().models.list().data if card.id == "broken").state == "failed"
    # The others are none the worse, and a mended one is loaded.
    assert say(server, DRAFT)
    (broken / "model.safetensors").write_bytes(weights)
    assert order(server, "load", "broken").json()["state"] == "ready"
    assert server.http.post("/v1/completions", json=body).status_code == 200


def test_unloading_waits_for_running_requests_and_gives_memory_back(serve):
    server = serve(both())
    # An embedded model's weights are pages of the program, which stay resident as long as nobody needs the memory.
    before = server.rss_bytes("RssAnon")
    assert order(server, "load", "big").json()["state"] == "ready"
    # Fill the cache, so that its memory is really taken.
    body = {"model": "big", "prompt": STORY, "max_tokens": 600, "ignore_eos": True, "n": 8}
    assert server.http.post("/v1/completions", json=body).status_code == 200
    loaded = server.rss_bytes("RssAnon")
    planned = admin(server)["memory_used"]
    endless = {"model": "big", "prompt": STORY, "max_tokens": 300, "ignore_eos": True}
    with server.events("/v1/completions", endless) as events, ThreadPoolExecutor(2) as pool:
        first = next(events)
        unloading = pool.submit(order, server, "unload", "big")
        until(lambda: states(server)["big"] != "ready", "the model takes no more requests")
        # Whoever comes now waits, and gets the model anew.
        late = pool.submit(say, server, "big")
        chunks = [first, *events]
        assert chunks[-1] == "[DONE]" and chunks[-2]["choices"][0]["finish_reason"] == "length"
        assert unloading.result().status_code == 200
        assert late.result() == PARIS
    assert order(server, "unload", "big").json()["state"] == "unloaded"
    after = server.rss_bytes("RssAnon")
    figures = ", ".join(f"{size / MIB:.1f}" for size in (before, loaded, after, planned))
    print(f"anonymous memory in MiB: before, loaded, unloaded, counted: {figures}")
    assert 40 * MIB < loaded - before < planned
    assert after - before < (loaded - before) / 10
    # Counters stay, and threads end.
    assert server.metrics().value("millrace:generation_tokens_total", model_name="big") >= 8 * 600
    assert not any(name.startswith(("millrace-engine", "millrace-cpu")) for name in server.threads())


def test_again_and_again_takes_no_more_memory(serve):
    server = serve(both())
    sizes = []
    for _ in range(6):
        order(server, "load", "small").raise_for_status()
        assert say(server, "small")
        order(server, "unload", "small").raise_for_status()
        sizes.append(server.rss_bytes())
    print("RSS in MiB:", [round(size / MIB, 1) for size in sizes])
    assert sizes[-1] - sizes[1] < 8 * MIB


def test_an_idle_model_goes(serve):
    server = serve(both(draft="idle-unload: 1s", demo="idle-unload: 1h"))
    assert say(server, "small") and say(server, "big") == PARIS
    until(lambda: states(server) == {"big": "ready", "small": "unloaded"}, "the idle model is unloaded")
    assert say(server, "small")


def test_a_pinned_model_stays(serve):
    needs = {model["id"]: model["memory"]["total"] for model in admin(serve(both()))["data"]}
    server = serve(both(f"memory-budget: {sum(needs.values()) - MIB}", demo="pin: true, load: start"))
    answer = server.http.post("/v1/completions", json={"model": "small", "prompt": STORY, "max_tokens": 2})
    assert answer.status_code == 503 and "pinned models leave" in answer.json()["error"]["message"]
    assert states(server) == {"big": "ready", "small": "unloaded"}


def test_a_client_that_leaves_does_not_stop_the_load(serve):
    server = serve(both())
    body = {"model": "big", "prompt": STORY, "max_tokens": 2}
    with httpx2.Client(base_url=server.url, timeout=0.02) as hasty, pytest.raises(httpx2.TimeoutException):
        hasty.post("/v1/completions", json=body)
    until(lambda: states(server)["big"] == "ready", "the model is there all the same")
    server.wait_idle()


def test_the_admin_is_on_this_machine(serve):
    server = serve(both(), "--api-key", "k")
    key = {"authorization": "Bearer k"}
    assert server.http.get("/v1/admin/models").status_code == 200
    forwarded = {"x-forwarded-for": "203.0.113.7"}
    assert server.http.get("/v1/admin/models", headers=forwarded).status_code == 401
    # A key that is no administrator's.
    assert server.http.get("/v1/admin/models", headers=key | forwarded).status_code == 403
    for body, status in [({"model": "none"}, 404), ({}, 400), ({"model": 3}, 400), ({"model": "big", "x": 1}, 400)]:
        assert server.http.post("/v1/admin/models/load", json=body, headers=key).status_code == status, body
