# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The registration engine: how soon a container is in the catalogue, alone and among many that start or end at once,
what the engine costs when nothing happens, and how long it takes to look at everything."""

from __future__ import annotations

import contextlib
import time
import typing as t

from bench import images
from bench.alone import AGENT_PORT, engine_alone
from bench.bursts import Burst, burst, figures, joined
from bench.consul import CatalogueWatch, Consul
from bench.figures import Figure, Figures, Target
from bench.lab import LABEL, PROGRAMS, Lab, LabError, look_at_instance, remove_instance, remove_instances, start_instance, wait_for
from bench.options import Options
from bench.report import Outcome
from bench.sides import DIRECTORY
from bench.stats import paired_ratio
from bench.svg import Panel, Row

STARTS, WARM_UPS = 30, 3
IDLE_CONTAINERS, IDLE_SECONDS, SETTLE_SECONDS = 100, 60, 35
RESTARTS, PERIODIC, HEALS = 5, 2, 3
BURSTS, BURST_CONTAINERS, BURST_CLIENTS = 3, 60, 8
BURST_SECONDS = 400
START_TOGETHER = 4
START_SECONDS_EACH = 5

UNIT = "registrator.service"
#: Port of the platform's own agent.
AGENT = 8500
FLOOR_UNIT = "bench-floor.service"
FLOOR_PREFIX = "bench-floor-"
SERVICE = "bench-containers"
BURST_PREFIX = "bench-burst-"

PARTS = ("start", "burst", "cluster_burst", "idle", "resync")

# Runs on the node: takes registrations away behind the engine's back.
FORGET = """\
import json
from urllib.request import Request, urlopen

agent = "http://127.0.0.1:8500/v1/agent/"
for ident, service in json.load(urlopen(agent + "services")).items():
    if {matches}:
        urlopen(Request(agent + "service/deregister/" + ident, method="PUT"))
