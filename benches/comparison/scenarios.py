"""What is measured, and how one run of it goes."""
import fcntl
import hashlib
import os
import re
import shutil
import struct
import time

from .arena import Failed, warm
from .clients import PORT, Aria2, Floor, Job, Libtorrent, Mktorrent, Openssl, Rqbit, Seedbank, Transmission

SEED_PORT, TRACKER_PORT, FLOOR_PORT = 16881, 16969, 16882
CALLS = "fsync,fdatasync,msync,sync,syncfs"
BEGUN = re.compile(r"^\d+ +\w+\(")  # of strace's lines, one of a call that begins


class Scenario:
    """`goals`: what seedbank is to reach at the most, as `results.Results.standing` names and counts it."""

    def __init__(self, key, title, clients, run, **goals):
        self.key, self.title, self.clients, self.run, self.goals = key, title, clients, run, goals


def spread(folder):
    """Asks ext4 to put the folders in `folder` far from each other (chattr +T), each where few others are. Near others are the inodes
    that somebody else freed: what `Runner.clear` avoids, done by any other program or by the end of the last comparison."""
    get, put, top = 0x80086601, 0x40086602, 0x20000
    handle = os.open(folder, os.O_RDONLY)
    try:
        flags = struct.unpack("l", fcntl.ioctl(handle, get, bytes(8)))[0]
        fcntl.ioctl(handle, put, struct.pack("l", flags | top))
    except OSError:
        pass  # Another filesystem, which does not need it.
    finally:
        os.close(handle)


class Payload:
    """The bytes of all scenarios, in one folder: `payload.bin`, and torrents of them."""

    def __init__(self, folder, size):
        self.folder, self.size = folder, size
        self.file = f"{folder}/payload.bin"
        self.digest = digest([self.file])

    def cache(self):
        """Brings it into the page cache, which some machines empty of whatever was not touched for seconds (DAMON)."""
        into = bytearray(1 << 20)
        with open(self.file, "rb", buffering=0) as file:
            while file.readinto(into):
                pass

    def torrent(self, kind):
        return f"{self.folder}/{kind}.torrent"


def digest(files):
    """SHA-1 of the concatenated files; reading them also brings them into the page cache."""
    hasher = hashlib.sha1()
    for path in files:
        with open(path, "rb", buffering=0) as file:
            while part := file.read(1 << 20):
                hasher.update(part)
    return hasher.hexdigest()


def synced():
    """Brings all that was written to the medium; the seconds that took."""
    begun = time.monotonic()
    os.sync()
    return time.monotonic() - begun


