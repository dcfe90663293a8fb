"""A light streaming client: the clock is read when bytes come, and they are understood after the last one."""
import asyncio
import json
import time


class Stream:
    """One answer: when it was asked for, and when each event of it came."""

    def __init__(self, start):
        self.start, self.events = start, []

    def parsed(self):
        """[(seconds since the start, JSON of the event)] without the end mark."""
        for when, data in self.events:
            if data != b"[DONE]":
                yield when - self.start, json.loads(data)


async def stream(port, path, body):
    """POSTs `body` and follows the server-sent events of the answer."""
    result = Stream(time.perf_counter())
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    try:
        writer.write(_request("POST", path, json.dumps(body).encode()))
        status, chunked = await _head(reader)
        buffer = b""
        async for part in _body(reader, chunked):
            now, buffer = time.perf_counter(), buffer + part
            *lines, buffer = buffer.split(b"\n")
            result.events += [(now, line[6:].strip()) for line in lines if line.startswith(b"data: ")]
        if status != 200 or not result.events:
            raise SystemExit(f"POST {path} gave {status}: {buffer[:500]!r}")
    finally:
        writer.close()
    return result


async def post(port, path, body):
    """POSTs `body` and waits for the end of the answer, whatever it says."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(_request("POST", path, json.dumps(body).encode()))
        status, _ = await _head(reader)
        await reader.read()
    finally:
        writer.close()
    if status != 200:
        raise SystemExit(f"POST {path} gave {status}")


async def healthy(port):
    """Whether `/health` says 200; a server that isn't there yet says nothing."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(_request("GET", "/health", b""))
            return (await _head(reader))[0] == 200
        finally:
            writer.close()
    except (OSError, asyncio.IncompleteReadError, ValueError, IndexError):
        return False


def _request(method, path, body):
    return (f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n").encode() + body


async def _head(reader):
    """The status, and whether the body comes in chunks."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    return int(head.split()[1]), "transfer-encoding: chunked" in head


async def _body(reader, chunked):
    while chunked:
        size = int((await reader.readline()).split(b";")[0], 16)
        part = await reader.readexactly(size + 2)
        if size == 0:
            return
        yield part[:-2]
    while part := await reader.read(1 << 16):
        yield part
