# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""To whom services are exposed: the public and the internal side. Private to the collection, pure."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass


def _bracketed(address: str) -> str:
    return f"[{address}]:" if ":" in address else f"{address}:"


@dataclass(frozen=True)
class Scope:
    """To whom services are exposed. Both scopes are rendered by the same building blocks, one after the other.

    Attributes:
        prefix: the beginning of the names of its upstreams, so that no two are equal.
        report: what its lines of the report have in addition.
        skip: the beginning of the names of the templates that write these lines; empty for the public scope.
        listen: what precedes the port in each ``listen``.
        domain: the domain of its host names.
        http_port: its port for HTTP.
    """

    prefix: str
    report: str
    skip: str
    listen: tuple[str, ...]
    domain: str
    http_port: int


def scopes(settings: t.Mapping[str, t.Any]) -> dict[str, Scope]:
    """Return the scopes of an edge description by name: ``public``, ``internal`` or both."""
    internal = settings["internal"]
    found = {}
    if settings["public"]:
        listen = tuple(map(_bracketed, settings["listen_addresses"]))
        listen = listen or (("", "[::]:") if settings["ipv6"] else ("",))
        found["public"] = Scope("", "", "", listen, settings["domain"], settings["http_port"])
    if internal["listen_addresses"]:
        listen = tuple(map(_bracketed, internal["listen_addresses"]))
        found["internal"] = Scope("internal_", ' "scope" "internal"', "internal ", listen, internal["domain"], internal["http_port"])
    return found


def reserved_ports(settings: t.Mapping[str, t.Any]) -> list[int]:
    """Return the ports of the edge node that no service gets."""
    ports = {*settings["reserved_ports"], settings["http_port"], settings["tls_port"]}
    if settings["internal"]["listen_addresses"]:
        ports.add(settings["internal"]["http_port"])
    return sorted(ports)
