"""The official client of Ollama's API, for the shared server."""

import pytest

from ollama_asking import ollama_of


@pytest.fixture(scope="session")
def llama(server):
    return ollama_of(server)
