#!/usr/bin/env python3
"""Fills the tables of docs/performance.md and draws its plots from the files in bench/results.

    bench/report.py [--results FOLDER] [--page FILE]

In the page, what stands between `<!-- figures: NAME -->` and `<!-- end -->` is replaced; the rest is left alone. Where
several files hold the same measurement of the same machine, the newest date counts.
"""
import argparse
import json
import pathlib
import re

from harness import machine, results, svg

BLOCK = re.compile(r"(<!-- figures: (\S+) (\S+) -->\n).*?(<!-- end -->)", re.S)
KINDS = ("compare", "server", "growth")
NOTHING = "Not measured yet.\n"


class Page:
    """What the blocks of the page are made from."""

    def __init__(self, folder, images):
        self.results, self.images = newest(folder), images

    def fill(self, text):
        return BLOCK.sub(lambda found: found[1] + self.block(found[2], found[3]) + found[4], text)

    def block(self, name, shape):
        """Every machine's table, the machines by name."""
        kind, make = {"compare": ("compare", comparison), "server": ("server", comparison), "batch": ("growth", batch),
                      "context": ("growth", context), "threads": ("growth", threads),
                      "roofline": ("growth", roofline)}[name]
        parts = []
        for slug, result in sorted(self.of(kind, shape).items()):
            parts += [where(result), "", *make(result, Images(self.images, slug, shape)), ""]
        return "\n" + "\n".join(parts) + "\n" if parts else NOTHING

    def of(self, kind, shape):
        return {slug: result for (slug, k, s), result in self.results.items() if (k, s) == (kind, shape)}


class Images:
    """Where the plots of one result go."""

    def __init__(self, folder, slug, shape):
        self.folder, self.name = folder, f"{slug}-{shape}"

    def save(self, what, title, *plot):
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / f"{self.name}-{what}.svg"
        file.write_text(svg.plot(title, *plot))
        return f"![{title}]({self.folder.name}/{file.name})"


def newest(folder):
    """{(machine, kind, shape): result}; the folder may hold results of others, too."""
    found = {}
    for file in sorted(pathlib.Path(folder).glob("*.json")):
        result = json.loads(file.read_text())
        if result.get("kind") not in KINDS:
            continue
        slug = file.stem.removeprefix(f"{result['date']}-")
        slug = slug.removesuffix(f"-{result['shape']}").removesuffix(f"-{result['kind']}")
        found[slug, result["kind"], result["shape"]] = result
    return found


def where(result):
    versions = "; ".join(f"{name}: {version}" for name, version in result["versions"].items())
    return f"{result['date']}, {results.describe_machine(result)}. {versions}."


def comparison(result, _):
    head = [f"{result['load']}.", ""] if "load" in result else []
    return [*head, *results.table(result), "", *results.notes(result)]


def batch(result, images):
    title = "Decode against batch"
    lines = both_lines(result["batch"], "decode", lambda point: point["batch"])
    picture = images.save("batch", title, "sequences in the batch", "output tokens per second", lines)
    rows = {point["batch"] for point in result["batch"]}
    return [picture, "", *grid(result["batch"], "batch", sorted(rows), lambda point: point["batch"], ["decode"])]


def context(result, images):
    at = lambda point: point["input"]
    pictures = []
    for what, label in (("prefill", "prompt tokens per second"), ("decode", "output tokens per second")):
        lines = both_lines(result["context"], what, at)
        title = {"prefill": "Prefill against length", "decode": "Decode against context, batch 1"}[what]
        pictures += [images.save(f"context-{what}", title, "tokens of context", label, lines), ""]
    rows = sorted({at(point) for point in result["context"]})
    return [*pictures, *grid(result["context"], "context", rows, at, ["prefill", "decode"])]


