"""Installs what the comparison needs when it is missing: from Debian, from npm, from PyPI."""

import os
import shutil
import subprocess
import sys

GUNICORN = "venv/bin/gunicorn"
PM2 = "pm2/node_modules/pm2/bin/pm2-runtime"

# Commands, and the Debian packages that they come with.
DEBIAN = {
    "ab": ["apache2-utils"],
    "wrk": ["wrk"],
    "nginx": ["nginx-light"],
    "node": ["nodejs"],
    "npm": ["npm"],
    "haproxy": ["haproxy"],
    "puma": ["puma"],
    "uwsgi": ["uwsgi-core", "uwsgi-plugin-python3"],
}

# What says which version it is.
VERSIONS = {
    "nginx": ["nginx", "-v"],
    "node": ["node", "--version"],
    "haproxy": ["haproxy", "-v"],
    "puma": ["puma", "--version"],
    "uwsgi": ["uwsgi", "--version"],
    "gunicorn": ["{programs}/" + GUNICORN, "--version"],
    "pm2": ["node", "-p", "require('{programs}/pm2/node_modules/pm2/package.json').version"],
}


class CannotInstall(Exception):
    """What is missing, and why it stays so."""


def need(name, programs):
    """Has it, or gets it; `programs` is where what comes from no Debian package is kept."""
    if name == "gunicorn":
        if not (programs / GUNICORN).exists():
            run(["python3", "-m", "venv", programs / "venv"], name)
            run([programs / "venv/bin/pip", "install", "-q", "--disable-pip-version-check", "gunicorn"], name)
    elif name == "pm2":
        if not (programs / PM2).exists():
            need("npm", programs)
            flags = ["--silent", "--no-fund", "--no-audit", "--no-package-lock", "--prefix", programs / "pm2"]
            (programs / "pm2").mkdir(parents=True, exist_ok=True)
            run(["npm", "install", *flags, "pm2@6"], name)
    elif not shutil.which(name):
        sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
        run([*sudo, "apt-get", "update", "-qq"], name)
        run([*sudo, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y", "-qq", *DEBIAN[name]], name)


def run(command, name):
    command = [str(word) for word in command]
    print(f"scripts/compare: for {name}: {' '.join(command)}", file=sys.stderr)
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600)
    except (OSError, subprocess.TimeoutExpired) as err:
        raise CannotInstall(f"{name} is missing and cannot be installed: {err}") from None
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise CannotInstall(f"{name} is missing and cannot be installed: {said[-1] if said else command}")
