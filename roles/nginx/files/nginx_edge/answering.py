# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask the instances of a service themselves whether anybody answers there.

A catalogue that was wiped names nothing, while all instances run. A node that starts takes out what it ran before, and
the ports that its containers had are given to other ones a moment later.

Only an answer of the network or its silence tells that an instance has ended. What could not be asked, because this
host has no descriptor, local port or route for it, may still be there.
"""

from __future__ import annotations

import errno
import select
import socket
import time
from collections.abc import Iterable

from .nginxconf import Place
from .sockets import family_of

# On a network of one site the answer takes a millisecond; a SYN that was lost is sent again after a second.
PATIENCE_SECONDS = 0.5
# A process may have 1024 files open, unless somebody says otherwise.
AT_A_TIME = 512
# The edge changes nothing meanwhile, and whoever may stage can name as many silent places as he likes.
ALL_SECONDS = 5.0
_ENDED = frozenset({errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTUNREACH, errno.ETIMEDOUT})


def answering(places: Iterable[Place]) -> set[Place]:
    """Return the places that take a TCP connection, or may do so. Who refuses it, or is silent, does not."""
    found: set[Place] = set()
    left, deadline = sorted(set(places)), time.monotonic() + ALL_SECONDS
    while left and time.monotonic() < deadline:
        found |= _answering(left[:AT_A_TIME])
        left = left[AT_A_TIME:]
    return found | set(left)


def _answering(places: list[Place]) -> set[Place]:
    found: set[Place] = set()
    poller, asked = select.poll(), {}
    try:
        for place in places:
            connection, error = _connecting(place)
            if connection is not None:
                asked[connection.fileno()] = (connection, place)
                poller.register(connection, select.POLLOUT)
            elif error not in _ENDED:
                found.add(place)
        deadline, waiting = time.monotonic() + PATIENCE_SECONDS, len(asked)
        while waiting and (left := deadline - time.monotonic()) > 0:
            for descriptor, _ in poller.poll(left * 1000):
                poller.unregister(descriptor)
                waiting -= 1
                connection, place = asked[descriptor]
                if connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) not in _ENDED:
                    found.add(place)
    finally:
        for connection, _ in asked.values():
            connection.close()
    return found


def _connecting(place: Place) -> tuple[socket.socket | None, int]:
    """Begin a connection; without one, return the number of the error."""
    try:
        connection = socket.socket(family_of(place.address), socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    except OSError as error:
        return None, error.errno or errno.EIO
    try:
        code = connection.connect_ex((place.address, place.port))
    except (OSError, OverflowError) as error:
        code = getattr(error, "errno", None) or errno.EINVAL
    if code in (0, errno.EINPROGRESS):
        return connection, 0
    connection.close()
    return None, code
