"""What was found: every round of everybody, and the medians."""

import csv
import json
import os
import platform
import re
import statistics
import subprocess
import time
from pathlib import Path

from comparison.install import VERSIONS

MEASURES = ["requests", "rate", "p50_ms", "p99_ms", "failed", "cpu_us", "pss_mib", "least", "most", "spread"]


class Results:
    def __init__(self, contestants, loads, args):
        self.contestants = {it.name: it for it in contestants}
        self.loads = {it.name: it for it in loads}
        self.rows = []
        self.conditions = {
            "date": time.strftime("%Y-%m-%d"),
            "machine": machine(),
            "rounds": args.rounds,
            "connections": args.connections,
            "seconds": args.seconds,
            "workers": args.workers,
            "burn_us": args.burn,
            "versions": versions(contestants, args),
        }

    def add(self, number, contestant, found):
        for load, measures in found.items():
            self.rows.append({"round": number + 1, "contestant": contestant, "load": load, **measures})

    def rounds(self, contestant, load, measure):
        """In the order of the rounds; empty where it was not taken."""
        mine = [row for row in self.rows if row["contestant"] == contestant and row["load"] == load]
        return [row[measure] for row in mine if row.get(measure) is not None]

    def median(self, contestant, load, measure):
        values = self.rounds(contestant, load, measure)
        return statistics.median(values) if values else None

    def ratio(self, contestant, other, load, measure="cpu_us"):
        """The median of the rounds' ratios: what the machine did in a round, it did to both."""
        pairs = zip(self.rounds(contestant, load, measure), self.rounds(other, load, measure))
        ratios = [mine / theirs for mine, theirs in pairs]
        return statistics.median(ratios) if ratios else None

    def failed(self):
        return [f"{int(row['failed'])} of {row['contestant']} at {row['load']}" for row in self.rows if row["failed"]]

    def json(self):
        return json.dumps({"conditions": self.conditions, "rounds": self.rows}, indent=2)

    def write_csv(self, path):
        with open(path, "w", newline="") as file:
            columns = ["round", "contestant", "load", *MEASURES]
            writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
            writer.writeheader()
            for row in self.rows:
                writer.writerow({key: rounded(value) for key, value in row.items()})


def rounded(value):
    return f"{value:.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else value


def machine():
    """As people would say which."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    model = models[0].partition(":")[2].strip() if models else platform.machine()
    return f"{len(os.sched_getaffinity(0))} CPUs ({model}), Linux {platform.release()}"


def versions(contestants, args):
    """What the peers say that they are."""
    found = {}
    for name in sorted({need for it in contestants for need in it.needs}):
        command = [str(word).format(programs=args.programs) for word in VERSIONS[name]]
        said = subprocess.run(command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
        version = re.search(r"\d+\.\d+(\.\d+)?", said.stdout + said.stderr)
        found[name] = version.group(0) if version else "of an unknown version"
    return found
