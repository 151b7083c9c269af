# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A question to a DNS server over TCP, without the system's resolver: SRV records carry the ports. Private to the collection, pure but for ask()."""

from __future__ import annotations

import socket
import struct
import typing as t

SRV = 33
_CLASS_IN = 1
_POINTER_LIMIT = 64


class DnsError(Exception):
    """The answer is not one, or it says no."""


class Srv(t.NamedTuple):
    """One SRV record."""

    target: str
    port: int
    weight: int


def query(name: str, kind: int, identity: int) -> bytes:
    """The question as a message."""
    labels = b"".join(bytes([len(label)]) + label for label in name.rstrip(".").encode("ascii").split(b"."))
    return struct.pack(">HHHHHH", identity, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", kind, _CLASS_IN)


def _name(message: bytes, position: int) -> tuple[str, int]:
    """A name that begins at a position, compressed or not, and where it ends."""
    labels: list[str] = []
    end = -1
    for _step in range(_POINTER_LIMIT):
        length = message[position]
        if length & 0xC0 == 0xC0:
            if end < 0:
                end = position + 2
            position = struct.unpack_from(">H", message, position)[0] & 0x3FFF
        elif length:
            labels.append(message[position + 1 : position + 1 + length].decode("ascii", "replace"))
            position += 1 + length
        else:
            return ".".join(labels), (end if end >= 0 else position + 1)
    raise DnsError("a name in the answer has no end")


def parse_srv(message: bytes, identity: int) -> list[Srv]:
    """The SRV records of an answer. A name that does not exist has none."""
    try:
        got, flags, questions, answers = struct.unpack_from(">HHHH", message)
        if got != identity:
            raise DnsError("the answer belongs to another question")
        code = flags & 0xF
        if code not in (0, 3):
            raise DnsError(f"the server answered with code {code}")
        position = 12
        for _question in range(questions):
            position = _name(message, position)[1] + 4
        records: list[Srv] = []
        for _answer in range(answers):
            position = _name(message, position)[1]
            kind, _class, _ttl, length = struct.unpack_from(">HHIH", message, position)
            position += 10
            if kind == SRV:
                _priority, weight, port = struct.unpack_from(">HHH", message, position)
                records.append(Srv(_name(message, position + 6)[0], port, weight))
            position += length
        return records
    except (struct.error, IndexError) as error:
        raise DnsError("the answer is cut off") from error


def _exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = connection.recv(count - len(data))
        if not part:
            raise DnsError("the server closed the connection")
        data += part
    return data


def ask_srv(server: str, name: str, port: int = 53, timeout: float = 3) -> list[Srv]:
    """Ask one server over TCP, where an answer of any size is whole."""
    identity = 0x5452
    message = query(name, SRV, identity)
    try:
        with socket.create_connection((server, port), timeout) as connection:
            connection.settimeout(timeout)
            connection.sendall(struct.pack(">H", len(message)) + message)
            (length,) = struct.unpack(">H", _exactly(connection, 2))
            return parse_srv(_exactly(connection, length), identity)
    except OSError as error:
        raise DnsError(f"no answer from {server}:{port}: {error}") from error
