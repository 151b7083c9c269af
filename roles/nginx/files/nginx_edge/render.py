# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The complete tree of one generation, as texts. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from .certificate import expiry
from .foreign import NAMES, NOTHING, SHARED, Foreign
from .nginxconf import (
    WILDCARDS,
    Document,
    LeftOut,
    Listener,
    Places,
    certificates,
    listeners,
    parse_listen,
    upstreams,
    with_certificates,
    without_listeners,
    without_places,
    without_upstreams,
)
from .page import POLICY
from .report import TakenOut, as_lines, build_report, served

STATUS = """\
# Written by nginx-edge-apply: which generation the answering worker has, and how the edge is. Nothing here can change anything.
map $host $status_stranger {{
    default 1;
    localhost 0;
    nginx-edge-status 0;
    "~^[0-9.]+$" 0;
    "~^\\[[0-9a-f:.]+\\]$" 0;
{names}}}
server {{
{listen}
    server_name nginx-edge-status;
    # A page of somebody else, open in an operator's browser, can let a name of its own lead here. An address is no such name.
    if ($status_stranger) {{
        return 421 "ask by an address of this host, or add the name to nginx_status_host_names\\n";
    }}
    access_log off;
    default_type text/plain;
    location = /generation {{
        add_header Cache-Control no-store;
        return 200 "{generation}\\n";
    }}
    location = / {{
        types {{ }}
        default_type "text/html; charset=utf-8";
        add_header Cache-Control no-store;
        add_header Content-Security-Policy "{policy}";
        add_header X-Content-Type-Options nosniff;
        add_header Referrer-Policy no-referrer;
        # Not an alias: nginx takes none for a path that ends with a slash.
        try_files /status.html =404;
        root {state_dir};
    }}
    location = /status {{
        default_type application/json;
        add_header Cache-Control no-store;
        alias {state_dir}/status.json;
    }}
    location = /report {{
        default_type application/json;
        alias {tree}/report.json;
    }}
    location = /metrics {{
        default_type "text/plain; version=0.0.4";
        add_header Cache-Control no-store;
        alias {state_dir}/metrics.prom;
    }}
    location = /nginx {{
        stub_status;
    }}
    location / {{
        return 404 "known here: / /generation /status /report /metrics /nginx\\n";
    }}
}}
"""

MAIN = """\
# Written by nginx-edge-apply.
{base}stream {{
    include {tree}/stream/*.conf;
}}
"""

# A server that is down is never connected to: the answer is 502, at once.
STAND_IN = """\
# The operator's own {file} passes requests to this {what} now.
upstream {name} {{
    server 127.0.0.1:9 down;
}}
"""

STAGED_HTTP = "staged/http.conf"
STAGED_STREAM = "staged/stream.conf"
# What is staged: (side, name in the staging directory, name in a tree).
SIDES = (("http", "http.conf", STAGED_HTTP), ("tcp", "stream.conf", STAGED_STREAM))
EDGE_HTTP = "http/50-edge.conf"
EDGE_STREAM = "stream/50-edge.conf"
# Private keys are in there: for root only.
CERTIFICATES = "tls"
# What nginx reads: these must be on the disk before the link is swapped, or a power cut could leave an edge that can't start.
READ_BY_NGINX = ("main/edge.conf", "http/00-base.conf", "http/10-status.conf", EDGE_HTTP, EDGE_STREAM)


class Source(NamedTuple):
    """Everything a generation is made from."""

    http: str
    stream: str
    base_http: str
    base_main: str
    # By file name, those that can be had.
    certificates: dict[str, str]

    def services(self) -> set[str]:
        """Return the services that are staged, as ``side/name``."""
        return served("http", self.http) | served("tcp", self.stream)


def management(port: int, address: str) -> tuple[str, Listener | None]:
    """Where the status server listens beside loopback, as nginx writes it, and that socket; nothing without an address."""
    place = f"[{address}]:{port}" if ":" in address else f"{address}:{port}" if address else ""
    return place, next(iter(parse_listen([place])), None)