class Runner:
    """Runs one client through one scenario, in fresh folders."""

    def __init__(self, arena, payload, helper, work):
        self.arena, self.payload, self.helper, self.work = arena, payload, helper, work
        self.dest, self.home = None, f"{work}/home"
        spread(work)

    def fresh(self):
        self.clear()
        self.dest = f"{self.work}/{time.time_ns()}"
        for folder in (self.dest, self.home):
            os.makedirs(folder)
        # What an earlier run left to be written is not this one's to wait for.
        os.sync()
        warm(4 * self.payload.size)
        self.payload.cache()

    def clear(self):
        """Empties what a run left behind. The files stay until the end, without a byte: ext4 passes one by one over the inodes that were
        freed within the last minutes, so that whoever makes files beside 5,000 deleted ones pays seconds of CPU time for them."""
        shutil.rmtree(self.home, ignore_errors=True)
        if self.dest is None:
            return
        for folder, _, names in os.walk(self.dest):
            for name in names:
                os.truncate(f"{folder}/{name}", 0)
        self.dest = None

    def download(self, client, kind="256k", seeders=1, wrap=()):
        self.fresh()
        torrent = self.payload.torrent(kind)
        if isinstance(client, Floor):
            return self._floor(torrent, wrap)
        job = Job(torrent, self.dest, self.home)
        at = [self.arena.partner] if seeders == 1 else self.arena.crowd[:seeders]
        peers = ",".join(f"{address}:{SEED_PORT}" for address in at)
        seeder = self.arena.start(
            [self.helper, "seed", torrent, self.payload.file, f"0.0.0.0:{SEED_PORT}",
             f"{self.arena.partner}:{TRACKER_PORT}", peers], False)
        try:
            self.arena.partner_says(seeder, "seeding")
            command = [*wrap, *client.get(job)]
            cost = self.arena.run(command, self.home, client.is_done(job))
            sync = synced()
        finally:
            self.arena.end(seeder)
        return self._checked(client, cost, sync)

    def _floor(self, torrent, wrap):
        server = self.arena.start(
            [self.helper, "floor-serve", self.payload.file, f"{self.arena.partner}:{FLOOR_PORT}"], False)
        try:
            self.arena.partner_says(server, "serving")
            command = [self.helper, "floor-get", torrent, self.dest, f"{self.arena.partner}:{FLOOR_PORT}"]
            cost = self.arena.run([*wrap, *command], self.home)
            sync = synced()
        finally:
            self.arena.end(server)
        return self._checked(None, cost, sync)

    def _checked(self, client, cost, sync):
        if cost.code:
            raise Failed(f"exit status {cost.code}: {cost.output[-300:]}")
        files = []
        for folder, _, names in os.walk(self.dest):
            files += [f"{folder}/{name}" for name in names]
        result = row(client, cost, digest(sorted(files)) == self.payload.digest)
        return result | {"durable": round(result["wall"] + sync, 4)}

    def syncs(self, client):
        """How often a download waits for the medium: runs of their own, as being traced costs time."""
        counts = {"download": self._syncs(client, "256k"), "folder": self._syncs(client, "folder")}
        return counts | {"good": None not in counts.values()}

    def _syncs(self, client, kind):
        """The calls that are begun; None if the bytes were wrong. A call with MS_ASYNC waits for nothing."""
        log = f"{self.work}/strace"
        trace = ["strace", "-f", "--seccomp-bpf", "-qq", "-e", f"trace={CALLS}", "-e", "signal=none", "-o", log]
        result = self.download(client, kind, wrap=trace)
        with open(log) as lines:
            waits = sum(bool(BEGUN.search(line)) and "MS_ASYNC" not in line for line in lines)
        os.remove(log)
        return waits if result["good"] else None

    def seed(self, client, leechers):
        self.fresh()
        torrent = self.payload.torrent("256k")
        seeder = self.arena.start(client.seed(Job(torrent, self.payload.folder, self.home)), True, self.home)
        try:
            address = f"{self.arena.client}:{PORT}"
            patience = str(int(self.arena.timeout))
            probe = self.arena.start([self.helper, "probe", torrent, address, patience], False)
            try:
                code = self.arena.wait(probe)
                if code:
                    raise Failed(f"it does not seed: {probe.output()[-200:]} {seeder.output()[-200:]}")
            finally:
                self.arena.end(probe)
            self.arena.settle(seeder)
            cost = self.arena.during(seeder, [self.helper, "leech", torrent, address, str(leechers)])
        finally:
            self.arena.end(seeder)
        cost.wall = float(cost.output.split()[0])
        return row(None, cost, True)

    def check(self, client):
        self.fresh()
        cost = self.arena.run(client.check(Job(self.payload.torrent("256k"), self.payload.folder, self.home)), self.home)
        if cost.code:
            raise Failed(f"exit status {cost.code}: {cost.output[-300:]}")
        return row(client, cost, True)

    def create(self, client):
        self.fresh()
        output = f"{self.dest}/made.torrent"
        cost = self.arena.run(client.create(self.payload.file, output, os.cpu_count()), self.home)
        if cost.code or not os.path.exists(output):
            raise Failed(f"exit status {cost.code}: {cost.output[-300:]}")
        # The hashes are in there as they are in the torrent that was made independently.
        return row(client, cost, _pieces(output) == _pieces(self.payload.torrent("256k")))


def _pieces(path):
    with open(path, "rb") as file:
        content = file.read()
    at = content.index(b"6:pieces") + len(b"6:pieces")
    colon = content.index(b":", at)
    return content[colon + 1:colon + 1 + int(content[at:colon])]


def row(client, cost, good):
    wall, cpu = client.figures(cost) if client else (cost.wall, cost.cpu)
    return {"wall": round(wall, 4), "cpu": round(cpu, 4), "anonymous": cost.anonymous, "good": good}


PEERS = (Seedbank, Libtorrent, Aria2, Rqbit)
DOWNLOAD = {"time": 0.7, "cpu": 1, "floor": 1.25, "anonymous": 48}
SEED = {"time": 1 / 1.1, "cpu": 0.9}
SCENARIOS = [
    Scenario("download", "Download, 256 KiB pieces", (*PEERS, Transmission, Floor),
             lambda runner, client: runner.download(client), **DOWNLOAD),
    Scenario("large-pieces", "Download, 2 MiB pieces", (*PEERS, Floor),
             lambda runner, client: runner.download(client, kind="2m"), **DOWNLOAD),
    Scenario("folder", "Download, folder of 5,000 files", (*PEERS, Transmission, Floor),
             lambda runner, client: runner.download(client, kind="folder"), **DOWNLOAD),
    Scenario("crowd", "Download from 50 seeders", (*PEERS, Floor),
             lambda runner, client: runner.download(client, seeders=50), **DOWNLOAD),
    Scenario("seed-1", "Seed to 1 leecher", PEERS, lambda runner, client: runner.seed(client, 1), **SEED),
    Scenario("seed-4", "Seed to 4 leechers", PEERS, lambda runner, client: runner.seed(client, 4), **SEED),
    Scenario("check", "Check 256 KiB pieces, warm cache", (Seedbank, Libtorrent, Aria2, Openssl),
             lambda runner, client: runner.check(client), time=1 / 2.5, floor=1 / 1.3),
    Scenario("create", "Make a torrent, warm cache", (Seedbank, Mktorrent), lambda runner, client: runner.create(client),
             time=1 / 1.5),
    Scenario("syncs", "Syncs of a download", (*PEERS, Transmission, Floor), lambda runner, client: runner.syncs(client)),
]
