"""Files in requests: PDFs and text, inline and by their ids, in every API; what can't be read is refused with the reason."""

import base64
import io
import zlib

import anthropic
import openai
import pypdf
import pytest
from reportlab.lib.pagesizes import A4
from reportlab.pdfgen import canvas

from harness.ask import PLAIN
from harness.server import MODEL

LINES = ["The code word is blue heron.", "Nobody else knows it."]
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def pdf(lines=LINES, pages=1) -> bytes:
    file = io.BytesIO()
    page = canvas.Canvas(file, pagesize=A4, invariant=True)
    for _ in range(pages):
        for index, line in enumerate(lines):
            page.drawString(72, 700 - 16 * index, line)
        page.showPage()
    page.save()
    return file.getvalue()


def encrypted() -> bytes:
    writer, file = pypdf.PdfWriter(io.BytesIO(pdf())), io.BytesIO()
    writer.encrypt("secret", algorithm="RC4-128")
    writer.write(file)
    return file.getvalue()


def bomb() -> bytes:
    content = zlib.compress(b"BT /F1 9 Tf (a) Tj ET " * (4 << 20), 9)
    return (b"%%PDF-1.4\n1 0 obj << /Type /Catalog /Pages 2 0 R >> endobj 2 0 obj << /Kids [3 0 R] >> endobj\n"
            b"3 0 obj << /Type /Page /Contents 4 0 R >> endobj\n"
            b"4 0 obj << /Filter /FlateDecode /Length %d >> stream\n%s\nendstream endobj\n" % (len(content), content))


def data(content: bytes, kind="application/pdf") -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def shown(server, part: dict) -> str:
    """The prompt that the model gets for a message with this part."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": [part, {"type": "text", "text": "What is it?"}]}]}
    rendered = server.http.post("/v1/chat/completions/render", json=body | PLAIN)
    assert rendered.status_code == 200, rendered.text
    return server.http.post("/detokenize", json={"model": MODEL, "tokens": rendered.json()["token_ids"]}).json()["prompt"]


def chat_part(content: bytes) -> dict:
    return {"type": "file", "file": {"file_data": data(content), "filename": "a.pdf"}}


def document(content: bytes) -> dict:
    source = {"type": "base64", "media_type": "application/pdf", "data": base64.b64encode(content).decode()}
    return {"type": "document", "title": "a.pdf", "source": source}


FRAMED = "<document>\nTitle: a.pdf\n" + "\n".join(LINES) + "\n</document>"


@pytest.fixture
def claude(server):
    return anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0)


def test_the_text_of_a_pdf_is_what_the_model_reads(server):
    assert FRAMED + "\nWhat is it?" in shown(server, chat_part(pdf()))


def test_pages_stand_apart(server):
    text = "\n".join(LINES)
    assert f"{text}\n\n{text}\n</document>" in shown(server, chat_part(pdf(pages=2)))


def test_text_files_are_read_too(server):
    file = {"file_data": data("Grüße, Welt".encode(), "text/markdown"), "filename": "a.md"}
    assert "Title: a.md\nGrüße, Welt\n" in shown(server, {"type": "file", "file": file})


def test_uploaded_files_are_named_by_their_ids(server, client):
    file = client.files.create(file=("a.pdf", pdf()), purpose="user_data")
    assert (file.purpose, file.bytes) == ("user_data", len(pdf()))
    assert FRAMED in shown(server, {"type": "file", "file": {"file_id": file.id}})
    assert client.files.content(file.id).content == pdf()
    client.files.delete(file.id)
    with pytest.raises(openai.BadRequestError, match="There is no file"):
        ask_chat(client, {"type": "file", "file": {"file_id": file.id}})


def ask_chat(client, part):
    messages = [{"role": "user", "content": [part]}]
    return client.chat.completions.create(model=MODEL, messages=messages, max_tokens=8)


def test_every_api_counts_the_same_text(client, claude):
    part = {"type": "input_file", "filename": "a.pdf", "file_data": data(pdf())}
    with_file, with_text = (
        client.responses.create(model=MODEL, max_output_tokens=8, store=False,
                                input=[{"role": "user", "content": [each]}]).usage.input_tokens
        for each in (part, {"type": "input_text", "text": FRAMED}))
    assert with_file == with_text > 20
    counts = [claude.messages.count_tokens(model=MODEL, messages=[{"role": "user", "content": [each]}]).input_tokens
              for each in (document(pdf()), {"type": "text", "text": FRAMED})]
    assert counts[0] == counts[1] > 20
    asked = [{"role": "user", "content": [document(pdf())]}]
    usage = claude.messages.create(model=MODEL, max_tokens=8, messages=asked).usage
    assert usage.input_tokens + usage.cache_read_input_tokens == counts[0]


@pytest.mark.parametrize("content, reason", [
    (encrypted(), "encrypted"),
    (pdf(lines=[]), "has no text"),
    (b"%PDF-1.7 and nothing more", "damaged"),
    (bomb(), "unpacks to far more"),
    (b"\x00\x01\x02", "not a PDF file"),
], ids=["encrypted", "scanned", "broken", "bomb", "binary"])
def test_what_cannot_be_read_is_refused_with_the_reason(server, client, claude, content, reason):
    with pytest.raises(openai.BadRequestError, match=reason):
        ask_chat(client, chat_part(content))
    with pytest.raises(openai.BadRequestError, match=reason):
        part = {"type": "input_file", "file_data": data(content)}
        client.responses.create(model=MODEL, input=[{"role": "user", "content": [part]}])
    with pytest.raises(anthropic.BadRequestError, match=reason):
        claude.messages.create(model=MODEL, max_tokens=8, messages=[{"role": "user", "content": [document(content)]}])
    assert server.http.get("/health").status_code == 200


def test_urls_are_not_followed(client, claude):
    url = "http://127.0.0.1/a.pdf"
    with pytest.raises(openai.BadRequestError, match="fetches no files"):
        client.responses.create(model=MODEL, input=[{"role": "user", "content": [{"type": "input_file", "file_url": url}]}])
    with pytest.raises(anthropic.BadRequestError, match="fetches no files"):
        part = {"type": "document", "source": {"type": "url", "url": url}}
        claude.messages.create(model=MODEL, max_tokens=8, messages=[{"role": "user", "content": [part]}])


IMAGE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
ANTHROPIC_IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}


@pytest.mark.parametrize("path, body", [
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": [IMAGE]}]}),
    ("/tokenize", {"messages": [{"role": "user", "content": [IMAGE]}]}),
    ("/v1/responses", {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": IMAGE["image_url"]["url"]}]}]}),
    ("/v1/messages", {"max_tokens": 8, "messages": [{"role": "user", "content": [ANTHROPIC_IMAGE]}]}),
    ("/v1/messages/count_tokens", {"messages": [{"role": "user", "content": [ANTHROPIC_IMAGE]}]}),
    ("/api/chat", {"messages": [{"role": "user", "content": "x", "images": [PIXEL]}]}),
    ("/api/generate", {"prompt": "x", "images": [PIXEL]}),
])
def test_images_are_refused_in_the_shape_of_each_api(server, path, body):
    reply = server.http.post(path, json={"model": MODEL} | body)
    assert reply.status_code == 400, reply.text
    error = reply.json()["error"]
    if path.startswith("/api/"):
        assert "images" in error and "text only" in error
    elif "messages" in path:
        assert reply.json()["type"] == "error" and error["type"] == "invalid_request_error"
        assert "no images" in error["message"]
    else:
        assert error["code"] == 400 and "image" in error["message"]
