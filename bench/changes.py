# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A change of the catalogue, and the moment at which both edges serve it; services by the thousand. What several suites do with the edges."""

from __future__ import annotations

import itertools
import time
import typing as t

from bench import images
from bench.consul import CatalogueWatch, Consul, External
from bench.lab import EDGE_DOMAIN, Lab, LabError, look_at_instance, remove_instance, remove_instances, start_instance, wait_for
from bench.load import Answer, Watch, wait_for_answer
from bench.options import Options
from bench.sides import Platform, Side

SLOWEST_SECONDS = 120.0

# Services of the benchmark. `page` and `change` always have instances; `many` are registered by the API.
PAGE, CHANGE, MANY = "bench-page", "bench-change", "bench-many"


def host(service: str) -> str:
    """The public name of a service."""
    return f"{service}.{EDGE_DOMAIN}"


def is_from(ident: str) -> t.Callable[[Answer], bool]:
    """Whether an answer is an instance's own: its first word is the instance."""
    return lambda answer: answer.status == 200 and answer.body.split()[:1] == [ident]


def is_for(service: str) -> t.Callable[[Answer], bool]:
    """Whether an answer went through the service's own server block: its second word is the host name that the instance was asked for.

    The seed asks by the name of the service and serves unknown names from its first server block."""
    return lambda answer: answer.status == 200 and answer.body.split()[1:] in ([service], [host(service)])


def is_gone(ident: str, service: str) -> t.Callable[[Answer], bool]:
    """Whether the edge knows that the service has no instance any more, and neither asks the instance nor fails to reach it."""
    return lambda answer: answer.status in (404, 503) or (answer.status == 200 and not is_from(ident)(answer) and not is_for(service)(answer))


class Change(t.NamedTuple):
    """One measured change. Milliseconds."""

    visible: float
    from_command: float
    phases: dict[str, float]


class FirstRender(t.NamedTuple):
    """consul-template started with a full catalogue: milliseconds until its file is there, and until both edges serve all of it."""

    rendered: float
    visible: float


class EdgeWork:
    """Instances behind the edges of the platform, and changes among them."""

    def __init__(self, lab: Lab, options: Options) -> None:
        self.lab = lab
        self.options = options
        self.consul = Consul(lab, lab.nodes[0])
        self.platform = Platform(lab)
        self.numbers = itertools.count(1)
        #: Address -> port of the instances of `page`, one on each node.
        self.pages: dict[str, int] = {}

    def start_pages(self) -> None:
        """Start the instances that are always there."""
        self.options.say("images of the instances")
        images.make_page(self.lab)
        self.consul.create_external_node(self.lab.nodes[2].address)
        for number, node in enumerate(self.lab.nodes, 1):
            start_instance(node, f"page-{number}", images.PAGE, {"SERVICE_NAME": PAGE, "SERVICE_TAGS": "http"})
            self.pages[node.address] = look_at_instance(node, f"page-{number}").port
        start_instance(self.lab.nodes[1], "change-0", images.PAGE, {"SERVICE_NAME": CHANGE, "SERVICE_TAGS": "http"})

    def wait_for_pages(self, side: Side) -> None:
        """Wait until a side serves them."""
        for service in (PAGE, CHANGE):
            wait_for_answer(self.lab, side.endpoints(), host(service), is_for(service))

    def remove_pages(self) -> None:
        """Remove all instances and services of the benchmark; the edges still serve them."""
        remove_instances(self.lab.nodes)
        self.consul.remove_external_node()

    def leave_edges(self) -> None:
        """Wait until the edges of the platform serve nothing of the benchmark any more, and remove the images."""
        for edge in self.lab.edges:
            edge.run(f"systemctl start {Platform.template_unit}", timeout=120)
            wait_for(lambda at=edge: at.run(f"grep -c bench- {Platform.rendered}; true") == "0", SLOWEST_SECONDS, f"{edge.name} forgets the services")  # type: ignore[misc]
        self.platform.confirm_shrink()
        images.remove_images(self.lab)

    def versions(self) -> list[str]:
        """What runs on the edges."""
        return self.lab.edges[0].run("nginx -v 2>&1; consul-template -version 2>&1; consul version | head -1; docker --version").splitlines()

    def change(self, side: Side, cold: bool = False) -> Change:
        """Add an instance, wait until both edges answer from it, and remove it."""
        node = self.lab.nodes[2]
        ident = f"change-{next(self.numbers)}"
        known = self.consul.instances(CHANGE)
        if cold:
            side.before_cold_change()
        watch = Watch(self.lab, side.endpoints(), host(CHANGE), is_from(ident), SLOWEST_SECONDS)
        catalogue = CatalogueWatch(self.consul, CHANGE, lambda now: bool(now - known), SLOWEST_SECONDS).start()
        watch.start()
        try:
            started = start_instance(node, ident, images.PAGE, {"SERVICE_NAME": CHANGE, "SERVICE_TAGS": "http"})
            seen = watch.result()
            instance = look_at_instance(node, ident)
            steps = {edge.name: side.times(edge) for edge in self.lab.edges}
        finally:
            remove_instance(node, ident)
        side.settled(absent=[f"{node.address}:{instance.port}"])
        visible = max(seen.values())
        registered = catalogue.result()
        names = list(steps[self.lab.edges[0].name])
        moments = [instance.started_at, registered, *(max(steps[edge.name][name] for edge in self.lab.edges) for name in names), visible]
        phases = dict(zip(["registered", *names, "reloaded"], ((after - before) * 1000 for before, after in itertools.pairwise(moments))))
        return Change((visible - instance.started_at) * 1000, (visible - started.command_at) * 1000, phases)

    def many(self, first: int, last: int) -> list[External]:
        """Services with three instances each; their instances are the real pages."""
        return [
            External(f"{MANY}-{number:04d}-{place}", f"{MANY}-{number:04d}", address, port)
            for number in range(first, last + 1)
            for place, (address, port) in enumerate(self.pages.items())
        ]

    def first_render(self, side: Side, last: int) -> FirstRender:
        """Start consul-template on both edges when the catalogue is full already, up to the many's last one."""
        service = f"{MANY}-{last:04d}"
        watch = Watch(self.lab, side.endpoints(), host(service), is_for(service), SLOWEST_SECONDS)
        began = time.time()
        side.start()
        watch.start()
        seen = max(watch.result().values())
        rendered = max(side.times(edge)["rendered"] for edge in self.lab.edges)
        if rendered < began:
            raise LabError(f"{side.title} answers for {service}, but {side.rendered} is older than the start of consul-template")
        side.settled(present=[host(service)])
        return FirstRender((rendered - began) * 1000, (seen - began) * 1000)

    def memory(self, side: Side) -> dict[str, float]:
        """Megabytes of each unit of a side, on the edge where it is larger."""
        reports = [edge.program("processes.py", *side.units()) for edge in self.lab.edges]
        return {unit: max(report[unit]["pss"] for report in reports) / 1e6 for unit in side.units()}
