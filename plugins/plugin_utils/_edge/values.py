# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the templates of both sides of the edge take from its description. Private to the collection, pure."""

from __future__ import annotations

import ipaddress
import typing as t

from ...module_utils._consul.look import LETTERS, look
from .go import PATTERNS, go_ipv6_spellings, go_look, go_string, quoted
from .meta import META, tags_by_kind
from .schema import UDP_TAG, remote_datacenters
from .scope import reserved_ports, scopes

Settings = dict[str, t.Any]

#: How many services may cost a query about Connect.
MESH_QUESTIONS = 50


def remote_file(settings: Settings, datacenter: str) -> str:
    """Return the path of the file with the instances of another data center."""
    return f"{settings['remote_directory']}/datacenter-{datacenter}.json"


def common_values(side: str, settings: Settings) -> dict[str, t.Any]:
    """Return the values that the templates of both sides need.

    Args:
        side: ``http`` or ``tcp``.
        settings: the checked description.
    """
    # Protected services by their names in lower case, which count where two differ in case only.
    protected = {name.lower(): name for name in sorted(settings["protected_services"])}
    guarded: dict[str, str] = {}
    for label, name in protected.items():
        guarded.setdefault(look(label), name)
    labels = " ".join(map(go_string, protected))
    return {
        "edge": settings,
        "side": side,
        "scopes": scopes(settings),
        "pattern": PATTERNS,
        "services": "sprig_concat services $offered" if settings["remote_services"] else "services",
        "reserved_ports": reserved_ports(settings),
        "unexposed": " ".join(map(quoted, sorted({name.lower() for name in settings["unexposed_services"]}))),
        "protected": protected,
        "protected_labels": labels,
        "is_protected": f"eq $label {labels}" if protected else "false",
        "guarded": guarded,
        "look": go_look("$label"),
        "letters": go_look("$label", LETTERS),
        "looks_tag": settings["http_tag"] if settings["public"] else settings["internal"]["http_tag"],
        "edge_address": _is_edge_address(settings),
        "remote_files": [_remote_file(settings, datacenter) for datacenter in remote_datacenters(settings)],
        "meta": META,
        "tags": tags_by_kind(settings),
        "unlimited": list(dict.fromkeys((*settings["trusted_proxies"], *settings["unlimited_networks"]))),
        "UDP_TAG": UDP_TAG,
        "MESH_QUESTIONS": MESH_QUESTIONS,
    }


def _is_edge_address(settings: Settings) -> str:
    """Return a condition that is true when $to is an address of an edge; empty where none is known."""
    listen = (*settings["listen_addresses"], *settings["internal"]["listen_addresses"])
    known = (*settings["edge_addresses"], *listen)
    own = dict.fromkeys(address for address in known if not ipaddress.ip_address(address).is_unspecified)
    ipv4 = " ".join(quoted(address) for address in own if ":" not in address)
    tests = [f"(eq $to {ipv4})"] if ipv4 else []
    tests += [f"(regexMatch {go_string(go_ipv6_spellings(address))} $to)" for address in own if ":" in address]
    if settings["allow_loopback"] and not settings["listen_addresses"]:
        tests += ['(sprig_hasPrefix "127." $to)', '(eq $to "[::1]")']
    return f"or {' '.join(tests)}" if tests else ""


def _remote_file(settings: Settings, datacenter: str) -> dict[str, str]:
    used = [remote for remote in settings["remote_services"] if remote["datacenter"] == datacenter]
    return {
        "datacenter": datacenter,
        "path": remote_file(settings, datacenter),
        "uses": " ".join(f"{quoted(remote['name'])} {quoted(remote['use'])}" for remote in used),
    }
