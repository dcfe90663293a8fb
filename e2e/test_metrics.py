"""The Prometheus page."""

import pytest

from harness.ask import ask

GAUGES = {"num_requests_running", "num_requests_waiting", "kv_cache_usage_perc"}
COUNTERS = {
    "prompt_tokens_total", "generation_tokens_total", "request_success_total", "num_preemptions_total",
    "prefix_cache_queries_total", "prefix_cache_hits_total",
}
HISTOGRAMS = {
    "time_to_first_token_seconds", "inter_token_latency_seconds", "e2e_request_latency_seconds",
    "request_queue_time_seconds", "request_prompt_tokens", "request_generation_tokens", "iteration_tokens_total",
}


@pytest.mark.parametrize("prefix", ["millrace", "vllm"])
def test_names(server, client, prefix):
    ask(client)
    expected = GAUGES | COUNTERS | {f"{name}{part}" for name in HISTOGRAMS for part in ("_bucket", "_sum", "_count")}
    missing = {f"{prefix}:{name}" for name in expected} - server.metrics().names()
    assert not missing


def test_aliases_say_the_same(server, client):
    ask(client)
    server.wait_idle()
    metrics = server.metrics()
    for name in sorted(GAUGES | COUNTERS):
        assert metrics.value(f"millrace:{name}") == metrics.value(f"vllm:{name}"), name


def test_a_request_is_counted_exactly(server, client):
    names = ("prompt_tokens_total", "generation_tokens_total", "request_success_total", "request_prompt_tokens_count")
    server.wait_idle()
    before = server.metrics()
    usage = ask(client).usage
    server.wait_idle()
    after = server.metrics()
    grown = [after.value(f"millrace:{name}") - before.value(f"millrace:{name}") for name in names]
    assert grown == [usage.prompt_tokens, usage.completion_tokens, 1, 1]


def test_finish_reasons_are_labels(server, client):
    name = "millrace:request_success_total"
    before = server.metrics()
    ask(client, max_tokens=2)
    server.wait_idle()
    after = server.metrics()
    assert after.value(name, finished_reason="length") == before.value(name, finished_reason="length") + 1


def test_histograms_are_well_formed(server, client):
    ask(client, stream=False)
    for family in server.metrics().families.values():
        if family.type != "histogram":
            continue
        series: dict[tuple, list[tuple[float, float]]] = {}
        counts = {}
        for sample in family.samples:
            labels = tuple(sorted((k, v) for k, v in sample.labels.items() if k != "le"))
            if sample.name.endswith("_bucket"):
                series.setdefault(labels, []).append((float(sample.labels["le"]), sample.value))
            elif sample.name.endswith("_count"):
                counts[labels] = sample.value
        assert series, family.name
        for labels, buckets in series.items():
            bounds, values = zip(*buckets, strict=True)
            assert list(bounds) == sorted(bounds) and bounds[-1] == float("inf"), family.name
            assert list(values) == sorted(values) and values[-1] == counts[labels], family.name
