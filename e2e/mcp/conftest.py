"""Millrace in front of servers of tools."""

import json

import pytest

from mcp_support import until_connected


@pytest.fixture
def tools(launch, tmp_path):
    """tools({NAME: ENTRY}, *flags) starts Millrace with these servers and waits until they are up."""

    def start(servers: dict, *flags: str, wait: bool = True, env: dict | None = None):
        path = tmp_path / "mcp.json"
        path.write_text(json.dumps({"mcpServers": servers}))
        server = launch("--mcp-config", str(path), "--log-level", "info", *flags, env=env)
        for name in servers if wait else []:
            until_connected(server, name)
        return server

    return start