class Wanted(NamedTuple):
    """A parsed source."""

    source: Source
    http: Document
    stream: Document
    base: Document

    def listeners(self, status_port: int) -> set[Listener]:
        """Sockets of the http side."""
        return listeners(self.http) | self.needed(status_port)

    def needed(self, status_port: int) -> set[Listener]:
        """Sockets that the edge can't do without: those of the site's own part. Any other costs only the services behind it."""
        return listeners(self.base) | {Listener("tcp", "127.0.0.1", status_port)}


class Rendered(NamedTuple):
    """The files of a tree (path in the tree -> text) and the sockets its nginx must hold."""

    files: dict[str, str]
    listeners: set[Listener]
    left_out: list[LeftOut]
    # Upstreams that only the operator's own files know.
    not_served: tuple[str, ...]
    # Host names of theirs that have no address, each with its file.
    unresolved: dict[str, str]


ITSELF = TakenOut("is this edge itself", "every instance is this edge itself")
# Docker gives a container that publishes its ports without a number other ones at each start.
GIVEN_ANEW = TakenOut(
    "may be another one's since the host started, because Docker gives such ports anew at each start",
    "nothing has been rendered since the host started, and Docker gives the ports of its instances anew at each start",
)


def _is_this_edge(sockets: set[Listener], addresses: frozenset[str]) -> Callable[[str, int], bool]:
    """Return what tells the instances that are this edge: one request would come back until all connections are used up.

    Whoever registers an instance may know an address of the host that the description of the edge does not have."""

    def is_this_edge(address: str, port: int) -> bool:
        own = address in addresses or address.startswith("127.")
        wildcard = WILDCARDS[":" in address]
        return own and not sockets.isdisjoint((Listener("tcp", address, port), Listener("tcp", wildcard, port)))

    return is_this_edge


def _take_out(
    documents: dict[str, Document],
    left_out: dict[str, list[LeftOut]],
    refused: Callable[[str, int], bool],
    why: TakenOut,
) -> dict[str, dict[str, list[str]]]:
    """Take instances out, and the services that have no other one; return them by side and upstream."""
    found = {}
    for side, document in documents.items():
        text, found[side], emptied = without_places(document, refused)
        if found[side]:
            documents[side] = Document(text)
        if emptied:
            text, lost = without_upstreams(documents[side], dict.fromkeys(emptied, why.all))
            documents[side] = Document(text)
            if side == "tcp":
                # By its host name, a map leads to a service that passes TLS through, and no server of its own.
                unled = sorted(emptied - {one.upstream for one in lost})
                lost += [LeftOut(f'upstream "{name}"', None, why.all, (), name) for name in unled]
            left_out[side] = [*left_out.get(side, []), *lost]
    return found


def _warnings(foreign: Foreign, not_served: dict[str, str], kept_off: dict[str, str]) -> list[dict[str, str]]:
    """Return the warnings about the operator's own files."""
    texts = [
        {name: f"{file} passes requests to upstream {name}, which no service has now: they get 502" for name, file in not_served.items()},
        {name: f"{file} passes requests to {name}, which has no address now: they get 502; {NAMES}" for name, file in foreign.unresolved.items()},
        {name: f"the operator's own {file} has an upstream {name}, which requests to it get instead of the service's" for name, file in kept_off.items()},
        {
            name: f"{file} passes requests to upstream {name}, whose connections serve one client after the other: "
            f"use {name.removesuffix(SHARED)}, or a login of the connection can reach another client"
            for name, file in sorted(foreign.passed.items())
            if name.endswith(SHARED)
        },
    ]
    named = [(name, reason) for reasons in texts for name, reason in reasons.items()]
    named += [
        (name, f"two servers have this host name at {place}, and nginx uses the one it reads first; reserved_host_names keeps a name for the operator")
        for name, place in foreign.doubled
    ]
    return [{"kind": "warning", "side": "http", "service": name, "reason": reason} for name, reason in named]


