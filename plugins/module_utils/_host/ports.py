# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which ports the platform needs where, who holds them, and between whom they must be open.

Nothing here imports Ansible: modules on the nodes and the report on the control node share it. Python 3.9.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import pwd
import re
import socket
import struct
import typing as t
from dataclasses import dataclass

SELECTORS = ("server", "client", "docker", "edge")
_UNIT = re.compile(r".+\.(service|socket|mount|slice|scope)$")
_CONTAINER = re.compile(r"^(?:docker-)?([0-9a-f]{64})(?:\.scope)?$")
_LISTEN = "0A"
_UNCONNECTED = "07"


# --- what is wanted ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Node:
    """One machine of the platform."""

    name: str
    host: str
    address: str
    consul: str = "none"
    docker: bool = False
    edge: bool = False

    @property
    def selectors(self) -> frozenset[str]:
        """What the machine does, in the words of the port table."""
        found = {"server", "client"} & ({"server", "client"} if self.consul == "both" else {self.consul})
        return frozenset(found | ({"docker"} if self.docker else set()) | ({"edge"} if self.edge else set()))

    @property
    def shown(self) -> str:
        """How messages name the machine."""
        return f"{self.host} ({self.address})" if self.address else self.host


@dataclass(frozen=True)
class Port:
    """One line of the port table."""

    port: int
    protocol: str
    nodes: tuple[str, ...]
    addresses: tuple[str, ...]
    owner: tuple[str, ...]
    peers: tuple[str, ...]
    purpose: str

    def used_by(self, node: Node) -> bool:
        """Whether the node opens this port."""
        return bool(node.selectors & set(self.nodes))

    def reached_from(self, node: Node) -> bool:
        """Whether the node calls this port of others."""
        return bool(node.selectors & set(self.peers))

    def bound(self, node: Node) -> list[str]:
        """The addresses that the owner binds; an empty one stands for all."""
        words = {"node": node.address, "loopback": "127.0.0.1", "any": ""}
        return list(dict.fromkeys(words.get(word, word) for word in self.addresses))


def parse_nodes(values: t.Iterable[t.Mapping[str, t.Any]]) -> list[Node]:
    """Nodes from the role's argument."""
    return [
        Node(
            name=str(value.get("name") or ""),
            host=str(value.get("host") or value.get("name") or ""),
            address=str(value.get("address") or "").strip(),
            consul=str(value.get("consul") or "none"),
            docker=bool(value.get("docker")),
            edge=bool(value.get("edge")),
        )
        for value in values
    ]


def parse_ports(values: t.Iterable[t.Mapping[str, t.Any]]) -> list[Port]:
    """The port table from the role's argument."""
    return [
        Port(
            port=int(value["port"]),
            protocol=str(value.get("protocol") or "tcp"),
            nodes=tuple(value.get("nodes") or SELECTORS),
            addresses=tuple(value.get("addresses") or ("any",)),
            owner=tuple(value.get("owner") or ()),
            peers=tuple(value.get("peers") or ()),
            purpose=str(value.get("purpose") or "the platform"),
        )
        for value in values
    ]


def find_node(nodes: t.Iterable[Node], name: str) -> Node | None:
    """The node of that inventory name or, when there is none, of that node name."""
    nodes = list(nodes)
    return next((node for node in nodes if node.host == name), None) or next((node for node in nodes if node.name == name), None)


def wanted_listeners(node: Node, nodes: t.Sequence[Node], ports: t.Sequence[Port]) -> list[tuple[int, str]]:
    """Ports of this node that some other node must reach. Port 0, the sample, is not one of them: a listener always has it."""
    return list(
        dict.fromkeys(
            (port.port, port.protocol)
            for port in ports
            if port.port and port.used_by(node) and any(port.reached_from(other) for other in nodes if other != node)
        )
    )


def wanted_paths(node: Node, peer: Node, ports: t.Sequence[Port]) -> dict[tuple[int, str], str]:
    """Ports of the peer that this node must reach, and what for."""
    return {(port.port, port.protocol): port.purpose for port in ports if node != peer and port.used_by(peer) and port.reached_from(node)}


# --- what is held -----------------------------------------------------------------------------------------------------


@dataclass
class Holder:
    """A socket that waits for callers, and the process behind it."""

    port: int
    protocol: str
    address: str
    inode: int
    uid: int
    v6: bool
    pid: int = 0
    process: str = ""
    unit: str = ""
    container: str = ""


def decode_address(text: str) -> str:
    """An address as the kernel prints it in /proc/net: words of 32 bits in the machine's own order."""
    raw = b"".join(struct.pack("=I", int(text[i : i + 8], 16)) for i in range(0, len(text), 8))
    if len(raw) == 4:
        return socket.inet_ntop(socket.AF_INET, raw)
    address = ipaddress.IPv6Address(raw)
    return str(address.ipv4_mapped or address)


