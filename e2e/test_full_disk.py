"""A disk that is full costs no answer, and what was written can be read."""

import subprocess
from pathlib import Path

import openai
import pytest

from harness.batches import CHAT, body, line, upload
from harness.questions import FRANCE
from harness.server import MODEL, Server

BYTES = 8_000_000


def with_file_limit(server: Server, folder: Path) -> Server:
    """No file can grow beyond some bytes: growing fails, as on a disk that is full then."""
    server.command[:0] = ["env", "--ignore-signal=XFSZ", "prlimit", f"--fsize={BYTES}"]
    return server


def on_small_disk(server: Server, folder: Path) -> Server:
    """The folder is a small disk that only this server sees: files can be made longer without having the room."""
    mounted = f"mount -t tmpfs -o size={BYTES} none {folder} && "
    unshared = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    tried = subprocess.run([*unshared, mounted + "true"], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"no disk can be mounted here: {tried.stderr.strip()}")
    server.command[:0] = [*unshared, mounted + 'exec "$0" "$@"']
    return server


@pytest.fixture(params=[with_file_limit, on_small_disk])
def disk(request):
    return request.param


def answers(server: Server) -> None:
    answer = server.http.post(CHAT, json=body(FRANCE)).json()
    assert answer["choices"][0]["message"]["content"] == FRANCE["expected"].strip()


def fill(client) -> None:
    """Uploads until there is no room."""
    with pytest.raises(openai.InternalServerError, match="file store") as refusal:
        for _ in range(40):
            upload(client, [line("a", body(FRANCE, user="x" * 1_000_000))])
    assert refusal.value.status_code == 503


def test_files_are_refused_and_nothing_else(disk, tmp_path):
    with disk(Server("--file-store", str(tmp_path / "files.redb")), tmp_path) as server:
        client = server.client()
        kept = upload(client, [line("a", body(FRANCE))])
        fill(client)
        answers(server)
        assert "a" in client.files.content(kept.id).text, "what was there can still be read"
        fill(client)
        for file in client.files.list():
            client.files.delete(file.id)
        upload(client, [line("a", body(FRANCE))])


def test_a_server_that_starts_on_a_full_disk_reads(tmp_path):
    flags = ("--file-store", str(tmp_path / "files.redb"), "--response-store", str(tmp_path / "responses.redb"))
    with with_file_limit(Server(*flags), tmp_path) as server:
        client = server.client()
        kept = upload(client, [line("a", body(FRANCE))])
        answer = client.responses.create(model=MODEL, input="Hello!", max_output_tokens=1)
        fill(client)
    with with_file_limit(Server(*flags), tmp_path) as server:
        client = server.client()
        assert "a" in client.files.content(kept.id).text
        assert client.responses.retrieve(answer.id).output_text == answer.output_text
        fill(client)
        answers(server)


def test_responses_are_not_kept_but_given(disk, tmp_path):
    with disk(Server("--response-store", str(tmp_path / "responses.redb")), tmp_path) as server:
        client = server.client()
        request = {"model": MODEL, "input": "Hello!", "max_output_tokens": 1}
        failures = lambda: server.metrics().value("millrace:response_store_failures_total")
        metadata = {str(number): "x" * 512 for number in range(16)}
        first = client.responses.create(**request)
        for _ in range(1500):
            client.responses.create(**request, metadata=metadata)
            if failures():
                break
        assert failures(), "the disk was never full"
        answers(server)
        assert client.responses.retrieve(first.id).output_text == first.output_text
        client.responses.create(**request)
