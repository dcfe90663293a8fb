#!/usr/bin/env python3
"""What HTTP and tokenizing take from the steps of the engine: the time between tokens of one answer, in three ways that take
turns.

    bench/beside_steps.py MODEL [--rounds 5] [--rate 100]

MODEL is a folder (bench/make_model.py makes one). Without a server: `millrace bench latency`. Through a server that has
nothing else to do. And while clients send it --rate texts of 900 bytes a second to `/tokenize`. The client has the same
CPUs as the server.
"""
import argparse
import asyncio
import json
import os
import pathlib
import statistics
import subprocess
import time

from harness import client, machine
from harness.engines import kv_bytes_per_token
from harness.servers import Millrace

PROMPT, TOKENS = [7] * 128, 128
TEXT = {"model": "bench", "prompt": "The quick brown fox jumps over the lazy dog. " * 20}
CLIENTS = 4


def without_server(args):
    command = [args.millrace, "bench", "latency", args.model, "--threads", args.threads, "--json", "--no-ceilings",
               "--num-iters", 1, "--case", f"{len(PROMPT)}:{TOKENS}:1"]
    lines = subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True).stdout
    return json.loads(lines.splitlines()[-1])["inter_token_ms"]["median"]


async def through(server, rate):
    """Milliseconds between tokens, and how many texts were tokenized a second meanwhile."""
    done, count, start = asyncio.Event(), 0, time.perf_counter()

    async def tokenize():
        nonlocal count
        while not done.is_set():
            await client.post(server.port, "/tokenize", TEXT)
            count += 1
            await asyncio.sleep(CLIENTS / rate)

    clients = [asyncio.create_task(tokenize()) for _ in range(CLIENTS if rate else 0)]
    times = (await server.ask(PROMPT, TOKENS)).times
    seconds = time.perf_counter() - start
    done.set()
    await asyncio.gather(*clients)
    return statistics.median((b - a) * 1e3 for a, b in zip(times, times[1:])), count / seconds


def main():
    target = os.environ.get("CARGO_TARGET_DIR", machine.ROOT / "target")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a folder")
    parser.add_argument("--millrace", default=str(pathlib.Path(target) / "release/millrace"))
    parser.add_argument("--threads", type=int, default=len(machine.cpus()), help="default: the CPUs we may use")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rate", type=float, default=100, help="texts a second")
    args = parser.parse_args()
    # Room for two sequences: a cache of exactly one has no block to spare, and the server wants one.
    args.streams, args.context, args.millrace_options = 2, len(PROMPT) + TOKENS + 128, []
    args.kv_bytes_per_token = kv_bytes_per_token(args.model)
    server = Millrace(args, PROMPT)
    try:
        rounds = [(without_server(args), asyncio.run(through(server, 0))[0], *asyncio.run(through(server, args.rate)))
                  for _ in range(args.rounds)]
    finally:
        server.stop()
    names = ("without a server, ms", "through a server, ms", "while it tokenizes, ms", "texts tokenized a second")
    for name, values in zip(names, zip(*rounds)):
        print(f"{name:26} {statistics.median(values):7.2f}   ({', '.join(f'{value:.2f}' for value in values)})")


if __name__ == "__main__":
    main()
