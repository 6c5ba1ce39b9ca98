"""Where clients are measured: each alone in a control group, across the wire from a partner that costs next to nothing.

As root there are two network namespaces with a cable between them, else it is all loopback. Control groups are those of version 1
or 2, else there is what the kernel tells of a child that ended. Whatever is started here is ended here, by its id.
"""
import ctypes
import mmap
import os
import select
import signal
import subprocess
import time
from dataclasses import dataclass

LOOK = 0.02  # seconds between two looks at a process
GROUPS = "/sys/fs/cgroup"


class Failed(Exception):
    """A run that says nothing about the client's speed."""


@dataclass
class Cost:
    wall: float  # seconds
    cpu: float  # seconds
    anonymous: int  # bytes at the most
    output: str  # the end of what it printed
    code: int | None  # exit status; None if it was ended from here


class Group:
    """A control group around one program and its children."""

    def __init__(self, name):
        first = f"{GROUPS}/cpuacct"
        self.two = not os.path.isdir(first)
        roots = [GROUPS] if self.two else [first, f"{GROUPS}/memory"]
        self.folders = [f"{root}/{name}" for root in roots]
        for folder in self.folders:
            os.makedirs(folder)
        self.memory = os.path.exists(f"{self.folders[-1]}/memory.stat")

    @staticmethod
    def possible():
        two = os.path.exists(f"{GROUPS}/cgroup.controllers")
        one = os.path.isdir(f"{GROUPS}/cpuacct") and os.path.isdir(f"{GROUPS}/memory")
        return os.geteuid() == 0 and (one or two) and os.access(GROUPS, os.W_OK | os.X_OK)

    def enter(self):
        for folder in self.folders:
            with open(f"{folder}/cgroup.procs", "w") as procs:
                procs.write(str(os.getpid()))

    def cpu(self):
        if self.two:
            return self._stat("cpu.stat", "usage_usec") / 1e6
        with open(f"{self.folders[0]}/cpuacct.usage") as usage:
            return int(usage.read()) / 1e9

    def anonymous(self):
        return self._stat("memory.stat", "anon" if self.two else "rss") if self.memory else None

    def processes(self):
        with open(f"{self.folders[0]}/cgroup.procs") as procs:
            return [int(line) for line in procs]

    def close(self):
        for folder in self.folders:
            for _ in range(50):
                try:
                    os.rmdir(folder)
                    break
                except OSError:
                    time.sleep(0.05)

    def _stat(self, name, key):
        with open(f"{self.folders[-1]}/{name}") as lines:
            for line in lines:
                if line.split()[0] == key:
                    return int(line.split()[1])
        return 0


class Program:
    """A running program that is measured."""

    def __init__(self, popen, group, log):
        self.popen, self.group, self.log = popen, group, log
        self.begun = time.monotonic()
        self.peak = 0

    def look(self):
        anonymous = self.group.anonymous() if self.group else None
        if anonymous is None:
            anonymous = _status(self.popen.pid, "RssAnon:") * 1024
        self.peak = max(self.peak, anonymous)

    def cpu(self):
        """CPU seconds so far, while it runs."""
        return self.group.cpu() if self.group else _stat_cpu(self.popen.pid)

    def output(self):
        with open(self.log, "rb") as log:
            log.seek(0, os.SEEK_END)
            log.seek(max(0, log.tell() - 4000))
            return log.read().decode(errors="replace")


