# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real listeners and real probes, on addresses of loopback."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import time
import typing as t
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.trinode.platform.plugins.module_utils._host.ports import Node, parse_ports
from ansible_collections.trinode.platform.plugins.module_utils._preflight import mesh

ADDRESS = "127.0.0.2"
ME = Node("me", "host-me", "127.0.0.1", "server", True, True)
PEER = Node("peer", "host-peer", ADDRESS, "server", True, False)
TABLE = parse_ports(
    [
        {"port": 8300, "nodes": ["server"], "peers": ["server"], "purpose": "RPC"},
        {"port": 8301, "protocol": "udp", "nodes": ["server"], "peers": ["server"], "purpose": "gossip"},
        {"port": 0, "nodes": ["docker"], "peers": ["edge"], "purpose": "published ports"},
    ]
)


def free_port(kind: socket.SocketKind) -> int:
    """Return a port that is free now, and that the kernel gives to no other program unasked."""
    for port in random.sample(range(25000, 32768), 100):
        with contextlib.suppress(OSError), socket.socket(type=kind) as probe:
            probe.bind(("", port))
            return port
    raise AssertionError("none of 100 ports is free")


def free_ports() -> tuple[int, int]:
    """Return a TCP and a UDP port that are free now."""
    return free_port(socket.SOCK_STREAM), free_port(socket.SOCK_DGRAM)


