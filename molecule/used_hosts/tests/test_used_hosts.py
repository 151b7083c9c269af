# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts on which Docker, containers and Consul of somebody else run already: what is named, what is refused, and what goes on running."""

from __future__ import annotations

import json
import typing as t
from concurrent.futures import ThreadPoolExecutor

import lab
import pytest
import traffic

SWARM, BUSY, ELSEWHERE = lab.NODES
OWN_FILE = "/data/docker/daemon.json"
DROP_IN = f"""[Service]
ExecStart=
ExecStart=/usr/sbin/dockerd --config-file={OWN_FILE} -H fd:// --containerd=/run/containerd/containerd.sock
"""
#: A part of a run, on hosts whose site has no secrets yet.
OPEN = {"platform_security": "open"}


def install(node: str) -> None:
    """Make the node a Docker host with two running containers, one of which nothing would start again."""
    lab.run(node, "apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends docker.io")
    traffic.load_samples(node)
    for name in ("web", "db"):
        lab.run(node, f"docker run -d -P --name {name} trinode/httpbackend:v1.0.0")


def running(node: str) -> dict[str, str]:
    """Return the running containers, each with what tells one run from the next."""
    ids = lab.run(node, "docker ps -q").split()
    text = lab.run(node, f"docker inspect --format '{{{{.Name}}}} {{{{.State.Pid}}}} {{{{.State.StartedAt}}}}' {' '.join(ids)}") if ids else ""
    return dict(line.lstrip("/").split(" ", 1) for line in text.splitlines())


def info(node: str) -> dict[str, t.Any]:
    """Return what the engine says of itself."""
    return t.cast("dict[str, t.Any]", json.loads(lab.run(node, "docker info --format '{{json .}}'")))


def starts(node: str) -> int:
    """Return how often the engine has started."""
    return int(lab.run(node, "journalctl -o cat -u docker | grep -c '^Started docker.service'"))


def answers(node: str, name: str) -> bool:
    """Return whether a container answers on its published port."""
    port = lab.run(node, f"docker port {name} | head -n 1 | sed 's/.*://'")
    return "httpbackend" in lab.run(node, f"curl -s -m 5 http://127.0.0.1:{port}/", check=False)


@pytest.fixture(scope="module", autouse=True)
def _in_use() -> t.Iterator[None]:
    with ThreadPoolExecutor() as pool:
        list(pool.map(install, lab.NODES))
    lab.run(SWARM, f"docker swarm init --advertise-addr {lab.NODES[SWARM]}")
    lab.run(ELSEWHERE, f'mkdir -p /data/docker /etc/systemd/system/docker.service.d && echo \'{{"log-level": "warn"}}\' > {OWN_FILE}')
    lab.run(ELSEWHERE, "cat > /etc/systemd/system/docker.service.d/own.conf && systemctl daemon-reload && systemctl restart docker", given=DROP_IN)
    lab.run(ELSEWHERE, "docker start web db")
    yield
    for node in lab.NODES:
        lab.run(node, "docker rm -f web db")


def preflight(**variables: t.Any) -> tuple[int, str]:
    """Run the preflight; its status and what it said, in one line."""
    result = lab.play("site.yml", "--tags", "preflight", variables=variables)
    assert result.changed == 0, result.changes()
    return result.status, " ".join(result.output.split())


def test_what_a_restart_stops_is_named() -> None:
    status, text = preflight()
    assert status == 0, text[-3000:]
    stops = "in /etc/docker/daemon.json and stops 2 running containers (db, web)"
    assert f"{SWARM} ({lab.NODES[SWARM]}): this run restarts Docker for dns {stops}" in text
    for node in (BUSY, ELSEWHERE):
        assert f"{node} ({lab.NODES[node]}): this run restarts Docker" not in text
    status, text = preflight(docker_daemon_dns_live_restore=False)
    assert status == 0
    assert f"{BUSY} ({lab.NODES[BUSY]}): this run restarts Docker for dns and live-restore {stops}" in text


def test_an_address_at_which_ports_are_published_is_named() -> None:
    lab.run(BUSY, """mkdir -p /etc/docker && echo '{"ip": "10.8.0.1"}' > /etc/docker/daemon.json""")
    try:
        status, text = preflight()
        assert status == 0 and "Docker publishes the ports of containers at 10.8.0.1 only (ip in /etc/docker/daemon.json)" in text
    finally:
        lab.run(BUSY, "rm /etc/docker/daemon.json")


