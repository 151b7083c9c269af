# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A service on every node, and callers that do not stop while something is done to the platform: through both edges, and by name on every host."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import threading
import typing as t

import lab

sys.path.insert(0, str(lab.ROOT / "collections"))

from ansible_collections.trinode.platform.plugins.module_utils._acceptance.load import Load, Target

DOMAIN = "apps.hospital.example"
SERVICE = "day2web"
SAMPLES = lab.ROOT / "artifacts" / "images" / "trinode-samples.tar"
RATE = 100
WORKERS = 10
MOST_SECONDS = 900

# Asks by name as every program on the host does, five times a second, for as long as the file is there.
WATCH = f"""
touch /run/day2-watch
asked=0
while [ -e /run/day2-watch ]; do
    asked=$((asked + 1))
    getent ahostsv4 {SERVICE}.service.dc1.consul >/dev/null || echo "failed at $(date +%T.%N)"
    sleep 0.2
done
echo "asked $asked"
"""


def addresses(edges: t.Iterable[str] = lab.EDGES) -> dict[str, str]:
    """The edges' addresses, each proven to be that of a container of this run: no request may leave this machine."""
    found = {}
    for edge in edges:
        document = json.loads(subprocess.run(["docker", "inspect", lab.container(edge)], capture_output=True, text=True, check=True).stdout)[0]
        of_container = {network["IPAddress"] for network in document["NetworkSettings"]["Networks"].values()}
        assert document["State"]["Running"] and document["Config"]["Labels"].get("owner") == "molecule"
        assert lab.NODES[edge] in of_container, f"{edge}: {of_container}"
        found[edge] = lab.NODES[edge]
    return found


def ask(address: str, service: str = SERVICE) -> str:
    """One request for a service, an httpbackend, through an edge; empty when the answer is right."""
    connection = http.client.HTTPConnection(address, 80, timeout=10)
    try:
        connection.request("GET", "/", headers={"Host": f"{service}.{DOMAIN}"})
        answer = connection.getresponse()
        body = answer.read(4096)
        return "" if answer.status == 200 and b"this is httpbackendservice" in body else f"{answer.status} {body[:200]!r}"
    finally:
        connection.close()


def targets(service: str = SERVICE, edges: t.Sequence[str] = lab.EDGES) -> list[Target]:
    """A hundred requests a second for a service, in equal shares through the edges."""
    asked = addresses(edges).values()
    return [
        Target(f"{address} {number}", RATE / WORKERS, lambda _count, address=address: ask(address, service))
        for number in range(WORKERS // len(edges))
        for address in asked
    ]


def load_samples(node: str) -> None:
    """Give a node the images of the sample services, if it has none."""
    if not lab.run(node, "docker images -q trinode/httpbackend:v1.0.0"):
        with SAMPLES.open("rb") as archive:
            subprocess.run(["docker", "exec", "-i", lab.container(node), "docker", "load", "-q"], stdin=archive, check=True, capture_output=True)


def start_service(node: str) -> None:
    """An instance on the node, if there is none."""
    load_samples(node)
    lab.run(
        node,
        f"docker inspect {SERVICE} >/dev/null 2>&1 || docker run -d -P --restart always --name {SERVICE} -l SERVICE_NAME={SERVICE} -l SERVICE_TAGS=http"
        " trinode/httpbackend:v1.0.0",
    )


def served_nodes(edge: str, moved: t.Mapping[str, str] | None = None) -> set[str]:
    """The nodes that an edge sends the service's requests to; those that moved have another address."""
    text = lab.run(edge, f"nginx -T 2>/dev/null | sed -n '/upstream .*{SERVICE}/,/}}/p'")
    return {node for node, address in {**lab.NODES, **lab.FURTHER, **(moved or {})}.items() if f"server {address}:" in text}


def wait_until_served(*nodes: str, seconds: float = 90, moved: t.Mapping[str, str] | None = None) -> None:
    """Until both edges send requests to the instances of exactly these nodes; ``moved`` has the new address of those that moved."""
    for edge in lab.EDGES:
        lab.wait_for(
            lambda edge=edge: served_nodes(edge, moved) == set(nodes),
            seconds,
            f"{edge} serves {SERVICE} from {nodes}",
            lambda edge=edge: (
                lab.run(edge, f"{lab.ASK} nginx-edge-apply --status; ask /v1/agent/members", check=False) + lab.journal(edge, "consul-template", "consul")
            ),
        )


class Callers:
    """A hundred requests a second through both edges, and names on every host, from the beginning to the end of a block.

    ``nodes`` and ``edges``: those that are asked, when the others are away."""

    def __init__(self, nodes: t.Iterable[str] = tuple(lab.NODES), edges: t.Sequence[str] = lab.EDGES) -> None:
        self.nodes = tuple(nodes)
        self.names: dict[str, str] = {}
        self.seconds = 0.0
        self.load = Load(targets(edges=edges), seconds=MOST_SECONDS, requests=MOST_SECONDS * RATE // WORKERS)
        self.threads = [threading.Thread(target=self._watch, args=(node,), daemon=True) for node in self.nodes]

    def _watch(self, node: str) -> None:
        self.names[node] = lab.run(node, WATCH, check=False)

    def __enter__(self) -> Callers:
        self.load.start()
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.seconds = self.load.elapsed()
        for node in self.nodes:
            lab.run(node, "rm -f /run/day2-watch", check=False)
        self.load.stop()
        for thread in self.threads:
            thread.join(timeout=30)

    @property
    def requests(self) -> int:
        """How many requests there were."""
        return sum(result["requests"] for result in self.load.results.values())

    def story(self) -> str:
        """The figures."""
        failed = sum(result["failed"] for result in self.load.results.values())
        slowest = max(result["slowest"] for result in self.load.results.values())
        names = ", ".join(f"{node} {self.names.get(node, 'nothing').splitlines()[-1]}" for node in self.nodes)
        return f"{self.requests} requests in {self.seconds:.0f} s, {failed} failed, slowest {slowest} s; names: {names}"

    def missed_names(self) -> list[str]:
        """The questions for names that failed, with their places; everybody has to have asked all the time."""
        missed = []
        for node in self.nodes:
            *failures, last = self.names.get(node, "").splitlines() or [""]
            assert last.startswith("asked ") and int(last.split()[1]) > self.seconds / 2, f"{node} hardly asked: {[*failures, last][-10:]}"
            missed += [f"{node} {line}" for line in failures]
        return missed

    def saw_no_failure(self, names: int = 0) -> None:
        """Nobody noticed anything, but for so many questions for names, where something is known to cost them."""
        print(self.story())
        assert not [result for result in self.load.results.values() if result["failed"]], json.dumps(self.load.results, indent=1)
        # A quarter of the rate, because the load shares the machine with the nodes.
        assert self.requests > max(100, RATE * self.seconds / 4), f"there was no load to speak of: {self.story()}"
        missed = self.missed_names()
        assert len(missed) <= names, missed[:10]


def settle(seconds: float = 60) -> None:
    """Until every server is healthy for autopilot; a test that has done harm ends here."""
    lab.wait_for(
        lambda: json.loads(lab.run("consul-1", f"{lab.ASK} ask /v1/operator/autopilot/health"))["Healthy"],
        seconds,
        "the cluster is healthy",
        lambda: lab.run("consul-1", f"{lab.ASK} ask /v1/operator/autopilot/health; ask /v1/agent/members", check=False),
    )
