# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said about the Docker Engine of a host that is in use."""

from __future__ import annotations

import ipaddress
import typing as t

import pytest

from ansible_collections.trinode.platform.plugins.module_utils._host.ports import Node
from ansible_collections.trinode.platform.plugins.plugin_utils._preflight.docker import bridge_network, docker_problems, docker_warnings

NODE = Node("n1", "n1", "192.0.2.1", "server", True)
WANTED = {"dns": ["192.0.2.1"], "live-restore": True}
RUNNING: dict[str, t.Any] = {
    "load": "loaded",
    "active": "active",
    "config_file": "/etc/docker/daemon.json",
    "settings": {},
    "wanted": WANTED,
    "changes": ["dns", "live-restore"],
    "live_restore": False,
    "swarm": False,
    "containers": ["db", "web"],
    "networks": [{"name": "bridge", "subnet": "172.17.0.0/16"}, {"name": "shop_default", "subnet": "172.18.0.0/16"}],
    "engines": [],
}
FACTS: dict[str, t.Any] = {
    "kernel": "6.1.0",
    "features": {},
    "cgroups": ["memory"],
    "proc_sys_read_only": False,
    "addresses": ["127.0.0.1", "192.0.2.1", "172.17.0.1"],
    "dns": ["192.0.2.53"],
    "routes": ["192.0.2.0/24", "172.17.0.0/16"],
    "callers": [],
}
ABSENT = {"load": "not-found", "active": "inactive", "settings": {}, "wanted": WANTED, "engines": []}


def problems(docker: dict[str, t.Any], others: dict[str, str] | None = None, **facts: t.Any) -> list[str]:
    """Return the problems of a host with this engine."""
    return [str(one) for one in docker_problems(NODE, {**FACTS, **facts, "docker": docker}, others or {})]


def warnings(**docker: t.Any) -> list[str]:
    """Return the warnings about an engine in use."""
    return [str(one) for one in docker_warnings(NODE, {**FACTS, "docker": {**RUNNING, **docker}})]


def test_an_engine_in_use_is_no_problem() -> None:
    assert problems(RUNNING) == []
    assert warnings() == []


@pytest.mark.parametrize(
    ("docker", "text"),
    [
        ({"swarm": True}, "stops 2 running containers (db, web), because the host is a member of a swarm, with which Docker refuses live-restore;"),
        ({"wanted": {**WANTED, "live-restore": False}}, "because the host is not to have live-restore; run it at a quiet time"),
        ({"swarm": True, "containers": ["one"]}, "stops 1 running container (one)"),
        ({"swarm": True, "containers": list("abcdefgh")}, "stops 8 running containers (a, b, c, d, e, 3 more)"),
    ],
)
def test_containers_that_a_restart_stops(docker: dict[str, t.Any], text: str) -> None:
    (warning,) = warnings(**docker)
    keys = "dns" if docker.get("swarm") else "dns and live-restore"
    assert warning.startswith("n1 (192.0.2.1): this run restarts Docker for ")
    assert f" for {keys} in /etc/docker/daemon.json and stops " in warning
    assert text in warning


def test_a_change_of_any_key_restarts_docker() -> None:
    (warning,) = warnings(changes=["log-level"], wanted={"live-restore": False, "log-level": "warn"})
    assert "restarts Docker for log-level in /etc/docker/daemon.json and stops 2 running containers" in warning


@pytest.mark.parametrize("docker", [{"containers": []}, {"changes": []}, {"changes": ["live-restore"]}])
def test_no_restart_and_nothing_to_stop(docker: dict[str, t.Any]) -> None:
    assert warnings(swarm=True, **docker) == []


def test_containers_outlive_the_restart_that_takes_live_restore_away() -> None:
    assert warnings(live_restore=True, wanted={**WANTED, "live-restore": False}) == []


def test_ports_published_at_another_address() -> None:
    (warning,) = warnings(settings={"ip": "10.8.0.1"})
    assert "publishes the ports of containers at 10.8.0.1 only (ip in /etc/docker/daemon.json)" in warning
    assert "publish with -p 192.0.2.1:PORT:PORT" in warning
    assert warnings(settings={"ip": "192.0.2.1"}) == warnings(settings={"ip": "0.0.0.0"}) == []
    # What is wanted replaces what is in the file.
    assert warnings(settings={"ip": "10.8.0.1"}, wanted={**WANTED, "ip": "192.0.2.1"}) == []


