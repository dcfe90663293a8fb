"""A running server and plain HTTP to it (the tests use the `openai` package for everything that it can do)."""

import json
from contextlib import contextmanager

import httpx2
import openai

from harness.metrics import Metrics
from harness.process import Process, until

MODEL = "millrace-demo"


class Server(Process):
    """Context manager: started and ready inside, cleanly stopped (or killed, if the body failed) after."""

    http: httpx2.Client

    def __enter__(self) -> "Server":
        self.spawn()
        try:
            self.http = httpx2.Client(base_url=self.wait_for_address(), timeout=120)
            until(self.ready, "/ready answers 200")
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, failure, *_) -> None:
        self.http.close()
        if failure:
            self.kill()
        elif self.alive():
            self.stop()

    def ready(self) -> bool:
        try:
            return self.http.get("/ready").status_code == 200
        except httpx2.TransportError:
            return False

    def client(self, api_key: str = "none") -> openai.OpenAI:
        """The official client; it must not retry, or it would hide errors."""
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=api_key, max_retries=0, timeout=120)

    def metrics(self) -> Metrics:
        return Metrics(self.http.get("/metrics").raise_for_status().text)

    def idle(self) -> bool:
        """Nothing runs, nothing waits, no KV block is in use."""
        metrics = self.metrics()
        return not any(
            metrics.value(f"millrace:{gauge}")
            for gauge in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc")
        )

    def wait_idle(self, seconds: float = 30.0) -> None:
        until(self.idle, "no request runs or waits and no KV block is in use", seconds)

    @contextmanager
    def events(self, path: str, body: dict):
        """Opens a stream; yields an iterator of its `data:` payloads, parsed, `[DONE]` as the string.
        Leaving the block early closes the connection, as a client that goes away does."""
        with self.http.stream("POST", path, json=body | {"stream": True}) as response:
            if response.status_code != 200:
                response.read()
                raise AssertionError(f"{path} answered {response.status_code}: {response.text}")
            assert response.headers["content-type"].startswith("text/event-stream")
            yield parse_events(response.iter_lines())


def parse_events(lines):
    """Server-sent events as OpenAI sends them: one line of data each; comments are skipped."""
    for line in lines:
        if line.startswith("data: "):
            data = line.removeprefix("data: ")
            yield data if data == "[DONE]" else json.loads(data)
        else:
            assert not line or line.startswith(":"), f"not a line of an event stream: {line!r}"
