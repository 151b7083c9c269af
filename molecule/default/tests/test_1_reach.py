# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a container reaches of its host: each TCP port of each of the host's addresses, tried from within a container."""

from __future__ import annotations

import json
import typing as t

import lab
import pytest
import registration

SSH, DNS, RPC, GOSSIP, HTTPS = 22, 53, 8300, 8301, 8501
#: The edge for everybody. The second one is there as soon as a service has TLS.
EDGE = {80, 443}
#: Those of everything else that the platform runs on a host, which is for the host alone.
OF_THE_HOST = (8098, 8099, 8500, 8502, 8503, 8600)
# On Linux, a non-blocking connection to an address of the same host is refused or made at once.
_SCAN = """
import json, select, socket, sys
found = {}
for address in sys.argv[1:]:
    open_ports = found[address] = []
    for port in range(1, 65536):
        with socket.socket() as caller:
            caller.setblocking(False)
            caller.connect_ex((address, port))
            # A container meets no firewall between itself and its host that swallows packets: there is an answer.
            if not select.select([], [caller], [], 5)[1]:
                sys.exit(f"{address}:{port} does not answer")
            if caller.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                open_ports.append(port)
print(json.dumps(found))
"""


def addresses(node: str) -> list[str]:
    """The addresses of a host that a container can send to: all but those of loopback."""
    shown = json.loads(lab.run(node, "ip -json -4 address show"))
    found = [one["local"] for link in shown for one in link["addr_info"]]
    return [address for address in found if not address.startswith("127.")]


def published(node: str) -> set[int]:
    """The TCP ports of the host at which containers are reached."""
    lines = lab.run(node, "docker ps --format '{{.Ports}}'").replace(",", " ").split()
    return {int(line.partition("->")[0].rpartition(":")[2]) for line in lines if "->" in line and line.endswith("/tcp")}


@pytest.fixture(name="reached", params=["consul-1", "consul-3"])
def fixture_reached(request: pytest.FixtureRequest) -> t.Iterator[tuple[str, dict[str, set[int]]]]:
    """A host, and which ports of each of its addresses a container on it reaches."""
    node = registration.Node(request.param, "reach-")
    node.start("in", "--label SERVICE_IGNORE=true")
    try:
        process = node.run("docker inspect -f '{{.State.Pid}}' reach-in")
        scan = f"nsenter -t {process} -n python3 - {' '.join(addresses(node.name))}"
        found = json.loads(lab.run(node.name, scan, given=_SCAN))
        yield node.name, {address: set(ports) for address, ports in found.items()}
    finally:
        node.run("docker rm -f reach-in >/dev/null")


def test_a_container_reaches_what_is_meant_for_it(reached: tuple[str, dict[str, set[int]]]) -> None:
    node, found = reached
    own = lab.NODES[node]
    assert own in found and len(found) > 1, "the host has its own address and at least one for its containers"
    everywhere = {SSH, *published(node), *(EDGE if node in lab.EDGES else ())}
    for address, ports in found.items():
        meant = everywhere | ({DNS, RPC, GOSSIP, HTTPS} if address == own else set())
        assert ports <= meant, f"{node}: a container also reaches {sorted(ports - meant)} of {address}"
        assert ports.isdisjoint(OF_THE_HOST)
    # The scan sees what there is.
    assert {DNS, RPC, GOSSIP, HTTPS} <= found[own]
    if node in lab.EDGES:
        assert 80 in found[own]


@pytest.mark.parametrize("node", lab.NODES)
def test_programs_of_the_platform_listen_where_they_are_meant_to(node: str) -> None:
    """UDP has no answer to scan for, and IPv6 is no way round: what the host's own list of sockets says."""
    allowed = {("udp", f"{lab.NODES[node]}:{port}") for port in (DNS, GOSSIP)} | {("udp", f"127.0.0.1:{DNS}")}
    for line in lab.run(node, "ss -Htulnp").splitlines():
        kind, _state, _received, _sent, where, _peer, *program = line.split()
        address, _colon, port = where.rpartition(":")
        if "docker-proxy" in "".join(program) or address.strip("[]").startswith("127.0.0.11"):
            continue
        if kind == "udp":
            assert (kind, where) in allowed, f"{node}: {line}"
        elif int(port) in OF_THE_HOST:
            assert address == "127.0.0.1", f"{node}: {line}"
        elif address.strip("[]") in ("::", "*"):
            assert int(port) == SSH, f"{node}: {line}"