def gone(pid: int, seconds: float = 5) -> bool:
    """Whether a process ends in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not os.path.exists(f"/proc/{pid}"):
            return True
        time.sleep(0.02)
    return False


@contextlib.contextmanager
def listening(wanted: t.Iterable[tuple[int, str]], deadline: float = 20) -> Iterator[dict[str, t.Any]]:
    """A listener that is ended whatever happens."""
    listener = mesh.start(ADDRESS, wanted, deadline)
    try:
        yield listener
    finally:
        mesh.stop(listener["token"], listener["pid"])


def probe(listener: dict[str, t.Any], port: int, protocol: str, token: str = "", **more: t.Any) -> dict[str, t.Any]:
    """One probe of a listener."""
    one = mesh.Probe("host-peer", ADDRESS, port, protocol, token or listener["token"], **more)
    return mesh.run_probe(one, "host-me", "127.0.0.1", 1.0)


def test_lines() -> None:
    question = mesh.make_question("token", "me", "nonce")
    assert len(question) == mesh.SIZE
    assert mesh.read_question(question, "token") == ("me", "nonce")
    assert mesh.read_question(question, "other") is None
    assert mesh.read_question(question[:-1], "token") is None
    assert mesh.read_question(b"x" * mesh.SIZE, "token") is None
    answer = mesh.make_answer("token", "nonce", 12.5)
    assert len(answer) <= mesh.SIZE
    assert mesh.read_answer(answer, "token", "nonce") == 12.5
    assert mesh.read_answer(answer, "token", "other") is None
    assert mesh.read_answer(answer, "other", "nonce") is None
    assert mesh.read_answer(question, "token", "nonce") is None


def test_open_paths_and_the_clock() -> None:
    tcp, udp = free_ports()
    with listening([(tcp, "tcp"), (udp, "udp")]) as listener:
        assert {"port": tcp, "protocol": "tcp"} in listener["listening"]
        assert listener["held"] == listener["failed"] == []
        for port, protocol in ((tcp, "tcp"), (udp, "udp"), (listener["port"], "tcp")):
            result = probe(listener, port, protocol)
            assert result["ok"], result
            if protocol == "tcp":
                assert abs(result["offset"]) <= result["rtt"] + 0.1
        there, seen = mesh.stop(listener["token"], listener["pid"])
    assert there
    assert {"node": "host-me", "port": udp, "protocol": "udp"} in seen
    assert not os.path.exists(f"/proc/{listener['pid']}")
    assert probe(listener, tcp, "tcp")["reason"] == "refused"
    assert mesh.stop(listener["token"], listener["pid"]) == (False, [])


def test_strangers_get_silence() -> None:
    tcp, udp = free_ports()
    with listening([(tcp, "tcp"), (udp, "udp")]) as listener:
        assert probe(listener, udp, "udp", token="wrong")["reason"] == "no answer in 1 s"
        assert probe(listener, tcp, "tcp", token="wrong") == {
            "peer": "host-peer",
            "port": tcp,
            "protocol": "tcp",
            "sample": False,
            "purpose": "",
            "ok": False,
            "reason": "something else answers there",
        }
        # Nobody ends it without the token.
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(3)
            client.connect(mesh.control_name(listener["token"]))
            client.sendall(b"end wrong")
            assert client.recv(100) == b""
        assert probe(listener, tcp, "tcp")["ok"]


def test_held_ports_are_told() -> None:
    tcp, udp = free_ports()
    with socket.socket() as one, socket.socket(type=socket.SOCK_DGRAM) as two:
        one.bind((ADDRESS, tcp))
        one.listen()
        two.bind((ADDRESS, udp))
        with listening([(tcp, "tcp"), (udp, "udp")]) as listener:
            assert listener["held"] == [{"port": tcp, "protocol": "tcp"}, {"port": udp, "protocol": "udp"}]
            assert probe(listener, tcp, "tcp", echo=False)["ok"]


def test_the_deadline_ends_it_and_the_ports_are_free() -> None:
    tcp, _udp = free_ports()
    listener = mesh.start(ADDRESS, [(tcp, "tcp")], 0.5)
    assert gone(listener["pid"])
    assert not mesh.open_sockets(ADDRESS, [(tcp, "tcp")]).held


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has privileges to give up")
def test_it_gives_up_its_privileges() -> None:
    with listening([]) as listener:
        status = Path(f"/proc/{listener['pid']}/status").read_text(encoding="ascii")
    assert "Uid:\t65534\t65534\t65534\t65534" in status
    assert "CapEff:\t0000000000000000" in status
    assert "Groups:\t \n" in status


def test_an_address_of_another_host() -> None:
    with pytest.raises(OSError, match="Cannot assign requested address"):
        mesh.start("192.0.2.1", [], 5)


def test_the_probes_of_a_node() -> None:
    listeners = {
        "host-me": {"token": "t1", "port": 40001, "listening": [{"port": 8300, "protocol": "tcp"}]},
        "host-peer": {
            "token": "t2",
            "port": 40002,
            "listening": [{"port": 40002, "protocol": "tcp"}, {"port": 8301, "protocol": "udp"}],
            "held": [{"port": 8300, "protocol": "tcp"}],
        },
    }
    made = mesh.make_probes(ME, [ME, PEER], TABLE, listeners)
    assert [(one.peer, one.port, one.protocol, one.echo, one.sample, one.purpose) for one in made] == [
        ("host-peer", 40002, "tcp", True, True, "published ports"),
        ("host-peer", 8300, "tcp", False, False, "RPC"),
        ("host-peer", 8301, "udp", True, False, "gossip"),
    ]
    # UDP of a running service cannot be asked, and a node that takes no part is left out.
    listeners["host-peer"].update(listening=[], held=[{"port": 8301, "protocol": "udp"}])
    assert [one.sample for one in mesh.make_probes(ME, [ME, PEER], TABLE, listeners)] == [True]
    assert mesh.make_probes(ME, [ME, PEER], TABLE, {"host-me": listeners["host-me"], "host-peer": {"skipped": True}}) == []
    assert mesh.run_probes([], "host-me", "", 1) == []


def test_many_probes_at_once() -> None:
    tcp, udp = free_ports()
    with listening([(tcp, "tcp"), (udp, "udp")]) as listener:
        probes = [mesh.Probe("host-peer", ADDRESS, *path, listener["token"]) for path in ((tcp, "tcp"), (udp, "udp")) for _ in range(100)]
        results = mesh.run_probes(probes, "host-me", "", 5)
    assert len(results) == 200
    assert all(result["ok"] for result in results)
