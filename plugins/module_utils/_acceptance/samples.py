# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The run of the acceptance as one node sees it, and the sample services as commands. Private to the collection, pure."""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass, field

#: Every container of the acceptance carries this label, so a later run finds what an earlier one left.
LABEL = "trinode.acceptance=1"
PREFIX = "acceptance-"

BACKEND_PORT = 8081
TCP_PORT = 9999
TLS_OWN_PORT = 9443
HTTP_PORT = 80
TLS_PORT = 443

#: The service names that the acceptance takes in the catalogue.
SERVICES = ("httpbackend", "httpfront", "tcpfront-9999", "httpsfront", "httplast")
EXPOSED = ("httpfront", "tcpfront-9999", "httpsfront", "httplast")

IMAGES = (
    "trinode/httpbackend:v1.0.0",
    "trinode/httpfront:v1.0.0",
    "trinode/httpfront:v2.0.0",
    "trinode/tcpfront:v1.0.0",
    "trinode/httpsfront:v1.0.0",
    "trinode/resolve-musl:1",
)

#: What the demo keeps running: one of each on every node.
KEPT = ("acceptance-httpbackend", "acceptance-httpfront", "acceptance-tcpfront", "acceptance-httpsfront")

CANARY_SHARE = 50


class Node(t.NamedTuple):
    """A node of the platform."""

    name: str
    address: str
    consul: str
    docker: bool
    edge: bool


@dataclass
class Context:
    """What a phase knows."""

    node: Node
    nodes: list[Node]
    run_id: str = ""
    datacenter: str = "dc1"
    domain: str = "consul"
    edge_domain: str = ""
    consul_url: str = "http://127.0.0.1:8500"
    consul_token: str = ""
    consul_unit: str = "consul.service"
    consul_http_port: int = 8500
    consul_http_address: str = ""
    docker_unit: str = "docker.service"
    edge_apply: str = "/usr/local/sbin/nginx-edge-apply"
    public_names: list[str] = field(default_factory=list)
    samples: bool = True
    disruptive: bool = False
    keep: bool = False
    directory: str = "/var/lib/trinode-acceptance"
    archive: str = ""
    ca: str = ""
    certificate: str = ""
    key: str = ""
    load_rate: int = 20
    registration_seconds: float = 1.0
    #: Facts of earlier phases, of every node: {node, phase, facts}.
    seen: list[dict[str, t.Any]] = field(default_factory=list)

    @property
    def servers(self) -> list[Node]:
        """The nodes that are voters."""
        return [node for node in self.nodes if node.consul == "server"]

    @property
    def docker_nodes(self) -> list[Node]:
        """The nodes that run containers."""
        return [node for node in self.nodes if node.docker]

    @property
    def edges(self) -> list[Node]:
        """The nodes that answer for the exposed services."""
        return [node for node in self.nodes if node.edge]

    @property
    def actor(self) -> Node | None:
        """The node whose containers and engine come and go: one that is no edge, where there is such a one."""
        candidates = self.docker_nodes
        return next((node for node in candidates if not node.edge), candidates[-1] if candidates else None)

    @property
    def is_actor(self) -> bool:
        """Whether this node is it."""
        return self.actor is not None and self.actor.name == self.node.name

    def consul_name(self, service: str) -> str:
        """The DNS name of a service."""
        return f"{service}.service.{self.datacenter}.{self.domain}"

    def public_name(self, service: str) -> str:
        """The name of an exposed service outside."""
        return f"{service}.{self.edge_domain}"

    @property
    def marker(self) -> str:
        """The beginning of the path of every request of this run, by which the services' logs are searched."""
        return f"/acceptance/{self.run_id}/"

    def facts(self, phase: str) -> dict[str, dict[str, t.Any]]:
        """The facts of a phase by node."""
        return {entry["node"]: entry.get("facts") or {} for entry in self.seen if entry.get("phase") == phase}

    def endpoints(self, container: str) -> dict[str, str]:
        """Address and real host port of a container on every node that started it, by node."""
        addresses = {node.name: node.address for node in self.nodes}
        return {
            name: f"{addresses[name]}:{facts['containers'][container]['port']}"
            for name, facts in self.facts("start").items()
            if name in addresses and container in facts.get("containers", {})
        }


def answer_of_backend(version: str = "v1.0.0") -> str:
    """What httpbackend says."""
    return f"this is httpbackendservice, version: {version}"


def answer_of_front(version: str = "v1.0.0") -> str:
    """What httpfront says when it reached httpbackend by its Consul name."""
    return f"this is httpfrontservice, version: {version}, calling backendservice ok, its resp: [{answer_of_backend()} ]"


def answer_of_https() -> str:
    """What httpsfront says."""
    return "this is httpsfrontservice, version: v1.0.0"


def is_echo(line: str, text: str) -> bool:
    """Whether a line is tcpfront's echo of a text: C([version]timestamp [text])."""
    return re.fullmatch(r"\[v1\.0\.0\]\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\S* \[" + re.escape(text) + r"\]", line) is not None