"""

START = "from Docker's start event until a blocking query finds the service in the catalogue"
KILL = "from the end of the process (`FinishedAt`) until the service has left the catalogue"


def at_most(value: float | None) -> Target | None:
    """Return the target that a figure should not exceed, if it has one."""
    return None if value is None else Target("<=", value)


def burst_figures(name: str, what: str, where: str, median: float | None = None, worst: float | None = None) -> tuple[Figure, ...]:
    """Declare the figures of one kind of burst, as `bench.bursts.figures` names them."""
    return (
        Figure(f"{name}_median_ms", "ms", f"{what}, {where}; median over all bursts", at_most(median)),
        Figure(f"{name}_p95_ms", "ms", "the same, 95th percentile"),
        Figure(f"{name}_worst_ms", "ms", "the same, the slowest of all", at_most(worst)),
        Figure(f"{name}_floor_median_ms", "ms", "the same events, only forwarded to the agent: the minimum cost"),
        Figure(f"{name}_floor_worst_ms", "ms", "the same, the slowest of all"),
        Figure(f"{name}_above_floor_median_ms", "ms", "additional time of the engine for the same container, median"),
    )


FIGURES = (
    Figure(
        "registered_from_started_median_ms",
        "ms",
        f"from the container's `StartedAt` until a blocking query finds the service in the catalogue; median of {STARTS} starts",
        Target("<=", 30),
    ),
    Figure("registered_from_started_p95_ms", "ms", "the same, 95th percentile"),
    Figure("registered_from_command_median_ms", "ms", "the same starts, counted from the call of `docker run`"),
    Figure("registered_from_command_p95_ms", "ms", "the same, 95th percentile"),
    Figure(
        "floor_from_started_median_ms",
        "ms",
        "the same starts, passed to the agent by a loop of a few lines that only forwards Docker's event: the minimum cost",
    ),
    Figure("floor_from_started_p95_ms", "ms", "the same, 95th percentile"),
    Figure("registered_ratio_floor", "ratio", "median of engine / floor over the starts"),
    Figure("deregistered_from_command_median_ms", "ms", "from the call of `docker rm -f` until the service has left the catalogue"),
    Figure("deregistered_from_command_p95_ms", "ms", "the same, 95th percentile"),
    Figure("burst_containers", "containers", f"containers in each of {BURSTS} bursts, started and killed by {BURST_CLIENTS} Docker clients at a time"),
    *burst_figures("burst_start", START, "on a node with processors of its own", median=30, worst=150),
    *burst_figures("burst_kill", KILL, "on the same node", median=10),
    Figure("burst_rss_before_mb", "MB", "resident memory (RSS) of the engine before the first burst"),
    Figure("burst_rss_mb", "MB", "the same with all containers of the last burst", Target("<=", 42.5)),
    Figure("burst_rss_after_mb", "MB", "the same after the last kill"),
    *burst_figures("cluster_burst_start", START, "in the cluster of three nodes that share this machine's processors"),
    *burst_figures("cluster_burst_kill", KILL, "in the same cluster"),
    Figure("idle_containers", "containers", "registered containers on the node during the next three"),
    Figure(
        "idle_cpu_percent",
        "% of a core",
        f"processor time of the engine's threads over {IDLE_SECONDS} s without any start or stop, periodic comparisons included",
        Target("<", 0.5),
    ),
    Figure("idle_rss_mb", "MB", "resident memory (RSS) of the engine at the end of these", Target("<=", 45)),
    Figure("idle_pss_mb", "MB", "the same, shared pages counted in proportion (PSS)"),
    Figure("resync_containers", "containers", "registered containers on the node during the rest"),
    Figure(
        "resync_restart_median_ms",
        "ms",
        f"from `systemctl restart` of the engine until it reports its first complete comparison, each container inspected; {RESTARTS} restarts",
    ),
    Figure("resync_first_median_ms", "ms", "that comparison itself, as the engine reports it"),
    Figure("resync_periodic_median_ms", "ms", f"a periodic comparison, as the engine reports it; {PERIODIC} of them"),
    Figure("heal_median_ms", "ms", f"from the engine's start with all its registrations lost until the catalogue has them all again; {HEALS} times"),
    Figure("resync_rss_mb", "MB", "resident memory (RSS) of the engine at the end"),
)


class RegistrationBench:
    """The run of the suite. Everything happens on the node that is no edge."""

    def __init__(self, lab: Lab, options: Options) -> None:
        self.lab = lab
        self.options = options
        self.node = lab.nodes[2]
        self.consul = Consul(lab, self.node)
        self.outcome = Outcome("registration", "Registration of containers", Figures(FIGURES))
        self.running = 0

    def set_up(self) -> None:
        """The image, and an engine in good order."""
        self.options.say("the image of the containers")
        images.make_small(self.node)
        self.node.run("registrator status --wait 30 >/dev/null", timeout=60)
        versions = self.node.run("docker --version; python3 --version; consul version | head -1; registrator --version")
        self.outcome.settings["versions"] = versions.splitlines()

    def tear_down(self) -> None:
        """Leave the node as it was found."""
        self.options.say("removing what the benchmark made")
        with contextlib.suppress(LabError):
            self.node.run(f"systemctl stop {FLOOR_UNIT} 2>/dev/null; systemctl start {UNIT}")
        remove_instances([self.node])
        self.node.run("python3 -", data=FORGET.format(matches=f"service['Service'].startswith('{FLOOR_PREFIX}')").encode(), timeout=180)
        self.node.run(f"rm -rf {DIRECTORY}")
        images.remove_images(self.lab)

    @contextlib.contextmanager
    def floor(self, port: int = AGENT) -> t.Iterator[None]:
        """Let the floor follow the same events for a while, into the agent at this port."""
        self.node.put(f"{DIRECTORY}/event_floor.py", (PROGRAMS / "event_floor.py").read_text(encoding="utf-8"))
        program = f"/usr/bin/python3 {DIRECTORY}/event_floor.py {port} {LABEL}=1 {FLOOR_PREFIX}"
        self.node.run(f"systemd-run --quiet --collect --unit={FLOOR_UNIT} {program}")
        try:
            yield
        finally:
            self.node.run(f"systemctl stop {FLOOR_UNIT}", check=False)

    # -- one container ----------------------------------------------------------------------------------------------------

    def part_start(self) -> None:
        """One container starts, and ends."""
        with self.floor():
            self.measure_starts()

    def measure_starts(self) -> None:
        """Start containers one after the other and remove each, beside the floor."""
        engine, command, floor, gone = [], [], [], []
        for number in range(-WARM_UPS, STARTS):
            name = f"bench-start-{number + WARM_UPS}"
            watch = CatalogueWatch(self.consul, name, bool).start()
            floor_watch = CatalogueWatch(self.consul, FLOOR_PREFIX + name, bool).start()
            started = start_instance(self.node, name, images.SMALL, {"SERVICE_NAME": name})
            seen, floor_seen = watch.result(), floor_watch.result()
            instance = look_at_instance(self.node, name)
            watch = CatalogueWatch(self.consul, name, lambda now: not now).start()
            began, _ = remove_instance(self.node, name)
            left = watch.result()
            if number >= 0:
                engine.append((seen - instance.started_at) * 1000)
                command.append((seen - started.command_at) * 1000)
                floor.append((floor_seen - instance.started_at) * 1000)
                gone.append((left - began) * 1000)
        measured = {"registered_from_started": engine, "registered_from_command": command, "floor_from_started": floor, "deregistered_from_command": gone}
        for name, samples in measured.items():
            summary = self.outcome.add_series(name, "ms", samples).summary()
            self.outcome.figures.set(f"{name}_median_ms", summary.median)
            self.outcome.figures.set(f"{name}_p95_ms", summary.p95)
        self.outcome.figures.set("registered_ratio_floor", paired_ratio(engine, floor))
        rows = [Row("engine", engine, "platform"), Row("only forwarding the event", floor, "bound")]
        self.outcome.panels.append(Panel("Container started → in the catalogue", "ms", rows))
        rows = [Row("docker run → in", command, "platform"), Row("docker rm -f → out", gone, "platform")]
        self.outcome.panels.append(Panel("From the typed command", "ms", rows))

    # -- many at once -----------------------------------------------------------------------------------------------------

    def run_burst(self, port: int, *order: str) -> Burst:
        """Start or kill all containers of a burst at once; returns the lag of each behind the agent at this port."""
        words = (str(BURST_CONTAINERS), str(BURST_CLIENTS), f"{LABEL}=1", BURST_PREFIX, FLOOR_PREFIX)
        report: dict[str, t.Any] = self.node.program("burst.py", str(port), *order, *words, timeout=BURST_SECONDS)
        return burst(report, BURST_CONTAINERS)

    def measure_bursts(self, port: int, name: str, where: str) -> int:
        """Start and kill many at once, beside the floor; returns the engine's memory with all of the last burst, in bytes."""
        starts, kills, held = [], [], 0
        with self.floor(port):
            for number in range(self.options.few(BURSTS)):
                self.options.say(f"burst {number + 1}: {BURST_CONTAINERS} starts and kills")
                starts.append(self.run_burst(port, "start", images.SMALL))
                held = self.engine()["rss"]
                kills.append(self.run_burst(port, "kill", "-"))
        for kind, title, bursts in (
            ("start", f"{BURST_CONTAINERS} containers start at once → in the catalogue, {where}", joined(starts)),
            ("kill", f"{BURST_CONTAINERS} containers are killed at once → out of it, {where}", joined(kills)),
        ):
            for figure, value in figures(f"{name}_{kind}", bursts).items():
                self.outcome.figures.set(figure, value)
            self.outcome.add_series(f"{name}_{kind}", "ms", bursts.engine)
            self.outcome.add_series(f"{name}_{kind}_floor", "ms", bursts.floor)
            rows = [Row("engine", bursts.engine, "platform"), Row("only forwarding the event", bursts.floor, "bound")]
            self.outcome.panels.append(Panel(title, "ms", rows))
        return held

    def part_burst(self) -> None:
        """Many containers start at once, and are killed at once, on a node that shares its processors with nobody."""
        measured = self.outcome.figures
        measured.set("burst_containers", BURST_CONTAINERS)
        with engine_alone(self.lab, self.node):
            measured.set("burst_rss_before_mb", self.engine()["rss"] / 1e6)
            measured.set("burst_rss_mb", self.measure_bursts(AGENT_PORT, "burst", "one node") / 1e6)
            measured.set("burst_rss_after_mb", self.engine()["rss"] / 1e6)

    def part_cluster_burst(self) -> None:
        """The same in the cluster as it stands: three nodes, and their edges, on the processors of one machine."""
        self.measure_bursts(AGENT, "cluster_burst", "three nodes on one machine")

    # -- many containers --------------------------------------------------------------------------------------------------

    def grow(self, wanted: int) -> None:
        """Start containers until there are so many, and wait until the catalogue has them.

        Raises:
            LabError: Docker cannot, or not in a sane time.
        """
        if wanted > self.running:
            self.options.say(f"starting containers {self.running + 1} to {wanted}")
            labels = f"--label {LABEL}=1 --label SERVICE_NAME={SERVICE}"
            one = f"docker run -d -P --name bench-many-{{}} {labels} {images.SMALL} >/dev/null"
            command = f"seq {self.running + 1} {wanted} | xargs -P {START_TOGETHER} -I '{{}}' sh -c '{one} || exit 255'"
            self.node.run(command, timeout=60 + START_SECONDS_EACH * (wanted - self.running))
            self.running = wanted
        wait_for(lambda: len(self.consul.instances(SERVICE)) == wanted, 120, f"the catalogue has {wanted} instances of {SERVICE}", pause=0.5)

    def engine(self) -> dict[str, int]:
        """The engine's process."""
        report: dict[str, int] = self.node.program("processes.py", UNIT)[UNIT]
        return report

    def metric(self, name: str) -> float:
        """One of the engine's own numbers."""
        return float(self.node.run(f"curl -sf http://127.0.0.1:8099/metrics | sed -n 's/^registrator_{name} //p'"))

    def part_idle(self) -> None:
        """What the engine costs when nothing happens."""
        self.grow(IDLE_CONTAINERS)
        # Whatever the starts have set off is over after one more periodic comparison.
        time.sleep(SETTLE_SECONDS)
        before, began = self.engine(), time.monotonic()
        time.sleep(IDLE_SECONDS)
        after, ended = self.engine(), time.monotonic()
        if before["pid"] != after["pid"]:
            raise LabError(f"{UNIT} on {self.node.name} was started anew while it should have been idle: see journalctl -u {UNIT}")
        measured = self.outcome.figures
        measured.set("idle_containers", self.running)
        measured.set("idle_cpu_percent", (after["cpu_ns"] - before["cpu_ns"]) / (ended - began) / 1e7)
        measured.set("idle_rss_mb", after["rss"] / 1e6)
        measured.set("idle_pss_mb", after["pss"] / 1e6)

    def part_resync(self) -> None:
        """How long it takes to look at everything."""
        wanted = self.options.containers
        try:
            self.grow(wanted)
        except LabError as error:
            self.outcome.note(f"The resync was not measured: this Docker engine did not start {wanted} containers ({error}).")
            return
        measured = self.outcome.figures
        restarts, first = [], []
        for _ in range(RESTARTS):
            words = self.node.run(f"date +%s.%N; systemctl restart {UNIT} && registrator status --wait 120 >/dev/null && date +%s.%N", timeout=180).split()
            restarts.append((float(words[1]) - float(words[0])) * 1000)
            first.append(self.metric("last_sync_duration_seconds") * 1000)
        periodic = []
        for _ in range(PERIODIC):
            count = self.metric("syncs_total")
            wait_for(lambda seen=count: self.metric("syncs_total") > seen, 120, "a periodic comparison", pause=0.5)  # type: ignore[misc]
            periodic.append(self.metric("last_sync_duration_seconds") * 1000)
        heals = [self.heal() for _ in range(HEALS)]
        measured.set("resync_containers", wanted)
        for name, samples in {"resync_restart": restarts, "resync_first": first, "resync_periodic": periodic, "heal": heals}.items():
            measured.set(f"{name}_median_ms", self.outcome.add_series(name, "ms", samples).summary().median)
        measured.set("resync_rss_mb", self.engine()["rss"] / 1e6)
        rows = [
            Row("periodic comparison", periodic, "platform"),
            Row("first comparison", first, "platform"),
            Row("restart → in order", restarts, "platform"),
            Row("all lost → all back", heals, "platform"),
        ]
        self.outcome.panels.append(Panel(f"Looking at {wanted} containers", "ms", rows))

    def heal(self) -> float:
        """Lose every registration while the engine is down; milliseconds from its start until all are back."""
        self.node.run(f"systemctl stop {UNIT} && python3 -", data=FORGET.format(matches=f"service['Service'] == '{SERVICE}'").encode(), timeout=180)
        wait_for(lambda: not self.consul.instances(SERVICE), 60, f"the catalogue has no instance of {SERVICE}")
        watch = CatalogueWatch(self.consul, SERVICE, lambda now: len(now) == self.running, 180).start()
        began = float(self.node.run(f"date +%s.%N; systemctl start {UNIT}"))
        return (watch.result() - began) * 1000


def run(lab: Lab, options: Options) -> Outcome:
    """Run the suite, or some parts of it."""
    bench = RegistrationBench(lab, options)
    bench.outcome.settings.update(
        starts=STARTS, bursts=BURSTS, warm_up=f"the first {WARM_UPS} starts are not counted", idle_seconds=IDLE_SECONDS, containers=options.containers
    )
    parts = {
        "start": bench.part_start,
        "burst": bench.part_burst,
        "cluster_burst": bench.part_cluster_burst,
        "idle": bench.part_idle,
        "resync": bench.part_resync,
    }
    options.run(bench.set_up, parts, bench.tear_down)
    return bench.outcome
