"""A server of tools that behaves and misbehaves, over its standard streams. Plain JSON-RPC, because no library lets
one break the rules. With `--broken`, `get_weather` ends the server, with `--slow` it never answers; `--once FILE` dies
while listing its tools as long as FILE is empty, and appends to it."""

import json
import os
import subprocess
import sys
import threading

OBJECT = {"type": "object", "properties": {}}
WEATHER = {"type": "object", "properties": {"location": {"type": "string"}}, "required": ["location"]}
TOOLS = {
    "get_weather": ("Get the current weather for a city.", WEATHER),
    "echo": ("Gives back its arguments.", OBJECT),
    "environment": ("Shows the environment.", OBJECT),
    "hang": ("Never answers.", OBJECT),
    "huge": ("Answers with a megabyte.", OBJECT),
    "flood": ("Writes lines without end.", OBJECT),
    "long_line": ("Writes one line without end.", OBJECT),
    "die": ("Ends without an answer.", OBJECT),
    "freeze": ("Answers nothing any more, whatever is asked.", OBJECT),
    "spawn": ("Starts a program that ignores the end of this one, and says its process id.", OBJECT),
    "grumble": ("Writes much to standard error.", OBJECT),
    "fail": ("Fails, and says so.", OBJECT),
    "grow": ("Adds a tool.", OBJECT),
}
lock = threading.Lock()


def send(message: dict) -> None:
    with lock:
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        sys.stdout.flush()


def text(words: str, is_error: bool = False) -> dict:
    return {"content": [{"type": "text", "text": words}], "isError": is_error}


def call(name: str, arguments: dict) -> dict | None:
    match name:
        case "get_weather" if "--broken" in sys.argv:
            os._exit(3)
        case "get_weather" if "--slow" in sys.argv:
            print("has been asked", file=sys.stderr, flush=True)
            return None
        case "get_weather":
            return text(json.dumps({"temperature": 21, "condition": "sunny"}))
        case "echo":
            return text(json.dumps(arguments))
        case "environment":
            return text("\n".join(f"{key}={value}" for key, value in sorted(os.environ.items())))
        case "huge":
            return text("x" * (1 << 20))
        case "flood":
            while True:
                print("spam " * 1000)
        case "long_line":
            while True:
                sys.stdout.write("x" * 100_000)
        case "die":
            os._exit(3)
        case "freeze":
            threading.Event().wait()
        case "spawn":
            child = subprocess.Popen(["sleep", "1000"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            return text(str(child.pid))
        case "grumble":
            for line in range(5000):
                print(f"grumble {line} {os.environ.get('SECRET_TOKEN')}", file=sys.stderr)
            return text("done")
        case "fail":
            return text("it did not work", is_error=True)
        case "grow":
            TOOLS["grown"] = ("A new one.", OBJECT)
            send({"method": "notifications/tools/list_changed"})
            return text("done")
    return None  # `hang`


def answer(method: str, params: dict) -> dict | None:
    match method:
        case "initialize":
            capabilities = {"tools": {"listChanged": True}}
            info = {"name": "misfit", "version": "1"}
            return {"protocolVersion": params["protocolVersion"], "capabilities": capabilities, "serverInfo": info}
        case "tools/list":
            if "--once" in sys.argv:
                with open(sys.argv[sys.argv.index("--once") + 1], "a+") as file:
                    file.seek(0)
                    died_before = file.read()
                    file.write("died\n")
                if not died_before:
                    os._exit(1)
            return {
                "tools": [
                    {"name": name, "description": description, "inputSchema": schema}
                    for name, (description, schema) in TOOLS.items()
                ]
            }
        case "tools/call":
            return call(params["name"], params.get("arguments", {}))
    return {}


for line in sys.stdin:
    message = json.loads(line)
    if "id" in message and "method" in message:
        result = answer(message["method"], message.get("params", {}))
        if result is not None:
            send({"id": message["id"], "result": result})
    elif message.get("method") == "notifications/cancelled":
        print("told to give up", file=sys.stderr, flush=True)
