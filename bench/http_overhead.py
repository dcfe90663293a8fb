#!/usr/bin/env python3
"""What the server costs beside the engine: requests and streamed tokens a second with an engine that answers at once.

    cargo build --release -p millrace-server --example mock --example http_load
    bench/http_overhead.py [--rounds 5] [--seconds 5] [--connections 64]

The tokenizer and the chat template are the demo model's: each request is read, rendered, tokenized and checked, each
token detokenized, searched for stop strings and tool calls, and written. Client and server share the machine; the
last column says how much of its processor time was the client's. Medians over the rounds, in which the cases take turns.
"""

import argparse
import json
import os
import pathlib
import resource
import statistics
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
EXAMPLES = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release" / "examples"

CASES = {
    "chat, 1 token": ["--tokens", "1"],
    "chat, 16 tokens": ["--tokens", "16"],
    "text, 16 tokens": ["--tokens", "16", "--text"],
    "chat, 128 tokens, streamed": ["--tokens", "128", "--stream"],
    "text, 128 tokens, streamed": ["--tokens", "128", "--stream", "--text"],
}


def cpu_seconds(pid: int) -> float:
    """Processor time of a process so far, all its threads together."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(address: str, server: int, flags: list[str], args) -> dict:
    """One run of the load generator, with the processor time of both sides."""
    before, mine = cpu_seconds(server), resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [EXAMPLES / "http_load", address, "--connections", str(args.connections), "--seconds", str(args.seconds), *flags]
    result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    client = after.ru_utime + after.ru_stime - mine.ru_utime - mine.ru_stime
    return result | {"server_cpu_seconds": cpu_seconds(server) - before, "client_cpu_seconds": client}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--port", type=int, default=8100)
    parser.add_argument("--pace", type=int, default=0, help="microseconds of an engine's step: tokens come one by one")
    parser.add_argument("--only", default="", help="cases whose name holds this")
    args = parser.parse_args()
    mock = subprocess.Popen([EXAMPLES / "mock", ROOT / "models/demo", str(args.port), str(args.pace)], stdout=subprocess.PIPE, text=True)
    runs: dict[str, list[dict]] = {name: [] for name in CASES if args.only in name}
    try:
        address = mock.stdout.readline().strip().removeprefix("listening on http://")
        for name in runs:
            measure(address, mock.pid, CASES[name], argparse.Namespace(**vars(args) | {"seconds": 1}))
        for _ in range(args.rounds):
            for name, results in runs.items():
                results.append(measure(address, mock.pid, CASES[name], args))
    finally:
        mock.terminate()
        mock.wait()
    print(f"{os.cpu_count()} cores, {args.connections} connections, {args.rounds} rounds of {args.seconds:g} s, "
          f"{args.pace} µs a step, "
          f"{time.strftime('%Y-%m-%d')}\n")
    print("| case | requests/s | tokens/s | p50 ms | p99 ms | server CPU µs/request | client's share of CPU |")
    print("|---|---|---|---|---|---|---|")
    for name, results in runs.items():
        def median(key):
            return statistics.median(result[key] for result in results)

        cost = statistics.median(result["server_cpu_seconds"] / result["answers"] * 1e6 for result in results)
        share = median("client_cpu_seconds") / (median("client_cpu_seconds") + median("server_cpu_seconds"))
        print(f"| {name} | {median('requests_per_second'):,.0f} | {median('tokens_per_second'):,.0f} | "
              f"{median('p50_ms'):.1f} | {median('p99_ms'):.1f} | {cost:.0f} | {share:.0%} |")


if __name__ == "__main__":
    main()
