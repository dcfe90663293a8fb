"""What the tests of MCP share."""

import socket
import sys
from pathlib import Path

from harness.process import until

SERVERS = Path(__file__).parent / "servers"


def misfit(*flags: str, **fields) -> dict:
    """An entry of the configuration for the server that misbehaves."""
    return {"command": sys.executable, "args": [str(SERVERS / "misfit.py"), *flags]} | fields


def state(server, name: str) -> dict:
    servers = server.http.get("/v1/mcp/servers").raise_for_status().json()["servers"]
    return next(entry for entry in servers if entry["name"] == name)


def until_connected(server, name: str, seconds: float = 60.0) -> dict:
    return until(lambda: (s := state(server, name))["state"] == "connected" and s, f"{name} is connected", seconds)


def execute(server, tool: str, arguments: dict | None = None):
    return server.http.post("/v1/mcp/execute", json={"tool_name": tool, "arguments": arguments or {}})


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
