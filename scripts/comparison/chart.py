"""The results as a picture: how much CPU everybody takes for a request, as a multiple of what nginx does.

One panel for each load, one row for each contestant. The axis is logarithmic, so that half and twice are
equally far from nginx; a thin line reaches from the least to the most of the rounds. Colours are of
Okabe and Ito, whom colour-blind people can tell apart, and names stand beside the bars anyway.
"""

import math
from html import escape

BASE = "nginx"
OURS, FLOOR, PEER = "#0072B2", "#8C8C8C", "#E69F00"
INK, FAINT = "#222222", "#DDDDDD"

ROW = 22
BAR = 12
NAMES = 190
PANEL = 250
# For the figures at the ends of bars.
MARGIN = 48
TOP = 92
BOTTOM = 46


def svg(results):
    base = BASE if BASE in results.contestants else next(iter(results.contestants))
    names = list(results.contestants)
    scale = Scale([ratios(results, name, base, load) for name in names for load in results.loads])
    width = NAMES + len(results.loads) * (PANEL + MARGIN) + 12
    height = TOP + len(names) * ROW + BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12" fill="{INK}">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        text(12, 24, f"Server CPU for a request, as a multiple of {results.contestants[base].title}: less is better", 15),
        *key(12, 40),
        *rows(results),
    ]
    for number, load in enumerate(results.loads.values()):
        left = NAMES + number * (PANEL + MARGIN)
        parts += panel(results, load, base, scale, left, height - BOTTOM)
    said = results.conditions
    parts.append(text(12, height - 10, f"{said['date']}, {said['machine']}, {said['rounds']} rounds", 11))
    return "\n".join([*parts, "</svg>", ""])


class Scale:
    """Ratios along an axis, by powers of two from below the least to above the most."""

    def __init__(self, found):
        all_of_them = [value for values in found for value in values]
        self.least = math.floor(math.log2(min([*all_of_them, 0.5])))
        self.most = math.ceil(math.log2(max([*all_of_them, 2])))

    def at(self, ratio):
        return PANEL * (math.log2(ratio) - self.least) / (self.most - self.least)

    def ticks(self):
        return [2.0**power for power in range(self.least, self.most + 1)]


def ratios(results, name, base, load):
    """Of each round, in order of size."""
    pairs = zip(results.rounds(name, load, "cpu_us"), results.rounds(base, load, "cpu_us"))
    return sorted(mine / theirs for mine, theirs in pairs)


def key(x, y):
    for colour, what in [(FLOOR, "bare, 1 process"), (OURS, "rr-master"), (PEER, "others")]:
        yield f'<rect x="{x}" y="{y}" width="{BAR}" height="{BAR}" fill="{colour}"/>'
        yield text(x + BAR + 6, y + 10, what)
        x += 130


def rows(results):
    for number, contestant in enumerate(results.contestants.values()):
        yield text(NAMES - 10, TOP + number * ROW + ROW / 2 + 4, contestant.title, anchor="end")


def panel(results, load, base, scale, left, bottom):
    yield text(left, TOP - 10, load.caption, weight="bold")
    for tick in scale.ticks():
        x = left + scale.at(tick)
        ink, stroke = (INK, 1.4) if tick == 1 else (FAINT, 1)
        yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom}" stroke="{ink}" stroke-width="{stroke}"/>'
        yield text(x, bottom + 15, f"{tick:g}", 10, anchor="middle")
    for number, (name, contestant) in enumerate(results.contestants.items()):
        found = ratios(results, name, base, load.name)
        y = TOP + number * ROW + ROW / 2
        if not found:
            yield text(left + scale.at(1) + 6, y + 4, "does not take part", 10)
            continue
        ratio = results.ratio(name, base, load.name)
        start, end = sorted([left + scale.at(1), left + scale.at(ratio)])
        yield (
            f'<rect x="{start:.1f}" y="{y - BAR / 2}" width="{max(end - start, 1):.1f}" height="{BAR}" '
            f'fill="{colour(contestant)}"/>'
        )
        least, most = left + scale.at(found[0]), left + scale.at(found[-1])
        yield f'<line x1="{least:.1f}" x2="{most:.1f}" y1="{y}" y2="{y}" stroke="{INK}"/>'
        yield text(max(end, most, left + scale.at(1)) + 4, y + 4, f"{ratio:.2f}", 11)


def colour(contestant):
    if contestant.is_ours:
        return OURS
    return FLOOR if contestant.servers == 1 else PEER


def text(x, y, what, size=12, anchor="start", weight="normal"):
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" font-weight="{weight}">'
        f"{escape(what)}</text>"
    )
