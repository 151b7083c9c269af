# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections to Consul: their number follows from the description of the edge, whatever is registered, and too few of them only take longer."""

from __future__ import annotations

import json
import signal
import subprocess
import typing as t
from pathlib import Path

import pytest
from edge_rig import DOMAIN, Consul, Rendered, poll, tool

from ansible_collections.trinode.platform.plugins.plugin_utils._edge.connections import edge_connections
from ansible_collections.trinode.platform.plugins.plugin_utils._edge.http import http_template
from ansible_collections.trinode.platform.plugins.plugin_utils._edge.tcp import tcp_template

EDGE: dict[str, t.Any] = {"domain": DOMAIN, "max_services": 20, "internal": {"listen_addresses": ["172.17.0.1"]}}
TAGS = ("http", "tcp", "tls", "http-internal", "tcp-internal")
# What this test asks Consul itself.
OWN = 3


class Running:
    """A consul-template that keeps running, with so many connections."""

    def __init__(self, consul: Consul, directory: Path, edge: dict[str, t.Any], connections: int) -> None:
        self.directory, self.log = directory, directory / "log"
        templates = []
        for side, source in (("http", http_template), ("tcp", tcp_template)):
            (directory / f"{side}.ctmpl").write_text(source(edge))
            templates.append({"source": f"{directory}/{side}.ctmpl", "destination": f"{directory}/{side}.conf"})
        transport = {"max_conns_per_host": connections, "max_idle_conns_per_host": connections}
        retry = {"enabled": True, "attempts": 0, "backoff": "250ms", "max_backoff": "1s"}
        settings = {
            "consul": {"address": f"http://{consul.address}", "retry": retry, "transport": transport},
            # A question that has no news holds its connection for so long; the next one in the queue waits for that.
            "block_query_wait": "2s",
            "template": templates,
            "log_level": "warn",
        }
        (directory / "config.json").write_text(json.dumps(settings))
        with self.log.open("w") as log:
            command = [tool("consul-template", "CONSUL_TEMPLATE_BIN"), "-config", f"{directory}/config.json"]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def rendered(self, side: str) -> Rendered:
        """What it made of one side."""
        path = self.directory / f"{side}.conf"
        poll(f"{side}.conf is rendered; {self.log.read_text()[-2000:]}", path.exists, 180)
        return Rendered(path.read_text())

    def stop(self) -> None:
        """End it."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(20)


@pytest.fixture
def limited(tmp_path: Path) -> t.Iterator[t.Callable[[int], Consul]]:
    """A Consul with a limit of its own."""
    running: list[Consul] = []

    def start(connections: int) -> Consul:
        running.append(Consul(tool("consul", "CONSUL_BIN"), tmp_path, max_connections=connections))
        return running[-1]

    yield start
    for agent in running:
        agent.stop()


def flood(consul: Consul, count: int) -> None:
    """Services with every tag."""
    for number in range(count):
        consul.register(f"s{number:03d}-{9000 + number}", tags=TAGS, node="node", instance=f"i{number}")


def test_no_number_of_services_takes_more_than_was_worked_out(limited: t.Callable[[int], Consul], tmp_path: Path) -> None:
    """Asked about all 150 with five tags each, Consul would refuse: then nothing would be rendered any more."""
    connections = edge_connections(EDGE)
    assert connections == 201
    consul = limited(connections + OWN)
    flood(consul, 150)
    running = Running(consul, tmp_path, EDGE, connections)
    try:
        for side, kinds in (("http", 2), ("tcp", 3)):
            rendered = running.rendered(side)
            assert rendered.served() == {f"s{number:03d}-{9000 + number}" for number in range(20)}
            assert len([entry for entry in rendered.report if entry["kind"] == "served"]) == kinds * 20
            refused = [entry for entry in rendered.report if entry["kind"] == "skipped"]
            assert {entry["reason"] for entry in refused} == {"max_services are already served"}
            assert len(refused) == kinds * 130
        assert "429" not in running.log.read_text()
    finally:
        running.stop()


def test_too_few_connections_are_waited_for(limited: t.Callable[[int], Consul], tmp_path: Path) -> None:
    """consul-template's own limit below that of Consul: it asks in turn, slowly, and is never refused. Without it, Consul answers 429 for ever."""
    consul = limited(60)
    flood(consul, 100)
    running = Running(consul, tmp_path, {**EDGE, "max_services": 3000}, 50)
    try:
        assert len(running.rendered("http").served()) == 100
        assert "429" not in running.log.read_text()
    finally:
        running.stop()
