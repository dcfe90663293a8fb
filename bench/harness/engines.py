"""The two engines without a server: one interface for both.

A group of cases is one of
    ("prefill", [lengths])      tokens per second of one prompt of that length
    ("decode", [contexts])      tokens per second of one answer of TOKENS tokens after that many tokens of context
    ("batch", [sizes])          tokens per second of that many answers of TOKENS tokens, prompts of BATCH_PROMPT
and `measure` gives {number: tokens per second}.
"""
import json
import pathlib
import subprocess

from . import machine

TOKENS = 64
BATCH_PROMPT = 128
# Weights by the names of llama.cpp and by what `--quantize` calls them.
QUANTIZE = {"BF16": "none", "Q8_0": "q8", "Q4_0": "q4"}
# Prompts longer than this are read once, not twice: a warm-up run would double minutes and change nothing.
LONG = 1024


def numbers(group):
    """The INPUT:OUTPUT:BATCH of each case."""
    what, values = group
    return {value: {"prefill": (value, 1, 1), "decode": (value, TOKENS, 1),
                    "batch": (BATCH_PROMPT, TOKENS, value)}[what] for value in values}


class Millrace:
    """A process of `millrace bench latency` that has its model loaded and measures on request."""

    name = "Millrace"

    def __init__(self, binary, shape, kind, threads, cases, model=None):
        """`cases`: every (INPUT, OUTPUT, BATCH) that will be asked for, so that memory suffices. `model`: a folder with
        weights of this kind; without it, random weights of the shape are made and quantized."""
        tokens = max((i + o + 16) * batch for i, o, batch in cases)
        memory = tokens * kv_bytes_per_token(shape) + (64 << 20)
        source = [model] if model else [shape, "--load-format", "dummy", "--quantize", QUANTIZE[kind]]
        command = [binary, "bench", "latency", *source, "--case", "-", "--json", "--num-warmups", 0, "--num-iters", 1,
                   "--threads", threads, "--max-num-seqs", max(batch for *_, batch in cases),
                   "--kv-cache-memory", memory, "--no-ceilings"]
        self.process = subprocess.Popen([str(part) for part in command], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, bufsize=1)
        self.command = " ".join(map(str, command))
        # Loads the model, and touches what a step of the greatest size touches.
        self.case(min(1024, tokens - 32), 4, 1)

    def case(self, prompt, tokens, batch):
        """All that the program says of one case."""
        try:
            self.process.stdin.write(f"{prompt}:{tokens}:{batch}\n")
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise SystemExit(f"{self.command} ended at case {prompt}:{tokens}:{batch}")
        return json.loads(line)

    def measure(self, group):
        rate = "prefill_tokens_per_second" if group[0] == "prefill" else "decode_tokens_per_second"
        return {value: self.case(*case)[rate] for value, case in numbers(group).items()}

    def cpu_seconds(self):
        return machine.cpu_seconds(self.process.pid)

    def close(self):
        self.process.stdin.close()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Ceilings:
    """What the machine can do at best, as `millrace doctor` measures it: the best of all times that it was asked, for
    other programs only ever slow it down.
    """

    # The unit that multiplies weights of each kind.
    UNITS = {"Q4_0": "int8", "Q8_0": "int8", "BF16": "bf16"}

    def __init__(self, binary, threads):
        self.command = [binary, "doctor", "--json", "--threads", threads]
        self.bandwidth, self.peaks = 0.0, {}

    def measure(self):
        report = json.loads(_run(self.command))
        self.bandwidth = max(self.bandwidth, report["bandwidth_bytes_per_second"])
        for unit, peak in report["peak_ops_per_second"].items():
            self.peaks[unit] = max(self.peaks.get(unit, 0.0), peak)

    def bound(self, kind, roof):
        """(shortest seconds, what they are spent on) for a piece of work, from the `roofline` of a case."""
        memory, compute = roof["bytes"] / self.bandwidth, roof["operations"] / self.peaks[self.UNITS[kind]]
        return (compute, "compute") if compute > memory else (memory, "memory")

    def to_json(self):
        return {"bytes_per_second": self.bandwidth, "ops_per_second": self.peaks}


class Llama:
    """`llama-bench` and `llama-batched-bench`, started anew for each group."""

    name = "llama.cpp"

    def __init__(self, folder, file, threads):
        self.folder, self.file, self.threads = pathlib.Path(folder), file, threads

    def measure(self, group):
        what, values = group
        if what == "batch":
            return self.batches(values)
        if what == "decode":
            return self.bench("n_depth", values, "-p", 0, "-n", TOKENS, "-d", _commas(values))
        short, long = [v for v in values if v <= LONG], [v for v in values if v > LONG]
        rates = self.bench("n_prompt", short, "-n", 0, "-p", _commas(short)) if short else {}
        if long:
            # Without its warm-up runs; a short prompt goes first to bring in the file.
            rates |= self.bench("n_prompt", long, "-n", 0, "-p", _commas([64, *long]), "--no-warmup")
        return rates

    def bench(self, field, values, *options):
        """One call of llama-bench; what is asked for is told apart by a field of its answer."""
        command = [self.folder / "llama-bench", "-m", self.file, "-t", self.threads, "-r", 1, "-o", "json", *options]
        rates = {row[field]: row["avg_ts"] for row in json.loads(_run(command))}
        return {value: rates[value] for value in values}

    def batches(self, sizes):
        command = [self.folder / "llama-batched-bench", "-m", self.file, "-t", self.threads, "-npp", BATCH_PROMPT,
                   "-ntg", TOKENS, "-npl", _commas(sizes), "-c", max(sizes) * (BATCH_PROMPT + TOKENS) + 64,
                   "-b", 2048, "-ub", 512, "--output-format", "jsonl"]
        rows = [json.loads(line) for line in _run(command).splitlines() if line.startswith("{")]
        return {row["pl"]: row["speed_tg"] for row in rows}


def kv_bytes_per_token(shape):
    """Keys and values of one token in 16-bit numbers."""
    config = json.loads((pathlib.Path(shape) / "config.json").read_text())
    return 2 * 2 * config["num_hidden_layers"] * config["num_key_value_heads"] * config["head_dim"]


def _commas(values):
    return ",".join(map(str, values))


def _run(command):
    command = [str(part) for part in command]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return done.stdout
