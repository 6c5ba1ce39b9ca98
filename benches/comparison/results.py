"""Runs and what follows from them: medians, ratios, a table. One file holds them together with the machine they were made on."""
import json
import os
import platform
import statistics
import time

NOT_CLIENTS = ("floor", "openssl sha1")


class Results:
    def __init__(self, about, runs=()):
        self.about, self.runs = about, list(runs)

    @classmethod
    def load(cls, path):
        with open(path) as file:
            content = json.load(file)
        return cls(content["about"], content["runs"])

    def save(self, path):
        runs = ",\n".join("    " + json.dumps(run) for run in self.runs)
        about = json.dumps(self.about, indent=2).replace("\n", "\n  ")
        with open(f"{path}.new", "w") as file:
            file.write(f'{{\n  "about": {about},\n  "runs": [\n{runs}\n  ]\n}}\n')
        os.replace(f"{path}.new", path)

    def of(self, scenario, client):
        return [run for run in self.runs if run["scenario"] == scenario and run["client"] == client]

    def clients(self, scenario):
        """Those with a good run, in the order in which they came first."""
        return list(dict.fromkeys(run["client"] for run in self.runs if run["scenario"] == scenario))

    def median(self, scenario, client, figure):
        values = [run[figure] for run in self.of(scenario, client) if run.get(figure) is not None]
        return statistics.median(values) if values else None

    def speed(self, scenario, client):
        """Bytes per second, by the median."""
        return self.about["size"] / self.median(scenario, client, "wall")

    def cpu_per_gib(self, scenario, client):
        return self.median(scenario, client, "cpu") * (1 << 30) / self.about["size"]

    def standing(self, scenarios):
        """Markdown: seedbank's medians over those of the best other, and what they are to be at the most."""
        lines = ["| seedbank's | time ÷ the fastest other's | the same until durable | CPU ÷ the leanest other's | CPU ÷ the floor's | MB of its own |",
                 "|---|---|---|---|---|---|"]
        for scenario in scenarios:
            clients = self.clients(scenario.key)
            if scenario.key == "syncs" or "seedbank" not in clients:
                continue
            others = [client for client in clients if client != "seedbank" and client not in NOT_CLIENTS]
            floors = [client for client in clients if client in NOT_CLIENTS]
            cells = [
                self._beside(scenario, "time", "wall", others),
                self._beside(scenario, "durable", "durable", others),
                self._beside(scenario, "cpu", "cpu", others),
                self._beside(scenario, "floor", "cpu", floors),
                _cell(scenario, "anonymous", self.median(scenario.key, "seedbank", "anonymous") / 1e6, 0),
            ]
            lines.append(f"| {scenario.title} | {' | '.join(cells)} |")
        return "\n".join(lines)

    def _beside(self, scenario, goal, figure, others):
        """The ratio to the least of `others`."""
        medians = [(self.median(scenario.key, other, figure), other) for other in others]
        medians = [(median, other) for median, other in medians if median is not None]
        if not medians:
            return "–"
        least, best = min(medians)
        name = "" if best == "floor" else f" {best}"
        return _cell(scenario, goal, self.median(scenario.key, "seedbank", figure) / least, 2, name)

    def table(self, scenarios):
        """Markdown; ratios are to seedbank."""
        lines = ["| | client | s | MB/s | × | CPU s/GiB | × | MB of its own | s, durable | × | syncs |",
                 "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|"]
        for scenario in scenarios:
            if scenario.key == "syncs":
                continue
            title = scenario.title
            timed = self.clients(scenario.key)
            timed.sort(key=lambda client: -self.speed(scenario.key, client))
            only_counted = [client for client in self.clients("syncs")
                            if client not in timed and self._syncs(scenario.key, client) is not None]
            for client in timed + only_counted:
                cells = self._cells(scenario.key, client, timed) if client in timed else ["–"] * 8
                syncs = self._syncs(scenario.key, client)
                name = f"**{client}**" if client == "seedbank" else client
                lines.append(" | ".join([f"| {title}", name, *cells, "" if syncs is None else f"{syncs:,.0f}"]) + " |")
                title = ""
        return "\n".join(lines)

    def _syncs(self, scenario, client):
        return self.median("syncs", client, scenario)

    def _cells(self, scenario, client, clients):
        wall, cpu = self.median(scenario, client, "wall"), self.cpu_per_gib(scenario, client)
        slower = cheaper = "–"
        if "seedbank" in clients:
            slower = f"{wall / self.median(scenario, 'seedbank', 'wall'):.2f}"
            cheaper = f"{cpu / self.cpu_per_gib(scenario, 'seedbank'):.2f}"
        anonymous = self.median(scenario, client, "anonymous") / 1e6
        return [f"{wall:.2f}", f"{self.speed(scenario, client) / 1e6:,.0f}", slower, f"{cpu:.2f}", cheaper, f"{anonymous:.0f}",
                *self._durable(scenario, client)]

    def _durable(self, scenario, client):
        """Seconds until all was on the medium, and their ratio to seedbank's."""
        seconds, own = self.median(scenario, client, "durable"), self.median(scenario, "seedbank", "durable")
        if seconds is None:
            return ["", ""]
        return [f"{seconds:.2f}", f"{seconds / own:.2f}" if own else "–"]


def _cell(scenario, goal, value, digits, name=""):
    """A figure and its goal; bold if it is missed."""
    most = scenario.goals.get(goal)
    shown = f"{value:.{digits}f}{name}"
    if most is None:
        return shown
    return f"{f'**{shown}**' if value > most else shown} (≤ {most:.{digits}f})"


def about(size, folder, how, versions):
    """The machine and what ran on it."""
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "size": size,
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "sha_instructions": "sha_ni" in _read("/proc/cpuinfo").split(),
        "memory": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "kernel": platform.release(),
        "filesystem": _filesystem(folder),
        "network": how,
        "versions": versions,
    }


def _read(path):
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""


def _cpu():
    for line in _read("/proc/cpuinfo").splitlines():
        if line.lower().startswith(("model name", "cpu part")):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def _filesystem(folder):
    """The type of the deepest mount that holds `folder`."""
    mounts = (line.split()[1:3] for line in _read("/proc/self/mounts").splitlines())
    above = [(len(where), kind) for where, kind in mounts if os.path.commonpath([where, folder]) == where]
    return max(above)[1] if above else "unknown"
