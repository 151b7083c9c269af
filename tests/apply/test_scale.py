# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A thousand exposed services with three instances each on one edge, with the limits that the platform sets. ``SCALE_SERVICES`` tries another number."""

from __future__ import annotations

import os
import socket
import time
import typing as t
from pathlib import Path

import pytest
from chain import Chain, Places, defaults
from edge_rig import Consul, tool

from ansible_collections.trinode.platform.plugins.plugin_utils._edge.connections import edge_connections

if t.TYPE_CHECKING:
    from apply_rig import Edge

SERVICES = int(os.environ.get("SCALE_SERVICES") or 1000)
INSTANCES = 3


class Scale:
    """The edge and what it serves."""

    def __init__(self, edge: Edge, consul: Consul, places: Places) -> None:
        self.edge, self.consul, self.places = edge, consul, places
        conf = edge.etc / "nginx.conf"
        conf.write_text(conf.read_text().replace("worker_connections 256", "worker_connections 8192"))
        # What nginx has at start-up is more work here than in a test of two services.
        edge.configure(timeout=60, shrink_min_services=1000000)
        started = time.monotonic()
        for number in range(SERVICES):
            for instance in range(INSTANCES):
                self.register(number, instance)
        registered = time.monotonic()
        # Some of each kind: a tenth has a port of its own, and a tenth a name in TLS.
        ports = f"20000-{20000 + SERVICES}"
        description = {"tcp_ports": [ports], "max_services": max(SERVICES, 3000)}
        # As the platform's playbook does it, from the same number.
        connections = edge_connections({"domain": "apps.example", **description})
        self.chain = Chain(edge, consul.address, description, connections=connections)
        self.chain.follows(lambda: len(edge.status()["services"]) == self.exposed() and edge.status()["up_to_date"], "all are served", 300)
        print(f"\n{SERVICES} services: registered in {registered - started:.1f} s, served after {time.monotonic() - registered:.1f} s more")

    @staticmethod
    def tags(number: int) -> list[str]:
        """How a service is exposed."""
        return ["http", *(["tcp"] if number % 10 == 1 else []), *(["tls"] if number % 10 == 2 else [])]

    @classmethod
    def exposed(cls) -> int:
        """How many times something is served."""
        return sum(len(cls.tags(number)) for number in range(SERVICES))

    def register(self, number: int, instance: int, **more: t.Any) -> None:
        """One instance, through the API."""
        tags = self.tags(number)
        meta = {"edge_port": str(20000 + number)} if "tcp" in tags else {}
        values = {"tags": tags, "address": self.places.address(number, instance), "meta": meta}
        self.consul.register(f"svc{number:04d}", self.places.port, node=f"node-{instance}", instance=f"{number}-{instance}", **{**values, **more})

    def asked(self, number: int) -> set[str]:
        """Who answers for a service."""
        return {self.chain.get(f"svc{number:04d}")[1] for _ in range(2 * INSTANCES)}


@pytest.fixture(scope="module")
def places() -> t.Iterator[Places]:
    """Instances that answer."""
    running = Places()
    yield running
    running.stop()


@pytest.fixture
def scale(edge: Edge, places: Places, tmp_path: Path) -> t.Iterator[Scale]:
    """A Consul with the role's limit, full of services, and an edge that follows it."""
    (tmp_path / "consul").mkdir()
    # The role's own default is for the default number of services; the platform's playbook gives more when there are to be more.
    limit = max(
        defaults("consul_server")["consul_server_http_max_conns_per_client"], 200 + edge_connections({"domain": "x", "max_services": max(SERVICES, 3000)})
    )
    consul = Consul(tool("consul", "CONSUL_BIN"), tmp_path / "consul", max_connections=limit)
    made: Scale | None = None
    try:
        made = Scale(edge, consul, places)
        yield made
    finally:
        if made is not None:
            made.chain.stop()
        consul.stop()


def test_all_services_are_served_and_one_change_is_one(scale: Scale) -> None:
    edge, chain = scale.edge, scale.chain
    # Every service, by its own three instances.
    for number in range(SERVICES):
        wanted = {scale.places.address(number, instance) for instance in range(INSTANCES)}
        assert scale.asked(number) == wanted, f"svc{number:04d}"
    for number in range(1, SERVICES, 10):
        assert ask_line(20000 + number) in {scale.places.address(number, instance) for instance in range(INSTANCES)}
    assert not edge.status()["skipped"]
    assert "429" not in chain.log.read_text(), "Consul refuses no connection"

    # One instance goes: its service follows, and nothing else is written or changed.
    staged = (edge.state / "staging" / "stream.conf").stat()
    generation = int(edge.status()["generation"])
    started = time.monotonic()
    scale.register(3, 0, status="critical")
    gone = scale.places.address(3, 0)
    chain.follows(lambda: gone not in scale.asked(3), "the instance is out", 120)
    print(f"a change was visible after {time.monotonic() - started:.2f} s")
    chain.follows(lambda: int(edge.status()["generation"]) == generation + 1, "one change, one generation", 120)
    now = (edge.state / "staging" / "stream.conf").stat()
    assert (now.st_ino, now.st_mtime_ns) == (staged.st_ino, staged.st_mtime_ns), "the side that did not change is not written"
    changed = [line for line in edge.run("--diff").stdout.splitlines() if line[:1] in "+-" and not line.startswith(("+++", "---"))]
    assert [line for line in changed if f"server {gone}:" in line] and all("svc0003" in line or gone in line for line in changed), (
        f"more than that service is different: {changed[:10]}"
    )

    # What nothing of can be seen reloads nothing.
    workers = edge.workers()
    scale.register(4, 0, meta={"note": "new"})
    scale.register(5, 0, status="critical")
    chain.follows(lambda: scale.places.address(5, 0) not in scale.asked(5), "the next change is visible", 120)
    chain.follows(lambda: int(edge.status()["generation"]) == generation + 2, "of two changes, one is none", 120)
    assert edge.workers() != workers


def ask_line(port: int) -> str:
    """What a tcp service answers."""
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(b"who\n")
        return connection.recv(4096).decode()
