"""Makes the seeds: files in `seeds/TARGET/`, with which a fuzzer starts.

As a pytest plugin it writes what the end-to-end tests send, as far as it shows something new, from the root:

    PYTHONPATH=fuzz python -m pytest e2e -p seeds

As a program it writes the files that don't come by HTTP, and settings of models:

    python fuzz/seeds.py
"""

import json
import struct
import zlib
from hashlib import sha256
from pathlib import Path

HERE = Path(__file__).resolve().parent
SEEDS = HERE / "seeds"
# Bodies of one target, and bytes of one body.
MOST, LONGEST = 10, 3000

# Target, and the model that answers there.
ROUTES = {
    "/v1/chat/completions": ("chat", "chat"),
    "/v1/chat/completions/batch": ("chat", "chat"),
    "/v1/chat/completions/render": ("chat", "chat"),
    "/v1/completions": ("completions", "chat"),
    "/v1/completions/render": ("completions", "chat"),
    "/v1/responses": ("responses", "chat"),
    "/v1/responses/input_tokens": ("responses", "chat"),
    "/v1/messages": ("messages", "chat"),
    "/v1/messages/count_tokens": ("messages", "chat"),
    "/api/chat": ("ollama", "chat"),
    "/api/generate": ("ollama", "chat"),
    "/api/show": ("ollama", "chat"),
    "/api/pull": ("ollama", "chat"),
    "/api/embed": ("ollama", "embed"),
    "/api/embeddings": ("ollama", "embed"),
    "/v1/embeddings": ("embeddings", "embed"),
    "/v1/rerank": ("scores", "score"),
    "/v2/rerank": ("scores", "score"),
    "/score": ("scores", "score"),
    "/classify": ("classes", "score"),
    "/pooling": ("classes", "embed"),
    "/tokenize": ("tokens", "chat"),
    "/detokenize": ("tokens", "chat"),
    "/v1/batches": ("batches", None),
}


def write(target: str, content: bytes) -> None:
    """The name is the content's: writing it again changes nothing."""
    folder = SEEDS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / sha256(content).hexdigest()[:12]).write_bytes(content)


def features(value, path="") -> set[str]:
    """What a body shows: the places of its values, with their types."""
    found = {f"{path}:{type(value).__name__}"}
    if isinstance(value, dict):
        if kind := value.get("type"):
            path += f"<{kind}>"
        found |= {feature for name, each in value.items() for feature in features(each, f"{path}.{name}")}
    elif isinstance(value, list):
        found |= {feature for each in value for feature in features(each, f"{path}[]")}
    return found


class Recorder:
    """Keeps the bodies that show something new."""

    def __init__(self):
        self.bodies: dict[str, list[tuple[str, dict]]] = {}

    def take(self, path: str, content: bytes) -> None:
        if path not in ROUTES or len(content) > LONGEST:
            return
        target, model = ROUTES[path]
        try:
            body = json.loads(content)
        except ValueError:
            return
        if isinstance(body, dict):
            if model and "model" in body:
                body["model"] = model
            self.bodies.setdefault(target, []).append((path, body))

    def write(self) -> None:
        for target, bodies in self.bodies.items():
            seen, kept = set(), 0
            # What shows most comes first.
            for path, body in sorted(bodies, key=lambda each: -len(features(each[1]))):
                shown = {f"{path} {feature}" for feature in features(body)}
                if len(shown - seen) > 1 and kept < MOST:
                    seen |= shown
                    kept += 1
                    write(target, f"{path}\n{json.dumps(body, ensure_ascii=False)}".encode())


recorder = Recorder()


def pytest_configure(config):
    import httpx
    import httpx2

    for module in (httpx, httpx2):
        for client in (module.Client, module.AsyncClient):
            record(client)


def record(client) -> None:
    """Every request is built before it is sent, whoever does it."""
    build = client.build_request

    def build_and_record(self, *args, **kwargs):
        request = build(self, *args, **kwargs)
        try:
            recorder.take(request.url.path, request.content)
        except Exception:  # A body that is a stream has no content yet.
            pass
        return request

    client.build_request = build_and_record


def pytest_sessionfinish(session):
    recorder.write()


