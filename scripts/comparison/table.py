"""The results on a terminal: aligned, as many columns as it has room for."""

import os
import shutil
import sys

# What is left out first, when there is little room, is last.
COLUMNS = [
    ("req./s", "rate", "{:,.0f}"),
    ("p50 ms", "p50_ms", "{:.2f}"),
    ("p99 ms", "p99_ms", "{:.2f}"),
    ("failed", "failed", "{:.0f}"),
    ("CPU µs/req.", "cpu_us", "{:.1f}"),
    ("to floor", ("floor", "process"), "{:.2f}"),
    ("to nginx", ("nginx",), "{:.2f}"),
    ("PSS MiB", "pss_mib", "{:.1f}"),
    ("least %", "least", "{:.0f}"),
    ("most %", "most", "{:.0f}"),
    ("max-min", "spread", "{:.0f}"),
]
GAP = 2
UNKNOWN = "-"


def show(results):
    for load in results.loads.values():
        print(f"\n{bold(load.title)}")
        for line in aligned(rows(results, load)):
            print(line)
    conditions = results.conditions
    print(
        f"\nmedians of {conditions['rounds']} rounds, {conditions['connections']:,} connections of ab and "
        f"{conditions['seconds']} s of wrk,\n{conditions['workers']} workers; {conditions['machine']}"
    )


def rows(results, load):
    yield ["", *(heading for heading, _, _ in COLUMNS)]
    for name, contestant in results.contestants.items():
        yield [contestant.title, *(cell(results, name, load.name, what, form) for _, what, form in COLUMNS)]


def cell(results, contestant, load, what, form):
    """A measure, or the CPU against the first of these who took part."""
    if isinstance(what, str):
        value = results.median(contestant, load, what)
    else:
        others = [it for it in what if it in results.contestants]
        value = results.ratio(contestant, others[0], load) if others else None
    return UNKNOWN if value is None else form.format(value)


def aligned(table):
    table = list(table)
    widths = [max(map(len, column)) for column in zip(*table)]
    room = shutil.get_terminal_size((200, 0)).columns
    # A column in which nobody has anything to say is none.
    told = [at for at in range(1, len(widths)) if any(row[at] != UNKNOWN for row in table[1:])]
    kept, used = [], widths[0]
    for at in told:
        used += GAP + widths[at]
        if used <= room:
            kept.append(at)
    for row in table:
        cells = [row[0].ljust(widths[0]), *(row[at].rjust(widths[at]) for at in kept)]
        yield (" " * GAP).join(cells).rstrip()


def summary(results):
    """Of a quick run: who took part, and nothing that looks like a measurement."""
    names = ", ".join(results.contestants)
    return f"{len(results.contestants)} contestants answered alike in {len(results.loads)} loads: {names}"


def bold(text):
    plain = not sys.stdout.isatty() or os.environ.get("NO_COLOR")
    return text if plain else f"\033[1m{text}\033[0m"
