# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Somebody in a host's network holds all connections that Consul gives to 127.0.0.1: registration and edges go on."""

from __future__ import annotations

import typing as t

import lab
import pytest
import registration

# What is refused is closed by the agent, and makes room for the next try.
_HOLD = """
import socket, time
held = []
while True:
    for _ in range(100):
        held.append(socket.create_connection(("127.0.0.1", 8500)))
    if len(held) > 12000:
        del held[-200:]
        time.sleep(0.5)
"""
_STATUS = "curl -s -m 5 -o /dev/null -w '%{http_code}' http://127.0.0.1:8500/v1/status/leader"
OBSERVER = "consul-2"


@pytest.fixture(name="held", params=["consul-1", "consul-3"])
def fixture_held(request: pytest.FixtureRequest) -> t.Iterator[registration.Node]:
    """A host on which a program holds the connections."""
    node = registration.Node(request.param, "held-")
    lab.run(node.name, "cat > /tmp/hold.py", given=_HOLD)
    node.run("systemd-run --quiet --collect --unit=hold-connections -p LimitNOFILE=20000 python3 /tmp/hold.py")
    try:
        lab.wait_for(lambda: lab.run(node.name, _STATUS, check=False) != "200", 60, "127.0.0.1 is refused")
        yield node
    finally:
        node.run("systemctl stop hold-connections; docker rm -f held-in >/dev/null 2>&1; rm -f /tmp/hold.py", check=False)
        lab.wait_for(lambda: lab.run(node.name, _STATUS, check=False) == "200", 60, "127.0.0.1 is served again")


def test_registration_and_edges_go_on(held: registration.Node) -> None:
    observer = registration.Node(OBSERVER, "held-")
    held.start("in", "-p 8081 --label SERVICE_NAME=held --label SERVICE_TAGS=http")
    lab.wait_for(lambda: observer.api("/v1/catalog/service/held"), 30, "the container is registered", held.evidence)
    for edge in lab.EDGES:
        lab.wait_for(
            lambda edge=edge: '"held"' in lab.run(edge, "nginx-edge-apply --status --json", check=False),
            30,
            f"{edge} serves it",
            lambda edge=edge: lab.journal(edge, "consul-template", "nginx-edge-apply"),
        )
    assert lab.run(held.name, _STATUS, check=False) != "200", "the connections were held all the time"
    held.run("docker rm -f held-in >/dev/null")
    lab.wait_for(lambda: not observer.api("/v1/catalog/service/held"), 30, "the container is out of the catalogue", held.evidence)


def test_only_the_platform_reaches_the_socket() -> None:
    for node in lab.NODES:
        mode = lab.run(node, "stat -c '%U %G %a' /run/consul/http.sock")
        assert mode == "consul consul-api 660", f"{node}: {mode}"
        members = set(lab.run(node, "getent group consul-api").split(":")[3].split(",")) - {""}
        assert members <= {"consul-template"}, f"{node}: {members}"
        refused = "setpriv --reuid nobody --regid nogroup --clear-groups curl -s -m 5 --unix-socket /run/consul/http.sock http://x/"
        assert "refused" in lab.run(node, f"{refused} >/dev/null && echo reached || echo refused")
