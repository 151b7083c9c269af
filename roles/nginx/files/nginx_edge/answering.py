# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask the instances of a service themselves whether anybody answers there.

A catalogue that was wiped names nothing, while all instances run. A node that starts takes out what it ran before, and
the ports that its containers had are given to other ones a moment later.
"""

from __future__ import annotations

import errno
import select
import socket
import time
from collections.abc import Iterable

from .nginxconf import Place

# On a network of one site the answer takes a millisecond; a SYN that was lost is sent again after a second.
PATIENCE_SECONDS = 0.5
AT_A_TIME = 256


def answering(places: Iterable[Place]) -> set[Place]:
    """Return the places that take a TCP connection. Who refuses it, or does not answer in time, does not."""
    found: set[Place] = set()
    left = sorted(set(places))
    while left:
        found |= _answering(left[:AT_A_TIME])
        left = left[AT_A_TIME:]
    return found


def _answering(places: list[Place]) -> set[Place]:
    found: set[Place] = set()
    poller, asked = select.poll(), {}
    try:
        for place in places:
            if (connection := _connecting(place)) is not None:
                asked[connection.fileno()] = (connection, place)
                poller.register(connection, select.POLLOUT)
        deadline, waiting = time.monotonic() + PATIENCE_SECONDS, len(asked)
        while waiting and (left := deadline - time.monotonic()) > 0:
            for descriptor, _ in poller.poll(left * 1000):
                poller.unregister(descriptor)
                waiting -= 1
                connection, place = asked[descriptor]
                if connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                    found.add(place)
    finally:
        for connection, _ in asked.values():
            connection.close()
    return found


def _connecting(place: Place) -> socket.socket | None:
    """Begin a connection; nothing when there is no way to the place."""
    connection = None
    try:
        connection = socket.socket(socket.AF_INET6 if ":" in place.address else socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        if connection.connect_ex((place.address, place.port)) in (0, errno.EINPROGRESS):
            return connection
    except OSError:
        pass
    if connection is not None:
        connection.close()
    return None
