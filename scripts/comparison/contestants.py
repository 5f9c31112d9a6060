"""Who is compared, and how each of them is started."""

import json
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Callable

from comparison.install import GUNICORN, PM2

ROOT = Path(__file__).resolve().parent.parent.parent
PEERS = ROOT / "tests/common/peers"
SERVER_JS = str(PEERS / "server.js")
HOST = "127.0.0.1"


@dataclass
class Stage:
    """What one start has to go by."""

    binaries: Path
    programs: Path
    where: Path
    port: int
    # For a front's own processes.
    more_ports: list
    workers: int
    # The length of the header that makes its answer as long as everybody's.
    pad: int
    # Microseconds of a CPU for each request.
    burn: int = 0

    @property
    def address(self):
        return f"{HOST}:{self.port}"

    @property
    def control(self):
        return str(self.where / "control")

    def server(self, *flags):
        burn = ["--burn", str(self.burn)] if self.burn else []
        return [str(self.binaries / "examples/bench_server"), *flags, "--pad", str(self.pad), *burn]

    def fill_in(self, name, **values):
        """Writes one of the configurations in tests/common/peers, and answers where."""
        path = self.where / name
        text = Template((PEERS / name).read_text())
        path.write_text(text.substitute(
            where=self.where, host=HOST, port=self.port, workers=self.workers, padding="x" * self.pad, **values
        ))
        return str(path)


@dataclass
class Contestant:
    name: str
    title: str
    # What is started: commands, each with what its environment has more.
    commands: Callable
    # Whether it is asked how it shares by rr-ctl, because rr-master runs it.
    is_ours: bool = False
    # The processes that stand before those who serve.
    fronts: tuple = ()
    # How many serve; None: as many as there are workers.
    servers: int | None = None
    needs: list = field(default_factory=list)
    # It closes every connection, and does not say so.
    never_keeps: bool = False
    # Why this build cannot run it, if it cannot.
    missing: Callable = lambda binaries: None


def ours(name, title, *flags, program=lambda stage: stage.server(), **others):
    def commands(stage):
        master = [str(stage.binaries / "rr-master"), "--control", stage.control, "-w", str(stage.workers)]
        return [([*master, "-l", stage.address, *flags, "--", *program(stage)], {})]

    return Contestant(name, title, commands, is_ours=True, **others)


def floor(name, title, *flags):
    return Contestant(name, title, lambda stage: [(stage.server(stage.address, *flags), {})], servers=1)


def node(kind, stage, **more):
    return {"KIND": kind, "HOST": HOST, "PORT": str(stage.port), "PAD": str(stage.pad), **more}


def node_cluster(name, title, kind, policy):
    def commands(stage):
        env = node(kind, stage, WORKERS=str(stage.workers), NODE_CLUSTER_SCHED_POLICY=policy)
        return [(["node", SERVER_JS], env)]

    return Contestant(name, title, commands, needs=["node"])


def preload(name, title, kind):
    def commands(stage):
        master = [str(stage.binaries / "rr-master"), "--control", stage.control, "-w", str(stage.workers)]
        return [([*master, "--preload", "node", SERVER_JS], node(kind, stage))]

    return Contestant(name, title, commands, is_ours=True, needs=["node"])


def nginx(name, title, options):
    def commands(stage):
        path = stage.fill_in("nginx.conf", options=options)
        return [(["nginx", "-p", str(stage.where), "-c", path, "-e", str(stage.where / "nginx.log")], {})]

    return Contestant(name, title, commands, needs=["nginx"])


def gunicorn(stage):
    flags = ["--workers", str(stage.workers), "--bind", stage.address, "--backlog", "4096", "--log-level", "warning"]
    app = ["--pythonpath", str(PEERS), "--no-control-socket", "app:application"]
    return [([str(stage.programs / GUNICORN), *flags, *app], {"PAD": str(stage.pad), "PYTHONDONTWRITEBYTECODE": "1"})]


def uwsgi(stage):
    # It refuses a longer backlog than the kernel has, and drops who comes when its own is full.
    backlog = min(4096, int(Path("/proc/sys/net/core/somaxconn").read_text()))
    flags = ["--master", "--die-on-term", "--need-app", "--disable-logging", "--listen", str(backlog)]
    http = ["--http-socket", stage.address, "--processes", str(stage.workers)]
    app = ["--plugin", "python3", "--pythonpath", str(PEERS), "--module", "app:application"]
    return [(["uwsgi", *flags, *http, *app], {"PAD": str(stage.pad), "PYTHONDONTWRITEBYTECODE": "1"})]


