# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""systemd's notification socket."""

from __future__ import annotations

import os
import socket


def notify(message: str) -> None:
    """Send one message; does nothing when no service manager asked for it."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as client:
            client.sendto(message.encode(), address)
    except OSError:
        # A full or vanished socket must not end the engine; the watchdog is there for what lasts.
        pass


def watchdog_seconds() -> float:
    """Half of the time within which systemd wants a sign of life; 0 when it wants none."""
    text = os.environ.get("WATCHDOG_USEC", "")
    return int(text) / 2_000_000 if text.isdecimal() else 0.0
