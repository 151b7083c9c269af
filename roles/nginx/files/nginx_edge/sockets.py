# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sockets of the host, and who holds them."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterable

from .files import read_text
from .nginxconf import WILDCARDS, Listener, printable
from .processes import read_proc, socket_inodes

LISTEN, UNCONNECTED = "0A", "07"
NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, NLMSG_ERROR = 4, 20, 2


def parse_proc_net(text: str, proto: str, state: str) -> list[tuple[Listener, str]]:
    """Return (socket, inode) of the listening sockets in one of ``/proc/net/{tcp,tcp6,udp,udp6}``."""
    found = []
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 10 or fields[3] != state:
            continue
        host, _, port = fields[1].partition(":")
        raw = b"".join(bytes.fromhex(host[i : i + 8])[::-1] for i in range(0, len(host), 8))
        family = socket.AF_INET if len(raw) == 4 else socket.AF_INET6
        found.append((Listener(proto, socket.inet_ntop(family, raw), int(port, 16)), fields[9]))
    return found


def _parse_diag(data: bytes, family: int) -> tuple[list[tuple[Listener, str]], bool]:
    """Return the sockets in one answer of sock_diag(7), and whether another answer follows."""
    found: list[tuple[Listener, str]] = []
    place, size = 0, 4 if family == socket.AF_INET else 16
    while place < len(data):
        length, kind = struct.unpack_from("=IH", data, place)
        if kind != SOCK_DIAG_BY_FAMILY:
            # NLMSG_DONE, or NLMSG_ERROR with the reason.
            code = -struct.unpack_from("=i", data, place + 16)[0] if kind == NLMSG_ERROR else 0
            if code:
                raise OSError(code, os.strerror(code))
            return found, False
        # struct inet_diag_msg: source port at 4 and source address at 8, both as on the wire; inode at 68.
        message = place + 16
        port = struct.unpack_from("!H", data, message + 4)[0]
        address = socket.inet_ntop(family, data[message + 8 : message + 8 + size])
        inode = struct.unpack_from("=I", data, message + 68)[0]
        found.append((Listener("tcp", address, port), str(inode)))
        place += (length + 3) & ~3
    return found, True


def tcp_listeners() -> list[tuple[Listener, str]]:
    """Return (socket, inode) of the listening TCP sockets, from the kernel by sock_diag(7).

    ``/proc/net/tcp`` walks every connection of the host, which takes longer than nginx takes to test a configuration;
    this walks only the listening sockets."""
    found = []
    for family in (socket.AF_INET, socket.AF_INET6):
        # struct inet_diag_req_v2: family, protocol, extensions, states, socket id.
        request = struct.pack("=BBBxI48x", family, socket.IPPROTO_TCP, 0, 1 << int(LISTEN, 16))
        # NLM_F_REQUEST | NLM_F_DUMP
        header = struct.pack("=IHHII", 16 + len(request), SOCK_DIAG_BY_FAMILY, 0x301, 1, 0)
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_SOCK_DIAG) as kernel:
            kernel.settimeout(5)
            kernel.send(header + request)
            more = True
            while more:
                sockets, more = _parse_diag(kernel.recv(1 << 18), family)
                found += sockets
    return found


def listening(protos: Iterable[str] = ("tcp", "udp")) -> list[tuple[Listener, str]]:
    """Return every listening socket of the host, with its inode."""
    found = []
    for proto in protos:
        if proto == "tcp":
            try:
                found += tcp_listeners()
                continue
            except OSError:
                # A kernel without tcp_diag.
                pass
        for suffix in ("", "6"):
            text = read_text(f"/proc/net/{proto}{suffix}")
            if text:
                found += parse_proc_net(text, proto, LISTEN if proto == "tcp" else UNCONNECTED)
    return found


def family_of(address: str) -> int:
    """Return the family of an address."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def not_bound(wanted: Iterable[Listener], held: set[Listener]) -> list[Listener]:
    """Return the wanted sockets that are not held. As in nginx, a wildcard covers every address of its family."""
    missing = []
    for listener in sorted(wanted):
        wildcard = WILDCARDS[":" in listener.address]
        if listener not in held and listener._replace(address=wildcard) not in held:
            missing.append(listener)
    return missing


def bind_error(listener: Listener) -> int:
    """Return the error number that nginx would get for this socket, or 0; bind as nginx does, without listening."""
    kind = socket.SOCK_DGRAM if listener.proto == "udp" else socket.SOCK_STREAM
    try:
        with socket.socket(family_of(listener.address), kind) as probe:
            if kind == socket.SOCK_STREAM:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if probe.family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind((listener.address, listener.port))
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def holder_of(listener: Listener, sockets: list[tuple[Listener, str]]) -> tuple[str, int]:
    """Return (name, process id) of the holder of a socket; an empty name when it cannot be seen from here."""
    inodes = set()
    for other, inode in sockets:
        same = other.address == listener.address or other.address in WILDCARDS or listener.address in WILDCARDS
        if same and other.proto == listener.proto and other.port == listener.port:
            inodes.add(inode)
    for name in os.listdir("/proc"):
        if name.isdigit() and inodes & socket_inodes(int(name)):
            # Any process chooses its own name, even one with a line break in it.
            return printable(read_proc(int(name), "comm").decode("utf-8", "replace").strip()), int(name)
    return "", 0