# Whether a TCP port answers, and a datagram that nothing answers, from the network of the process.
_TRY = """
import json, socket, sys
found = {}
for port in map(int, sys.argv[2:]):
    try:
        socket.create_connection((sys.argv[1], port), 3).close()
        found[port] = "open"
    except OSError as error:
        found[port] = type(error).__name__
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", (sys.argv[1], 8301))
print(json.dumps(found))
"""


def dropped(node: str) -> int:
    """How many packets of containers to ports of other hosts the kernel has dropped."""
    table = json.loads(lab.run(node, "nft --json list table inet container_ports"))["nftables"]
    counters = [part["counter"] for one in table if "rule" in one for part in one["rule"]["expr"] if "counter" in part]
    assert len(counters) == 1, table
    return int(counters[0]["packets"])


@pytest.fixture(name="inside", params=lab.NODES)
def fixture_inside(request: pytest.FixtureRequest) -> t.Iterator[tuple[registration.Node, str]]:
    """A host with a container on it, and how to run a program in the container's network."""
    node = registration.Node(request.param, "reach-")
    # A network of its own, because the name of its bridge is not known in advance.
    node.run("docker network create reach-net >/dev/null")
    try:
        node.start("in", "--network reach-net --label SERVICE_IGNORE=true")
        yield node, f"nsenter -t {node.run('''docker inspect -f '{{.State.Pid}}' reach-in''')} -n"
    finally:
        node.run("docker rm -f reach-in >/dev/null 2>&1; docker network rm reach-net >/dev/null", check=False)


def test_a_container_reaches_no_port_of_the_cluster_on_other_hosts(inside: tuple[registration.Node, str]) -> None:
    """It has the address of its host there, and Consul counts connections by address."""
    node, within = inside
    for other in set(lab.NODES) - {node.name}:
        address, before = lab.NODES[other], dropped(node.name)
        found = json.loads(node.run(f"{within} python3 - {address} {DNS} {RPC} {GOSSIP}", given=_TRY))
        assert found == {str(DNS): "open", str(RPC): "TimeoutError", str(GOSSIP): "TimeoutError"}
        # A SYN for each of the two at least, and the datagram.
        assert dropped(node.name) >= before + 3
        # The host itself is not meant, nor its agent.
        assert json.loads(node.run(f"python3 - {address} {RPC} {GOSSIP}", given=_TRY)) == {str(RPC): "open", str(GOSSIP): "open"}


def test_the_filter_is_back_when_other_rules_were_loaded(inside: tuple[registration.Node, str]) -> None:
    """The distribution's unit flushes the rules of everybody whenever it starts, reloads or stops, Docker's own too."""
    node, within = inside
    other = next(address for name, address in lab.NODES.items() if name != node.name)
    node.run("for v in '' 6; do ip${v}tables-save > /run/reach-rules$v; done")
    try:
        for verb in ("start", "reload", "restart", "stop"):
            # Something to forget: after a flush the number begins at 0 again.
            node.run(f"{within} python3 - {other} {RPC}", given=_TRY)
            assert dropped(node.name) > 0
            node.run(f"systemctl {verb} nftables")
            assert dropped(node.name) == 0, f"loaded anew after {verb}"
            # Docker's rules went, and with them the translation of the container's address.
            node.run("for v in '' 6; do ip${v}tables-restore < /run/reach-rules$v; done")
    finally:
        node.run("systemctl stop nftables; for v in '' 6; do ip${v}tables-restore < /run/reach-rules$v; done; rm -f /run/reach-*", check=False)
