"""Who takes part, how each is told to do one thing and to do nothing else, and which version it is."""
import json
import os
import re
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
PORT = 26881


class Job:
    """What a client is to work on."""

    def __init__(self, torrent, dest, home):
        self.torrent, self.dest, self.home = torrent, dest, home


class Client:
    """One program. `get`, `seed`, `check` and `create` give a command line, or None if it cannot be told to do that alone."""

    name = ""

    def __init__(self, program):
        self.program = program

    def missing(self):
        """Why it cannot take part; None if it can."""
        if self.program and shutil.which(self.program):
            return None
        return f"{self.program or self.name} is not installed"

    def unable(self, arena):
        """Why it cannot work there; None if it can."""
        return None

    def version(self):
        return _first_version([self.program, "--version"])

    def get(self, job):
        return None

    def seed(self, job):
        return None

    def check(self, job):
        return None

    def create(self, payload, output, threads):
        return None

    def is_done(self, job):
        """For a program that does not end by itself: tells when it is done."""
        return None

    def figures(self, cost):
        """Wall and CPU seconds of the work alone, where the program tells them."""
        return cost.wall, cost.cpu


class Seedbank(Client):
    name = "seedbank"
    QUIET = ["--log", "human", "-q"]

    def _common(self, job):
        return ["--state", f"{job.home}/state", "--tcp-listen", f"0.0.0.0:{PORT}", "--dht-listen", "", *self.QUIET]

    def get(self, job):
        return [self.program, "get", job.torrent, "--dest", job.dest] + self._common(job)

    def seed(self, job):
        return [self.program, "seed", job.torrent, "--dest", job.dest] + self._common(job)

    def check(self, job):
        return [self.program, "verify", job.torrent, job.dest, "--state", f"{job.home}/state", *self.QUIET]

    def create(self, payload, output, threads):
        return [self.program, "create", payload, "--format", "torrent", "-o", output, *self.QUIET]


class Libtorrent(Client):
    name = "libtorrent"

    def missing(self):
        try:
            subprocess.run([sys.executable, "-c", "import libtorrent"], check=True, capture_output=True, timeout=20)
        except (OSError, subprocess.SubprocessError):
            return "python's libtorrent is not installed (pip install libtorrent)"
        return None

    def version(self):
        return _first_version([sys.executable, "-c", "import libtorrent; print(libtorrent.__version__)"])

    def _peer(self, mode, job):
        return [sys.executable, f"{HERE}/libtorrent_peer.py", mode, job.torrent, job.dest, str(PORT)]

    def get(self, job):
        return self._peer("get", job)

    def seed(self, job):
        return self._peer("seed", job)

    def check(self, job):
        return self._peer("check", job)

    def figures(self, cost):
        told = re.search(r"done wall (\S+) cpu (\S+)", cost.output)
        # Without the start of the interpreter, which is not libtorrent's.
        return (float(told[1]), float(told[2])) if told else (cost.wall, cost.cpu)


class Aria2(Client):
    name = "aria2"
    QUIET = ["--no-conf", "--enable-dht=false", "--enable-dht6=false", "--bt-enable-lpd=false",
             "--enable-peer-exchange=false", "--summary-interval=0", "-q"]

    def _common(self, job):
        return [self.program, *self.QUIET, f"--listen-port={PORT}", "--bt-max-peers=100", "-d", job.dest]

    def get(self, job):
        return self._common(job) + ["--seed-time=0", "--file-allocation=falloc", job.torrent]

    def seed(self, job):
        return self._common(job) + ["--seed-ratio=0.0", "--bt-seed-unverified=true", "--allow-overwrite=true",
                                    job.torrent]

    def check(self, job):
        return self._common(job) + ["--check-integrity=true", "--hash-check-only=true", job.torrent]


class Rqbit(Client):
    name = "rqbit"

    def _common(self):
        return [self.program, "-v", "error", "--disable-dht", "--disable-upnp-port-forward", "--disable-lsd",
                "--listen-port", str(PORT), "download", "--disable-http-api"]

    def get(self, job):
        return self._common() + ["-o", job.dest, "--exit-on-finish", job.torrent]

    def seed(self, job):
        return self._common() + ["-o", job.dest, "--overwrite", job.torrent]


class Transmission(Client):
    """Ends only when it is told to: the script that it runs after a download leaves a mark."""

    name = "transmission"
    # No encryption unless it is asked for: the partner speaks none, and a second attempt comes late.
    QUIET = {"encryption": 0, "dht-enabled": False, "lpd-enabled": False, "pex-enabled": False, "utp-enabled": False}

    def version(self):
        return _first_version([self.program, "--version"])

    def unable(self, arena):
        return None if arena.spaces else "Transmission has no use for peers at 127.0.0.1"

    def get(self, job):
        script = f"{job.home}/finished"
        with open(script, "w") as file:
            file.write(f"#!/bin/sh\n: > {job.home}/done\n")
        os.chmod(script, 0o755)
        with open(f"{job.home}/settings.json", "w") as file:
            json.dump(self.QUIET, file)
        return [self.program, "-g", job.home, "-w", job.dest, "-p", str(PORT), "-M", "-f", script, job.torrent]

    def is_done(self, job):
        return lambda: os.path.exists(f"{job.home}/done")


class Mktorrent(Client):
    name = "mktorrent"

    def version(self):
        return _first_version([self.program, "-h"])

    def create(self, payload, output, threads):
        return [self.program, "-l", "18", "-t", str(threads), "-o", output, "-a", "http://tracker.invalid/announce", payload]


class Openssl(Client):
    """Not a client: what reading and one SHA-1 over everything cost."""

    name = "openssl sha1"

    def version(self):
        return _first_version([self.program, "version"])

    def check(self, job):
        return [self.program, "sha1", f"{job.dest}/payload.bin"]


class Floor(Client):
    """Not a client: the same bytes received, hashed and written with no protocol around them, nothing synced."""

    name = "floor"

    def missing(self):
        return None

    def version(self):
        return None


def _first_version(command):
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"\d+\.\d+[\w.]*", result.stdout + result.stderr)
    return found[0] if found else None
