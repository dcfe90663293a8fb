"""TLS, Unix sockets, connections that dawdle, origins, time limits, and what the log says."""

import os
import shutil
import socket
import ssl
import stat
import subprocess
import time

import httpx2
import openai
import pytest

from harness.ask import PARIS, ask, chat_body, endless_body
from harness.process import Process, until
from harness.server import MODEL, Server


def make_cert(folder, name: str, days: int = 1):
    """A certificate that signs itself, and its key."""
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", str(key),
         "-out", str(cert), "-days", str(days), "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )
    return cert, key


def certificate(url: str) -> bytes:
    """What the server presents to a new connection."""
    host, port = url.removeprefix("https://").split(":")
    return ssl.get_server_certificate((host, int(port))).encode()


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs the command openssl")
def test_tls_and_a_certificate_that_changes(tmp_path):
    cert, key = make_cert(tmp_path, "first")
    new_cert, new_key = make_cert(tmp_path, "second")
    process = Process("--ssl-certfile", str(cert), "--ssl-keyfile", str(key)).spawn()
    try:
        url = process.wait_for_address()
        assert url.startswith("https://")
        context = ssl.create_default_context(cafile=cert)
        with httpx2.Client(base_url=url, verify=context, timeout=60) as http:
            client = openai.OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0, http_client=http)
            assert ask(client).choices[0].message.content == PARIS
            with pytest.raises(httpx2.TransportError):
                httpx2.get(url.replace("https", "http"))
            # A stream that is open goes on while the certificate changes.
            with http.stream("POST", "/v1/completions", json=endless_body(1500, stream=True)) as stream:
                lines = stream.iter_lines()
                next(lines)
                shutil.copy(new_key, key)
                shutil.copy(new_cert, cert)
                until(lambda: certificate(url) == new_cert.read_bytes(), "the new certificate is shown", 40)
                assert "data: [DONE]" in list(lines)
        # Nonsense changes nothing.
        cert.write_text("nonsense")
        until(lambda: "old certificate stays" in process.stderr(), "the bad file is reported", 40)
        assert certificate(url) == new_cert.read_bytes()
        process.stop()
    finally:
        process.kill()


def test_a_unix_socket(tmp_path):
    path = tmp_path / "socket"
    process = Process("--uds", str(path)).spawn()
    try:
        assert process.wait_for_address() == f"unix:{path}"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with httpx2.Client(transport=httpx2.HTTPTransport(uds=str(path)), base_url="http://localhost", timeout=60) as http:
            client = openai.OpenAI(base_url="http://localhost/v1", api_key="x", max_retries=0, http_client=http)
            assert ask(client).choices[0].message.content == PARIS
            assert http.get("/v1/status").status_code == 200
        second = Process("--uds", str(path)).spawn()
        with pytest.raises(AssertionError, match="another server listens there"):
            second.wait_for_address()
        process.stop()
        assert not path.exists()
        # What a killed server leaves behind is in nobody's way.
        third = Process("--uds", str(path), "--uds-mode", "660").spawn()
        third.wait_for_address()
        third.kill()
        assert path.exists()
        fourth = Process("--uds", str(path)).spawn()
        fourth.wait_for_address()
        fourth.stop()
    finally:
        process.kill()


def test_many_slow_connections_stop_nobody(launch):
    server = launch("--header-timeout", "2", "--max-connections", "40")
    address = ("127.0.0.1", int(server.url.rsplit(":", 1)[1]))
    slow = [socket.create_connection(address) for _ in range(60)]
    try:
        for connection in slow:
            connection.sendall(b"POST /v1/completions HTTP/1.1\r\nhost: x\r\n")
        begun = time.monotonic()
        until(server.ready, "somebody gets through", 20)
        assert time.monotonic() - begun < 15
        # All of them are cut off, however long they would go on.
        for connection in slow:
            connection.settimeout(15)
            try:
                while connection.recv(4096):
                    pass
            except ConnectionResetError:
                pass
    finally:
        for connection in slow:
            connection.close()


def test_origins_with_credentials(launch):
    server = launch("--allowed-origins", "https://a.example", "--allow-credentials", "--allowed-methods", "GET,POST")
    answer = server.http.options("/v1/models", headers={"origin": "https://a.example", "access-control-request-method": "POST"})
    assert answer.headers["access-control-allow-origin"] == "https://a.example"
    assert answer.headers["access-control-allow-credentials"] == "true"
    assert "DELETE" not in answer.headers["access-control-allow-methods"]
    with pytest.raises(AssertionError, match="needs the origins by name"):
        Server("--allowed-origins", "*", "--allow-credentials").__enter__()


def test_time_limits_free_everything(launch):
    server = launch("--max-num-seqs", "1", "--max-queue-wait", "0.5")
    answer = server.http.post("/v1/completions", json=endless_body(7000), headers={"x-request-timeout": "0.3"})
    assert answer.status_code == 408
    server.wait_idle(5)
    with server.events("/v1/completions", endless_body(7000)) as events:
        next(events)
        late = server.http.post("/v1/completions", json=endless_body(5))
        assert late.status_code == 503 and int(late.headers["retry-after"]) >= 1
        assert "waited too long" in late.json()["error"]["message"]
    server.wait_idle(5)


def test_the_log_keeps_secrets_unless_told(launch):
    for flags, shown in ((), False), (("--log-prompts",), True):
        server = launch("--log-level", "info", "--log-format", "json", *flags)
        answer = server.http.post("/v1/chat/completions", json=chat_body("What is Grzegorz?", max_tokens=1), headers={"x-request-id": "my-name"})
        assert answer.headers["x-request-id"] == "my-name"
        until(lambda: '"request_id":"my-name"' in server.stderr(), "the exchange is logged")
        assert ("Grzegorz" in server.stderr()) is shown
        assert '"handler":"/v1/chat/completions"' in server.stderr()


def test_the_description_is_served(server):
    document = server.http.get("/openapi.json").json()
    assert {"/v1/chat/completions", "/v1/messages"} <= document["paths"].keys()
    page = server.http.get("/docs")
    assert page.headers["content-type"].startswith("text/html") and MODEL not in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]


def test_settings_that_do_not_fit_are_named(tmp_path):
    missing = tmp_path / "no.pem"
    with pytest.raises(AssertionError, match="no.pem cannot be used"):
        Server("--ssl-certfile", str(missing), "--ssl-keyfile", str(missing)).__enter__()
    with pytest.raises(AssertionError, match="--ssl-keyfile"):
        Server("--ssl-certfile", str(missing)).__enter__()
    plain = tmp_path / "plain"
    plain.write_text("precious")
    with pytest.raises(AssertionError, match="no socket"):
        Server("--uds", str(plain)).__enter__()
    assert plain.read_text() == "precious" and os.path.exists(plain)
