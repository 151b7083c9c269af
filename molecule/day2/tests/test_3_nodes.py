# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes that are drained, die, are replaced, are lost together, leave, and come back as something else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import lab
import traffic
import yaml
from day2 import Run

# A machine that is gone: its agent without a good-bye, and then everything of it.
DIE = (
    "systemctl kill -s KILL consul; systemctl disable --now consul registrator;"
    " rm -rf /var/lib/consul /etc/consul.d /opt/consul /usr/local/bin/consul /etc/systemd/system/consul.service"
)


def servers() -> dict[str, bool]:
    """The voters."""
    raft = json.loads(lab.run("consul-1", "curl -s http://127.0.0.1:8500/v1/operator/raft/configuration"))
    return {peer["Node"]: peer["Voter"] for peer in raft["Servers"]}


def test_a_node_is_drained_and_comes_back(site: Run) -> None:
    with traffic.Callers() as callers:
        site.well("drain.yml", "--limit", "consul-3")
        for edge in lab.EDGES:
            assert "consul-3" not in traffic.served_nodes(edge)
        lab.run("consul-3", f"docker rm -f {traffic.SERVICE}")
        assert site.well("drain.yml", "--limit", "consul-3").changed == 0
        # Not even what is started meanwhile gets traffic, nor does a restart of the agent end it.
        traffic.start_service("consul-3")
        lab.run("consul-3", "systemctl restart consul")
        traffic.settle()
        assert "consul-3" not in traffic.served_nodes("consul-1")
        site.well("undrain.yml", "--limit", "consul-3")
        traffic.wait_until_served(*lab.NODES)
        assert site.well("undrain.yml", "--limit", "consul-3").changed == 0
    callers.saw_no_failure()


def test_the_last_instance_is_not_drained_unasked(site: Run) -> None:
    lab.run("consul-3", "docker run -d -P --name day2only -l SERVICE_NAME=day2only trinode/httpbackend:v1.0.0")
    try:
        lab.wait_for(lambda: "day2only" in lab.run("consul-1", "consul catalog services"), 20, "the service is registered")
        for arguments in (("--check",), ()):
            result = site("drain.yml", "--limit", "consul-3", *arguments)
            assert result.status != 0 and result.changed == 0
            assert "consul-3 was left in service, because it carries the last passing instance of day2only" in " ".join(result.output.split())
        result = site("drain.yml")
        assert result.status != 0 and "that would be the whole site" in " ".join(result.output.split())
    finally:
        lab.run("consul-3", "docker rm -f day2only")


def test_a_dead_server_is_replaced_by_one_of_the_same_name_and_address(site: Run) -> None:
    lab.run("consul-1", "consul kv put day2/kept yes")
    lab.run("consul-3", DIE)
    site.well("site.yml", "--limit", "consul-3")
    traffic.settle()
    assert servers() == dict.fromkeys(lab.NODES, True)
    assert lab.run("consul-3", "consul kv get day2/kept") == "yes"
    traffic.wait_until_served(*lab.NODES)
    assert site.well("site.yml").changed == 0


def test_a_lost_quorum_is_recovered_from_one_server(site: Run) -> None:
    result = site("recover_quorum.yml", "--limit", "consul-1")
    assert result.status == 0 and result.changed == 0, "with a leader, nothing is done"
    for node in ("consul-2", "consul-3"):
        lab.run(node, DIE)
    site.well("recover_quorum.yml", "--limit", "consul-1")
    assert servers() == {"consul-1": True}
    assert lab.run("consul-1", "consul kv get day2/kept") == "yes"
    assert site.well("recover_quorum.yml", "--limit", "consul-1").changed == 0
    site.well("site.yml")
    assert servers() == dict.fromkeys(lab.NODES, True)
    traffic.wait_until_served(*lab.NODES)


def inventory(place: Path, move: bool) -> Path:
    """The site's inventory with consul-3 as a client, or without it."""
    hosts = yaml.safe_load((lab.INVENTORY / "hosts.yml").read_text(encoding="utf-8"))
    groups = hosts["all"]["children"]
    entry = groups["consul_servers"]["hosts"].pop("consul-3")
    if move:
        groups["consul_clients"] = {"hosts": {"consul-3": entry}}
    else:
        groups["docker_hosts"]["hosts"].pop("consul-3")
    place.mkdir(parents=True, exist_ok=True)
    (place / "hosts.yml").write_text(yaml.safe_dump(hosts), encoding="utf-8")
    shutil.copytree(lab.INVENTORY / "group_vars", place / "group_vars", dirs_exist_ok=True)
    return place


def test_a_server_is_removed_and_comes_back_as_a_client_and_as_a_server(site: Run, tmp_path: Path) -> None:
    refused = site("remove_node.yml", "--limit", "consul-3")
    assert refused.status != 0 and refused.changed == 0
    assert "2 Consul servers would be left" in " ".join(refused.output.split())
    refused = site("remove_node.yml", "--limit", "all", remove_last_servers=True)
    assert refused.status != 0 and refused.changed == 0
    assert "needs a --limit that names some of the hosts" in " ".join(refused.output.split())

    with traffic.Callers(lab.EDGES) as callers:
        site.well("remove_node.yml", "--limit", "consul-3", remove_last_servers=True)
    callers.saw_no_failure()
    assert servers() == {"consul-1": True, "consul-2": True}
    assert "consul-3" not in lab.run("consul-1", "consul members; consul catalog nodes")
    assert lab.run("consul-3", "ls /etc/consul.d /usr/local/bin/consul", check=False).count("No such file") == 2
    # The name server of the container itself is 127.0.0.11.
    assert "nameserver 127.0.0.1" not in lab.run("consul-3", "getent hosts consul-3 >/dev/null; cat /etc/resolv.conf").splitlines()
    assert site.well("remove_node.yml", "--limit", "consul-3", remove_last_servers=True).changed == 0

    two = {"preflight_tolerated": ["servers"], "preflight_allow_single_server": True}
    site.well("site.yml", inventory=inventory(tmp_path / "client", move=True), **two)
    members = {fields[0]: fields[3] for fields in (line.split() for line in lab.run("consul-1", "consul members").splitlines()[1:])}
    assert members == {"consul-1": "server", "consul-2": "server", "consul-3": "client"}
    traffic.start_service("consul-3")
    traffic.wait_until_served(*lab.NODES)

    site.well("remove_node.yml", "--limit", "consul-3", inventory=tmp_path / "client")
    # One more server: those that run do not wait for it while they take the new settings, one at a time.
    with traffic.Callers(lab.EDGES) as callers:
        site.well("site.yml")
    callers.saw_no_failure()
    assert servers() == dict.fromkeys(lab.NODES, True)
