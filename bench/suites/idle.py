# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What everything that the platform adds to a node costs while nothing happens: processor time and memory of each of its units."""

from __future__ import annotations

import contextlib
import json
import time

from bench import images
from bench.consul import Consul
from bench.cost import Cost, measure, total
from bench.figures import Figure, Figures, Target
from bench.lab import LABEL, Lab, LabError, remove_instances, wait_for
from bench.options import Options
from bench.report import Outcome
from bench.sides import Platform
from bench.svg import Panel, Row

CONTAINERS = 10
SECONDS, SETTLE_SECONDS, WINDOWS = 120, 35, 3
SERVICE = "bench-idle"
BACKUPS = 3
# The timer's pause, to spread the cost of one backup over it.
BACKUP_SECONDS = 3600
BACKUP_UNIT = "consul-backup.service"
BACKUP_DIRECTORY = "/var/lib/consul-backup"
# One looks at the size of the logs (some 15 ms in every 30 s, 0.05 % of a core), one loads a packet filter at boot.
NOT_MEASURED = {"nginx-edge-logs.service", "container-ports.service"}

# Unit -> what it is called in figures.
WORKER_UNITS = {"consul.service": "consul", "registrator.service": "registrator"}
EDGE_UNITS = {**WORKER_UNITS, Platform.template_unit: "template", Platform.nginx_unit: "nginx", Platform.apply_unit: "apply"}

PARTS = ("backup", "units")

# Runs on the node: the unit's program once, with the processor time of it and of all that it called. Its snapshots are those that come, and they go.
BACKUP = f"""\
import json, os, resource, shlex, subprocess
shown = subprocess.run(["systemctl", "cat", "{BACKUP_UNIT}"], stdout=subprocess.PIPE, check=True, text=True).stdout
command = next(line for line in shown.splitlines() if line.startswith("ExecStart=")).partition("=")[2]
before = set(os.listdir("{BACKUP_DIRECTORY}"))
subprocess.run(shlex.split(command), stdout=subprocess.DEVNULL, check=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
for name in set(os.listdir("{BACKUP_DIRECTORY}")) - before:
    os.remove(os.path.join("{BACKUP_DIRECTORY}", name))
print(json.dumps((used.ru_utime + used.ru_stime) * 1000))
"""


def _declared() -> tuple[Figure, ...]:
    what = {
        "consul": "the Consul server",
        "registrator": f"the registration engine, with {CONTAINERS} registered containers on the worker and none on the edge",
        "template": "consul-template",
        "nginx": "nginx with all its workers",
        "apply": "the apply program, which stays after its first change",
    }
    rows = [
        Figure("backup_cpu_ms", "ms", f"processor time of one snapshot, which the timer takes every hour; median of {BACKUPS}"),
    ]
    for place, units, where in (
        ("worker", WORKER_UNITS, "the node without an edge, which is a server of Consul"),
        ("edge", EDGE_UNITS, "a node with an edge, which is a server, too"),
    ):
        cpu = Target("<=", 2) if place == "worker" else None
        memory = Target("<=", 250) if place == "worker" else None
        for name in units.values():
            rows += [
                Figure(
                    f"{place}_{name}_cpu_percent", "% of a core", f"{where}: {what[name]}, processor time over {SECONDS} s, median of {WINDOWS} such windows"
                ),
                Figure(f"{place}_{name}_mb", "MB", "its proportional memory (PSS) at the end of each, median"),
            ]
        rows += [
            Figure(f"{place}_cpu_percent", "% of a core", f"{where}: all of these, and the snapshot of every hour", cpu),
            Figure(f"{place}_mb", "MB", "all of these, proportional memory (PSS)", memory),
            Figure(f"{place}_rss_mb", "MB", "all of these, resident memory (RSS), which counts a page as often as it is used"),
        ]
    return tuple(rows)


FIGURES = _declared()


