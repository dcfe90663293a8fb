#!/usr/bin/env python3
"""Evaluation: the 260 questions of models/demo/eval.jsonl through the HTTP API, in every way of batching.

    python e2e/eval.py                                       # starts servers itself, all weights and modes
    python e2e/eval.py --weights embedded --mode sequential  # part of it
    python e2e/eval.py --url http://127.0.0.1:8000 --concurrency 32

Each answer is greedy and has to equal the expected one to the letter. Fails below the bars (all answers with bf16
weights, 98 % with the embedded ones), if any mode gives other token ids than one request at a time, or if the mode
that should preempt did not.
"""

import argparse
import asyncio
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from harness.process import ROOT
from harness.server import MODEL, Server
from harness.stream import Stream, new_session, send
from load import pooled

QUESTIONS = ROOT / "models" / "demo" / "eval.jsonl"
BF16_MODEL = ROOT.parent / "shared" / "demo-model"
ALL = 10_000
# How many tokens an answer may be longer than the expected one.
SPARE = 8
# The bf16 folder, or None for what is embedded in the binary, and the share of right answers asked for.
WEIGHTS = {"embedded": (None, 0.98), "bf16": (BF16_MODEL, 1.0)}
PREEMPTION = "preemption"
# What is compared is what the model writes, calls and reasoning included.
UNPARSED = ("--tool-call-parser", "none", "--reasoning-parser", "none")
# Flags and concurrency. The first mode is what the others are compared with.
MODES = {
    "sequential": ((), 1),
    "all at once": ((), ALL),
    "chunks of 64": (("--max-num-batched-tokens", "64"), ALL),
    "prefix cache off": (("--no-enable-prefix-caching",), ALL),
    # Room for a dozen questions at once: whoever needs a next block takes it from another.
    PREEMPTION: (("--kv-cache-memory", "10M", "--max-model-len", "768"), ALL),
}
# Tokens of question and answer that fit in the preemption mode; the few longer questions are left out there.
SHORT = 768


@dataclass
class Result:
    """One run over the questions, by their ids."""

    streams: dict[str, Stream]
    right: int
    seconds: float
    cached: int
    preemptions: int | None = None


def main() -> None:
    args = parse()
    questions = [json.loads(line) for line in args.questions.read_text().splitlines()]
    failures = against(args, questions) if args.url else in_all_modes(args, questions)
    if failures:
        sys.exit("eval: " + "; ".join(failures))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=Path, default=QUESTIONS)
    parser.add_argument("--weights", choices=WEIGHTS, help="default: all that are there")
    parser.add_argument("--mode", choices=MODES, action="append", help="default: all; may be repeated")
    parser.add_argument("--url", help="ask a running server instead")
    parser.add_argument("--model", default=MODEL, help="its model, with --url")
    parser.add_argument("--concurrency", type=int, default=16, help="requests at a time, with --url")
    parser.add_argument("--bar", type=float, default=0.98, help="share of right answers asked for, with --url")
    parser.add_argument("--show", type=int, default=3, help="how many wrong answers to print per run")
    return parser.parse_args()


def against(args, questions: list[dict]) -> list[str]:
    """One run against a server that someone else started."""
    result = asyncio.run(ask_all(args.url, args.model, questions, args.concurrency))
    print_row(args.url, f"{args.concurrency} at a time", result, None)
    show_wrong(result, questions, args.show)
    return below_bar(args.url, "", result, args.bar)


def in_all_modes(args, questions: list[dict]) -> list[str]:
    """Every chosen mode of every chosen kind of weights, each with a server of its own."""
    failures = []
    for weights, (folder, bar) in WEIGHTS.items():
        if args.weights not in (None, weights):
            continue
        if folder and not folder.is_dir():
            print(f"{weights}: skipped, {folder} is not there")
            if args.weights:
                failures.append(f"{folder} does not exist")
            continue
        reference = None
        for mode in args.mode or MODES:
            asked = [question for question in questions if mode != PREEMPTION or is_short(question)]
            result = run_mode(folder, mode, asked)
            reference = reference or result
            print_row(weights, mode, result, reference)
            show_wrong(result, asked, args.show)
            failures += judge(weights, mode, result, reference, bar)
    return failures