def requests() -> None:
    """What the tests send by other means, or not at all."""
    ask = [{"role": "user", "content": "What is the capital of France?"}]
    for path, body in (
        ("/v1/batches", {"input_file_id": "file-1", "endpoint": "/v1/responses", "completion_window": "24h",
                         "metadata": {"a": "b"}, "output_expires_after": {"anchor": "created_at", "seconds": 3600}}),
        ("/api/show", {"model": "chat:latest", "verbose": True}),
        ("/api/pull", {"model": "chat", "stream": False}),
        ("/api/embeddings", {"model": "embed", "prompt": "a", "keep_alive": "5m"}),
        ("/api/generate", {"model": "chat", "prompt": "a", "system": "s", "format": "json", "think": False,
                           "options": {"num_predict": 9, "stop": ["x"], "temperature": 0}}),
        ("/v1/completions", {"model": "chat", "prompt": ["a", [1, 2]], "n": 2, "best_of": 2, "logprobs": 2, "echo": True,
                             "prompt_logprobs": 1, "stream_options": {"include_usage": True}, "max_tokens": 8}),
        ("/v1/completions/render", {"model": "chat", "prompt": ["a", "b"]}),
        ("/v1/chat/completions/batch", {"model": "chat", "messages": [ask, ask], "max_tokens": 4}),
        ("/v1/chat/completions/render", {"model": "chat", "messages": ask}),
        ("/v1/responses/input_tokens", {"model": "chat", "input": "a"}),
        ("/v1/messages/count_tokens", {"model": "chat", "messages": ask}),
        ("/tokenize", {"model": "chat", "messages": ask, "add_generation_prompt": True, "return_token_strs": True}),
        ("/tokenize", {"model": "chat", "prompt": "a b", "add_special_tokens": False}),
        ("/detokenize", {"model": "chat", "tokens": [1, 2, 8185]}),
        ("/v1/embeddings", {"model": "embed", "input": [[1, 2], [3]], "encoding_format": "base64", "dimensions": 2,
                            "truncate_prompt_tokens": -1, "normalize": False, "priority": 1, "timeout": 3}),
        ("/v2/rerank", {"model": "score", "query": "q", "documents": ["a", {"text": "b"}], "top_n": 1,
                        "return_documents": True}),
        ("/v1/rerank", {"model": "embed", "query": "q", "documents": ["a"]}),
        ("/score", {"model": "score", "text_1": ["q", "r"], "text_2": ["a", "b"]}),
        ("/classify", {"model": "score", "input": ["a", "b"], "use_activation": False}),
        ("/pooling", {"model": "embed", "input": "a", "encoding_format": "float"}),
        ("/pooling", {"model": "score", "input": ["a"], "truncate_prompt_tokens": 3}),
    ):
        write(ROUTES[path][0], f"{path}\n{json.dumps(body)}".encode())
    call = '{"name": "f", "arguments": {"a": [1, {"b": "\\u00e9"}]}}'
    answer = f"<think>\nHm.\n</think>\n\nText, stop here.\n<tool_call>\n{call}\n</tool_call>\n<tool_call>\n{{\"name\": \"f\", \"arguments\": {{\"a\": 1"
    tool = {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {"a": {}}}}
    for path, body in (
        ("/v1/chat/completions", {"tools": [{"type": "function", "function": tool}], "messages": ask, "stop": ["stop"]}),
        ("/v1/responses", {"tools": [{"type": "function"} | tool], "input": "a", "store": False}),
        ("/v1/messages", {"tools": [{"name": "f", "input_schema": tool["parameters"]}], "messages": ask, "max_tokens": 90}),
        ("/api/chat", {"tools": [{"type": "function", "function": tool}], "messages": ask, "think": True}),
    ):
        content = f"{path}\n{json.dumps({'model': 'chat'} | body)}\x1e{answer}"
        write(ROUTES[path][0], content.encode())


