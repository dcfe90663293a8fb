"""Requests that are cancelled, left, refused for lack of room, and servers that are told to go."""

import signal
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from harness.ask import PARIS, ask, complete, endless_body
from harness.process import until

COMPLETIONS = "/v1/completions"


def finish_reasons(events) -> list[str]:
    """Reads a stream to its end."""
    *chunks, last = list(events)
    assert last == "[DONE]"
    ends = (choice["finish_reason"] for chunk in chunks for choice in chunk["choices"])
    return [end for end in ends if end]


def test_cancel_by_id(server):
    with server.events(COMPLETIONS, endless_body()) as events:
        first = next(events)
        assert server.http.delete(f"/v1/requests/{first['id']}").status_code == 200
        assert finish_reasons(events) == ["abort"]
    server.wait_idle()
    # It is gone: a second cancel finds nothing.
    assert server.http.delete(f"/v1/requests/{first['id']}").status_code == 404


def test_cancel_ends_all_samples(server):
    with server.events(COMPLETIONS, endless_body(n=3, temperature=1)) as events:
        assert server.http.delete(f"/v1/requests/{next(events)['id']}").status_code == 200
        assert finish_reasons(events) == ["abort"] * 3
    server.wait_idle()


@pytest.mark.parametrize("samples", [1, 3])
def test_disconnect_frees_everything(server, samples):
    fields = {"n": samples, "temperature": 1} if samples > 1 else {}
    with server.events(COMPLETIONS, endless_body(**fields)) as events:
        next(events)
        running = "millrace:num_requests_running"
        until(lambda: server.metrics().value(running) == samples, f"{samples} sequences run")
        assert server.metrics().value("millrace:kv_cache_usage_perc") > 0
    server.wait_idle(10)


def test_disconnect_without_a_stream(server):
    with pytest.raises(httpx2.ReadTimeout):
        server.http.post(COMPLETIONS, json=endless_body(7000), timeout=0.5)
    server.wait_idle(10)


def test_full_queue(launch):
    server = launch("--max-num-queued-reqs", "1", "--max-num-seqs", "1")
    client = server.client()
    with ThreadPoolExecutor(1) as pool, server.events(COMPLETIONS, endless_body()) as running:
        first = next(running)
        waiting = pool.submit(complete, client, max_tokens=5)
        until(lambda: server.metrics().value("millrace:num_requests_waiting") == 1, "the second request waits")
        refused = server.http.post(COMPLETIONS, json=endless_body(5))
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["error"]["code"] == 503
        # Room again: the one that waited gets its turn.
        server.http.delete(f"/v1/requests/{first['id']}").raise_for_status()
        assert waiting.result().usage.completion_tokens == 5
    assert ask(client).choices[0].message.content == PARIS


def test_graceful_shutdown_finishes_what_runs(launch):
    server = launch()
    with server.events(COMPLETIONS, endless_body(1500)) as events:
        next(events)
        server.signal(signal.SIGTERM)
        until(lambda: not takes_requests(server), "new requests are refused")
        assert finish_reasons(events) == ["length"]
    assert server.wait() == 0


def test_second_signal_aborts(launch):
    server = launch()
    with server.events(COMPLETIONS, endless_body(7500)) as events:
        next(events)
        server.signal(signal.SIGTERM)
        until(lambda: not takes_requests(server), "the first signal is taken")
        server.signal(signal.SIGTERM)
        # The stream ends, one way or the other, long before its 7,500 tokens.
        try:
            assert finish_reasons(events) == ["abort"]
        except httpx2.TransportError:
            pass
    server.wait(10)


def test_interrupt_of_an_idle_server_is_clean(launch):
    server = launch()
    server.signal(signal.SIGINT)
    assert server.wait(10) == 0


def test_kill_and_restart(launch):
    server = launch()
    port = server.url.rsplit(":", 1)[1]
    with server.events(COMPLETIONS, endless_body()) as events:
        next(events)
        server.kill()
        with pytest.raises(httpx2.TransportError):
            finish_reasons(events)
    again = launch("--port", port)
    assert again.url == server.url
    assert ask(again.client()).choices[0].message.content == PARIS


def test_request_timeout(server):
    answer = server.http.post(COMPLETIONS, json=endless_body(7000, timeout=0.3))
    assert answer.status_code == 408
    assert answer.json()["error"]["code"] == 408
    server.wait_idle(10)


def takes_requests(server) -> bool:
    """Whether a new connection still gets a new request answered."""
    try:
        return httpx2.post(f"{server.url}{COMPLETIONS}", json=endless_body(1), timeout=10).status_code == 200
    except httpx2.TransportError:
        return False
