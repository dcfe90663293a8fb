"""An asynchronous streaming client that notes when each chunk arrived."""

import json
import time
from dataclasses import dataclass, field

import aiohttp


@dataclass
class Stream:
    """What one request did. Times are `time.perf_counter` seconds."""

    started: float
    arrivals: list[float] = field(default_factory=list)
    text: str = ""
    reasoning: str = ""
    # Name and arguments of each call, by its index.
    calls: dict[int, list[str]] = field(default_factory=dict)
    token_ids: list[int] = field(default_factory=list)
    finish_reason: str | None = None
    usage: dict | None = None
    left: bool = False
    error: str | None = None

    @property
    def tokens(self) -> int:
        """Generated tokens: as the server counts them, else one per chunk with text."""
        return (self.usage or {}).get("completion_tokens") or len(self.arrivals)

    @property
    def written(self) -> str:
        """The answer as a model of Qwen3's format writes it. The text itself if the server parses nothing."""
        calls = [
            f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'
            for _, (name, arguments) in sorted(self.calls.items())
        ]
        parts = [f"<think>\n{self.reasoning}\n</think>\n"] if self.reasoning else []
        return "\n".join(parts + ([self.text] if self.text else []) + calls)

    @property
    def ttft(self) -> float:
        """Seconds from sending to the first chunk with text."""
        return self.arrivals[0] - self.started

    @property
    def gaps(self) -> list[float]:
        """Inter-token latencies: seconds between chunks with text."""
        return [later - earlier for earlier, later in zip(self.arrivals, self.arrivals[1:])]


def new_session() -> aiohttp.ClientSession:
    """No limit on connections and none on time: the server under test sets the pace."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=None), read_bufsize=2**20
    )


async def send(session, url: str, body: dict, *, leave_after: int | None = None, headers=None) -> Stream:
    """Streams one completion or chat completion. With `leave_after` it hangs up after so many chunks with text
    (0: as soon as the answer's headers are there). Whatever goes wrong is in `error`."""
    stream = Stream(time.perf_counter())
    try:
        async with session.post(url, json=body | {"stream": True}, headers=headers) as response:
            if response.status != 200:
                stream.error = f"status {response.status}: {(await response.text())[:500]}"
            else:
                await _read(response, stream, leave_after)
                if stream.left:
                    # Without this the connection would be kept and read to the end.
                    response.close()
    except aiohttp.ClientError as failure:
        stream.error = f"{type(failure).__name__}: {failure}"
    return stream


async def _read(response, stream: Stream, leave_after: int | None) -> None:
    while leave_after is None or len(stream.arrivals) < leave_after:
        line = await response.content.readline()
        if not line:
            stream.error = stream.error or "the stream ended without [DONE]"
            return
        if not line.startswith(b"data: "):
            continue
        data = line[6:].strip()
        if data == b"[DONE]":
            return
        _take(json.loads(data), stream)
    stream.left = True


def _take(chunk: dict, stream: Stream) -> None:
    if "error" in chunk:
        stream.error = f"error event: {chunk['error']}"
    stream.usage = chunk.get("usage") or stream.usage
    for choice in chunk.get("choices", []):
        delta = choice.get("delta", {})
        text = delta.get("content") if "delta" in choice else choice.get("text")
        reasoning = delta.get("reasoning_content")
        calls = delta.get("tool_calls") or []
        if text or reasoning or calls:
            stream.arrivals.append(time.perf_counter())
        stream.text += text or ""
        stream.reasoning += reasoning or ""
        for call in calls:
            entry = stream.calls.setdefault(call["index"], ["", ""])
            entry[0] += call["function"].get("name") or ""
            entry[1] += call["function"].get("arguments") or ""
        stream.token_ids += choice.get("token_ids") or []
        stream.finish_reason = choice.get("finish_reason") or stream.finish_reason
