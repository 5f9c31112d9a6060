"""What the project means to reach, and whether this run did. An aim that is missed is shown as missed:
it is answered in docs/performance.md with where the time goes, not changed here."""

from dataclasses import dataclass
from typing import Callable

PEERS = [
    "nginx", "nginx-deferred", "nginx-reuseport", "node-net", "node-net-shared", "node-http", "node-http-shared",
    "pm2", "gunicorn", "uwsgi", "puma", "haproxy",
]
# All of them are for connections of one short request, 20 at a time.
LOAD = "c20"


@dataclass
class Aim:
    figure: str
    bound: float
    found: Callable
    # Otherwise at most.
    at_least: bool = False
    form: str = "{:.2f}"

    def is_met(self, value):
        return value >= self.bound if self.at_least else value <= self.bound


def cpu(mine, theirs):
    return lambda results: results.ratio(mine, theirs, LOAD)


def rate(mine):
    def found(results):
        peers = [peer for peer in PEERS if results.rounds(peer, LOAD, "rate")]
        best = max(peers, key=lambda peer: results.median(peer, LOAD, "rate"), default=None)
        return best and results.ratio(mine, best, LOAD, "rate")

    return found


AIMS = [
    Aim("CPU, hand-off deferred, to the floor", 1.10, cpu("hand-off-deferred", "floor")),
    Aim("CPU, hand-off, to the floor", 1.30, cpu("hand-off", "floor")),
    Aim("CPU, hand-off, to nginx, shared", 0.95, cpu("hand-off", "nginx")),
    Aim("CPU, hand-off deferred, to nginx, shared and deferred", 0.95, cpu("hand-off-deferred", "nginx-deferred")),
    Aim("CPU, hand-off, to Node's cluster, net, round-robin", 0.15, cpu("hand-off", "node-net")),
    Aim("requests/s, hand-off deferred, to the best of the peers", 1.0, rate("hand-off-deferred"), at_least=True),
    Aim("requests/s, hand-off, to the best of the peers", 1.0, rate("hand-off"), at_least=True),
    Aim(
        "connections that the busiest worker got more than the least busy, hand-off", 1,
        lambda results: results.median("hand-off", LOAD, "spread"), form="{:.0f}",
    ),
]


def table(results):
    """Empty if nobody took part of whom one is stated."""
    lines = []
    for aim in AIMS:
        value = aim.found(results)
        if value is not None:
            bound = ("≥ " if aim.at_least else "≤ ") + aim.form.format(aim.bound)
            verdict = "met" if aim.is_met(value) else "missed"
            lines.append(f"| {aim.figure} | {bound} | {aim.form.format(value)} | {verdict} |")
    return "\n".join(["| figure | aim | found | |", "|---|---:|---:|---|", *lines]) if lines else ""
