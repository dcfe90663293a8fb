"""Runs the scripts of this folder with the packages that its lock file names."""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path

from harness.node import NODE, NPM

SOURCE = Path(__file__).parent
INSTALL_SECONDS = 150


def installed() -> Path:
    """A folder of the user's cache with the packages and today's scripts; the checkout stays as it is."""
    manifest = [SOURCE / name for name in ("package.json", "package-lock.json")]
    version = hashlib.sha256(b"".join(file.read_bytes() for file in manifest)).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "millrace-ci"
    folder = cache / f"node-{version}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        # Another run of the tests may install at the same time.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            for file in manifest:
                shutil.copy(file, folder)
            command = [NODE, NPM, "ci", "--prefix", folder, "--ignore-scripts", "--no-audit", "--no-fund"]
            subprocess.run(command, check=True, stdin=subprocess.DEVNULL, timeout=INSTALL_SECONDS)
            (folder / "done").touch()
        # A module finds packages beside itself, so the scripts have to lie there too.
        for script in SOURCE.glob("*.mjs"):
            shutil.copy(script, folder)
    return folder


class Script:
    """One of the scripts, for one server."""

    def __init__(self, folder: Path, name: str, **input):
        self.path, self.input = folder / f"{name}.mjs", input

    def run(self, case: str, **input):
        """The case's result."""
        with self.open(case, **input) as result:
            return result

    @contextmanager
    def open(self, case: str, **input):
        """The case's result; the client's process lives until the block ends, and must then end well."""
        command = [NODE, self.path, case, json.dumps(self.input | input)]
        # Compiling the packages takes most of a short script's time.
        env = os.environ | {"NODE_COMPILE_CACHE": str(self.path.parent / "compiled")}
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env) as child:
            try:
                line = child.stdout.readline()
                assert line, f"{self.path.name} {case} printed no result"
                yield json.loads(line)
                child.stdin.close()
                assert child.wait(30) == 0
            finally:
                child.kill()
