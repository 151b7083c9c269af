# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad input and bad days: one clear error for each, before anything is changed."""

from __future__ import annotations

import shutil
import typing as t
from pathlib import Path

import lab
import pytest

HOSTS = """---
all:
  children:
    consul_servers:
      hosts:
{servers}
    docker_hosts: {{hosts: {{consul-1: }}}}
    edge: {{hosts: {{consul-1: }}}}
"""

#: What the platform would leave on a node.
TRACES = "ls -d /opt/consul /etc/consul.d /var/lib/consul /etc/docker /etc/nginx /usr/local/bin/consul /var/lib/trinode 2>/dev/null || true"


@pytest.fixture(autouse=True)
def _nothing_changes() -> t.Iterator[None]:
    """Whatever is refused, the nodes stay as they were."""
    before = {node: lab.run(node, TRACES) for node in lab.NODES}
    yield
    assert {node: lab.run(node, TRACES) for node in lab.NODES} == before


def inventory(directory: Path, **servers: str) -> Path:
    """An inventory like the hospital's with other servers: their names and the last numbers of their addresses."""
    lines = "\n".join(f'        {name.replace("_", "-")}: {{ansible_host: "{lab.NETWORK}.{number}"}}' for name, number in servers.items())
    (directory / "hosts.yml").write_text(HOSTS.format(servers=lines), encoding="utf-8")
    shutil.copytree(lab.INVENTORY / "group_vars", directory / "group_vars")
    return directory


def refused(*expected: str, **arguments: t.Any) -> None:
    """The site playbook ends with an error that says all of this, and has changed nothing."""
    result = lab.play("site.yml", **arguments)
    output = " ".join(result.output.split())
    assert result.status != 0, result.output[-6000:]
    assert result.changed == 0, result.changes()
    for text in expected:
        assert text in output, f"{text!r} is not in\n{result.output[-6000:]}"


def test_everything_wrong_in_the_inventory_is_told_at_once(tmp_path: Path) -> None:
    refused(
        "2 Consul servers (consul-1 and consul-2)",
        "the datacenter name 'DC 1'",
        "is inside the Consul domain",
        "consul_server_log_levle",
        "consul_server_log_level",
        inventory=inventory(tmp_path, consul_1="129", consul_2="130"),
        variables={"platform_datacenter": "DC 1", "platform_edge_domain": "apps.consul", "consul_server_log_levle": "debug"},
    )


def test_duplicate_addresses(tmp_path: Path) -> None:
    refused(
        f"have the same platform_address {lab.NETWORK}.129",
        inventory=inventory(tmp_path, consul_1="129", consul_2="129", consul_3="131"),
    )


def test_an_address_that_is_not_on_the_host() -> None:
    refused("consul-1", f"{lab.NETWORK}.77", variables={"platform_address": f"{lab.NETWORK}.77"})


def test_a_missing_artifact(tmp_path: Path) -> None:
    refused("consul 1.22.5", str(tmp_path), variables={"platform_artifact_mirror": str(tmp_path)})


def test_a_bad_checksum(tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    shutil.copytree(lab.MIRROR, mirror, ignore=shutil.ignore_patterns("images", "1.20.1", "0.41.1"))
    archive = next((mirror / "consul" / "1.22.5").glob("*.zip"))
    with archive.open("r+b") as file:
        file.seek(1000)
        file.write(b"damaged")
    refused(archive.name, variables={"platform_artifact_mirror": str(mirror)})


def test_an_unsupported_system() -> None:
    lab.run("consul-2", "cp --preserve /usr/lib/os-release /root/os-release && sed -i s/^VERSION_ID=.*/VERSION_ID=9/ /usr/lib/os-release")
    try:
        refused("consul-2", "9")
    finally:
        lab.run("consul-2", "cp --preserve /root/os-release /usr/lib/os-release")


def test_a_port_that_somebody_else_holds() -> None:
    lab.run("consul-3", "systemd-run --unit=squatter --collect python3 -m http.server 8500")
    try:
        lab.wait_for(lambda: "8500" in lab.run("consul-3", "ss -Hlnt"), 10, "the squatter listens")
        refused("consul-3", "8500/tcp", "python3", "squatter")
    finally:
        lab.run("consul-3", "systemctl stop squatter")


def test_a_blocked_path() -> None:
    rule = f"INPUT -p udp --dport 8301 -s {lab.NODES['consul-1']} -j DROP"
    lab.run("consul-3", f"iptables -A {rule}")
    try:
        refused("consul-1", "consul-3", "8301/udp")
    finally:
        lab.run("consul-3", f"iptables -D {rule}")


def test_a_resolver_without_name_servers() -> None:
    lab.run("consul-1", "cp /etc/resolv.conf /root/resolv.conf && : > /etc/resolv.conf")
    try:
        result = lab.play("site.yml")
        assert result.status != 0, result.output[-4000:]
        assert "resolvconf_dns_former_servers" in result.output, result.output[-4000:]
    finally:
        lab.run("consul-1", "cat /root/resolv.conf > /etc/resolv.conf")


def test_a_forgotten_sudo_password() -> None:
    lab.run("consul-2", "cp -a /etc/sudoers.d/ops /root/sudoers-ops && echo 'ops ALL=(ALL) ALL' > /etc/sudoers.d/ops")
    try:
        refused("consul-2 cannot be read: Missing sudo password", "call ansible-playbook with -K")
    finally:
        lab.run("consul-2", "cp -a /root/sudoers-ops /etc/sudoers.d/ops")


def test_invalid_docker_settings() -> None:
    broken = '{"log-level": "warn",}'
    lab.run("consul-2", f"mkdir -p /etc/docker && echo '{broken}' > /etc/docker/daemon.json")
    try:
        # A secure site takes no part of a run before it has its secrets.
        arguments = ("--tags", "docker_daemon_dns", "--limit", "consul-2")
        result = lab.play("site.yml", *arguments, variables={"platform_security": "open"})
        assert result.status != 0, result.output[-4000:]
        assert "/etc/docker/daemon.json" in result.output and "line 1" in result.output, result.output[-4000:]
        assert lab.run("consul-2", "cat /etc/docker/daemon.json") == broken
        assert lab.run("consul-2", "command -v dockerd || true") == ""
    finally:
        lab.run("consul-2", "rm -r /etc/docker")