class IdleBench:
    """The run of the suite."""

    def __init__(self, lab: Lab, options: Options) -> None:
        self.lab = lab
        self.options = options
        self.worker, self.edge = lab.nodes[2], lab.edges[0]
        self.consul = Consul(lab, self.worker)
        self.outcome = Outcome("idle", "A node while nothing happens", Figures(FIGURES))
        self.backup_ms = 0.0

    def set_up(self) -> None:
        """Containers as a worker has them. A first change also starts the apply program on the edges, where it stays."""
        Platform(self.lab).before_cold_change()
        self.options.say(f"{CONTAINERS} containers on {self.worker.name}")
        images.make_small(self.worker)
        labels = f"--label {LABEL}=1 --label SERVICE_NAME={SERVICE} --label SERVICE_TAGS=http"
        one = f"docker run -d -P --name bench-idle-{{}} {labels} {images.SMALL} >/dev/null"
        self.worker.run(f"seq 1 {CONTAINERS} | xargs -I '{{}}' sh -c '{one} || exit 255'", timeout=180)
        wait_for(lambda: len(self.consul.instances(SERVICE)) == CONTAINERS, 60, f"the catalogue has {CONTAINERS} instances of {SERVICE}")
        Platform(self.lab).settled(present=[SERVICE])
        versions = self.edge.run("nginx -v 2>&1; consul-template -version 2>&1; consul version | head -1; registrator --version; python3 --version")
        self.outcome.settings["versions"] = versions.splitlines()

    def tear_down(self) -> None:
        """Leave the nodes as they were found."""
        self.options.say("removing what the benchmark made")
        remove_instances([self.worker])
        with contextlib.suppress(LabError):
            Platform(self.lab).settled(absent=[SERVICE])
        images.remove_images(self.lab)

    def part_backup(self) -> None:
        """One snapshot, as the timer takes it."""
        samples = [float(json.loads(self.worker.run("python3 -", data=BACKUP.encode(), timeout=120))) for _ in range(self.options.few(BACKUPS) + 1)]
        # The first is a warm-up.
        self.backup_ms = self.outcome.add_series("backup_cpu", "ms", samples[1:]).summary().median
        self.outcome.figures.set("backup_cpu_ms", self.backup_ms)

    def part_units(self) -> None:
        """Every unit, on both nodes in the same time."""
        wanted = {self.worker: list(WORKER_UNITS), self.edge: list(EDGE_UNITS)}
        # Whatever the starts have set off is over after one more periodic comparison of the engine.
        time.sleep(self.options.few(SETTLE_SECONDS))
        seconds = self.options.few(SECONDS)
        windows = [measure(wanted, seconds) for _ in range(self.options.few(WINDOWS))]
        backup = Cost(self.backup_ms / BACKUP_SECONDS / 10, 0, 0)
        rows: dict[str, dict[str, list[Cost]]] = {}
        for place, node, units in (("worker", self.worker, WORKER_UNITS), ("edge", self.edge, EDGE_UNITS)):
            rows[place] = {name: [window[node][unit] for window in windows] for unit, name in units.items()}
            for name, costs in rows[place].items():
                self.set(f"{place}_{name}", costs)
            sums = [total([*window[node].values(), backup]) for window in windows]
            self.set(place, sums)
            series = self.outcome.add_series(f"{place}_rss", "MB", [one.rss_mb for one in sums])
            self.outcome.figures.set(f"{place}_rss_mb", series.summary().median)
            rows[place]["all"] = sums
        for title, unit, attribute in (("Processor time", "% of a core", "cpu_percent"), ("Memory (PSS)", "MB", "pss_mb")):
            bars = [Row(f"{place}: {name}", [getattr(one, attribute) for one in costs], "platform") for place in rows for name, costs in rows[place].items()]
            self.outcome.panels.append(Panel(title, unit, bars))
        if not self.backup_ms:
            self.outcome.note("The sums lack the hourly snapshot: the part backup did not run.")
        self.outcome.note("Docker and systemd are not counted: they are there without the platform.")

    def set(self, prefix: str, costs: list[Cost]) -> None:
        """Two figures, with their samples."""
        series = self.outcome.add_series(f"{prefix}_cpu", "% of a core", [one.cpu_percent for one in costs])
        self.outcome.figures.set(f"{prefix}_cpu_percent", series.summary().median)
        series = self.outcome.add_series(f"{prefix}_pss", "MB", [one.pss_mb for one in costs])
        self.outcome.figures.set(f"{prefix}_mb", series.summary().median)


def run(lab: Lab, options: Options) -> Outcome:
    """Run the suite, or some parts of it."""
    bench = IdleBench(lab, options)
    bench.outcome.settings.update(containers=CONTAINERS, seconds=SECONDS, windows=WINDOWS, backup_every_seconds=BACKUP_SECONDS)
    parts = {"backup": bench.part_backup, "units": bench.part_units}
    options.run(bench.set_up, parts, bench.tear_down)
    return bench.outcome
