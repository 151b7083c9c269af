# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""More nodes, and fewer again, while callers do not stop. Each test goes on where the one before has ended."""

from __future__ import annotations

import json
import shutil
import typing as t
from pathlib import Path

import lab
import pytest
import secure
import traffic
import yaml

ALL = {**lab.NODES, **lab.FURTHER}


def voters() -> set[str]:
    """The servers that vote."""
    configuration = secure.ask("consul-1", "/v1/operator/raft/configuration", secure.token("operator")).json()
    return {server["Node"] for server in configuration["Servers"] if server["Voter"]}


def members() -> dict[str, str]:
    """Node -> role, of the members that are alive."""
    alive = 1
    found = secure.ask("consul-1", "/v1/agent/members", secure.token("operator")).json()
    return {member["Name"]: "server" if member["Tags"]["role"] == "consul" else "client" for member in found if member["Status"] == alive}


def healthy(tolerance: int) -> None:
    """Wait until every server is healthy and so many may be lost."""

    def look() -> bool:
        health = secure.ask("consul-1", "/v1/operator/autopilot/health", secure.token("operator")).json()
        return bool(health["Healthy"]) and health["FailureTolerance"] == tolerance

    lab.wait_for(look, 90, f"the cluster is healthy and may lose {tolerance}", lambda: lab.journal("consul-1", "consul"))


@pytest.fixture(name="inventory")
def fixture_inventory(tmp_path: Path) -> t.Callable[..., Path]:
    """The hospital's inventory with further nodes: inventory(clients=["consul-4"]). Some may be left out, and have another address."""

    def make(clients: t.Sequence[str] = (), servers: t.Sequence[str] = (), without: t.Sequence[str] = (), addresses: t.Mapping[str, str] | None = None) -> Path:
        hosts = yaml.safe_load((lab.INVENTORY / "hosts.yml").read_text(encoding="utf-8"))
        groups = hosts["all"]["children"]
        for group, names in (("consul_clients", clients), ("consul_servers", servers), ("docker_hosts", [*clients, *servers])):
            entries = {name: {"ansible_host": {**ALL, **(addresses or {})}[name]} if group != "docker_hosts" else None for name in names}
            listed = {**(groups[group] or {}).get("hosts", {}), **entries}
            groups[group] = {"hosts": {name: entry for name, entry in listed.items() if name not in without}}
        (tmp_path / "hosts.yml").write_text(yaml.safe_dump(hosts), encoding="utf-8")
        shutil.copytree(lab.INVENTORY / "group_vars", tmp_path / "group_vars", dirs_exist_ok=True)
        return tmp_path

    return make


def well(playbook: str, *arguments: str, inventory: Path, **variables: t.Any) -> lab.Play:
    """Run a playbook, and it succeeds."""
    result = secure.play(playbook, *arguments, inventory=inventory, **variables)
    assert result.status == 0, result.output[-8000:]
    print(f"{playbook} {' '.join(arguments)}: {result.seconds:.0f} s, {result.changed} changes")
    return result


def test_a_client_is_added(inventory: t.Callable[..., Path]) -> None:
    site = inventory(clients=["consul-4"])
    with traffic.Callers() as callers:
        well("site", "--limit", "consul-4", inventory=site)
        traffic.start_service("consul-4")
        traffic.wait_until_served(*lab.NODES, "consul-4")
        # Nobody else had to know.
        assert well("site", inventory=site).changed == 0
    callers.saw_no_failure()
    assert members() == {**dict.fromkeys(lab.NODES, "server"), "consul-4": "client"}
    assert voters() == set(lab.NODES)
    lab.run("consul-4", f"getent hosts {traffic.SERVICE}.service.dc1.consul")


def test_a_client_is_removed(inventory: t.Callable[..., Path]) -> None:
    with traffic.Callers() as callers:
        removed = well("remove_node", "--limit", "consul-4", inventory=inventory(clients=["consul-4"]))
    callers.saw_no_failure()
    said = " ".join(removed.output.split())
    assert "The disk of consul-4 and its copies hold secrets that stay valid" in said and "run evict_node.yml instead" in said
    traffic.wait_until_served(*lab.NODES)
    assert members() == dict.fromkeys(lab.NODES, "server")
    assert well("site", inventory=inventory()).changed == 0