def threads(result, images):
    """Speed relative to one thread."""
    names = [("prefill of 512", lambda p: p["input"] == 512, "prefill"),
             ("decode, batch 1", lambda p: p["input"] == 128 and p["batch"] == 1, "decode"),
             ("decode, batch 16", lambda p: p["batch"] == 16, "decode")]
    counts = sorted({point["threads"] for point in result["threads"]})
    table = [f"| {result['threads'][0]['weights']}, tok/s | " + " | ".join(name for name, *_ in names) + " |",
             "|---|" + "--:|" * len(names)]
    rates = {(name, point["threads"]): point[what]["rate"] for name, chosen, what in names
             for point in result["threads"] if chosen(point)}
    for count in counts:
        cells = (f"{results.number(rates[name, count])} ({rates[name, count] / rates[name, counts[0]]:.2f}×)"
                 for name, *_ in names)
        table.append(f"| {count} thread{'s' if count > 1 else ''} | " + " | ".join(cells) + " |")
    lines = [svg.Line(name, [(count, rates[name, count] / rates[name, counts[0]]) for count in counts], number)
             for number, (name, *_) in enumerate(names)]
    lines.append(svg.Line("linear", [(count, count / counts[0]) for count in counts], len(names), dashed=True))
    return [images.save("threads", "Speed against threads", "threads", "times one thread", lines), "", *table]


def roofline(result, _):
    """Share of the ceiling, for one prompt and one answer, and for batches."""
    lines = ["| weights | measured | tok/s | ceiling | reached | waits for |", "|---|---|--:|--:|--:|---|"]
    points = [(point, "prefill", f"prefill {point['input']}") for point in result["context"]]
    points += [(point, "decode", f"decode at {point['input']}") for point in result["context"]]
    points += [(point, "decode", f"decode, batch {point['batch']}") for point in result["batch"] if point["batch"] > 1]
    order = list(dict.fromkeys(point["weights"] for point, *_ in points))
    for point, what, name in sorted(points, key=lambda entry: order.index(entry[0]["weights"])):
        if what in point:
            figures = point[what]
            lines.append(f"| {point['weights']} | {name} | {results.number(figures['rate'])} | "
                         f"{results.number(figures['ceiling'])} | {figures['rate'] / figures['ceiling']:.0%} | "
                         f"{figures['bound_by']} |")
    return [*ceilings(result), "", *lines]


def ceilings(result):
    """What the machine was measured to do."""
    best = result["ceilings"]
    peaks = ", ".join(f"{unit} {peak / 1e12:.2f} TOP/s" for unit, peak in best["ops_per_second"].items())
    return [f"Ceilings, the best of several measurements between the others: memory "
            f"{best['bytes_per_second'] / 1e9:.1f} GB/s, {peaks}."]


def both_lines(points, what, at):
    """Measured and ceiling for each type of weights."""
    lines = []
    for number, kind in enumerate(dict.fromkeys(point["weights"] for point in points)):
        own = [point for point in points if point["weights"] == kind and what in point]
        lines += [svg.Line(kind, [(at(p), p[what]["rate"]) for p in own], number),
                  svg.Line(f"{kind} ceiling", [(at(p), p[what]["ceiling"]) for p in own], number, dashed=True)]
    return lines


def grid(points, name, rows, at, whats):
    """A row for each amount of work, a column for each type of weights."""
    kinds = list(dict.fromkeys(point["weights"] for point in points))
    columns = [(kind, what) for what in whats for kind in kinds]
    figures = {(p["weights"], what, at(p)): p[what]["rate"] for p in points for what in whats if what in p}
    lines = [f"| {name} | " + " | ".join(f"{what} {kind}" for kind, what in columns) + " |",
             "|--:|" + "--:|" * len(columns)]
    for row in rows:
        cells = (figures.get((kind, what, row)) for kind, what in columns)
        lines.append(f"| {row:,} | " + " | ".join("–" if c is None else results.number(c) for c in cells) + " |")
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", default=results.FOLDER, type=pathlib.Path)
    parser.add_argument("--page", default=machine.ROOT / "docs/performance.md", type=pathlib.Path)
    args = parser.parse_args()
    args.page.write_text(Page(args.results, args.page.parent / "img").fill(args.page.read_text()))


if __name__ == "__main__":
    main()
