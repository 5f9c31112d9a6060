"""The processes of whoever is measured: started, counted, ended.

Everything that this script starts, and whatever that starts, stays its descendant: it is a subreaper
(PR_SET_CHILD_SUBREAPER), so that a process whose parent left comes back to it. One contestant runs at
a time, and a load generator never while anything is counted: what lives is the contestant's.
"""

import ctypes
import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
LIBC = ctypes.CDLL(None, use_errno=True)
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

# For what has to come to pass: a server to start, or to end.
PATIENCE_SECONDS = 30
LEAVE_WITHIN_SECONDS = 10
KILLS = 5


class Trouble(Exception):
    """Why somebody cannot be measured."""


def adopt_orphans():
    LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def start(command, log, env=None, cwd=None):
    """A program that does not outlive this script, whatever becomes of it."""
    try:
        return subprocess.Popen(
            command, env={**os.environ, **(env or {})}, cwd=cwd, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True, preexec_fn=lambda: LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0),
        )
    except OSError as err:
        raise Trouble(f"cannot start {command[0]}: {err.strerror}") from None


class Tree:
    """Everybody alive whom this script has started, or who was started by those."""

    def __init__(self):
        parents, self.names, self.reaped = {}, {}, {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                # The name is in parentheses, and may have some itself.
                name, _, fields = (entry / "stat").read_text().partition("(")[2].rpartition(")")
            except OSError:
                continue
            state, parent, *others = fields.split()
            if state not in "ZX":
                pid = int(entry.name)
                parents[pid], self.names[pid] = int(parent), name
                # cutime and cstime of proc_pid_stat(5).
                self.reaped[pid] = (int(others[11]) + int(others[12])) / TICKS
        self.pids = sorted(pid for pid in parents if self.descends(pid, parents))
        self.leaves = [pid for pid in self.pids if pid not in parents.values()]

    @staticmethod
    def descends(pid, parents):
        while pid in parents:
            pid = parents[pid]
            if pid == os.getpid():
                return True
        return False

    def cpu(self):
        """Seconds that each of them ran so far. By its own clock, which counts nanoseconds, and with
        the children that it has reaped, who are counted in ticks."""
        seconds = {}
        for pid in self.pids:
            try:
                # A process's CPU clock: clock_getcpuclockid(3), CPUCLOCK_SCHED.
                seconds[pid] = time.clock_gettime(~pid << 3 | 2) + self.reaped[pid]
            except OSError:
                pass
        return seconds

    def pss(self):
        """Bytes of memory, pages that several share divided among them."""
        kibibytes = 0
        for pid in self.pids:
            try:
                lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            except OSError:
                continue
            kibibytes += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        return kibibytes * 1024


def end(roots):
    """Asks them to leave, ends whoever does not, and answers with the names of those."""
    for root in roots:
        if root.poll() is None:
            root.send_signal(signal.SIGTERM)
    if gone_within(LEAVE_WITHIN_SECONDS):
        return []
    stayed = {}
    for _ in range(KILLS):
        tree = Tree()
        stayed |= {pid: tree.names[pid] for pid in tree.pids}
        for pid in tree.pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        # Whoever was started meanwhile is not among them.
        if gone_within(LEAVE_WITHIN_SECONDS / KILLS):
            break
    return list(stayed.values())


def gone_within(seconds):
    """Whether everybody is, after having been reaped."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        except ChildProcessError:
            return True
        time.sleep(0.01)
    return False


def until(is_so, what):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        if time.monotonic() > deadline:
            raise Trouble(f"{what} within {PATIENCE_SECONDS} s")
        time.sleep(0.02)


def end_when_told():
    """SIGTERM and SIGHUP as Ctrl-C: whoever is on stage is ended first."""
    def interrupt(*_):
        raise KeyboardInterrupt

    for told in [signal.SIGTERM, signal.SIGHUP]:
        signal.signal(told, interrupt)
