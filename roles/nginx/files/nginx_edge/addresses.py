# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses of the host and of names."""

from __future__ import annotations

import re
import socket
import threading

from .files import read_text
from .nginxconf import normal_ip

_LOCAL_IPV4 = re.compile(r"\|-- ([0-9.]+)\n +/32 host LOCAL")


def own_addresses() -> frozenset[str]:
    """Return the addresses of all interfaces of this host now. Those of 127.0.0.0/8 are not listed one by one."""
    found = {normal_ip(address) for address in _LOCAL_IPV4.findall(read_text("/proc/net/fib_trie") or "")}
    for line in (read_text("/proc/net/if_inet6") or "").splitlines():
        digits = line[:32]
        found.add(normal_ip(":".join(digits[at : at + 4] for at in range(0, 32, 4))))
    return frozenset(address for address in found if address)


def ports_given_anew() -> range:
    """Return the ports that Docker gives to containers that ask for none; ``ip(7)``, ip_local_port_range.

    Everything above is included, because the range of other hosts may end elsewhere."""
    first = (read_text("/proc/sys/net/ipv4/ip_local_port_range") or "").split()[:1]
    return range(int(first[0]) if first and first[0].isdigit() else 32768, 65536)


def has_address(name: str, timeout: float = 2.0) -> bool | None:
    """Return whether a host name has an address, as nginx would find out; None when no name server answers in time."""
    certain = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}
    answers: list[bool] = []

    def ask() -> None:
        try:
            socket.getaddrinfo(name, None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
            answers.append(True)
        except socket.gaierror as error:
            if error.errno in certain:
                answers.append(False)
        except (OSError, UnicodeError):
            pass

    # Name servers that are down cost half a minute, for which every change would wait.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(timeout)
    return answers[0] if answers else None