@pytest.mark.parametrize(
    ("engine", "text"),
    [
        ({"kind": "rootless", "pid": 7, "user": "alice", "unit": "user@1000.service"}, "the user alice runs Docker rootless (pid 7)"),
        ({"kind": "snap", "pid": 7, "user": "root", "unit": "snap.docker.dockerd.service"}, "Docker runs as a snap"),
        ({"kind": "other", "pid": 7, "user": "root", "unit": "mine.service"}, "dockerd runs outside of docker.service (pid 7 in mine.service)"),
    ],
)
def test_another_engine(engine: dict[str, t.Any], text: str) -> None:
    (problem,) = problems({**ABSENT, "engines": [engine]})
    assert problem.startswith(f"n1 (192.0.2.1): {text}")
    # Next to the engine that is managed, it is only not registered.
    assert problems({**RUNNING, "engines": [engine]}) == []
    (warning,) = warnings(engines=[engine])
    assert text in warning


def test_a_network_of_containers_that_hides_another_node() -> None:
    (problem,) = problems(RUNNING, {"172.18.4.2": "n2", "192.0.2.3": "n3"})
    assert problem == (
        "n1 (192.0.2.1): Docker's network shop_default (172.18.0.0/16) covers 172.18.4.2 (n2), so that nothing there is reached from this host;"
        " make it anew with a network that the site does not use (docker network rm shop_default)."
    )
    (problem,) = problems(RUNNING, {"172.17.4.2": "n2"}, dns=["172.17.0.9"])
    assert "network bridge (172.17.0.0/16) covers 172.17.0.9 (a name server of the host) and 172.17.4.2 (n2)" in problem
    assert "{bip: 10.200.0.1/24}" in problem
    # The host's own address on the bridge is no other's.
    assert problems(RUNNING, {"172.17.0.1": "n1"}) == []


def test_the_network_that_a_new_engine_takes() -> None:
    (problem,) = problems(ABSENT, routes=["192.0.2.0/24"], callers=["172.17.3.4"])
    assert "network bridge (172.17.0.0/16) covers 172.17.3.4 (who is connected now)" in problem
    # The host is in that network itself, so Docker takes the next one.
    assert problems(ABSENT, routes=["172.17.0.0/24"], callers=["172.17.0.4"]) == []
    assert len(problems(ABSENT, routes=["172.17.0.0/24"], callers=["172.18.0.4"])) == 1
    # A setting decides.
    assert problems({**ABSENT, "wanted": {**WANTED, "bip": "10.200.0.1/24"}}, routes=["192.0.2.0/24"], callers=["172.17.3.4"]) == []
    assert len(problems({**ABSENT, "settings": {"bip": "10.200.0.1/24"}}, {"10.200.0.7": "n2"})) == 1


@pytest.mark.parametrize(
    ("settings", "routes", "network"),
    [
        ({}, [], "172.17.0.0/16"),
        ({}, ["172.17.3.0/24", "172.18.0.0/15"], "172.20.0.0/16"),
        ({"bip": "10.1.2.1/24"}, ["10.1.2.0/24"], "10.1.2.0/24"),
        ({"default-address-pools": [{"base": "10.30.0.0/16", "size": 24}]}, [], "10.30.0.0/24"),
        ({"default-address-pools": [{"base": "10.30.0.0/16", "size": 24}]}, ["10.30.0.0/23"], "10.30.2.0/24"),
        # Nonsense is refused by dockerd.
        ({"default-address-pools": [{"base": "x", "size": 24}, {"base": "10.0.0.0/8", "size": 4}, "y"]}, [], "172.17.0.0/16"),
        ({"bip": "nonsense"}, [], "None"),
    ],
)
def test_the_default_bridge(settings: dict[str, t.Any], routes: list[str], network: str) -> None:
    assert str(bridge_network(settings, [ipaddress.ip_network(route) for route in routes])) == network