def test_a_network_that_hides_a_name_server_is_refused() -> None:
    lab.run(BUSY, "docker network create --subnet 10.77.0.0/16 old")
    try:
        status, text = preflight(platform_recursors=["10.77.3.4"])
        assert status != 0 and f"{BUSY} ({lab.NODES[BUSY]}): Docker's network old (10.77.0.0/16) covers 10.77.3.4 (a recursor)" in text
    finally:
        lab.run(BUSY, "docker network rm old")


def test_another_consul_is_refused() -> None:
    lab.run(BUSY, "mkdir /etc/consul.d && touch /etc/consul.d/consul.hcl")
    lab.run(BUSY, "printf '[Service]\\nExecStart=/bin/sleep 1d\\n' > /etc/systemd/system/consul.service && systemctl daemon-reload")
    try:
        status, text = preflight()
        assert status != 0
        assert "/etc/consul.d/consul.hcl is not of this platform" in text
        assert "/etc/systemd/system/consul.service runs a Consul of another installation" in text
    finally:
        lab.run(BUSY, "rm -r /etc/consul.d /etc/systemd/system/consul.service; systemctl daemon-reload")


def test_an_engine_outside_of_the_unit_is_refused() -> None:
    """By the preflight, and by the role where the preflight is left out."""
    lab.run(ELSEWHERE, f"systemctl stop docker docker.socket && systemd-run --unit=mine --collect dockerd --config-file={OWN_FILE}")
    try:
        fact = "dockerd runs outside of docker.service (pid "
        lab.wait_for(lambda: "mine" in lab.run(ELSEWHERE, "docker info && echo mine", check=False), 30, "the other engine answers")
        status, text = preflight()
        assert status != 0 and fact in text and " in mine.service)" in text
        result = lab.play("site.yml", "--tags", "docker_daemon_dns", "--limit", ELSEWHERE, variables=OPEN)
        assert result.status != 0 and result.changed == 0
        assert fact in " ".join(result.output.split())
    finally:
        lab.run(ELSEWHERE, "systemctl stop mine; systemctl start docker; docker start web db")


def test_the_first_run() -> None:
    before = {node: running(node) for node in (BUSY, ELSEWHERE)}
    started = {node: starts(node) for node in lab.NODES}
    result = lab.play("site.yml", "--tags", "docker_daemon_dns", variables=OPEN)
    assert result.status == 0, result.output[-6000:]
    assert {node: starts(node) - started[node] for node in lab.NODES} == dict.fromkeys(lab.NODES, 1)
    # They run as before, and are reached as before.
    for node in before:
        assert before[node] and running(node) == before[node]
        assert info(node)["LiveRestoreEnabled"]
        assert answers(node, "web") and answers(node, "db")
    again = lab.play("site.yml", "--tags", "docker_daemon_dns", variables=OPEN)
    assert again.status == 0 and again.changed == 0, again.changes() + again.output[-3000:]
    status, text = preflight()
    assert status == 0 and "this run restarts Docker" not in text


def test_the_file_that_dockerd_reads_has_the_settings() -> None:
    settings = json.loads(lab.run(ELSEWHERE, f"cat {OWN_FILE}"))
    assert settings["log-level"] == "warn" and settings["live-restore"] and settings["dns"][0] == lab.NODES[ELSEWHERE]
    assert lab.run(ELSEWHERE, "ls /etc/docker/daemon.json 2>/dev/null || true") == ""
    container = lab.run(ELSEWHERE, "docker run -d trinode/httpbackend:v1.0.0")
    resolver = lab.run(ELSEWHERE, f"cat $(docker inspect --format '{{{{.ResolvConfPath}}}}' {container}); docker rm -f {container}")
    assert f"nameserver {lab.NODES[ELSEWHERE]}" in resolver.splitlines()


def test_the_member_of_a_swarm_stays_one() -> None:
    assert "live-restore" not in json.loads(lab.run(SWARM, "cat /etc/docker/daemon.json"))
    assert info(SWARM)["Swarm"]["LocalNodeState"] == "active"


def test_the_settings_are_taken_out_and_containers_go_on() -> None:
    before = {node: running(node) for node in (BUSY, ELSEWHERE)}
    result = lab.play("playbooks/uninstall.yml", "--tags", "docker_daemon_dns", "--limit", f"{BUSY},{ELSEWHERE}")
    assert result.status == 0, result.output[-6000:]
    for node in (BUSY, ELSEWHERE):
        assert before[node] and running(node) == before[node]
        assert not info(node)["LiveRestoreEnabled"]
    assert json.loads(lab.run(ELSEWHERE, f"cat {OWN_FILE}")) == {"log-level": "warn"}
    assert lab.run(BUSY, "ls /etc/docker/daemon.json 2>/dev/null || true") == ""
