"""The JavaScript clients, for the shared server."""

import pytest

import node_clients
from harness.server import MODEL


@pytest.fixture(scope="session")
def script(server):
    """script(name, **input): one of the scripts beside this file, with more input for all its cases."""
    folder = node_clients.installed()
    known = {"url": server.url, "key": "none", "model": MODEL}
    return lambda name, **input: node_clients.Script(folder, name, **known | input)