def parse_sockets(text: str, protocol: str, v6: bool) -> list[Holder]:
    """Listening TCP or unconnected UDP sockets out of one file of /proc/net."""
    state = _LISTEN if protocol == "tcp" else _UNCONNECTED
    found = []
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 10 or fields[3] != state:
            continue
        address, port = fields[1].rsplit(":", 1)
        found.append(Holder(int(port, 16), protocol, decode_address(address), int(fields[9]), int(fields[7]), v6))
    return found


def parse_cgroup(text: str) -> tuple[str, str]:
    """Unit and container id of a process from its /proc/PID/cgroup."""
    paths = {}
    for line in text.splitlines():
        number, controllers, path = [*line.split(":", 2), "", ""][:3]
        paths["systemd" if controllers == "name=systemd" else number] = path
    parts = (paths.get("systemd") or paths.get("0") or "").split("/")
    container = next((match.group(1) for match in map(_CONTAINER.match, reversed(parts)) if match), "")
    # The innermost container ends the search: units before it are those of the machine around it.
    inner = parts[max((i for i, part in enumerate(parts) if _CONTAINER.match(part)), default=-1) + 1 :]
    unit = next((part for part in inner if _UNIT.match(part) and not part.endswith(".slice")), "")
    return unit, "" if unit else container


def socket_owners(inodes: t.Iterable[int], root: str = "/proc") -> dict[int, list[int]]:
    """Process ids by socket."""
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    owners: dict[int, list[int]] = {}
    for pid in sorted(int(name) for name in os.listdir(root) if name.isdigit()) if wanted else []:
        directory = os.path.join(root, str(pid), "fd")
        try:
            names = os.listdir(directory)
        except OSError:
            continue
        for name in names:
            try:
                inode = wanted.get(os.readlink(os.path.join(directory, name)))
            except OSError:
                continue
            if inode is not None and pid not in owners.setdefault(inode, []):
                owners[inode].append(pid)
    return owners


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def holders(wanted: t.Collection[tuple[int, str]], root: str = "/proc") -> list[Holder]:
    """Who holds the wanted ports in this network namespace."""
    found: list[Holder] = []
    for protocol in ("tcp", "udp"):
        for v6 in (False, True):
            text = _read(os.path.join(root, "net", protocol + ("6" if v6 else "")))
            found += [one for one in parse_sockets(text, protocol, v6) if (one.port, one.protocol) in wanted]
    owners = socket_owners({one.inode for one in found}, root)
    # Where the machine is a container itself, that one is no answer.
    machine = _read(os.path.join(root, "1", "cgroup"))
    for one in found:
        pids = owners.get(one.inode, [])
        # systemd keeps a copy of the sockets that it opened for a service: the service itself is the better answer.
        one.pid = next((pid for pid in pids if pid != 1), pids[0] if pids else 0)
        if one.pid:
            one.process = _read(os.path.join(root, str(one.pid), "comm")).strip()
            one.unit, one.container = parse_cgroup(_read(os.path.join(root, str(one.pid), "cgroup")))
            if one.container and one.container in machine:
                one.container = ""
    return found


def overlaps(wanted: str, holder: Holder) -> bool:
    """Whether a socket on the holder's address stands in the way of one on the wanted address (empty: all addresses)."""
    held = ipaddress.ip_address(holder.address)
    if held.is_unspecified or not wanted:
        return True
    return held == ipaddress.ip_address(wanted)


def user_name(uid: int) -> str:
    """Name of a user; its number when it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def can_bind(port: int, protocol: str, address: str) -> bool:
    """Whether the address can be bound right now. The socket never listens."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    with socket.socket(family, kind) as probe:
        if protocol == "tcp":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address or "0.0.0.0", port))
        except OSError as error:
            return error.errno != errno.EADDRINUSE
    return True


def conflicts(
    node: Node,
    ports: t.Sequence[Port],
    held: t.Sequence[Holder],
    bindable: t.Callable[[int, str, str], bool] = can_bind,
) -> list[dict[str, t.Any]]:
    """Ports that this node needs and somebody else holds, one entry for each process and port."""
    found: dict[tuple[int, str, int, str], dict[str, t.Any]] = {}
    for port in ports:
        if not port.used_by(node):
            continue
        for wanted in port.bound(node):
            for holder in held:
                if (holder.port, holder.protocol) != (port.port, port.protocol) or {holder.process, holder.unit} & set(port.owner):
                    continue
                if not overlaps(wanted, holder):
                    continue
                # A socket on :: may or may not take IPv4 too; only trying tells.
                if holder.v6 and ":" not in wanted and bindable(port.port, port.protocol, wanted):
                    continue
                key = (port.port, port.protocol, holder.pid, holder.address)
                found.setdefault(
                    key,
                    {
                        "port": port.port,
                        "protocol": port.protocol,
                        "address": holder.address,
                        "process": holder.process,
                        "pid": holder.pid,
                        "user": user_name(holder.uid),
                        "unit": holder.unit,
                        "container": holder.container,
                        "owner": list(port.owner),
                        "purpose": port.purpose,
                    },
                )
    return list(found.values())
