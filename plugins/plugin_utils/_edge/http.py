# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The consul-template source of the edge's http side. Private to the collection. No Ansible import."""

from __future__ import annotations

import typing as t

from .go import go_string
from .headers import OWN_HEADERS, cleared_headers
from .render import render
from .schema import check_edge
from .value_checks import size_in_bytes
from .values import Settings, common_values

#: What the name of the upstream whose connections are shared ends with.
POOL = ".shared"
#: More proxies in a row than a site has.
HOPS = 5
_CIPHERS = (
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
)


def http_template(edge: t.Any) -> str:
    """Return the consul-template source that renders the edge's http side.

    Raises:
        EdgeError: the description is wrong.
    """
    settings = check_edge(edge)
    values = {
        **common_values("http", settings),
        "pool": POOL,
        "pool_pattern": POOL.replace(".", r"\."),
        "hops": HOPS,
        "ciphers": _CIPHERS,
        "access_log": _access_log(settings),
        "http2_parameter": " http2" if settings["tls"]["http2"] in ("listen", "legacy") else "",
        "https_port": "" if settings["tls_port"] == 443 else f":{settings['tls_port']}",
        "kept_headers": [_variable(header) for header in cleared_headers(settings)],
        "cleared_headers": _cleared(settings),
        "buffers": _buffers(settings),
        "unshared": _unshared(settings),
        **_totals(settings),
        **_certificates(settings),
        **_canary_choice(settings),
    }
    return render("http.ctmpl", values)


def _access_log(settings: Settings) -> str:
    # Written in one piece at least every second: a write for each request is half of what a request costs an edge.
    log = settings["http_access_log"]
    return "off" if log == "off" else f"{log} edge_http buffer=32k flush=1s"


def _spellings(header: str) -> list[str]:
    """Return the other names that CGI and WSGI applications take for this one."""
    first, *rest = header.split("-")
    names = [first]
    for part in rest:
        names = [f"{name}{sign}{part}" for name in names for sign in "-_"]
    return [name for name in names if name != header]


def _variable(header: str) -> str:
    return header.lower().replace("-", "_")


def _cleared(settings: Settings) -> dict[str, str]:
    """Return the headers that no client may set, each with its value: empty, or what a trusted proxy has set."""
    cleared = cleared_headers(settings)
    values = {header: f"$edge_kept_{_variable(header)}" if settings["trusted_proxies"] else '""' for header in cleared}
    values = {"HTTP2-Settings": '""', "Proxy": '""', **values}
    if settings["underscore_headers"]:
        values.update({name: '""' for header in (*OWN_HEADERS, *cleared) for name in _spellings(header)})
    return values


def _buffers(settings: Settings) -> dict[str, int]:
    """Return sizes in kB: one buffer holds a whole header, the others together as much as nginx may be busy with."""
    size = -(-size_in_bytes(settings["response_header_size"]) // 1024)
    each = max(8, -(-size // 28) * 4)
    return {"size": size, "each": each, "busy": max(size, each)}


def _unshared(settings: Settings) -> str:
    """Return a condition that is true when the connections of $name are not shared."""
    names = " ".join(go_string(name.lower()) for name in settings["unshared_services"])
    return f"eq ($name | toLower) {names}" if names else "false"


def _totals(settings: Settings) -> dict[str, str]:
    """Return expressions for numbers of servers: without canaries, which have these as backup, and with them."""
    if not settings["remote_services"]:
        return {"total": "(len $stable)", "total_with_canaries": "(add (len $stable) (len $canary))"}
    return {
        "total": "(add (len $stable) (len $spares_here))",
        "total_with_canaries": "(add (len $stable) (add (len $canary) (len $spares_here)))",
    }


def _certificates(settings: Settings) -> dict[str, t.Any]:
    """Return which certificate covers which first labels of host names, and the one that covers all others."""
    exact, every = [], ""
    for certificate in settings["tls"]["certificates"]:
        labels = [host.partition(".")[0] for host in certificate["host_names"]]
        if "*" in labels:
            every = certificate["name"]
        if named := [label for label in labels if label != "*"]:
            exact.append((named, certificate["name"]))
    return {"exact_names": exact, "every_name": every}


def _canary_choice(settings: Settings) -> dict[str, str]:
    """Return the variables of nginx with which a client chooses between canaries and others."""
    header, cookie = settings["canary"]["header"], settings["canary"]["cookie"]
    return {
        "canary_header": f"$http_{_variable(header)}" if header else "",
        "canary_cookie": f"$cookie_{cookie}" if cookie else "",
    }