def uploads() -> None:
    def form(content: str, name: str = "in.jsonl", purpose: str = "batch") -> bytes:
        text = f'--B\r\nContent-Disposition: form-data; name="purpose"\r\n\r\n{purpose}\r\n--B\r\n'
        text += f'Content-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n{content}\r\n--B--\r\n'
        return text.encode()

    line = {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "chat", "messages": []}}
    lines = json.dumps(line) + "\n\n" + json.dumps(line | {"custom_id": "2", "url": "/v1/other"}) + "\n"
    write("uploads", form(lines))
    write("uploads", form("a\r\n--Bx\r\n", "é\"; x=.pdf", "user_data"))
    write("uploads", b"preamble\r\n--B \r\nContent-Disposition: form-data; name=purpose\r\n\r\n\r\n--B--")
    write("batch_lines", lines.encode())
    write("batch_lines", b'{"custom_id": "", "body": []}\n{}\n[1]\nnonsense\n')


def formats() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer", "minimum": 3}, "b": {"$ref": "#/$defs/x"}},
              "required": ["a"], "additionalProperties": False, "$defs": {"x": {"type": "array", "items": {"enum": [1, "x"]}}}}
    for kind, content in (
        ("json", json.dumps(schema)),
        ("json", json.dumps({"anyOf": [{"const": {"k": 1}}, {"type": "string", "pattern": "^a+b$", "maxLength": 9}]})),
        ("json", json.dumps({"allOf": [{"type": "number"}, {"multipleOf": 0.5, "exclusiveMaximum": 7}], "not": {"const": 1}})),
        ("json", json.dumps({"enum": [1.0, "a", None, {"b": []}]})),
        ("regex", r"(a|b){2,3}\d+[^x-z]?(foo|b\.r)"),
        ("choice", "yes\nno\nperhaps, perhaps not"),
        ("grammar", 'start: "a" (b | C)+\nb: "(" b? ")"\nC: /[0-9]+/\n%ignore " "'),
        ("grammar", 'root ::= "x" item{1,3}\nitem ::= [a-c] | "(" root ")"'),
        ("structural_tag", json.dumps({"type": "structural_tag", "format": {"type": "triggered_tags", "triggers": ["<f"],
            "tags": [{"begin": "<f>", "content": {"type": "json_schema", "json_schema": {"type": "object"}}, "end": "</f>"}]}})),
        ("structural_tag", json.dumps({"structures": [{"begin": "<f>", "schema": {"type": "integer"}, "end": "</f>"}],
                                       "triggers": ["<f"]})),
    ):
        write("formats", f"{kind}\n{content}\x1eaab12 yes <f>".encode())


def outputs() -> None:
    call = '{"name": "get_weather", "arguments": {"city": "Paris", "n": 3}}'
    texts = [
        f"<think>Hm.</think>Yes.\n<tool_call>\n{call}\n</tool_call>",
        "<tool_call><function=get_weather><parameter=city>\nParis\n</parameter></function></tool_call>",
        f"[TOOL_CALLS][{call}]",
        '[TOOL_CALLS]get_weather[ARGS]{"city": "Paris"}',
        '[get_weather(city="Paris", n=3, l=[1, None])]',
        f"<|python_tag|>{call.replace('arguments', 'parameters')}",
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary to=functions.get_weather"
        '<|message|>{"city": "Paris"}<|call|>',
        "<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Paris</arg_value>\n</tool_call>",
        '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{"city": "Paris"}<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
        '<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>{"city": "x"}'
        "<|tool_call_end|><|tool_calls_section_end|>",
        '<minimax:tool_call><invoke name="get_weather"><parameter name="city">Paris</parameter></invoke></minimax:tool_call>',
        "<|tool_call>call:get_weather{city:<|\"|>Paris<|\"|>,n:3}<tool_call|>",
    ]
    for index, text in enumerate(texts):
        write("outputs", bytes([index * 3, 4 * index + index % 4, 65 + index]) + text.encode())


