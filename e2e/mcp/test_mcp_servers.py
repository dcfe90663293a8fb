"""Servers of tools over HTTP: listed, called, kept up, and kept from doing harm."""

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.process import until
from mcp_support import SERVERS, execute, free_port, listens, misfit, state, until_connected

SECRET = "s3cr3t-value-0123456789"


def test_without_a_configuration(server):
    for path in ("servers", "tools"):
        assert server.http.get(f"/v1/mcp/{path}").status_code == 503
    assert execute(server, "a__b").status_code == 503


def test_tools_are_listed_and_called(tools):
    server = tools({"one": misfit(allowedTools=["echo", "fail"]), "two": misfit(disabled=True)}, wait=False)
    until_connected(server, "one")
    assert state(server, "one") == {
        "name": "one", "state": "connected", "transport": "stdio", "tools_count": 2, "restarts": 0, "error": None,
    }
    assert state(server, "two")["state"] == "disabled"
    listed = server.http.get("/v1/mcp/tools").json()
    assert listed["count"] == 2
    assert listed["tools"][0] == {
        "name": "one__echo", "description": "Gives back its arguments.", "server": "one",
        "parameters": {"type": "object", "properties": {}},
    }
    answer = execute(server, "one__echo", {"a": ["é", 1.5]}).json()
    assert answer == {
        "tool_name": "one__echo", "content": '{"a": ["\\u00e9", 1.5]}', "is_error": False, "error_message": None,
    }
    failed = execute(server, "one__fail").json()
    assert (failed["is_error"], failed["error_message"]) == (True, "it did not work")
    for name, status in (("one__hang", 404), ("echo", 404), ("", 404)):
        assert execute(server, name).status_code == status
    assert server.http.post("/v1/mcp/execute", json={"tool_name": "one__echo", "arguments": [1]}).status_code == 400
    assert server.http.post("/v1/mcp/execute", json={}).status_code == 400


def test_keys_hold_here_too(tools):
    server = tools({"one": misfit()}, "--api-key", "key", wait=False)
    assert server.http.get("/v1/mcp/tools").status_code == 401
    assert execute(server, "one__echo").status_code == 401
    assert server.http.get("/v1/mcp/servers", headers={"authorization": "Bearer key"}).status_code == 200


def test_secrets_stay_secret(tools):
    entry = misfit(env={"SECRET_TOKEN": "${MY_SECRET}", "MODE": "plain"})
    server = tools({"one": entry}, env={"MY_SECRET": SECRET, "OTHER_SECRET": "not-inherited-9876"})
    environment = execute(server, "one__environment").json()["content"]
    assert "SECRET_TOKEN=[secret]" in environment and "MODE=plain" in environment and "PATH=" in environment
    assert "OTHER_SECRET" not in environment
    assert SECRET not in server.http.get("/v1/mcp/servers").text + server.http.get("/v1/mcp/tools").text
    execute(server, "one__grumble")
    until(lambda: "grumble 0 [secret]" in server.stderr(), "standard error is in the log")
    server.stop()
    log = server.stderr()
    assert SECRET not in log
    assert log.count("grumble") < 100 and "lines are not shown" in log


def test_a_hanging_call_hurts_nobody_else(tools):
    server = tools({"one": misfit(timeout=2), "two": misfit()})
    with ThreadPoolExecutor() as pool:
        hanging = [pool.submit(execute, server, "one__hang") for _ in range(4)]
        assert execute(server, "two__echo", {"a": 1}).json()["content"] == '{"a": 1}'
        assert [call.result().status_code for call in hanging] == [408] * 4
    assert execute(server, "one__echo").json()["content"] == "{}"
    assert state(server, "one")["restarts"] == 0


def test_a_frozen_server_is_started_anew(tools):
    server = tools({"one": misfit(timeout=1)})
    assert execute(server, "one__freeze").status_code == 408
    until(lambda: state(server, "one")["restarts"] == 1, "it is started anew")
    until_connected(server, "one")
    assert execute(server, "one__echo").status_code == 200


def test_a_server_that_dies_mid_call(tools):
    server = tools({"one": misfit(), "two": misfit()})
    died = execute(server, "one__die")
    assert died.status_code == 503 and "ended before it answered" in died.json()["error"]["message"]
    assert execute(server, "two__echo").status_code == 200
    until(lambda: (s := state(server, "one"))["state"] == "connected" and s["restarts"] == 1, "it is back")
    assert execute(server, "one__echo").status_code == 200


def test_a_server_that_dies_at_first(tools, tmp_path):
    server = tools({"one": misfit("--once", str(tmp_path / "attempts"))})
    assert state(server, "one")["restarts"] == 1
    assert "next attempt in 1s" in server.stderr()


