"""Fixtures: one server with default flags for most tests, and a way to start others."""

from contextlib import ExitStack

import pytest

from harness.process import binary
from harness.server import Server


def pytest_sessionstart(session):
    if not session.config.option.collectonly and not binary().is_file():
        pytest.exit(f"{binary()} does not exist: run `cargo build --release` or set MILLRACE_BIN", returncode=2)


@pytest.fixture(scope="session")
def server():
    """The embedded demo model with default flags. After all tests it must be idle and stop cleanly."""
    with Server() as running:
        yield running
        running.wait_idle()


@pytest.fixture(scope="session")
def client(server):
    with server.client() as client:
        yield client


@pytest.fixture
def launch():
    """launch(*flags, model=…) starts a server of the test's own."""
    with ExitStack() as stack:
        yield lambda *flags, **options: stack.enter_context(Server(*flags, **options))
