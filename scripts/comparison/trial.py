"""One contestant on stage: started, given its pad, warmed up, measured, ended."""

import json
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

from comparison import processes
from comparison.contestants import HOST, Stage
from comparison.processes import Tree, Trouble, until

BODY = b"Hello, world!\n"

# How long everybody's answer is made. The longest, Node's with connections that stay, needs about 200.
ANSWER_BYTES = 300

# As ab and wrk ask.
LAST_REQUEST = b"GET / HTTP/1.0\r\nHost: compare\r\nUser-Agent: ApacheBench/2.3\r\nAccept: */*\r\n\r\n"
KEPT_REQUEST = b"GET / HTTP/1.1\r\nHost: compare\r\n\r\n"


class Trial:
    def __init__(self, contestant, args):
        self.contestant = contestant
        self.args = args
        # Of an answer to who wants no other, and to who may ask again.
        self.pads = {}

    def calibrate(self):
        """Finds how much its answers lack of everybody's length."""
        with self.running(pad=1) as (stage, _):
            for keeps in [False] if self.contestant.never_keeps else [False, True]:
                pad = 1 + ANSWER_BYTES - self.answer(stage, keeps)
                if pad < 1:
                    raise Trouble(f"its answer is longer than {ANSWER_BYTES} bytes even without padding")
                self.pads[keeps] = pad

    def run(self, loads):
        """What each load found; those that treat connections alike see the same processes."""
        found = {}
        for keeps in self.pads:
            alike = [load for load in loads if load.keeps == keeps]
            if not alike:
                continue
            with self.running(self.pads[keeps]) as (stage, roots):
                for _ in range(2 * self.args.workers):
                    length = self.answer(stage, keeps)
                    if length != ANSWER_BYTES:
                        raise Trouble(f"an answer of {length} bytes, where all have {ANSWER_BYTES}")
                for load in alike:
                    found[load.name] = self.measure(stage, load)
                if any(root.poll() is not None for root in roots):
                    raise Trouble("it did not survive")
        return found

    def measure(self, stage, load):
        if not self.args.quick:
            load.warm_up(stage.address, self.args)
        self.settle()
        received, before = self.received(stage), Tree().cpu()
        found = load.run(stage.address, self.args)
        if not found["requests"]:
            raise Trouble(f"nobody was answered at {load.name}")
        # The last answers were sent: what follows them is theirs, too.
        self.settle()
        tree = Tree()
        after = tree.cpu()
        used = {pid: after[pid] - before.get(pid, 0) for pid in after}
        found["cpu_us"] = sum(used.values()) * 1e6 / found["requests"]
        found["pss_mib"] = tree.pss() / 2**20
        if received:
            shares = [after - before for before, after in zip(received, self.received(stage) or [])]
            if len(shares) != self.args.workers or sum(shares) <= 0:
                raise Trouble(f"rr-ctl does not say what each worker got at {load.name}")
            found["spread"] = max(shares) - min(shares)
        else:
            shares = [used[pid] for pid in tree.leaves if tree.names[pid] not in self.contestant.fronts]
        if len(shares) > 1:
            found["least"] = 100 * min(shares) * len(shares) / sum(shares)
            found["most"] = 100 * max(shares) * len(shares) / sum(shares)
        return found

    @contextmanager
    def running(self, pad):
        with tempfile.TemporaryDirectory(prefix="compare-") as where, open(f"{where}/log", "w+") as log:
            ports = free_ports(1 + self.args.workers)
            stage = Stage(
                self.args.binaries, self.args.programs, Path(where), ports[0], ports[1:], self.args.workers, pad,
                self.args.burn or 0,
            )
            roots = []
            try:
                for command, env in self.contestant.commands(stage):
                    roots.append(processes.start(command, log, env, cwd=where))
                self.await_ready(stage, roots)
                yield stage, roots
            except Trouble as trouble:
                log.seek(0)
                said = "".join(f"\n    {line}" for line in log.read().splitlines()[-12:])
                raise Trouble(f"{self.contestant.name}: {trouble}{said}") from None
            finally:
                killed = processes.end(roots)
            if killed:
                raise Trouble(f"{self.contestant.name}: had to be killed: {', '.join(killed)}")

    def await_ready(self, stage, roots):
        def is_ready():
            if any(root.poll() is not None for root in roots):
                raise Trouble("it ended at once")
            if self.contestant.is_ours:
                return self.status(stage) is not None
            return answers(stage.port) and len(self.servers()) >= expected

        expected = self.contestant.servers or self.args.workers
        until(is_ready, "it is not ready")
        until(lambda: answers(stage.port), "nobody listens")
        self.settle()

    def servers(self):
        tree = Tree()
        return [pid for pid in tree.leaves if tree.names[pid] not in self.contestant.fronts]

    def settle(self):
        """Until nobody does anything any more: a process that starts uses a CPU."""
        def is_quiet():
            before = Tree().cpu()
            time.sleep(QUIET_SECONDS)
            after = Tree().cpu()
            return sum(after.values()) - sum(before.values()) < QUIET_SECONDS / 50

        until(is_quiet, "it does not come to rest")

    def received(self, stage):
        """How many connections each worker got, by rr-master's own account."""
        if not self.contestant.is_ours:
            return None
        loads = [worker["load"]["received"] for worker in self.status(stage)["workers"]]
        return None if None in loads else loads

    def status(self, stage):
        """None before everybody is ready."""
        asked = subprocess.run(
            [self.args.binaries / "rr-ctl", "--control", stage.control, "status", "--json"],
            capture_output=True, text=True, timeout=30,
        )
        if asked.returncode != 0:
            return None
        status = json.loads(asked.stdout)
        is_ready = status["master"]["stage"] == "serving" and status["listeners"]
        return status if is_ready else None

    def answer(self, stage, keeps):
        """Asks once, and answers with the length of what was said, if it is right."""
        with socket.create_connection((HOST, stage.port), timeout=10) as client:
            client.sendall(KEPT_REQUEST if keeps else LAST_REQUEST)
            said = b""
            while piece := client.recv(65536):
                said += piece
                head, end, body = said.partition(b"\r\n\r\n")
                if keeps and end and len(body) >= len(BODY):
                    break
        head, _, body = said.partition(b"\r\n\r\n")
        if not head.split(b"\r\n")[0].endswith(b" 200 OK") or body != BODY:
            raise Trouble(f"it answers {said[:200]!r}")
        return len(said)


def free_ports(count):
    """That nobody has now. Ours, and each server's, bind with SO_REUSEADDR."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for it in sockets:
            it.bind((HOST, 0))
        return [it.getsockname()[1] for it in sockets]
    finally:
        for it in sockets:
            it.close()


def answers(port):
    with socket.socket() as client:
        return client.connect_ex((HOST, port)) == 0


QUIET_SECONDS = 0.05
