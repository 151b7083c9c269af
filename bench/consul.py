# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Consul's HTTP API as the benchmarks need it: bulk registration of external services, and the moment at which the catalogue knows something."""

from __future__ import annotations

import http.client
import json
import threading
import time
import typing as t

from bench.lab import Endpoint, Lab, LabError, Node, wait_for

PORT = 8500
# Consul takes at most 128 operations in one transaction.
TRANSACTION_LIMIT = 128
EXTERNAL_NODE = "bench-external"


class External(t.NamedTuple):
    """An instance that is registered through the API, on a node without an agent."""

    ident: str
    service: str
    address: str
    port: int
    tags: tuple[str, ...] = ("http",)


def operations(instances: t.Iterable[External], verb: str) -> list[dict[str, t.Any]]:
    """Operations of a transaction that sets or deletes instances."""
    result = []
    for instance in instances:
        service: dict[str, t.Any] = {"ID": instance.ident, "Service": instance.service}
        if verb == "set":
            service.update(Address=instance.address, Port=instance.port, Tags=list(instance.tags))
        result.append({"Service": {"Verb": verb, "Node": EXTERNAL_NODE, "Service": service}})
    return result


# (address, port) of each instance.
Places = frozenset[tuple[str, int]]


def places(document: t.Iterable[t.Mapping[str, t.Any]]) -> Places:
    """Where the instances are, from an answer of the health API."""
    return frozenset((entry["Service"]["Address"] or entry["Node"]["Address"], entry["Service"]["Port"]) for entry in document)


class Consul:
    """The API of one node's agent."""

    def __init__(self, lab: Lab, node: Node) -> None:
        lab.confirm([Endpoint(node, PORT)])
        self.address = node.address

    def call(self, method: str, path: str, body: t.Any = None, timeout: float = 30) -> tuple[t.Any, int]:
        """One request; gives the document and Consul's index.

        Raises:
            LabError: Consul does not answer, or not with success.
        """
        connection = http.client.HTTPConnection(self.address, PORT, timeout=timeout)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            answer = connection.getresponse()
            text = answer.read()
            index = int(answer.getheader("X-Consul-Index") or 0)
        except (OSError, http.client.HTTPException) as error:
            raise LabError(f"Consul at {self.address} does not answer {method} {path}: {error}") from error
        finally:
            connection.close()
        if answer.status != 200:
            raise LabError(f"Consul at {self.address} answered {answer.status} to {method} {path}: {text.decode('utf-8', 'replace')[:300]}")
        return (json.loads(text) if text.strip() else None), index

    def create_external_node(self, address: str) -> None:
        """Register the node that external instances belong to. It has no agent and no check, so nothing ever asks it."""
        self.call("PUT", "/v1/catalog/register", {"Node": EXTERNAL_NODE, "Address": address, "NodeMeta": {"external-node": "true"}})

    def remove_external_node(self) -> None:
        """Remove the node with all its instances; that it is not there is no error."""
        self.call("PUT", "/v1/catalog/deregister", {"Node": EXTERNAL_NODE})

    def put(self, instances: t.Sequence[External], verb: str = "set") -> None:
        """Set, or delete, instances, as many as wanted."""
        todo = operations(instances, verb)
        for start in range(0, len(todo), TRANSACTION_LIMIT):
            self.call("PUT", "/v1/txn", todo[start : start + TRANSACTION_LIMIT])

    def instances(self, service: str) -> Places:
        """Where the instances of a service are, as the catalogue has it."""
        return places(self.call("GET", f"/v1/health/service/{service}")[0])

    def healthy(self) -> bool:
        """Whether the servers have a leader and all of them are in order; an agent that does not answer cannot say so."""
        try:
            return bool(self.call("GET", "/v1/operator/autopilot/health")[0]["Healthy"])
        except LabError:
            return False

    def services_with_tag(self, tag: str) -> set[str]:
        """The services of the catalogue that have a tag."""
        return {name for name, tags in self.call("GET", "/v1/catalog/services")[0].items() if tag in tags}


def restart_servers(lab: Lab) -> None:
    """Start every server anew, one after the other: a server keeps for long the memory that an earlier load took, and that would be measured."""
    for node in lab.nodes:
        node.run("systemctl restart consul.service", timeout=180)
        wait_for(Consul(lab, node).healthy, 120, f"all servers are in order after the restart of the one on {node.name}", pause=0.5)


class CatalogueWatch:
    """Waits in a thread of its own, by blocking queries, until the instances of a service are as wanted; notes when."""

    def __init__(self, consul: Consul, service: str, wanted: t.Callable[[Places], bool], seconds: float = 60) -> None:
        self._consul = consul
        self._service = service
        self._wanted = wanted
        self._deadline = time.monotonic() + seconds
        self._ready = threading.Event()
        self.at: float | None = None
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._work, daemon=True)

    def start(self) -> CatalogueWatch:
        """Begin, and return when the first answer is there, so that nothing that comes afterwards is missed."""
        self._thread.start()
        self._ready.wait(30)
        return self

    def _work(self) -> None:
        index = 0
        try:
            while time.monotonic() < self._deadline:
                document, index = self._consul.call("GET", f"/v1/health/service/{self._service}?index={index}&wait=10s", timeout=30)
                now = time.time()
                self._ready.set()
                if self._wanted(places(document)):
                    self.at = now
                    return
        except Exception as error:
            self.error = error
        finally:
            self._ready.set()

    def result(self) -> float:
        """The Unix time at which it was so.

        Raises:
            LabError: it never was.
        """
        self._thread.join(max(0.0, self._deadline - time.monotonic()) + 30)
        if self.error is not None:
            raise LabError(f"watching the catalogue for {self._service} failed: {self.error}") from self.error
        if self.at is None:
            raise LabError(f"the catalogue did not get what was expected of service {self._service} in time")
        return self.at