def _docker_run(container: str, image: str, ports: t.Sequence[str], labels: t.Sequence[str], extra: t.Sequence[str] = ()) -> list[str]:
    command = ["docker", "run", "-d", "--name", container, "--restart", "unless-stopped", *ports]
    for label in labels:
        command += ["-l", label]
    return [*command, "-l", LABEL, *extra, image]


# Where the edge has certificates, these services are asked over HTTP all the same.
_HTTP = ["SERVICE_TAGS=http", "SERVICE_EDGE_HTTPS=both"]


def run_commands(context: Context) -> dict[str, list[str]]:
    """The command that starts each container, as a user would type it, in the order in which they are started."""
    backend = f"http://{context.consul_name('httpbackend')}:{BACKEND_PORT}"
    # The image's default is the seed's name; only another datacenter or domain has to be said.
    environment = [] if backend == "http://httpbackend.service.dc1.consul:8081" else ["-e", f"BACKEND_URL={backend}"]
    return {
        "acceptance-httpbackend": _docker_run(
            "acceptance-httpbackend", "trinode/httpbackend:v1.0.0", ["-p", f"{BACKEND_PORT}:{BACKEND_PORT}"], ["SERVICE_NAME=httpbackend"]
        ),
        "acceptance-httpfront": _docker_run("acceptance-httpfront", "trinode/httpfront:v1.0.0", ["-P"], ["SERVICE_NAME=httpfront", *_HTTP], environment),
        "acceptance-tcpfront": _docker_run("acceptance-tcpfront", "trinode/tcpfront:v1.0.0", ["-P"], ["SERVICE_NAME=tcpfront-9999", "SERVICE_TAGS=tcp"]),
        "acceptance-httpsfront": _docker_run(
            "acceptance-httpsfront",
            "trinode/httpsfront:v1.0.0",
            ["-P"],
            ["SERVICE_NAME=httpsfront", "SERVICE_TAGS=tls,tcp", f"SERVICE_EDGE_PORT={TLS_OWN_PORT}"],
            ["-v", f"{context.directory}/tls:/tls:ro"],
        ),
        "acceptance-httplast": _docker_run("acceptance-httplast", "trinode/httpbackend:v1.0.0", ["-P"], ["SERVICE_NAME=httplast", *_HTTP]),
        "acceptance-httpfront-4": _docker_run("acceptance-httpfront-4", "trinode/httpfront:v1.0.0", ["-P"], ["SERVICE_NAME=httpfront", *_HTTP], environment),
        "acceptance-httpfront-canary": _docker_run(
            "acceptance-httpfront-canary",
            "trinode/httpfront:v2.0.0",
            ["-P"],
            [
                "SERVICE_NAME=httpfront",
                *_HTTP,
                "SERVICE_VERSION=v2.0.0",
                "SERVICE_EDGE_CANARY=true",
                f"SERVICE_EDGE_CANARY_SHARE={CANARY_SHARE}",
            ],
            environment,
        ),
    }


def conflicts(
    context: Context, catalogue: t.Mapping[str, t.Sequence[str]], instances: t.Sequence[t.Mapping[str, t.Any]], holders: t.Mapping[int, str]
) -> list[str]:
    """Why the sample services must not be started on this node: a sentence for each reason.

    Args:
        context: the run.
        catalogue: all service names with their tags.
        instances: the catalogue entries of the acceptance's service names.
        holders: the ports among those of the acceptance that are listened on here, with the program.
    """
    problems = []
    where = context.node.name
    for instance in instances:
        service_id = str(instance.get("ServiceID", ""))
        if f":{PREFIX}" not in service_id:
            problems.append(
                f"{where}: the catalogue already holds a service {instance.get('ServiceName')} that is not of the acceptance "
                f"({service_id} on {instance.get('Node')}); rename that service, or run with acceptance_sample_services: false"
            )
    for service, tags in sorted(catalogue.items()):
        number = service.rsplit("-", 1)[-1]
        if service not in SERVICES and "tcp" in tags and number in (str(TCP_PORT), str(TLS_OWN_PORT)):
            problems.append(f"{where}: service {service} is exposed on port {number}, which the acceptance needs; run with acceptance_sample_services: false")
    wanted = ({BACKEND_PORT} if context.node.docker else set()) | ({TCP_PORT, TLS_OWN_PORT} if context.node.edge else set())
    for port, program in sorted(holders.items()):
        # nginx may still hold a public port of an earlier run for a moment.
        if port in wanted and not (port != BACKEND_PORT and program == "nginx"):
            problems.append(
                f"{where}: port {port}, which the acceptance needs, is held by {program or 'an unknown program'}; "
                "stop it, or run with acceptance_sample_services: false"
            )
    return problems


def only_ours(gone: t.Sequence[str]) -> bool:
    """Whether a list of vanished services (C(side/name)) holds nothing but the acceptance's own."""
    return bool(gone) and all(name.rsplit("/", 1)[-1] in EXPOSED for name in gone)
