# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Growth: what more nodes and more services do to a change, to the servers of Consul and to the edges. The platform alone; the suite edge has the seed beside
it with up to a thousand services, and the time of the first render."""

from __future__ import annotations

import contextlib
import time
import typing as t

from bench.agents import LightAgents
from bench.changes import EdgeWork
from bench.consul import restart_servers
from bench.cost import Cost, measure
from bench.figures import Figure, Figures
from bench.lab import Lab, LabError, undo
from bench.options import Options
from bench.report import Outcome
from bench.suites.edge import SIZES as EDGE_SIZES
from bench.svg import Panel, Row

NODES = (3, 10, 30)
SERVICES = (10, 100, 1000, 3000)
CHANGES = 8
IDLE_SECONDS, SETTLE_SECONDS = 60, 10
SERVER = "consul.service"

PARTS = ("nodes", "services")


def _of_servers(prefix: str) -> list[Figure]:
    return [
        Figure(
            f"{prefix}_server_cpu_percent", "% of a core", f"processor time of a Consul server over {IDLE_SECONDS} s without a change, busiest of the three"
        ),
        Figure(f"{prefix}_server_mb", "MB", "its proportional memory (PSS) at the end of these, largest of the three"),
    ]


def _declared() -> tuple[Figure, ...]:
    change = "from `StartedAt` of an added instance to its first answer through both edges, as the suite edge measures it"
    rows = []
    for count in NODES:
        rows.append(
            Figure(f"nodes_{count}_change_visible_median_ms", "ms", f"{count} nodes, all but three of them light agents: {change}; median of {CHANGES}")
        )
        rows += _of_servers(f"nodes_{count}")
    rows += [
        Figure(
            f"nodes_{max(NODES)}_join_seconds", "s", "from the start of the last 20 light agents, all at once on one node, until every server knows all of them"
        ),
        Figure("light_agent_mb", "MB", f"proportional memory (PSS) of one light agent among {max(NODES)} nodes, mean"),
        Figure("light_agent_cpu_percent", "% of a core", "its processor time in these, mean"),
    ]
    for size in SERVICES:
        rows.append(
            Figure(
                f"services_{size}_change_visible_median_ms",
                "ms",
                f"{size} services, nearly all of three instances, on three nodes: {change}; median of {CHANGES}",
            )
        )
        rows += _of_servers(f"services_{size}")
        if size not in EDGE_SIZES:
            rows += [
                Figure(f"services_{size}_render_ms", "ms", "from the start of consul-template to the staged file, later edge"),
                Figure(f"services_{size}_first_visible_ms", "ms", "from there until both edges answer for the last of them: first render, test and swap"),
                Figure(f"services_{size}_apply_ms", "ms", "the run of the checked apply in that, as the apply program reports it, slower edge"),
                Figure(f"services_{size}_nginx_mb", "MB", "proportional memory (PSS) of nginx with all its workers afterwards, larger edge"),
                Figure(f"services_{size}_template_mb", "MB", "the same of consul-template"),
                Figure(f"services_{size}_apply_mb", "MB", "the same of the apply program"),
            ]
    return tuple(rows)


FIGURES = _declared()


class GrowthBench(EdgeWork):
    """The run of the suite."""

    def __init__(self, lab: Lab, options: Options) -> None:
        super().__init__(lab, options)
        self.agents = LightAgents(lab)
        self.outcome = Outcome("growth", "More nodes, more services", Figures(FIGURES))
        self.changes: dict[str, list[float]] = {}
        self.servers: dict[str, Cost] = {}

    def set_up(self) -> None:
        """Instances behind the edges."""
        self.start_pages()
        self.wait_for_pages(self.platform)
        self.outcome.settings["versions"] = self.versions()

    def tear_down(self) -> None:
        """Leave the nodes as they were found."""
        self.options.say("removing what the benchmark made")
        with contextlib.suppress(LabError):
            self.platform.resume()
        undo(self.remove_pages, self.agents.remove, self.leave_edges)

    def fresh_servers(self) -> None:
        """Servers that have seen no load yet."""
        self.options.say("restarting the servers of Consul")
        restart_servers(self.lab)
        self.platform.before_cold_change()
        self.wait_for_pages(self.platform)

    def look(self, prefix: str, label: str) -> dict[str, Cost]:
        """Some changes, then a while without any; gives the cost of the light agents."""
        figures = self.outcome.figures
        # The first is a warm-up.
        visible = [self.change(self.platform).visible for _ in range(self.options.few(CHANGES, 2) + 1)][1:]
        figures.set(f"{prefix}_change_visible_median_ms", self.outcome.add_series(f"{prefix}_change_visible", "ms", visible).summary().median)
        self.changes[label] = visible
        time.sleep(self.options.few(SETTLE_SECONDS))
        units: dict[t.Any, list[str]] = {node: [SERVER] for node in self.lab.nodes}
        units[self.agents.node] += self.agents.units()
        found = measure(units, self.options.few(IDLE_SECONDS))
        costs = [found[node][SERVER] for node in self.lab.nodes]
        busiest = Cost(max(cost.cpu_percent for cost in costs), max(cost.pss_mb for cost in costs), max(cost.rss_mb for cost in costs))
        figures.set(f"{prefix}_server_cpu_percent", busiest.cpu_percent)
        figures.set(f"{prefix}_server_mb", busiest.pss_mb)
        self.servers[label] = busiest
        return {unit: found[self.agents.node][unit] for unit in self.agents.units()}

    def part_nodes(self) -> None:
        """3, 10, 30 nodes."""
        figures = self.outcome.figures
        self.fresh_servers()
        for count in NODES:
            self.options.say(f"{count} nodes")
            wanted = count - len(self.lab.nodes)
            began = time.monotonic()
            if wanted:
                self.agents.grow(wanted)
            joined = time.monotonic() - began
            light = list(self.look(f"nodes_{count}", f"{count} nodes").values())
            if count == max(NODES):
                figures.set(f"nodes_{count}_join_seconds", joined)
                figures.set("light_agent_mb", sum(cost.pss_mb for cost in light) / len(light))
                figures.set("light_agent_cpu_percent", sum(cost.cpu_percent for cost in light) / len(light))
        self.agents.remove()

    def part_services(self) -> None:
        """10, 100, 1,000, 3,000 services."""
        figures = self.outcome.figures
        self.fresh_servers()
        # An edge looks at 3,000 services and no more, so those that are there already count.
        there = len(self.consul.services_with_tag("http"))
        had = 0
        for size in SERVICES:
            self.options.say(f"{size} services")
            self.platform.stop()
            self.consul.put(self.many(had + 1, size - there))
            had = size - there
            first = self.first_render(self.platform, had)
            if size not in EDGE_SIZES:
                figures.set(f"services_{size}_render_ms", first.rendered)
                figures.set(f"services_{size}_first_visible_ms", first.visible)
                figures.set(f"services_{size}_apply_ms", self.platform.apply_milliseconds())
            self.look(f"services_{size}", f"{size} services")
            if size not in EDGE_SIZES:
                memory = self.memory(self.platform)
                figures.set(f"services_{size}_nginx_mb", memory[self.platform.nginx_unit])
                figures.set(f"services_{size}_template_mb", memory[self.platform.template_unit])
                figures.set(f"services_{size}_apply_mb", memory[self.platform.apply_unit])

    def report(self) -> None:
        """Pictures."""
        for title, unit, rows in (
            ("Container started → both edges answer from it", "ms", self.changes),
            ("Memory of a Consul server, largest of the three", "MB", {label: [cost.pss_mb] for label, cost in self.servers.items()}),
            ("Processor time of a Consul server without a change, busiest of the three", "% of a core", {k: [v.cpu_percent] for k, v in self.servers.items()}),
        ):
            self.outcome.panels.append(Panel(title, unit, [Row(label, samples, "platform") for label, samples in rows.items()]))


def run(lab: Lab, options: Options) -> Outcome:
    """Run the suite, or some parts of it."""
    bench = GrowthBench(lab, options)
    bench.outcome.settings.update(nodes=list(NODES), services=list(SERVICES), changes=CHANGES, idle_seconds=IDLE_SECONDS)
    parts = {"nodes": bench.part_nodes, "services": bench.part_services}
    options.run(bench.set_up, parts, bench.tear_down)
    bench.report()
    return bench.outcome