def render(
    wanted: Wanted,
    unusable: dict[str, dict[Listener, str]],
    generation: str,
    state_dir: str,
    status_port: int,
    places: Places,
    status_address: str = "",
    foreign: Foreign = NOTHING,
    own_addresses: frozenset[str] = frozenset(),
    status_names: Sequence[str] = (),
    given_anew: range = range(0),
) -> Rendered:
    """The tree of a generation, without the servers whose socket can't be had (by side; the status server's own is "status"), and with what the
    operator's own files need of it. Certificates are part of it: they change and go back with it.

    ``given_anew``: ports of which nobody knows whose they are now."""
    tree = f"{state_dir}/trees/{generation}"
    source = wanted.source
    documents, left_out = {"http": wanted.http, "tcp": wanted.stream}, {}
    for side, document in documents.items():
        if unusable.get(side):
            text, left_out[side] = without_listeners(document, unusable[side])
            documents[side] = Document(text)
    status = management(status_port, status_address)[1]
    listening = {socket for document in documents.values() for socket in listeners(document)}
    listening |= wanted.needed(status_port) | ({status} if status else set())
    taken_out = [(_take_out(documents, left_out, _is_this_edge(listening, own_addresses), ITSELF), ITSELF)]
    if given_anew:
        taken_out.append((_take_out(documents, left_out, lambda _, port: port in given_anew, GIVEN_ANEW), GIVEN_ANEW))
    taken = {
        name: f"the operator's own {foreign.defined[name]} has an upstream {name}; give it another name"
        for name in upstreams(documents["http"]) & foreign.defined.keys()
    }
    if taken:
        text, lost = without_upstreams(documents["http"], taken)
        documents["http"] = Document(text)
        left_out["http"] = [*left_out.get("http", []), *lost]
    kept_off = {name: foreign.defined[name] for name in sorted(taken.keys() - {one.upstream for one in left_out.get("http", [])})}
    http, stream = documents["http"], documents["tcp"]
    not_served = {name: file for name, file in sorted(foreign.passed.items()) if name not in upstreams(http) and name not in foreign.defined}
    used = {name: source.certificates[name] for name in certificates(http, places)}
    place, socket = management(status_port, status_address)
    if socket and socket in unusable.get("status", {}):
        left_out.setdefault("http", []).append(LeftOut("status page", socket, unusable["status"][socket], (), ""))
        place, socket = "", None
    listen = "\n".join(f"    listen {one} default_server;" for one in (f"127.0.0.1:{status_port}", place) if one)
    report = build_report(generation, {"http": source.http, "tcp": source.stream}, left_out, taken_out)
    report["warnings"] += _warnings(foreign, not_served, kept_off)
    report["certificates"] = {name[: -len(".pem")]: expiry(text) for name, text in used.items()}
    files = {
        "main/edge.conf": MAIN.format(base=source.base_main, tree=tree),
        "http/00-base.conf": source.base_http,
        "http/10-status.conf": STATUS.format(
            names="".join(f"    {name.lower()} 0;\n" for name in status_names),
            listen=listen,
            policy=POLICY,
            generation=generation,
            state_dir=state_dir,
            tree=tree,
        )
        + "".join(STAND_IN.format(name=name, file=file, what="upstream, and no service has it") for name, file in not_served.items())
        + "".join(STAND_IN.format(name=name, file=file, what="name, which has no address") for name, file in foreign.unresolved.items()),
        EDGE_HTTP: with_certificates(http, places, f"{tree}/{CERTIFICATES}"),
        **{f"{CERTIFICATES}/{name}": text for name, text in used.items()},
        EDGE_STREAM: stream.text,
        STAGED_HTTP: source.http,
        STAGED_STREAM: source.stream,
        "report.json": as_lines(report),
    }
    sockets = listeners(http) | wanted.needed(status_port) | listeners(stream) | ({socket} if socket else set())
    return Rendered(files, sockets, [one for side in left_out.values() for one in side], tuple(not_served), foreign.unresolved)
