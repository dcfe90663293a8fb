"""Stores whose disk is full in earnest (a small tmpfs, where room can be promised and then not be there), and whose files
were damaged: a clear message, and never a crash."""

import random
import shutil
import subprocess

import openai
import pytest

from harness.ask import FRANCE as QUESTION, PARIS, ask, chat_body
from harness.batches import CHAT, ended, line, order, results, upload
from harness.process import until
from harness.server import MODEL, Server

MOUNT = 'mount -t tmpfs -o size=4m tmpfs "$0" && exec "$@"'


def in_a_small_disk(folder) -> list[str]:
    """The beginning of a command for which `folder` is a disk of 4 MB. Nobody else sees it."""
    return ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", MOUNT, str(folder)]


def may_mount(tmp_path_factory) -> bool:
    command = in_a_small_disk(tmp_path_factory.mktemp("probe"))
    return bool(shutil.which("unshare")) and subprocess.run([*command, "true"], capture_output=True).returncode == 0


@pytest.fixture
def small_disk(tmp_path_factory, launch):
    """small_disk(flag) starts a server with a store in a small disk, by this flag."""
    if not may_mount(tmp_path_factory):
        pytest.skip("needs the right to mount in a namespace of its own")
    folder = tmp_path_factory.mktemp("disk")
    servers = []

    def start(flag: str) -> Server:
        server = Server(flag, str(folder / "store.redb"))
        server.command[:0] = in_a_small_disk(folder)
        servers.append(server.__enter__())
        return server

    yield start
    for server in servers:
        server.__exit__(None)


def big(name: str) -> str:
    return line(name, chat_body(user="x" * 200_000))


def fill(client) -> openai.APIStatusError:
    """Uploads until there is no room."""
    with pytest.raises(openai.APIStatusError) as refusal:
        for number in range(100):
            upload(client, [big(str(number))])
    return refusal.value


def test_a_full_disk_refuses_files(small_disk):
    server = small_disk("--file-store")
    client = server.client()
    kept = upload(client, [line("a", chat_body())])
    refused = fill(client)
    assert refused.status_code == 503 and "file store" in refused.message
    assert ask(client).choices[0].message.content == PARIS
    assert "a" in client.files.content(kept.id).text, "what was there can still be read"
    for file in list(client.files.list()):
        if file.id != kept.id:
            client.files.delete(file.id)
    batch = ended(client, order(client, kept))
    assert batch.status == "completed", "room that is made is used"


def test_a_full_disk_ends_a_batch_with_a_reason(small_disk):
    server = small_disk("--file-store")
    client = server.client()
    fields = {"logprobs": True, "top_logprobs": 20, "max_tokens": 300, "ignore_eos": True}
    batch = order(client, upload(client, [line(str(number), chat_body(**fields)) for number in range(30)]))
    fill(client)
    done = ended(client, batch)
    assert done.status == "failed" and done.errors.data[0].message, done
    assert ask(client).choices[0].message.content == PARIS
    server.wait_idle()


def test_a_full_disk_costs_no_answer(small_disk):
    server = small_disk("--response-store")
    client = server.client()
    failures = lambda: server.metrics().value("millrace:response_store_failures_total")
    metadata = {str(number): "x" * 512 for number in range(16)}
    request = {"model": MODEL, "input": QUESTION, "max_output_tokens": 1}
    for _ in range(800):
        response = client.responses.create(**request, metadata=metadata)
        if failures():
            break
    assert failures(), "the disk was never full"
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(response.id)
    assert ask(client, store=True).choices[0].message.content == PARIS


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("flag", ["--file-store", "--response-store"])
def test_a_file_with_holes_is_no_end(launch, tmp_path, flag, seed):
    """After a power cut, pages of a file may hold anything. What is damaged is lost, with a word about it at most."""
    path = tmp_path / "store.redb"
    first = launch(flag, str(path))
    client = first.client()
    files = [upload(client, [line(str(number), chat_body(user="x" * 3000))]) for number in range(20)]
    answers = [client.responses.create(model=MODEL, input=QUESTION, max_output_tokens=1) for _ in range(20)]
    first.kill()
    chance = random.Random(seed)
    content = bytearray(path.read_bytes())
    for _ in range(6):
        at = chance.randrange(0 if seed == 0 else 4096, len(content) - 512)
        content[at : at + 512] = chance.randbytes(512)
    path.write_bytes(content)
    second = launch(flag, str(path))
    client = second.client()
    for look in [*(lambda file=file: client.files.content(file.id) for file in files),
                 *(lambda answer=answer: client.responses.retrieve(answer.id) for answer in answers)]:
        try:
            look()
        except openai.APIStatusError as error:
            assert error.status_code in (404, 503) and error.message
    assert ask(client, store=True).choices[0].message.content == PARIS
    try:
        new = upload(client, [line("new", chat_body())])
        assert "new" in client.files.content(new.id).text
    except openai.APIStatusError as error:
        assert error.status_code == 503 and "file store" in error.message


def test_a_damaged_file_store_is_put_aside(launch, tmp_path):
    path = tmp_path / "files.redb"
    path.write_bytes(b"this is no database " * 1000)
    server = launch("--file-store", str(path))
    client = server.client()
    assert upload(client, [line("a", chat_body())]).id
    assert (tmp_path / "files.redb.damaged").is_file()
    assert "files.redb" in server.log() and "damaged" in server.log()


def test_a_store_that_can_not_be_used_ends_the_start(tmp_path):
    for flag in ("--file-store", "--response-store"):
        with pytest.raises(AssertionError, match=flag):
            Server(flag, str(tmp_path / "missing" / "store.redb")).__enter__()
