"""Where a measurement ran: the machine, the versions, and who else was using the CPUs meanwhile."""
import contextlib
import datetime
import fcntl
import hashlib
import os
import pathlib
import platform
import re
import resource
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
TICK = os.sysconf("SC_CLK_TCK")
# Features that decide which kernels run.
FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_int8")


def cpus():
    """The CPUs that this process may use; its children inherit them (`taskset` is respected)."""
    return sorted(os.sched_getaffinity(0))


def _cpuinfo(field):
    with open("/proc/cpuinfo") as lines:
        return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(field)), "?")


def _memory():
    with open("/proc/meminfo") as lines:
        return int(next(line for line in lines if line.startswith("MemTotal")).split()[1]) * 1024


def describe(threads):
    """The machine, as it stands in a results file."""
    flags = _cpuinfo("flags").split()
    return {"cpu": _cpuinfo("model name"), "features": [f for f in FEATURES if f in flags], "threads": threads,
            "level": chosen_level(), "cpus": len(cpus()), "memory_bytes": _memory(), "kernel": platform.release()}


def slug(threads):
    """The machine as a part of a file's name, with the kernels if they were chosen by hand."""
    name = re.sub(r"\((r|tm)\)|processor|cpu|@.*", "", _cpuinfo("model name").lower())
    return "-".join([*re.findall(r"[a-z0-9]+", name), f"{threads}t", *filter(None, [chosen_level()])])


def chosen_level():
    """The kernels that Millrace is told to use; None lets it take the best ones."""
    return os.environ.get("MILLRACE_CPU")


def today():
    return datetime.date.today().isoformat()


def millrace_version(binary):
    """The binary's own version, what it was built from as far as the checkout knows, and the binary's hash."""
    version = _first_line([binary, "--version"])
    git = _first_line(["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"])
    digest = hashlib.sha256(pathlib.Path(binary).read_bytes()).hexdigest()[:12]
    return f"{version}, checkout {git or 'unknown'}, binary {digest}"


def llama_version(folder):
    """What `llama-bench` says of itself, and the package that its sources came from if that lies nearby."""
    version = _first_line([str(pathlib.Path(folder) / "llama-bench"), "--version"])
    packages = [p.name for parent in list(pathlib.Path(folder).resolve().parents)[:3]
                for p in parent.glob("llama_cpp_python-*") if p.is_dir()]
    return ", ".join([version.removeprefix("version: "), *packages[:1]])


def _first_line(command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except OSError:
        return ""
    lines = (done.stdout + done.stderr).strip().splitlines()
    return lines[0].strip() if done.returncode == 0 and lines else ""


def cpu_seconds(pid):
    """CPU time of a process so far."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def peak_rss(pid):
    """The most memory that a process has had resident, in bytes; mapped files count."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024


def _busy():
    """CPU time used and stolen on our CPUs so far, in seconds."""
    own, busy, stolen = {f"cpu{n}" for n in cpus()}, 0, 0
    with open("/proc/stat") as lines:
        for name, *fields in map(str.split, lines):
            if name in own:
                user, nice, system, _, _, irq, softirq, steal = map(int, fields[:8])
                busy, stolen = busy + user + nice + system + irq + softirq, stolen + steal
    return busy / TICK, stolen / TICK


class Meter:
    """How much of our CPUs others used while something was measured: `with Meter([pid]) as meter: …`.

    `pids` are long-running processes of ours; finished children count as ours too.
    """

    def __init__(self, pids=()):
        self.pids, self.wall, self.foreign, self.stolen = pids, 0.0, 0.0, 0.0

    def __enter__(self):
        self._start = self._read()
        return self

    def __exit__(self, *_):
        wall, busy, stolen, own = (b - a for a, b in zip(self._start, self._read()))
        self.wall, capacity = wall, max(wall, 1e-9) * len(cpus())
        self.foreign = max(0.0, busy - own) / capacity
        self.stolen = stolen / capacity

    def to_json(self):
        return {"seconds": round(self.wall, 2), "foreign": round(self.foreign, 4), "stolen": round(self.stolen, 4)}

    def _read(self):
        usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        own = sum(usage.ru_utime + usage.ru_stime for usage in usages)
        return time.monotonic(), *_busy(), own + sum(map(cpu_seconds, self.pids))


# Share of our CPUs that others may use during a measurement, and how often we try for one with less.
QUIET, ATTEMPTS = 0.08, 3


def quietly(work, lock=None, pids=()):
    """Calls `work` until others left us alone meanwhile: the result of the quietest call, and its meter."""
    best = None
    for _ in range(ATTEMPTS):
        with exclusively(lock), Meter(pids) as meter:
            result = work()
        if best is None or meter.foreign < best[1].foreign:
            best = result, meter
        if meter.foreign <= QUIET:
            break
        print(f"others used {meter.foreign:.0%} of the CPUs meanwhile", file=sys.stderr)
    return best


@contextlib.contextmanager
def exclusively(lock):
    """Holds a lock file (as `flock FILE` does), for machines on which others take turns by it; None is no lock."""
    if lock is None:
        yield
        return
    with open(lock, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