def test_a_fourth_and_a_fifth_server_are_added(inventory: t.Callable[..., Path]) -> None:
    refused = secure.play("site", inventory=inventory(servers=["consul-4"]))
    assert refused.status != 0 and refused.changed == 0, "an even number of servers survives no more than one less"
    site = inventory(servers=list(lab.FURTHER))
    with traffic.Callers() as callers:
        # First the new ones alone; then those that run take the new settings, one at a time.
        well("site", "--limit", ",".join(lab.FURTHER), inventory=site)
        healthy(2)
        well("site", inventory=site)
        for node in lab.FURTHER:
            traffic.start_service(node)
        traffic.wait_until_served(*ALL)
        assert well("site", inventory=site).changed == 0
    callers.saw_no_failure()
    assert voters() == set(ALL)
    configured = json.loads(lab.run("consul-1", "cat /etc/consul.d/consul.json"))["retry_join"]
    assert set(configured) | {ALL["consul-1"]} == set(ALL.values())


def test_two_of_five_may_be_lost() -> None:
    lost = ["consul-2", "consul-5"]
    for node in lost:
        lab.run(node, "systemctl stop consul")
    try:
        lab.wait_for(
            lambda: secure.ask("consul-1", "/v1/catalog/nodes?consistent", secure.token("operator")).status == 200, 60, "three of five elect and answer"
        )
        lab.run("consul-1", f"getent hosts {traffic.SERVICE}.service.dc1.consul")
    finally:
        for node in lost:
            lab.run(node, "systemctl start consul")
    healthy(2)


def test_and_removed_again(inventory: t.Callable[..., Path]) -> None:
    with traffic.Callers() as callers:
        well("remove_node", "--limit", ",".join(lab.FURTHER), inventory=inventory(servers=list(lab.FURTHER)))
        well("site", inventory=inventory())
    callers.saw_no_failure()
    healthy(1)
    assert voters() == set(lab.NODES)
    assert members() == dict.fromkeys(lab.NODES, "server")
    traffic.wait_until_served(*lab.NODES)
    assert well("site", inventory=inventory()).changed == 0


def test_a_server_makes_room_for_another_one(inventory: t.Callable[..., Path]) -> None:
    both = inventory(servers=["consul-4"])
    with traffic.Callers(lab.EDGES) as callers:
        # For the length of the change there are four, and the operator says so.
        well("site", inventory=both, preflight_tolerated=["servers"])
        assert voters() == {*lab.NODES, "consul-4"}
        traffic.start_service("consul-4")
        well("remove_node", "--limit", "consul-3", inventory=both)
        changed = inventory(servers=["consul-4"], without=["consul-3"])
        well("site", inventory=changed)
    callers.saw_no_failure()
    healthy(1)
    assert voters() == {"consul-1", "consul-2", "consul-4"}
    assert members() == dict.fromkeys(("consul-1", "consul-2", "consul-4"), "server")
    traffic.wait_until_served("consul-1", "consul-2", "consul-4")
    assert well("site", inventory=changed).changed == 0


def test_a_server_gets_another_address(inventory: t.Callable[..., Path]) -> None:
    """Its host has the new one next to the old one, which only the agent gives up."""
    address = f"{lab.NETWORK}.140"
    before = secure.ask("consul-1", "/v1/catalog/node/consul-4", secure.token("operator")).json()["Node"]["ID"]
    lab.know_address("consul-4", address)
    with traffic.Callers(lab.EDGES) as callers:
        well("drain", "--limit", "consul-4", inventory=inventory(servers=["consul-4"], without=["consul-3"]))
        lab.run("consul-4", f"systemctl stop consul; ip address add {address}/24 dev eth0")
        site = inventory(servers=["consul-4"], without=["consul-3"], addresses={"consul-4": address})
        well("site", inventory=site)
        well("undrain", "--limit", "consul-4", inventory=site)
        traffic.wait_until_served("consul-1", "consul-2", "consul-4", moved={"consul-4": address})
    callers.saw_no_failure()
    healthy(1)
    assert voters() == {"consul-1", "consul-2", "consul-4"}
    node = secure.ask("consul-1", "/v1/catalog/node/consul-4", secure.token("operator")).json()["Node"]
    assert (node["ID"], node["Address"]) == (before, address), "it is the same server for the cluster"
    assert well("site", inventory=site).changed == 0
