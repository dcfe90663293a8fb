"""Line plots as SVG, with nothing but strings. Both axes are logarithmic: what doubles has the same distance."""
import math
from html import escape

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 64, 150, 44, 52
COLOURS = ("#2563a8", "#c2571a", "#2f7d4f", "#7a4a9e", "#a0303c")
INK, GRID = "#333333", "#dddddd"


class Line:
    """One line: its name, its points, and whether it is only something to compare with (dashed, in the same colour)."""

    def __init__(self, name, points, colour, dashed=False):
        self.name, self.points, self.colour, self.dashed = name, sorted(points), COLOURS[colour % len(COLOURS)], dashed


def plot(title, x_label, y_label, lines):
    """The picture. Points must be above 0; names stand at the right end of their lines."""
    xs = sorted({x for line in lines for x, _ in line.points})
    ys = [y for line in lines for _, y in line.points]
    y_ticks = _ticks(min(ys), max(ys))
    x_at = _scale(xs[0], xs[-1], LEFT, WIDTH - RIGHT)
    y_at = _scale(y_ticks[0], y_ticks[-1], HEIGHT - BOTTOM, TOP)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
             f'height="{HEIGHT}" font-family="system-ui, sans-serif" font-size="12" fill="{INK}" role="img">',
             f"<title>{escape(title)}</title>", f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
             _text(LEFT, 22, title, size=15, weight="600")]
    for tick in y_ticks:
        parts += [_stroke(LEFT, y_at(tick), WIDTH - RIGHT, y_at(tick), GRID),
                  _text(LEFT - 8, y_at(tick) + 4, _number(tick), anchor="end")]
    for tick in xs:
        parts += [_stroke(x_at(tick), HEIGHT - BOTTOM, x_at(tick), HEIGHT - BOTTOM + 5, INK),
                  _text(x_at(tick), HEIGHT - BOTTOM + 19, _number(tick), anchor="middle")]
    parts += [_stroke(LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - BOTTOM, INK),
              _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, x_label, anchor="middle"),
              _text(LEFT, TOP - 8, y_label)]
    parts += [_line(line, x_at, y_at) for line in lines]
    parts += _names(lines, x_at, y_at)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _scale(low, high, start, end):
    """From numbers to places, logarithmically. A single number stands in the middle."""
    if low == high:
        return lambda _: (start + end) / 2
    return lambda value: start + (end - start) * math.log(value / low) / math.log(high / low)


def _ticks(low, high):
    """1, 2 and 5 times powers of ten around the values, or powers alone if that were many."""
    steps = (1, 2, 5) if high / low < 1000 else (1,)
    all_ = [step * 10.0**power for power in range(-9, 13) for step in steps]
    first = max(i for i, tick in enumerate(all_) if tick <= low)
    last = min(i for i, tick in enumerate(all_) if tick >= high)
    return all_[first:max(last, first + 1) + 1]


def _line(line, x_at, y_at):
    points = " ".join(f"{x_at(x):.1f},{y_at(y):.1f}" for x, y in line.points)
    style = 'stroke-width="1.2" stroke-dasharray="5 4"' if line.dashed else 'stroke-width="2.2"'
    drawn = f'<polyline points="{points}" fill="none" stroke="{line.colour}" {style} stroke-linejoin="round"/>'
    dots = [] if line.dashed else [f'<circle cx="{x_at(x):.1f}" cy="{y_at(y):.1f}" r="3.2" fill="{line.colour}"/>'
                                   for x, y in line.points]
    return drawn + "".join(dots)


def _names(lines, x_at, y_at):
    """Beside the last points, pushed apart where they would overlap."""
    placed, bottom = [], -math.inf
    for line in sorted(lines, key=lambda line: y_at(line.points[-1][1])):
        x, y = line.points[-1]
        bottom = max(y_at(y) + 4, bottom + 14)
        placed.append(_text(x_at(x) + 9, bottom, line.name, colour=line.colour))
    return placed


def _text(x, y, text, anchor="start", size=12, weight="400", colour=INK):
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" font-weight="{weight}" '
            f'fill="{colour}">{escape(text)}</text>')


def _stroke(x1, y1, x2, y2, colour):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'


def _number(value):
    if value >= 1000 and value % 1024 == 0:
        return f"{value // 1024:g}K"
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"
