"""docs/performance.md: what stands between its markers, and the files beside it.

A part begins with `<!-- compare: NAME -->` and ends with `<!-- end -->`; everything else is people's.
"""

import re

from comparison import aims, chart
from comparison.processes import Trouble
from comparison.table import cell

# Of the comparison that process clusters are taught with.
LESSON_BURN = 200

COLUMNS = [
    ("requests/s", "rate", "{:,.0f}"),
    ("p50 ms", "p50_ms", "{:.2f}"),
    ("p99 ms", "p99_ms", "{:.2f}"),
    ("failed", "failed", "{:.0f}"),
    ("CPU µs", "cpu_us", "{:.1f}"),
    ("to the floor", ("floor", "process"), "{:.2f}"),
    ("to nginx", ("nginx",), "{:.2f}"),
    ("to Node", ("node-net",), "{:.2f}"),
    ("memory MiB", "pss_mib", "{:.1f}"),
    ("least %", "least", "{:.0f}"),
    ("most %", "most", "{:.0f}"),
]


def update(path, results, lesson):
    """Writes every part into the document, and what the parts are made of beside it."""
    beside = path.with_suffix("")
    beside.mkdir(exist_ok=True)
    results.write_csv(beside / "compare.csv")
    write_chart(results, beside / "compare.svg")
    parts = {"conditions": conditions(results), "aims": aims.table(results)}
    parts |= {load: table(results, results.loads[load]) for load in results.loads}
    if lesson:
        lesson.write_csv(beside / "burn.csv")
        parts["burn"] = table(lesson, lesson.loads["c20"])
    text = path.read_text()
    for name, part in parts.items():
        text = replaced(text, name, part, path)
    path.write_text(text)


def replaced(text, name, part, path):
    begin, end = f"<!-- compare: {name} -->", "<!-- end -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(text):
        raise Trouble(f"{path} has no part between {begin} and {end}")
    return pattern.sub(lambda _: f"{begin}\n{part}\n{end}", text, count=1)


def tables(results):
    """Everything that is known, for people to look at before it is in the document."""
    parts = [conditions(results)]
    parts += [f"### {load.title}\n\n{table(results, load)}" for load in results.loads.values()]
    if verdicts := aims.table(results):
        parts.append(f"### Aims\n\n{verdicts}")
    return "\n\n".join(parts)


def conditions(results):
    said = results.conditions
    burn = f", a handler that runs {said['burn_us']} µs" if said["burn_us"] else ""
    return (
        f"{said['date']}, {said['machine']}: medians of {said['rounds']} rounds of {said['connections']:,} connections "
        f"with ab and {said['seconds']} s with wrk, {said['workers']} workers{burn}. "
        f"{', '.join(f'{name} {version}' for name, version in said['versions'].items())}."
    )


def table(results, load):
    def row(cells):
        return f"| {' | '.join(cells)} |"

    names = [name for name in results.contestants if results.rounds(name, load.name, "rate")]
    body = [[cell(results, name, load.name, what, form) for _, what, form in COLUMNS] for name in names]
    # A column in which nobody has anything to say is none.
    told = [at for at in range(len(COLUMNS)) if any(cells[at] != "-" for cells in body)]
    lines = [row(["", *(COLUMNS[at][0] for at in told)]), row(["---", *("---:" for _ in told)])]
    for name, cells in zip(names, body):
        lines.append(row([results.contestants[name].title, *(cells[at] for at in told)]))
    return "\n".join(lines)


def write_chart(results, path):
    path.write_text(chart.svg(results))
