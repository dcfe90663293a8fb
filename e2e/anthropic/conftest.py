"""The official client of Anthropic's API, for the shared server."""

import pytest

from asking import claude_of


@pytest.fixture(scope="session")
def claude(server):
    with claude_of(server) as client:
        yield client
