"""What a model takes of the memory, and what is left of it once it is unloaded.

    python e2e/memory.py [SHAPE] [--kv-cache-memory 256M]

A server with two models of this shape (random weights in 4 and in 8 bit) loads, asks and unloads them in turn, and its
anonymous memory is read after each step. SHAPE is a folder with a `config.json`; the tokenizer is the demo model's.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

from harness.process import ROOT
from harness.server import Server

MIB = 1 << 20
FORMATS = ("q4", "q8")


def model_folder(shape: Path, folder: Path) -> Path:
    shutil.copy(shape / "config.json", folder)
    for file in (ROOT / "models" / "demo").glob("tokenizer*.json"):
        shutil.copy(file, folder)
    return folder


def registry(folder: Path, cache: str) -> str:
    lines = [f"  - {{name: {name}, path: {folder}, load-format: dummy, quantize: {name}}}" for name in FORMATS]
    return "\n".join([f"defaults: {{kv-cache-memory: {cache}}}", "models:", *lines])


def use(server: Server, name: str) -> None:
    """Enough tokens to touch every weight and some of the cache."""
    body = {"model": name, "prompt": [1, 2, 3] * 100, "max_tokens": 40, "ignore_eos": True}
    server.http.post("/v1/completions", json=body).raise_for_status()


def order(server: Server, what: str, name: str) -> None:
    server.http.post(f"/v1/admin/models/{what}", json={"model": name}, timeout=600).raise_for_status()


def main() -> None:
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument("shape", nargs="?", type=Path, default=ROOT / "bench" / "shapes" / "qwen3-0.6b")
    args.add_argument("--kv-cache-memory", default="256M")
    args = args.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "models.yaml").write_text(registry(model_folder(args.shape, folder), args.kv_cache_memory))
        with Server("--models", str(folder / "models.yaml")) as server:
            resident = lambda: f"{server.rss_bytes('RssAnon') / MIB:8.1f} MiB"
            print(f"started       {resident()}")
            for model in (*FORMATS, FORMATS[0]):
                order(server, "load", model)
                use(server, model)
                counted = server.http.get("/v1/admin/models").json()["memory_used"] / MIB
                print(f"{model} loaded     {resident()}, counted {counted:.1f} MiB")
                order(server, "unload", model)
                print(f"{model} unloaded   {resident()}")


if __name__ == "__main__":
    main()
