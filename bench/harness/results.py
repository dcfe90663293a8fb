"""Results files: the figures as JSON, and the same as a Markdown table beside it."""
import json
import pathlib
import statistics

from . import machine

FOLDER = machine.ROOT / "bench/results"
OURS, THEIRS = "Millrace", "llama.cpp"


def head(kind, shape, threads, rounds, versions):
    """What every results file begins with."""
    return {"kind": kind, "date": machine.today(), "shape": pathlib.Path(shape).name,
            "machine": machine.describe(threads), "versions": versions, "rounds": rounds}


def describe_machine(result):
    """One line about where it was measured."""
    machine_ = result["machine"]
    level = f", Millrace with MILLRACE_CPU={machine_['level']}" if machine_["level"] else ""
    return (f"{machine_['cpu']} ({', '.join(machine_['features'])}), {machine_['threads']} threads{level}, "
            f"{machine_['memory_bytes'] / 2**30:.0f} GiB, Linux {machine_['kernel']}")


def path(result, folder=None):
    """Where a result belongs: DATE-MACHINE-SHAPE.json, with what was measured in between if not the plain comparison."""
    kind = [] if result["kind"] == "compare" else [result["kind"]]
    name = "-".join([result["date"], machine.slug(result["machine"]["threads"]), *kind, result["shape"]])
    return pathlib.Path(folder or FOLDER) / f"{name}.json"


def save(result, folder=None):
    """Writes both files and says where the table is."""
    file = path(result, folder)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(result, indent=1) + "\n")
    if "rows" in result:
        file.with_suffix(".md").write_text(markdown(result))
    return file


def markdown(result):
    """The whole result as a page."""
    lines = [f"# {result['shape']}, {result['kind']}, {result['date']}", "",
             describe_machine(result), ""]
    lines += [f"- {name}: {version}" for name, version in result["versions"].items()]
    lines += ["", *table(result), "", *notes(result)]
    return "\n".join(lines) + "\n"


def table(result):
    """Medians and ratios. A ratio above 1 is always in Millrace's favour."""
    lines = [f"| weights | measured | {OURS} | {THEIRS} | ratio | goal |", "|---|---|--:|--:|--:|--:|"]
    for row in result["rows"]:
        if not row[OURS] or not row[THEIRS]:
            continue
        ours, theirs = statistics.median(row[OURS]), statistics.median(row[THEIRS])
        goal = f"≥ {row['goal']:g}" if row.get("goal") else ""
        lines.append(f"| {row['weights']} | {row['case']}, {row['unit']} | {number(ours)} | {number(theirs)} "
                     f"| {ratio(row):.2f} | {goal} |")
    return lines


def ratio(row):
    """How many times better Millrace is."""
    ours, theirs = statistics.median(row[OURS]), statistics.median(row[THEIRS])
    return ours / theirs if row["better"] == "higher" else theirs / ours


def notes(result):
    """How steady the machine was."""
    rounds = min((len(row[side]) for row in result["rows"] for side in (OURS, THEIRS)), default=0)
    lines = [f"Medians of {rounds} {'rounds' if rounds != 1 else 'round'}, interleaved; a ratio above 1 is in "
             f"Millrace's favour."]
    meters = result.get("meters", [])
    if meters:
        foreign = max(meter["foreign"] for meter in meters)
        stolen = max(meter["stolen"] for meter in meters)
        lines.append(f"Other programs took at most {foreign:.1%} of the CPUs during a measurement, the "
                     f"hypervisor {stolen:.1%}.")
    if result.get("idle_seconds") is not None:
        lines.append(f"While llama.cpp was timed, the waiting Millrace process used {result['idle_seconds']:.2f} s of "
                     f"CPU time in all.")
    return [" ".join(lines)]


def number(value):
    """Three digits or so."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
