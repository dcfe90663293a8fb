"""The tool runner of Anthropic's Python package."""

import pytest
from anthropic import Anthropic, beta_tool

from harness.server import MODEL
from known import ROUNDS, asked, parts, results

QUESTION = ROUNDS[0]


@pytest.mark.parametrize("fields", [{"thread": False}, {}], ids=["whole", "threads"])
def test_the_tool_runner(server, fields):
    """As it is, it first asks for a conversation that the server keeps."""
    calls = []

    @beta_tool
    def quote(stock: str) -> str:
        """Get the price of a stock.

        Args:
            stock: Stock symbol
        """
        calls.append(stock)
        return results(QUESTION)[0]

    with Anthropic(base_url=server.url, api_key="none", max_retries=0) as client:
        runner = client.beta.messages.tool_runner(
            model=MODEL, max_tokens=200, messages=asked(QUESTION), tools=[quote], **fields
        )
        answer = runner.until_done()
    assert calls == ["IXRG"]
    assert answer.content[0].text == parts(QUESTION)["text"]