def puma(stage):
    flags = ["--quiet", "--workers", str(stage.workers), "--threads", "5", "--environment", "production"]
    flags += ["--bind", f"tcp://{stage.address}?backlog=4096", "--dir", str(stage.where)]
    return [(["puma", *flags, str(PEERS / "config.ru")], {"PAD": str(stage.pad)})]


def pm2(stage):
    app = {
        "name": "server", "script": SERVER_JS, "cwd": str(stage.where), "exec_mode": "cluster",
        "instances": stage.workers, "env": node("http", stage),
        "out_file": "/dev/null", "error_file": str(stage.where / "pm2.log"),
    }
    path = stage.where / "ecosystem.json"
    path.write_text(json.dumps({"apps": [app]}))
    command = ["node", str(stage.programs / PM2), "start", str(path)]
    return [(command, {"PM2_HOME": str(stage.where / "pm2"), "PM2_DISCRETE_MODE": "true"})]


def haproxy(stage):
    servers = [f"    server process{slot} {HOST}:{port}" for slot, port in enumerate(stage.more_ports)]
    path = stage.fill_in("haproxy.cfg", servers="\n".join(servers))
    processes = [(stage.server(f"{HOST}:{port}"), {}) for port in stage.more_ports]
    return [*processes, (["haproxy", "-db", "-q", "-f", path], {})]


def splice(stage):
    paths = [f"unix:{stage.where / str(slot)}" for slot in range(stage.workers)]
    processes = [(stage.server(path), {}) for path in paths]
    return [*processes, ([str(stage.binaries / "examples/splice_proxy"), stage.address, *paths], {})]


def no_defer_accept(binaries):
    help_text = subprocess.run([binaries / "rr-master", "--help"], capture_output=True, text=True, timeout=30).stdout
    return None if "--defer-accept" in help_text else "this rr-master has no --defer-accept"


def no_splice_proxy(binaries):
    is_there = (binaries / "examples/splice_proxy").exists()
    return None if is_there else "there is no examples/splice_proxy beside rr-master"


CONTESTANTS = {it.name: it for it in [
    floor("floor", "bare server, 1 process"),
    floor("floor-deferred", "bare server, deferred", "--defer-accept"),
    ours("hand-off", "rr-master, hand-off"),
    ours("hand-off-deferred", "rr-master, deferred", "--defer-accept", "1s", missing=no_defer_accept),
    ours("shared", "rr-master, shared", "--dispatch", "shared"),
    ours("reuseport", "rr-master, reuseport", "--dispatch", "reuseport"),
    ours("pool", "rr-master, thread pool", program=lambda stage: stage.server("--pool")),
    preload("preload-net", "rr-master, Node net", "net"),
    preload("preload-http", "rr-master, Node http", "http"),
    Contestant("splice", "bare splicing proxy", splice, fronts=("splice_proxy",), missing=no_splice_proxy),
    nginx("nginx", "nginx, shared", ""),
    nginx("nginx-deferred", "nginx, shared, deferred", "deferred"),
    nginx("nginx-reuseport", "nginx, reuseport", "reuseport"),
    node_cluster("node-net", "Node cluster net, rr", "net", "rr"),
    node_cluster("node-net-shared", "Node cluster net, shared", "net", "none"),
    node_cluster("node-http", "Node cluster http, rr", "http", "rr"),
    node_cluster("node-http-shared", "Node cluster http, shared", "http", "none"),
    Contestant("pm2", "pm2 cluster, Node http", pm2, needs=["node", "pm2"]),
    Contestant("gunicorn", "gunicorn, sync", gunicorn, needs=["gunicorn"]),
    Contestant("uwsgi", "uWSGI", uwsgi, never_keeps=True, needs=["uwsgi"]),
    Contestant("puma", "puma cluster", puma, needs=["puma"]),
    Contestant("haproxy", "HAProxy, 4 processes", haproxy, fronts=("haproxy",), needs=["haproxy"]),
]}

# What process clusters are taught with.
LESSON = {it.name: it for it in [
    floor("process", "one process"),
    floor("threads", "one process, 4 threads", "--threads", "4"),
    ours("processes", "rr-master, 4 processes"),
]}
