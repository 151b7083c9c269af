# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lookups on hosts and in containers while another node is lost, or the host's own agent is down: nobody waits."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import shlex
import typing as t

import faults
import lab
import lookups
import pytest
import traffic

COUNT = 20
LOST, OTHERS = "consul-3", ("consul-1", "consul-2")


@pytest.fixture(scope="module", autouse=True)
def fixture_images() -> t.Iterator[None]:
    lookups.prepare(*OTHERS)
    faults.prepare_boot(LOST)
    yield
    lookups.remove(*OTHERS)


@contextlib.contextmanager
def agent_down(node: str) -> t.Iterator[None]:
    """The agent of a node is stopped."""
    lab.run(node, "systemctl stop consul")
    try:
        yield
    finally:
        lab.run(node, "systemctl start consul")
        traffic.settle()


def ask_everywhere() -> list[lookups.Seen]:
    with concurrent.futures.ThreadPoolExecutor() as pool:
        return [seen for found in pool.map(lambda node: lookups.ask(node, COUNT), OTHERS) for seen in found]


def test_with_every_node_up() -> None:
    """The lookups themselves are sound."""
    assert lookups.troubles(ask_everywhere()) == []


def test_a_lost_node_slows_down_no_lookup_elsewhere() -> None:
    with faults.nodes_lost(LOST):
        assert lookups.troubles(ask_everywhere()) == []
    traffic.settle(120)


def test_a_node_that_falls_silent_slows_down_no_lookup_elsewhere() -> None:
    with faults.packets_lost(LOST, ("in", "out")):
        assert lookups.troubles(ask_everywhere()) == []
    traffic.settle(120)


@pytest.mark.parametrize("node", OTHERS)
def test_an_agent_that_is_down_slows_down_no_lookup_of_its_node(node: str) -> None:
    with agent_down(node):
        assert lookups.troubles(lookups.ask(node, COUNT)) == []


# Answers every question for an IPv4 address after 1.5 s, as a name of the world may take that nobody asked for lately.
SLOW_SERVER = r"""
import socket, threading, time
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("0.0.0.0", 53))
def answer(question, asker):
    end = question.index(b"\0", 12) + 5
    found = question[end - 4 : end - 2] == b"\0\1"
    time.sleep(1.5)
    head = question[:2] + b"\x81\x80\0\1\0" + bytes([found]) + bytes(4)
    record = b"\xc0\x0c\0\1\0\1\0\0\0\5\0\4\x0a\0\0\1" if found else b""
    server.sendto(head + question[12:end] + record, asker)
while True:
    threading.Thread(target=answer, args=server.recvfrom(2048)).start()
"""


@pytest.mark.parametrize("network", ["bridge", lookups.NETWORK])
def test_a_name_that_takes_longer_than_a_second_is_found_in_containers(network: str) -> None:
    """With musl too, which gives all its tries together the time that glibc gives one."""
    node, name = OTHERS[0], "slow.hospital.example"
    start = f"docker run -d --name lookups-slow --user 0 --network {network} --entrypoint python3 {lookups.GLIBC}"
    lab.run(node, f"{start} -c {shlex.quote(SLOW_SERVER)} >/dev/null")
    try:
        found = json.loads(lab.run(node, "docker inspect lookups-slow"))[0]["NetworkSettings"]["Networks"][network]
        ask = f"docker run --rm --network {network} --dns {found['IPAddress']}"
        program = f"import socket; print(socket.gethostbyname('{name}'))"
        # The server may still be starting; what it answers too late for one of them is not found by asking again.
        glibc = f'{ask} --entrypoint python3 {lookups.GLIBC} -c "{program}"'
        lab.wait_for(lambda: lab.run(node, glibc, check=False) == "10.0.0.1", 30, "glibc finds the name")
        assert lab.run(node, f"{ask} {lookups.MUSL} {name}", check=False) == f"{name} 10.0.0.1"
    finally:
        lab.run(node, "docker rm -f lookups-slow >/dev/null")


REVERSE = "import socket, sys; print(socket.gethostbyaddr(sys.argv[1])[0])"


def test_a_reverse_lookup_gives_the_name_that_the_site_wants() -> None:
    """Without a word of the site it is Consul's name, as documented."""
    look = f'python3 -c "{REVERSE}" {lab.NODES[LOST]}'
    assert lab.run(OTHERS[0], look) == f"{LOST}.node.dc1.consul"
    names = {"resolvconf_dns_reverse_names": {lab.NODES[LOST]: "srv3.hospital.example srv3"}}
    for variables, expected in ((names, "srv3.hospital.example"), ({}, f"{LOST}.node.dc1.consul")):
        result = lab.play("site.yml", "--tags", "resolvconf_dns", "--limit", OTHERS[0], variables=variables)
        assert result.status == 0, result.output[-4000:]
        assert lab.run(OTHERS[0], look) == expected


def test_a_program_that_writes_the_file_again_is_noticed_at_the_end_of_the_run() -> None:
    """It does so as soon as the file is ours, as a VPN client does."""
    writer = (
        "while sleep 0.2; do grep -q '^nameserver 127.0.0.1$' /etc/resolv.conf || continue; sleep 2;"
        " printf '# resolv.conf(5) file generated by some-vpn\\nnameserver 192.0.2.53\\n' > /etc/resolv.conf; done"
    )
    node = OTHERS[0]
    lab.run(node, f"systemd-run --quiet --collect --unit=some-vpn sh -c {shlex.quote(writer)}")
    try:
        result = lab.play("site.yml", "--limit", node, "--tags", "resolvconf_dns,docker_daemon_dns,registrator")
        assert result.status != 0, result.output[-4000:]
        assert "another program changed the resolver's configuration again" in result.output, result.output[-4000:]
        assert "generated by some-vpn" in result.output
    finally:
        lab.run(node, "systemctl stop some-vpn")
        assert lab.play("site.yml", "--limit", node, "--tags", "resolvconf_dns").status == 0


def test_no_resolver_spreads_its_questions_over_all_nodes() -> None:
    """On hosts, and in the file that a new container gets."""
    for node in OTHERS:
        lab.run(node, f"docker run -d --name lookups-file --entrypoint python3 {lookups.GLIBC} -c 'import time; time.sleep(60)' >/dev/null")
        try:
            path = json.loads(lab.run(node, "docker inspect lookups-file"))[0]["ResolvConfPath"]
            for file, first in (("/etc/resolv.conf", "127.0.0.1"), (path, lab.NODES[node])):
                text = lab.run(node, f"cat {file}")
                servers = [line.split()[1] for line in text.splitlines() if line.startswith("nameserver")]
                assert servers[0] == first and "rotate" not in text, f"{node}: {file}\n{text}"
        finally:
            lab.run(node, "docker rm -f lookups-file >/dev/null")
