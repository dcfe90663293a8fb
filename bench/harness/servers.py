"""The two servers: how to start them alike, how to ask, and what their answers mean."""
import asyncio
import socket
import subprocess
import time
import pathlib

from . import client, machine

VOCABULARY = (1000, 100_000)
"""Token ids that any of the shapes knows and that aren't special."""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A running server; `startup` is the seconds from its start to the first token of a first answer."""

    def __init__(self, command, first_prompt):
        self.port = free_port()
        started = time.perf_counter()
        self.process = subprocess.Popen([str(part).replace("PORT", str(self.port)) for part in command],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            asyncio.run(self._ready())
            answer = asyncio.run(self.ask(first_prompt, 2))
        except BaseException:
            self.stop()
            raise
        self.startup = answer.start + answer.times[0] - started

    async def _ready(self):
        while not await client.healthy(self.port):
            if self.process.poll() is not None:
                raise SystemExit(f"{self.process.args} ended before it served")
            await asyncio.sleep(0.005)

    async def ask(self, prompt, tokens):
        """One answer of exactly `tokens` tokens, with `start`, `times` (of each piece of text) and `tokens`."""
        answer = await client.stream(self.port, *self.request(prompt, tokens))
        events = list(answer.parsed())
        answer.times = [when for when, event in events if self.has_text(event)]
        answer.tokens = next(count for _, event in reversed(events) if (count := self.count(event)))
        if answer.tokens != tokens:
            raise SystemExit(f"{self.name} gave {answer.tokens} tokens instead of {tokens}")
        return answer

    def peak_rss(self):
        return machine.peak_rss(self.process.pid)

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Millrace(Server):
    name = "Millrace"

    def __init__(self, args, first_prompt):
        tokens = args.streams * args.context
        super().__init__([args.millrace, "serve", args.model, "--port", "PORT", "--served-model-name", "bench",
                          "--threads", args.threads, "--max-num-seqs", args.streams,
                          "--max-model-len", args.context, "--kv-cache-memory", tokens * args.kv_bytes_per_token,
                          *args.millrace_options], first_prompt)

    @staticmethod
    def request(prompt, tokens):
        return "/v1/completions", {"model": "bench", "prompt": prompt, "max_tokens": tokens, "temperature": 0,
                                   "ignore_eos": True, "stream": True, "return_token_ids": True,
                                   "stream_options": {"include_usage": True}}

    @staticmethod
    def has_text(event):
        return any(choice.get("token_ids") or choice.get("text") for choice in event.get("choices", []))

    @staticmethod
    def count(event):
        return (event.get("usage") or {}).get("completion_tokens")


class Llama(Server):
    name = "llama.cpp"

    def __init__(self, args, first_prompt):
        # The memory for states of earlier prompts is off: it is of no use here and would count as the server's.
        super().__init__([pathlib.Path(args.llama) / "llama-server", "-m", args.gguf, "--port", "PORT",
                          "-t", args.threads, "-np", args.streams, "-c", args.streams * args.context,
                          "--cache-ram", 0, *args.llama_options], first_prompt)

    @staticmethod
    def request(prompt, tokens):
        return "/completion", {"prompt": prompt, "n_predict": tokens, "ignore_eos": True, "stream": True,
                               "cache_prompt": False, "return_tokens": True, "temperature": 0,
                               "samplers": ["top_k"], "top_k": 1}

    @staticmethod
    def has_text(event):
        return not event.get("stop") and bool(event.get("tokens") or event.get("content"))

    @staticmethod
    def count(event):
        return event.get("tokens_predicted") if event.get("stop") else None