def test_floods_are_held_back(tools):
    server = tools({"one": misfit(timeout=3), "two": misfit()})
    before = server.rss_bytes()
    with ThreadPoolExecutor() as pool:
        flood = pool.submit(execute, server, "one__flood")
        for number in range(50):
            assert execute(server, "two__echo", {"n": number}).status_code == 200
        assert flood.result().status_code in (408, 503)
    assert execute(server, "two__long_line").status_code == 503
    until(lambda: state(server, "two")["restarts"] == 1, "its line was too long")
    assert "too long" in server.stderr()
    assert server.rss_bytes() - before < 200 << 20


def test_huge_results_are_cut(tools):
    server = tools({"one": misfit()})
    content = execute(server, "one__huge").json()["content"]
    assert len(content) < 70_000 and content.endswith("more bytes were cut off]")


def test_changes_of_the_list_are_followed(tools):
    server = tools({"one": misfit()})
    execute(server, "one__grow")
    until(lambda: "one__grown" in server.http.get("/v1/mcp/tools").text, "the new tool is listed")


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_nothing_is_left_behind(tools, end):
    server = tools({"one": misfit()})
    grandchild = int(execute(server, "one__spawn").json()["content"])
    parent = int(open(f"/proc/{grandchild}/stat").read().split()[3])
    if end == "stop":
        server.stop()
        assert gone(grandchild)
    else:
        # Nothing can be done about our own kill -9, except that a server sees its input end.
        server.kill()
        os.kill(grandchild, 9)
    until(lambda: gone(parent), "the server of tools is gone")


def gone(pid: int) -> bool:
    try:
        return open(f"/proc/{pid}/stat").read().split()[2] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_wrong_configurations_are_refused_at_the_start(tmp_path):
    from harness.process import binary

    path = tmp_path / "mcp.json"
    for config, words in (
        ({"servers": {}}, "mcpServers"),
        ({"mcpServers": {"x": {"command": "bash"}}}, "--mcp-allow-command bash"),
        ({"mcpServers": {"x": {"command": "npx", "env": {"KEY": "${NOT_SET_ANYWHERE}"}}}}, "NOT_SET_ANYWHERE"),
        ({"mcpServers": {"x": {"url": "http://127.0.0.1:1/mcp"}}}, "allowPrivate"),
    ):
        path.write_text(json.dumps(config))
        run = subprocess.run([binary(), "serve", "--port", "0", "--mcp-config", path], capture_output=True, text=True)
        assert run.returncode != 0 and words in run.stderr, run.stderr


@pytest.mark.parametrize("kind", ["http", "sse"])
def test_servers_behind_urls(tools, kind):
    port = free_port()
    path = {"http": "mcp", "sse": "sse"}[kind]
    url, key = f"http://127.0.0.1:{port}/{path}", "remote-key-1234567890"
    script = [sys.executable, SERVERS / "remote.py", {"http": "streamable-http", "sse": "sse"}[kind], str(port)]
    with subprocess.Popen(script) as remote:
        try:
            until(lambda: listens(port), "the remote server listens")
            right = {"url": url, "type": kind, "allowPrivate": True, "headers": {"Authorization": "Bearer ${KEY}"}}
            wrong = {"url": f"{url}?token={SECRET}", "type": kind, "allowPrivate": True}
            server = tools({"right": right, "wrong": wrong}, wait=False, env={"KEY": key})
            assert until_connected(server, "right")["transport"] == kind
            assert execute(server, "right__add", {"a": 2, "b": 40}).json()["content"] == "42"
            refused = execute(server, "right__add", {"a": "x"}).json()
            assert refused.get("is_error") or refused["error"]
            until(lambda: state(server, "wrong")["state"] == "error", "the one without a key fails")
        finally:
            remote.kill()
    said = server.http.get("/v1/mcp/servers").text
    server.stop()
    assert not any(secret in said + server.stderr() for secret in (key, SECRET))


@pytest.mark.skipif(not shutil.which("npx"), reason="needs npx")
def test_servers_from_the_registries(tools, tmp_path):
    """Real ones: two from npm, started with `npx`, and one from PyPI."""
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "note.txt").write_text("Paris is sunny.")
    npm = lambda package, *args: {"command": "npx", "args": ["-y", f"@modelcontextprotocol/{package}@2026.8.31", *args]}
    server = tools(
        {
            "time": {"command": sys.executable, "args": ["-m", "mcp_server_time", "--local-timezone", "UTC"]},
            "files": npm("server-filesystem", str(tmp_path / "files")),
            "everything": npm("server-everything"),
        },
        wait=False,
    )
    for name in ("time", "files", "everything"):
        until_connected(server, name, 150)
    converted = execute(
        server, "time__convert_time",
        {"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"},
    ).json()
    assert "21:00" in converted["content"], converted
    note = execute(server, "files__read_text_file", {"path": str(tmp_path / "files" / "note.txt")}).json()
    assert "Paris is sunny." in note["content"], note
    outside = execute(server, "files__read_text_file", {"path": "/etc/passwd"}).json()
    assert outside["is_error"], outside
    assert "hello" in execute(server, "everything__echo", {"message": "hello"}).json()["content"]
