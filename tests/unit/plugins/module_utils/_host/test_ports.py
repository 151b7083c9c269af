# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The port table, and the files of /proc that tell who holds a port."""

from __future__ import annotations

import os
import socket
import typing as t
from pathlib import Path

import pytest

from ansible_collections.trinode.platform.plugins.module_utils._host.ports import (
    Holder,
    Node,
    Port,
    can_bind,
    conflicts,
    decode_address,
    find_node,
    holders,
    parse_cgroup,
    parse_nodes,
    parse_ports,
    parse_sockets,
    wanted_listeners,
    wanted_paths,
)

ID = "ab" * 32
SERVER = Node("s1", "s1", "192.0.2.1", "server", True, True)
OTHER = Node("s2", "s2", "192.0.2.2", "server", True, False)
CLIENT = Node("c1", "c1", "192.0.2.3", "client", False, False)
TABLE = parse_ports(
    [
        {"port": 8300, "protocol": "tcp", "nodes": ["server"], "addresses": ["node"], "owner": ["consul"], "peers": ["server", "client"], "purpose": "RPC"},
        {"port": 53, "protocol": "udp", "nodes": ["server", "client"], "addresses": ["loopback", "node"], "owner": ["consul"], "purpose": "DNS"},
        {"port": 80, "nodes": ["edge"], "owner": ["nginx", "edge.service"], "purpose": "the edge"},
        {"port": 0, "nodes": ["docker"], "peers": ["edge", "docker"], "purpose": "published ports"},
    ]
)


def test_nodes_are_found_by_inventory_name_first() -> None:
    nodes = parse_nodes([{"name": "same", "host": "a", "address": " 192.0.2.1 "}, {"name": "same", "host": "b"}, {"name": "c"}])
    found = find_node(nodes, "b")
    assert found is not None
    assert found.host == "b"
    assert nodes[0].address == "192.0.2.1"
    assert nodes[2].host == "c"
    assert find_node(nodes, "same") == nodes[0]
    assert find_node(nodes, "nobody") is None


def test_who_listens_for_whom() -> None:
    nodes = [SERVER, OTHER, CLIENT]
    assert wanted_listeners(SERVER, nodes, TABLE) == [(8300, "tcp")]
    assert wanted_listeners(CLIENT, nodes, TABLE) == []
    assert wanted_listeners(SERVER, [SERVER], TABLE) == []
    assert wanted_paths(CLIENT, SERVER, TABLE) == {(8300, "tcp"): "RPC"}
    assert wanted_paths(SERVER, OTHER, TABLE) == {(8300, "tcp"): "RPC", (0, "tcp"): "published ports"}
    assert wanted_paths(SERVER, CLIENT, TABLE) == {}
    assert wanted_paths(SERVER, SERVER, TABLE) == {}


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0100007F", "127.0.0.1"),
        ("00000000", "0.0.0.0"),
        ("0" * 32, "::"),
        ("00000000000000000000000001000000", "::1"),
        ("0000000000000000FFFF00000100007F", "127.0.0.1"),
    ],
)
@pytest.mark.skipif(os.sys.byteorder != "little", reason="the samples are those of a little-endian machine")  # type: ignore[attr-defined]
def test_addresses_of_proc(text: str, address: str) -> None:
    assert decode_address(text) == address


def test_only_waiting_sockets_count() -> None:
    head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
    line = "   {n}: 0100007F:{port:04X} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000   101        0 {inode} 1 0\n"
    text = head + line.format(n=0, port=53, state="0A", inode=7) + line.format(n=1, port=54, state="01", inode=8)
    assert [(one.port, one.inode, one.uid) for one in parse_sockets(text, "tcp", False)] == [(53, 7, 101)]
    assert parse_sockets(head + line.format(n=0, port=53, state="0A", inode=7), "udp", False) == []


@pytest.mark.parametrize(
    ("text", "unit", "container"),
    [
        ("0::/system.slice/consul.service\n", "consul.service", ""),
        ("0::/system.slice/consul.service/nested\n", "consul.service", ""),
        (f"0::/system.slice/docker-{ID}.scope\n", "", ID),
        (f"12:pids:/x\n1:name=systemd:/docker/{ID}\n0::/\n", "", ID),
        (f"1:name=systemd:/docker/{ID}/system.slice/nginx.service\n", "nginx.service", ""),
        (f"0::/system.slice/docker.service/docker/{ID}\n", "", ID),
        ("0::/user.slice/user-0.slice/session-1.scope\n", "session-1.scope", ""),
        ("0::/init.scope\n", "init.scope", ""),
        ("", "", ""),
    ],
)
def test_units_and_containers(text: str, unit: str, container: str) -> None:
    assert parse_cgroup(text) == (unit, container)