class Arena:
    def __init__(self, folder, timeout, loopback=False):
        self.folder, self.timeout = folder, timeout
        self.name = f"seedbank-{os.getpid()}"
        self.programs = []
        self.groups = Group.possible()
        self.spaces = os.geteuid() == 0 and not loopback and self._connect()
        # The partner's addresses, the many of a crowd of seeders, and the client's own.
        self.partner = "10.77.0.1" if self.spaces else "127.0.0.1"
        self.crowd = [f"10.77.1.{n}" if self.spaces else f"127.0.1.{n}" for n in range(1, 51)]
        self.client = "10.77.0.2" if self.spaces else "127.0.0.1"

    def how(self):
        network = "two network namespaces" if self.spaces else "loopback"
        return f"{network}, {'control groups' if self.groups else 'times of the process'}"

    def start(self, command, measured, home=None):
        """Starts a program: the client that is measured, or a partner."""
        label = f"{'client' if measured else 'partner'}-{len(self.programs)}"
        if self.spaces:
            side = "a" if measured else "b"
            command = ["ip", "netns", "exec", f"{self.name}-{side}"] + command
        group = Group(f"{self.name}-{label}") if measured and self.groups else None
        log = os.path.join(self.folder, f"{label}.log")
        environment = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
        environment.update({"HOME": home or self.folder, "XDG_STATE_HOME": home or self.folder})
        with open(log, "wb") as output:
            popen = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment,
                start_new_session=True, preexec_fn=group.enter if group else None)
        program = Program(popen, group, log)
        self.programs.append(program)
        return program

    def run(self, command, home=None, until=None):
        """Runs the client to its end, or until `until` says that it is done, and tells what it cost."""
        program = self.start(command, True, home)
        try:
            code = self.wait(program, until)
            wall = time.monotonic() - program.begun
            if program.group:
                cpu = program.group.cpu()
            elif code is None:
                cpu = program.cpu()
            else:
                cpu = program.usage.ru_utime + program.usage.ru_stime
            return Cost(wall, cpu, program.peak, program.output(), code)
        finally:
            self.end(program)

    def wait(self, program, until=None):
        """The exit status of a program once it has ended; None as soon as `until` says that it is done."""
        while (code := self._wait(program, LOOK)) is None:
            program.look()
            if until and until():
                return None
            if time.monotonic() - program.begun > self.timeout:
                raise Failed(f"not over after {self.timeout} s: {program.output()[-300:]}")
        return code

    def during(self, program, command):
        """Runs a partner's command and tells what the running client cost meanwhile, and what the command printed."""
        before = program.cpu()
        partner = self.start(command, False)
        try:
            while self._wait(partner, LOOK) is None:
                program.look()
                if time.monotonic() - partner.begun > self.timeout:
                    raise Failed(f"not over after {self.timeout} s")
            wall = time.monotonic() - partner.begun
            cpu = program.cpu() - before
            if partner.popen.returncode:
                raise Failed(partner.output().strip()[-300:])
            return Cost(wall, cpu, program.peak, partner.output(), 0)
        finally:
            self.end(partner)

    def partner_says(self, program, words):
        """Waits until a partner has printed `words`."""
        deadline = time.monotonic() + 30
        while words not in program.output():
            if time.monotonic() > deadline or program.popen.poll() is not None:
                raise Failed(f"the partner does not start: {program.output()[-300:]}")
            time.sleep(0.01)

    def settle(self, program):
        """Waits until the client does next to nothing."""
        deadline = time.monotonic() + self.timeout
        while time.monotonic() < deadline:
            before = program.cpu()
            time.sleep(0.3)
            if program.cpu() - before < 0.03:
                return
        raise Failed("it never comes to rest")

    def end(self, program):
        for _ in range(2):
            if program.popen.returncode is None:
                # A zombie of ours keeps its id until it is waited for, so this can hit nobody else.
                program.popen.send_signal(signal.SIGKILL)
            left = program.group.processes() if program.group else []
            for process in left:
                try:
                    os.kill(process, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            self._wait(program, 5)
        if program.group:
            program.group.close()
            program.group = None
        if program in self.programs:
            self.programs.remove(program)
        if os.path.exists(program.log):
            os.remove(program.log)

    def close(self):
        for program in list(self.programs):
            self.end(program)
        if self.spaces:
            self._disconnect()
            self.spaces = False

    def _wait(self, program, seconds):
        """The exit status once it has ended, None if it has not within `seconds`."""
        popen = program.popen
        if popen.returncode is not None:
            return popen.returncode
        handle = os.pidfd_open(popen.pid)
        try:
            poll = select.poll()
            poll.register(handle, select.POLLIN)
            if not poll.poll(seconds * 1000):
                return None
        finally:
            os.close(handle)
        _, status, program.usage = os.wait4(popen.pid, 0)
        popen.returncode = os.waitstatus_to_exitcode(status)
        return popen.returncode

    def _connect(self):
        """Two namespaces with a cable between; false if the machine has none."""
        cable = f"sb{os.getpid()}"
        sides = (("a", "10.77.0.2"), ("b", "10.77.0.1"))
        try:
            for side, _ in sides:
                _ip("netns", "add", f"{self.name}-{side}")
                _ip("-n", f"{self.name}-{side}", "link", "set", "lo", "up")
            _ip("link", "add", f"{cable}a", "netns", f"{self.name}-a", "type", "veth",
                "peer", "name", f"{cable}b", "netns", f"{self.name}-b")
            for side, address in sides:
                space = f"{self.name}-{side}"
                _ip("-n", space, "addr", "add", f"{address}/16", "dev", f"{cable}{side}")
                _ip("-n", space, "link", "set", f"{cable}{side}", "up")
            for n in range(1, 51):
                _ip("-n", f"{self.name}-b", "addr", "add", f"10.77.1.{n}/16", "dev", f"{cable}b")
            return True
        except (OSError, subprocess.CalledProcessError):
            self._disconnect()
            return False
        except BaseException:
            self._disconnect()
            raise

    def _disconnect(self):
        for side in "ab":
            try:
                _ip("netns", "del", f"{self.name}-{side}")
            except (OSError, subprocess.CalledProcessError):
                pass


def warm(size):
    """Touches and frees memory. In a virtual machine, what was free for two seconds may be the host's again, a sixteenth of all of it at
    a time, and whoever touches it next waits up to three seconds a GiB: that is to be nobody's bad luck. So more is touched than a run
    needs and the host takes back meanwhile."""
    with open("/proc/meminfo") as lines:
        free = next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemFree:"))
    size = min(size, free * 3 // 4) // mmap.PAGESIZE * mmap.PAGESIZE
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_HUGEPAGE)
    view = (ctypes.c_char * size).from_buffer(memory)
    ctypes.memset(view, 1, size)
    del view
    memory.close()


def _ip(*words):
    quiet = subprocess.DEVNULL
    subprocess.run(["ip", *words], check=True, stdout=quiet, stderr=quiet, timeout=20)


def _status(process, key):
    try:
        with open(f"/proc/{process}/status") as lines:
            for line in lines:
                if line.startswith(key):
                    return int(line.split()[1])
    except OSError:
        pass
    return 0


def _stat_cpu(process):
    with open(f"/proc/{process}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