def is_short(question: dict) -> bool:
    return question["prompt_tokens"] + question["completion_tokens"] + SPARE <= SHORT


def run_mode(folder: Path | None, mode: str, questions: list[dict]) -> Result:
    flags, concurrency = MODES[mode]
    flags += UNPARSED
    named = ("--served-model-name", MODEL) if folder else ()
    with Server(*flags, *named, model=folder) as server:
        result = asyncio.run(ask_all(server.url, MODEL, questions, concurrency))
        result.preemptions = int(server.metrics().value("millrace:num_preemptions_total"))
        server.wait_idle()
    return result


async def ask_all(url: str, model: str, questions: list[dict], concurrency: int) -> Result:
    start = time.perf_counter()
    path = f"{url}/v1/chat/completions"
    async with new_session() as session:
        streams = await pooled(lambda i: send(session, path, body(questions[i], model)), len(questions), concurrency)
    right = sum(map(is_right, streams, questions))
    cached = sum(((s.usage or {}).get("prompt_tokens_details") or {}).get("cached_tokens") or 0 for s in streams)
    ids = (question["id"] for question in questions)
    return Result(dict(zip(ids, streams, strict=True)), right, time.perf_counter() - start, cached)


def body(question: dict, model: str) -> dict:
    tools = {"tools": question["tools"]} if question["tools"] else {}
    return tools | {
        "model": model,
        "messages": question["messages"],
        "temperature": 0,
        "max_tokens": question["completion_tokens"] + SPARE,
        "chat_template_kwargs": {"enable_thinking": question["enable_thinking"]},
        "return_token_ids": True,
        "stream_options": {"include_usage": True},
    }


def is_right(stream: Stream, question: dict) -> bool:
    """To the letter, ended by the model, and with the expected token counts. Where the server tells text, reasoning
    and calls apart, they are put together again."""
    return (
        stream.error is None
        and stream.written == question["expected"]
        and stream.finish_reason == ("tool_calls" if stream.calls else "stop")
        and stream.usage["prompt_tokens"] == question["prompt_tokens"]
        and stream.usage["completion_tokens"] == question["completion_tokens"]
    )


def differing(result: Result, reference: Result) -> int:
    pairs = ((stream, reference.streams[key]) for key, stream in result.streams.items())
    return sum(not a.token_ids or a.token_ids != b.token_ids for a, b in pairs)


def judge(weights: str, mode: str, result: Result, reference: Result, bar: float) -> list[str]:
    wrong = below_bar(weights, mode, result, bar)
    if other := differing(result, reference):
        wrong.append(f"{weights}, {mode}: {other} answers have other token ids than the first mode's, or none")
    if mode == PREEMPTION and not result.preemptions:
        wrong.append(f"{weights}, {mode}: nothing was preempted, so the mode shows nothing")
    return wrong


def below_bar(weights: str, mode: str, result: Result, bar: float) -> list[str]:
    if result.right >= bar * len(result.streams):
        return []
    return [f"{weights}, {mode}: {result.right} of {len(result.streams)} are right, {bar:.0%} are asked for"]


def print_row(weights: str, mode: str, result: Result, reference: Result | None) -> None:
    total = len(result.streams)
    same = "" if reference is None else f"{total - differing(result, reference)}/{total} same ids"
    print(
        f"{weights:9} {mode:17} {result.right:3}/{total} right  {same:18} "
        f"{result.cached:6} cached  {result.preemptions or 0:4} preemptions  {result.seconds:6.1f} s",
        flush=True,
    )


def show_wrong(result: Result, questions: list[dict], count: int) -> None:
    pairs = ((result.streams[question["id"]], question) for question in questions)
    for stream, question in [pair for pair in pairs if not is_right(*pair)][:count]:
        print(f"  {question['id']}: {stream.error or repr(stream.written)}\n    expected {question['expected']!r}")
        print(f"    finish_reason {stream.finish_reason}, usage {stream.usage}")


if __name__ == "__main__":
    main()