def held(port: int, protocol: str, address: str, process: str, v6: bool = False, unit: str = "") -> Holder:
    """A holder with a process."""
    return Holder(port, protocol, address, 1, 0, v6, 77, process, unit or f"{process}.service")


@pytest.mark.parametrize(
    ("holder", "count"),
    [
        (held(53, "udp", "127.0.0.53", "systemd-resolve"), 0),
        (held(53, "udp", "192.168.122.1", "dnsmasq"), 0),
        (held(53, "udp", "127.0.0.1", "dnsmasq"), 1),
        (held(53, "udp", "192.0.2.1", "dnsmasq"), 1),
        (held(53, "udp", "0.0.0.0", "dnsmasq"), 1),
        (held(53, "udp", "0.0.0.0", "consul"), 0),
        (held(80, "tcp", "0.0.0.0", "python3", unit="edge.service"), 0),
        (held(53, "tcp", "0.0.0.0", "dnsmasq"), 0),
        (held(80, "tcp", "127.0.0.1", "apache2"), 1),
        (held(80, "tcp", "192.0.2.9", "apache2"), 1),
        (held(80, "tcp", "0.0.0.0", "nginx"), 0),
        (held(8300, "tcp", "127.0.0.1", "other"), 0),
    ],
)
def test_what_is_in_the_way(holder: Holder, count: int) -> None:
    found = conflicts(SERVER, TABLE, [holder], lambda *_: False)
    assert len(found) == count
    if found:
        assert (found[0]["process"], found[0]["pid"], found[0]["user"]) == (holder.process, 77, "root")


def test_a_socket_on_all_of_ipv6_is_tried() -> None:
    holder = held(80, "tcp", "::", "other", v6=True)
    assert conflicts(SERVER, TABLE, [holder], lambda *_: True) == []
    assert len(conflicts(SERVER, TABLE, [holder], lambda *_: False)) == 1


def test_a_node_is_not_bothered_with_the_ports_of_others() -> None:
    assert conflicts(CLIENT, TABLE, [held(80, "tcp", "0.0.0.0", "apache2")], lambda *_: False) == []


def test_a_real_holder_is_found() -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        one.listen()
        port = one.getsockname()[1]
        found = holders({(port, "tcp")})
        assert [(each.address, each.pid, each.port) for each in found] == [("127.0.0.1", os.getpid(), port)]
        assert found[0].process == Path("/proc/self/comm").read_text(encoding="ascii").strip()
        assert not can_bind(port, "tcp", "127.0.0.1")
        assert holders({(port, "udp")}) == []
    assert can_bind(port, "tcp", "127.0.0.1")


def proc(root: Path, pid: int, comm: str, inodes: t.Sequence[int], cgroup: str = "") -> None:
    """A process in a made /proc."""
    (root / str(pid) / "fd").mkdir(parents=True)
    (root / str(pid) / "comm").write_text(comm + "\n")
    (root / str(pid) / "cgroup").write_text(cgroup)
    for number, inode in enumerate(inodes):
        (root / str(pid) / "fd" / str(number)).symlink_to(f"socket:[{inode}]")


def test_the_service_is_named_before_systemd(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    line = "   0: 00000000:0035 00000000:0000 0A 0:0 00:0 0   0        0 42 1 0\n"
    (tmp_path / "net" / "tcp").write_text("head\n" + line)
    proc(tmp_path, 1, "systemd", [42], f"0::/docker/{ID}/init.scope\n")
    (one,) = holders({(53, "tcp")}, str(tmp_path))
    assert (one.pid, one.process) == (1, "systemd")
    proc(tmp_path, 99, "dns", [41, 42], f"0::/docker/{ID}\n")
    (one,) = holders({(53, "tcp")}, str(tmp_path))
    # The machine is the container: naming it as the holder would tell nothing.
    assert (one.pid, one.process, one.container) == (99, "dns", "")


def test_a_socket_without_process(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "udp").write_text("head\n   0: 00000000:0035 00000000:0000 07 0:0 00:0 0   0        0 42 1 0\n")
    (one,) = holders({(53, "udp")}, str(tmp_path))
    assert (one.pid, one.process) == (0, "")


def test_ports_have_defaults() -> None:
    assert parse_ports([{"port": "80"}]) == [Port(80, "tcp", ("server", "client", "docker", "edge"), ("any",), (), (), "the platform")]