def templates() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    body = {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": [{"type": "text", "text": "b"}]},
                         {"role": "assistant", "content": "", "reasoning_content": "r", "tool_calls": [call]},
                         {"role": "tool", "tool_call_id": "1", "content": "2"}],
            "tools": [{"type": "function", "function": {"name": "f"}}], "add_generation_prompt": True,
            "chat_template_kwargs": {"enable_thinking": False}}
    write("templates", json.dumps(body).encode())
    short = json.dumps({"messages": body["messages"][:2], "continue_final_message": True})
    for source in (
        "{% for m in messages %}{{ m['role'].upper() ~ m.content | tojson }}{% if loop.last %}{% break %}{% endif %}{% endfor %}",
        "{% macro f(x, y=2) %}{{ x * y }}{% endmacro %}{{ f(3) }}{{ messages[0].content.split('a')[-1].strip() }}{{ 1 / 2 }}",
        "{%- set ns = namespace(i=0) -%}{% for k, v in messages[0].items() %}{% set ns.i = ns.i + 1 %}{% endfor %}{{ ns.i }}"
        "{{ raise_exception('no') if messages | length > 9 else strftime_now('%Y') }}",
    ):
        write("templates", f"{short}\x1e{source}".encode())


def pdf() -> None:
    def document(content: bytes, font: bytes, more: bytes = b"") -> bytes:
        packed = zlib.compress(content)
        return (b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog /Pages 2 0 R >>\nendobj\n2 0 obj\n<< /Type /Pages /Kids [4 0 R] /Count 1 "
                b"/Resources << /Font << /F1 3 0 R >> >> >>\nendobj\n3 0 obj\n" + font + b"\nendobj\n4 0 obj\n<< /Type /Page "
                b"/Parent 2 0 R /Contents 5 0 R >>\nendobj\n5 0 obj\n<< /Filter /FlateDecode /Length %d >>\nstream\n" % len(packed)
                + packed + b"\nendstream\nendobj\n" + more + b"trailer\n<< /Root 1 0 R >>\n%%EOF\n")

    plain = b"BT /F1 12 Tf 72 700 Td (Hello) Tj ( world) Tj 0 -14 Td [(Sec) 20 (ond)] TJ T* (a\\351) ' ET"
    helvetica = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>"
    write("pdf", document(plain, helvetica))
    write("pdf", document(plain, helvetica).replace(b"/Filter /FlateDecode", b"/Filter [/ASCIIHexDecode /LZWDecode /RunLengthDecode]"))
    named = b"<< /Type /Font /Subtype /Type1 /BaseFont /Y /Encoding << /Differences [1 /A /germandbls 7 /fi] >> >>"
    write("pdf", document(b"BT /F1 9 Tf 1 0 0 1 9 9 Tm (\\001\\002\\007) Tj ET BI /W 1 ID x EI", named))
    composite = b"<< /Type /Font /Subtype /Type0 /BaseFont /X /Encoding /Identity-H /ToUnicode 6 0 R >>"
    chars = b"1 begincodespacerange <0000> <ffff> endcodespacerange 1 beginbfrange <0003> <0005> <0041> endbfrange"
    more = b"6 0 obj\n<< /Length %d >>\nstream\n" % len(chars) + chars + b"\nendstream\nendobj\n"
    write("pdf", document(b"BT /F1 10 Tf 72 700 Td <000300040005> Tj ET", composite, more))
    objects = b"1 0 2 34 << /Type /Catalog /Pages 2 0 R >> << /Type /Pages /Kids [] /Count 0 >>"
    write("pdf", b"%PDF-1.7\n9 0 obj\n<< /Type /ObjStm /N 2 /First 9 /Length 80 >>\nstream\n" + objects + b"\nendstream\nendobj\n"
          b"startxref\n9\n%%EOF\n")


def model_files() -> None:
    def tensors(header: dict, data: int) -> bytes:
        text = json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + bytes(data)

    write("safetensors", tensors({"__metadata__": {"format": "pt"}, "a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
                                  "b": {"dtype": "BF16", "shape": [3], "data_offsets": [16, 22]}}, 22))
    write("safetensors", tensors({"a": {"dtype": "U8", "shape": [], "data_offsets": [0, 1]}}, 1))
    write("safetensors", tensors({"a": {"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 0]}}, 0))
    for shape in sorted((HERE.parent / "bench" / "shapes").glob("*/config.json"))[:4]:
        write("config", shape.read_bytes())
    write("config", (HERE.parent / "models" / "demo" / "config.json").read_bytes())


if __name__ == "__main__":
    for make in (requests, uploads, formats, outputs, templates, pdf, model_files):
        make()
