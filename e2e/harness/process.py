"""Starts `millrace serve` as a child process, and ends it in several ways."""

import os
import re
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LISTENING = re.compile(r"listening on (https?://\S+|unix:\S+)")
START_SECONDS = 120
STOP_SECONDS = 60


def binary() -> Path:
    """The program under test: MILLRACE_BIN, else the release build."""
    named = os.environ.get("MILLRACE_BIN")
    if named:
        return Path(named)
    return Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release" / "millrace"


def until(condition, what: str, seconds: float = 30.0):
    """Polls until `condition` holds and returns its value; another process gives no event to wait for."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s in vain for this: {what}")
        time.sleep(0.02)
    return value


class Process:
    """One `millrace serve`. `flags` go to the command line as they are; no model means the embedded one."""

    def __init__(self, *flags: str, model: Path | str | None = None, env: dict[str, str] | None = None):
        named = [str(model)] if model else []
        port = [] if "--port" in flags else ["--port", "0"]
        self.command = [str(binary()), "serve", *named, *port, *flags]
        self.env = {**os.environ, "NO_COLOR": "1", **(env or {})}
        self.url = ""
        self._lines: list[str] = []
        self._address_known = threading.Event()
        self._stderr = tempfile.TemporaryFile()
        self._child: subprocess.Popen | None = None

    def spawn(self) -> "Process":
        """Starts the child; the reader thread empties its stdout for good, so that it never blocks on a full pipe."""
        self._child = subprocess.Popen(
            self.command, env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._stderr, text=True
        )
        threading.Thread(target=self._read_stdout, args=(self._child.stdout,), daemon=True).start()
        return self

    def wait_for_address(self) -> str:
        """The address the server printed."""
        if not self._address_known.wait(START_SECONDS) or not self.url:
            code = self._child.poll()
            self.kill()
            raise AssertionError(f"{' '.join(self.command)} printed no address (exit code {code}):\n{self.log()}")
        return self.url

    def signal(self, number: int) -> None:
        self._child.send_signal(number)

    def wait(self, seconds: float = STOP_SECONDS) -> int:
        """The exit code; kills the child and fails if it takes too long."""
        try:
            return self._child.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the server did not exit within {seconds:g} s:\n{self.log()}") from None

    def stop(self) -> None:
        """SIGTERM, and a clean exit is required."""
        self.signal(signal.SIGTERM)
        code = self.wait()
        if code != 0:
            raise AssertionError(f"the server exited with {code} after SIGTERM:\n{self.log()}")

    def kill(self) -> None:
        """kill -9; harmless if the child has ended."""
        if self._child and self._child.poll() is None:
            self._child.kill()
            self._child.wait()

    def alive(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def rss_bytes(self, field: str = "VmRSS") -> int:
        """Resident memory now; with `RssAnon`, without the pages that belong to files and can be dropped any time."""
        status = Path(f"/proc/{self._child.pid}/status").read_text()
        return int(re.search(rf"^{field}:\s+(\d+) kB", status, re.MULTILINE)[1]) * 1024

    def threads(self) -> set[str]:
        """The names of its threads, as the system has them (15 characters)."""
        return {path.read_text().strip() for path in Path(f"/proc/{self._child.pid}/task").glob("*/comm")}

    def stdout(self) -> str:
        return "".join(self._lines)

    def stderr(self) -> str:
        self._stderr.seek(0)
        return self._stderr.read().decode(errors="replace")

    def log(self) -> str:
        """The end of what the child said."""
        return (self.stdout() + self.stderr())[-4000:]

    def _read_stdout(self, pipe) -> None:
        for line in pipe:
            self._lines.append(line)
            if not self.url and (found := LISTENING.search(line)):
                self.url = found[1]
                self._address_known.set()
        # End of file: the child is gone; wait_for_address must not wait on.
        self._address_known.set()
