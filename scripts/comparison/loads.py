"""Who asks: ab with a connection for each request, wrk with connections that stay."""

import re
import subprocess
import tempfile
from dataclasses import dataclass

from comparison.processes import Trouble

LOADED_WITHIN_SECONDS = 300


@dataclass
class Load:
    name: str
    title: str
    # Where there is little room.
    caption: str
    clients: int
    keeps: bool

    def run(self, address, args):
        generate = wrk if self.keeps else ab
        return generate(address, self.clients, args.seconds if self.keeps else args.connections)

    def warm_up(self, address, args):
        """A fifth of it, so that nobody is measured who has not yet seen what comes."""
        generate = wrk if self.keeps else ab
        generate(address, self.clients, 1 if self.keeps else max(2 * self.clients, args.connections // 5))


LOADS = {it.name: it for it in [
    Load("c20", "one request per connection, 20 clients (ab -c 20)", "ab -c 20", 20, False),
    Load("c200", "one request per connection, 200 clients (ab -c 200)", "ab -c 200", 200, False),
    Load("keep", "connections that stay, 20 clients (wrk -t1 -c20)", "wrk, keep-alive", 20, True),
]}


def ab(address, clients, connections):
    with tempfile.NamedTemporaryFile("r", suffix=".csv") as percentiles:
        said = generate([
            "ab", "-q", "-n", str(connections), "-c", str(min(clients, connections)), "-e", percentiles.name,
            f"http://{address}/",
        ])
        rows = [line.split(",") for line in percentiles.read().splitlines()[1:]]
    millis = {int(percent): float(value) for percent, value in rows}
    # It says nothing of these when there are none.
    strangers = number(r"Non-2xx responses:\s+(\d+)", said) or 0
    return {
        "requests": number(r"Complete requests:\s+(\d+)", said),
        "rate": number(r"Requests per second:\s+([\d.]+)", said),
        "p50_ms": millis[50],
        "p99_ms": millis[99],
        "failed": number(r"Failed requests:\s+(\d+)", said) + strangers,
    }


def wrk(address, clients, seconds):
    said = generate(["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--latency", f"http://{address}/"])
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", said)
    strangers = number(r"Non-2xx or 3xx responses: (\d+)", said) or 0
    return {
        "requests": number(r"(\d+) requests in", said),
        "rate": number(r"Requests/sec:\s+([\d.]+)", said),
        "p50_ms": millis(re.search(r"50%\s+([\d.]+)(\w+)", said)),
        "p99_ms": millis(re.search(r"99%\s+([\d.]+)(\w+)", said)),
        "failed": strangers + (sum(map(int, errors.groups())) if errors else 0),
    }


def generate(command):
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LOADED_WITHIN_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise Trouble(f"{command[0]} did not end within {LOADED_WITHIN_SECONDS} s") from None
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise Trouble(f"{' '.join(command)}: {said[-1] if said else done.returncode}")
    return done.stdout


def number(pattern, text):
    found = re.search(pattern, text)
    return float(found.group(1)) if found else None


def millis(found):
    value, unit = found.groups()
    return float(value) * {"us": 0.001, "ms": 1, "s": 1000, "m": 60_000}[unit]
