# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Limits for each client of the edge, on both sides, so that one client cannot take the edge from all others.

Private to the collection. No Ansible import.
"""

from __future__ import annotations

import typing as t

from .gotemplate import fill

# Callers inside are not limited: with Docker's masquerading, all containers of a node have one address.
_COUNTED = """\
# What the limits count: an IPv4 address, or the /64 network of an IPv6 address, which one client may have.
map $binary_remote_addr $edge_address {
    default $binary_remote_addr;
    "~(?s)^(?<edge_network>.{8}).{8}$" $edge_network;
}
@CLIENT@
geo @CLIENT_ADDRESS@ $edge_unlimited {
    default 0;
@NETWORKS@
}
map $edge_unlimited $edge_limited {
    default "";
    0 @ADDRESS@;
}"""
# Where TLS is ended, nginx knows the address of the trusted proxy only; the client is in the header.
_CLIENT_BEHIND_PROXY = """\
map $proxy_protocol_addr $edge_client {
    default $edge_real_ip;
    "" $remote_addr;
}
map "$edge_trusted_proxy $proxy_protocol_addr" $edge_counted {
    default $edge_address;
    "~^1 ." $edge_client;
}"""
# The access logs have each refusal. The error log, where it is a line of up to 2 kB, has none unless it is asked for.
_REQUESTS_ZONE = "limit_conn_zone $edge_limited zone=edge_requests:10m;"
_REQUESTS = """\
    limit_conn edge_requests @LIMIT@;
    limit_conn_status 429;
    limit_conn_log_level info;"""
_CONNECTIONS_ZONE = "limit_conn_zone $edge_limited zone=edge_connections:10m;"
_CONNECTIONS = """\
    limit_conn edge_connections @LIMIT@;
    limit_conn_log_level info;"""
# A client that is too fast at one service is still served by the others.
_RATE_ZONE = """\
map $edge_limited $edge_rated {
    default "$edge_limited $edge_service";
    "" "";
}
limit_req_zone $edge_rated zone=edge_rate:10m rate=@RATE@r/s;"""
_RATE = """\
    limit_req zone=edge_rate@BURST@;
    limit_req_status 429;
    limit_req_log_level info;"""


# For the access logs: which limit refused a request or connection.
_HTTP_LIMITED = """\
map "$limit_conn_status $limit_req_status" $edge_limited_by {
    default "";
    "~^REJECTED " request_limit;
    "~ REJECTED$" rate_limit;
}"""
_TCP_LIMITED = """\
map $limit_conn_status $edge_limited_by {
    default "";
    REJECTED connection_limit;
}"""


def limited_by(side: str) -> str:
    """Return the map for the field of an access log that names the limit which refused a request or connection."""
    return _HTTP_LIMITED if side == "http" else _TCP_LIMITED


def _counted(settings: dict[str, t.Any], *, behind_proxy: bool) -> str:
    """Return the maps that lead to $edge_limited, the client that a limit counts for, or nothing when none does."""
    networks = dict.fromkeys((*settings["trusted_proxies"], *settings["unlimited_networks"]))
    return fill(
        _COUNTED,
        client=_CLIENT_BEHIND_PROXY if behind_proxy else "",
        client_address="$edge_client" if behind_proxy else "$remote_addr",
        networks="\n".join(f"    {network} 1;" for network in networks),
        address="$edge_counted" if behind_proxy else "$edge_address",
    )


def http_zones(settings: dict[str, t.Any]) -> str:
    """Return what the limits of the http side need outside of its servers."""
    lines = []
    if settings["request_limit"]:
        lines.append(_REQUESTS_ZONE)
    if settings["rate_limit"]:
        lines.append(fill(_RATE_ZONE, rate=settings["rate_limit"]))
    behind_proxy = bool(settings["trusted_proxies"] and settings["tls"]["certificates"])
    return "\n".join([_counted(settings, behind_proxy=behind_proxy), *lines]) if lines else ""


def http_limits(settings: dict[str, t.Any], *, inside: bool) -> str:
    """Return the limits of one server of the http side."""
    lines: list[str] = []
    if inside:
        return ""
    if settings["request_limit"]:
        lines.append(fill(_REQUESTS, limit=settings["request_limit"]))
    if settings["rate_limit"]:
        burst = settings["rate_limit_burst"]
        # nginx refuses a burst of 0, which is what it takes without one.
        lines.append(fill(_RATE, burst=f" burst={burst} nodelay" if burst else ""))
    return "\n".join(lines)


def tcp_zones(settings: dict[str, t.Any]) -> str:
    """Return what the limit of the tcp side needs outside of its servers."""
    if not settings["connection_limit"] or not settings["public"]:
        return ""
    return f"{_counted(settings, behind_proxy=False)}\n{_CONNECTIONS_ZONE}"


def tcp_limits(settings: dict[str, t.Any]) -> str:
    """Return the limit of one public server of the tcp side."""
    limit = settings["connection_limit"]
    return fill(_CONNECTIONS, limit=limit) if limit else ""
