# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Catalogues as somebody might register them: by mistake, in malice, or just as they should be.

Every strategy begins with what is harmless, so that a failure shrinks towards it.
"""

from __future__ import annotations

import typing as t

from fuzz_rig import AGENT, BACKEND_PORTS, EDGE, EDGE_PLACES, EDGES, MARKER, NETWORK, PORTS, Catalogue, Instance, Node, Settings
from hypothesis import strategies as st
from oracle import DOMAIN, good_name

MIN_SERVICES, MAX_SERVICES = 14, 24

# Pieces of what an attacker may try, for nginx, for consul-template and for whatever reads the report.
PIECES = (
    ";",
    "}",
    "{",
    "{{",
    "}}",
    "\n",
    "\r\n",
    "\r",
    "\t",
    " ",
    '"',
    "'",
    "`",
    "\\",
    "\\n",
    "#",
    "#!",
    "\n#! {}",
    "$host",
    "${",
    "%s%d%n",
    "{{ key `secret` }}",
    "{{ env `HOME` }}",
    '{{ scratch.Set "skips" 0 }}',
    "{% raw %}",
    "; } server { listen 1; root /; autoindex on; } upstream z { server 127.0.0.1",
    "\n}\nserver {\n    listen 20038;\n    return 200;\n}\n",
    "unix:/run/docker.sock",
    "|any",
    "@dc2",
    "~near",
    "?ns=x",
    ".",
    "..",
    "/",
    ":80",
    " backup",
    " down",
    " weight=9",
    "</script><script>alert(1)</script>",
    "&amp;<b>",
    "\0",
    "\x1b[31m",
    "\x7f",
    "\x85",
    "\u2028",
    "\u202e",
    "\ufeff",
    "\ufffd",
    "ä",
    "ß",
    "İ",
    "\u212a",
    "\u0663",
    "\uff18",
    "\U0001f600",
    "e\u0301",
)
_FREE = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)


@st.composite
def hostile(draw: st.DrawFn, longest: int = 4096) -> str:
    """A text that must never reach a directive; it carries the marker."""
    text = "".join(draw(st.lists(st.sampled_from(PIECES) | _FREE, min_size=1, max_size=3)))
    text = text[: draw(st.integers(0, len(text)))] + MARKER + text
    repeat = draw(st.sampled_from((1, 1, 1, 1, 1, 1, 1, 4096)))
    # Consul measures bytes.
    return (text * repeat).encode()[:longest].decode(errors="ignore")


#: Nearly a value: what a careless pattern lets through.
NEARLY = ("\n", " ", "\r", "\0", ";", "\u2028", ".", "-", "+", "e0", "%", "\n\n")


def near(values: t.Sequence[str]) -> st.SearchStrategy[str]:
    """A good value with something before or after it."""
    return st.builds(lambda value, more, first: more + value if first else value + more, st.sampled_from(values), st.sampled_from(NEARLY), st.booleans())


WORDS = (
    "web",
    "shop",
    "db",
    "a",
    "x9",
    "http",
    "any",
    "tls",
    "consul",
    "http_web",
    "web-canary",
    "edge-unknown",
    "default",
    "localhost",
    "a_b",
    "a--b",
    "0",
    "mesh-gateway",
    # What only looks like others of these.
    "vveb",
    "sh0p",
    "sho-p",
    "clb",
    "tIs",
    "loca1host",
    "consu1",
    "c0n-sul",
    "xn--web-abc",
)
PORT_TEXTS = (
    "20001",
    "20002",
    "20003",
    "20004",
    "20005",
    "20020",
    "20038",
    "20039",
    "20040",
    "80",
    "20090",
    "0",
    "020001",
    "65535",
    "65536",
    "99999",
    "100000",
)


@st.composite
def names(draw: st.DrawFn) -> str:
    """A service name."""
    kind = draw(st.integers(0, 9))
    if kind <= 4:
        word = draw(st.sampled_from(WORDS))
        name = draw(st.sampled_from((str, str.upper, str.title, str.swapcase)))(word) if draw(st.integers(0, 3)) == 3 else word
        more = draw(st.integers(0, 40))
        if more > 20:
            name += f"-{draw(st.sampled_from(PORT_TEXTS))}"
        elif more > 6:
            name += f"-{more}"
        return name
    if kind <= 6:
        return draw(st.text("abcXYZ019-_", min_size=1, max_size=10))
    if kind == 7:
        return draw(st.sampled_from("azAZ09")) * draw(st.sampled_from((61, 62, 63, 64, 65, 253, 254, 4096)))
    if kind == 8:
        return draw(near(WORDS))
    name = draw(hostile())
    # By chance it may be a good one, which is rightly in the configuration; the marker is for what is not.
    return f"{name}." if good_name(name) else name


NO_ADDRESSES = (
    *("0.0.0.0", "::", "::1", "127.1", "0177.0.0.1", "2130706433", "169.254.169.254", "224.0.0.1", "255.255.255.255", "1.2.3.4.5", "256.1.1.1"),
    *("::ffff:127.0.0.1", "64:ff9b::7f00:1", "fe80::1", "fe80::1%lo", "2001:db8::1%1; }", "2001:db8:1:2:3:4:5::", "2001:db8::1::", "2001:db8:1:2:3:4:5:6:7"),
    *("localhost", "node.example", "127.0.0.1:80", "[2001:db8::1]"),
)


@st.composite
def addresses(draw: st.DrawFn, service: int) -> str:
    """An address of an instance: most often a place that answers."""
    kind = draw(st.integers(0, 19))
    here = NETWORK.address(1 + service, draw(st.integers(1, 3)))
    if kind <= 13:
        return here
    if kind == 14:
        # Of another service, or of the machine that it is on.
        return draw(st.sampled_from((NETWORK.address(1, 1), "")))
    if kind == 15:
        return draw(st.sampled_from(("192.0.2.1", "198.51.100.7", "2001:db8::1", "2001:DB8::A", "2001:db8:1:2:3:4::6", "fd00::", "223.255.255.254")))
    if kind == 16:
        return draw(st.sampled_from(NO_ADDRESSES))
    if kind == 17:
        return draw(near((here, "2001:db8::1", "192.0.2.1")))
    if kind == 18:
        return draw(st.ip_addresses().map(str))
    return draw(hostile())


def meta_value(good: t.Sequence[str]) -> st.SearchStrategy[str]:
    """A value of a meta key: most often a good one."""
    return st.one_of(st.sampled_from(good), st.sampled_from(good), st.sampled_from(good), near(good), hostile(512), st.just(""))


TRUTHS = ("true", "false", "1", "0", "Yes", "NO", "on", "Off", "TRUE", "maybe", "2")
META: dict[str, st.SearchStrategy[str]] = {
    "edge_port": meta_value(PORT_TEXTS),
    "edge_weight": meta_value(
        ("0", "100", "0", "50", "0", "10", "0", "1", "007", "101", "-1", "1.5", "+5", "1e1", "\u0663"),
    ),
    "edge_canary": meta_value(TRUTHS),
    "edge_canary_share": meta_value(("10", "0", "100", "33", "101", "-1", "05")),
    "edge_proxy_protocol": meta_value(TRUTHS),
    "edge_keepalive": meta_value(TRUTHS),
    "edge_https": meta_value(("redirect", "both", "off", "on", "Redirect")),
    "edge_prot": meta_value(PORT_TEXTS),
    "version": meta_value(("v1.0.0", "v2", "1.0+b1", "a" * 40, "a" * 41, "-x", "1.0\n")),
    "note": hostile(512),
    "edge-port": hostile(512),
}
#: What the instances of one service can disagree about.
DISPUTES = {
    "edge_https": ("redirect", "both", "off"),
    "edge_keepalive": ("yes", "no"),
    "edge_canary": ("yes", "no"),
    "edge_canary_share": ("5", "10"),
    "edge_proxy_protocol": ("yes", "no"),
}
META["registrator-protocol"] = meta_value(("tcp", "udp", "sctp", "TCP"))
TAGS = (("http",), ("tcp",), ("tls",), ("http", "tls"), ("http", "tcp", "tls"), (), ("HTTP",), ("xhttp", "http2", " http", "http "))


ODD_PORTS = (0, 1, 80, 65535, 65536, -1, 8500, 2375, 22, 53, 2**31, 99999999999)
# Ports that an edge listens on.
OWN_PORTS = (PORTS.http, PORTS.tls, 20039, *range(PORTS.first, PORTS.first + 12))


@st.composite
def instances(draw: st.DrawFn, service: int, name: str, number: int, nodes: list[Node], usual: tuple[str, ...], disputed: bool) -> Instance:
    """One registration."""
    tags = list(draw(st.sampled_from(TAGS)) if draw(st.integers(0, 5)) == 5 else usual)
    extra = draw(st.integers(0, 99))
    if extra > 80:
        tags.append(draw(hostile()))
    if extra in (1, 2):
        tags.append("udp")
    if extra > 97:
        tags += [f"{MARKER}-{index}" for index in range(draw(st.sampled_from((100, 2000, 5000))))]
    meta = {key: draw(META[key]) for key in draw(st.lists(st.sampled_from(sorted(META)), max_size=4, unique=True))} if draw(st.integers(0, 2)) == 2 else {}
    if "tcp" in tags and draw(st.integers(0, 3)) > 0:
        meta.setdefault("edge_port", str(PORTS.first + (service * 5 + draw(st.integers(0, 1))) % (PORTS.last - PORTS.first)))
    if disputed:
        # Two canaries that disagree, and two others.
        turns = {"edge_canary": number // 2}
        meta = {key: values[turns.get(key, number) % len(values)] for key, values in DISPUTES.items()}
    if "edge_canary_share" in meta and not disputed and draw(st.integers(0, 3)) > 0:
        meta["edge_canary"] = "true"
    odd = draw(st.integers(0, 19))
    node = draw(st.sampled_from(nodes))
    place, port = draw(addresses(service)), draw(st.sampled_from(BACKEND_PORTS if odd < 17 else ODD_PORTS))
    if odd == 6:
        place = draw(st.sampled_from(EDGE_PLACES))
        # At the edge's real address an instance that is taken would hold a public port.
        port = draw(st.sampled_from(OWN_PORTS[:3] if place == EDGE else OWN_PORTS))
    return Instance(
        service=name,
        # The number keeps ids apart, also where Consul takes no notice of case; some sort before others of the same node.
        # An agent is told the id in a path, where Consul's own server rewrites some of them.
        id=f"{service}-{number}" + (f" {draw(hostile())}" if odd > 14 and node != AGENT else "") + (":udp" if extra == 3 else ""),
        node=node,
        address=place,
        port=port,
        tags=tuple(tags),
        meta=tuple(sorted(meta.items())),
        status=draw(st.sampled_from(("critical", "warning", "warning", "maintenance", "", "unknown"))) if odd in (1, 2, 3) else "passing",
        weights=draw(st.tuples(st.sampled_from((1, 2, 3, 10, 100, 65535, 0, -1, 65536)), st.sampled_from((1, 0, 0, 0, 2, 100, -1))))
        if odd in (1, 4, 5)
        else None,
        mesh=draw(st.sampled_from(("sidecar", "native"))) if extra in (4, 5, 6) else "",
    )


@st.composite
def settings(draw: st.DrawFn) -> Settings:
    """An edge description. Few different ones, so that most of a run is spent on catalogues."""
    return draw(
        st.sampled_from(
            (
                *[Settings()] * 3,
                Settings(accept_warning=True),
                Settings(accept_warning=True, proxy_protocol=True, canary_share=100),
                Settings(max_services=5, max_instances=2, max_reports=7),
                Settings(
                    host_names=(f"w*.{DOMAIN}", f"sh*.{DOMAIN}", f"*-2*.{DOMAIN}"),
                    # What people register looks like one of these more often than the other way round.
                    reserved_host_names=tuple(f"{label}.{DOMAIN}" for label in ("*_web", "*3*", "a*", "sh0p", "vveb")),
                    canary_share=0,
                ),
                Settings(allow_loopback=False),
                Settings(edge_addresses=EDGES),
                Settings(protected_services=("consul", "shop", "Web", "db-20002")),
            )
        )
    )


@st.composite
def catalogues(draw: st.DrawFn, least: int = MIN_SERVICES, most: int = MAX_SERVICES, around: Catalogue | None = None) -> Catalogue:
    """A catalogue of so many services, with those of another one and its settings if there is one."""
    chosen = around.settings if around else draw(settings())
    nodes = []
    for number in range(draw(st.integers(1, 3))):
        kind = draw(st.integers(0, 11))
        if kind == 8 and AGENT not in nodes:
            nodes.append(AGENT)
            continue
        name = f"{number} {draw(hostile())}" if kind == 11 else f"node-{number}"
        address = draw(hostile()) if kind == 10 else NETWORK.address(250, 1 + number)
        status = draw(st.sampled_from(("critical", "warning", "maintenance"))) if kind == 9 else ""
        nodes.append(Node(name, address, status))
    found = list(around.instances) if around else []
    found_names = draw(st.lists(names(), min_size=least, max_size=most, unique=True))
    for name in found_names[: draw(st.integers(0, 3))]:
        # Another spelling of one host name.
        other = draw(st.sampled_from((str.upper, str.title, str.swapcase)))(name)
        found_names += [other] if other not in found_names and len(other) == len(name) else []
    for service, name in enumerate(found_names):
        usual = draw(st.sampled_from(TAGS[:6]))
        disputed = draw(st.integers(0, 9)) == 9
        for number in range(4 if disputed else draw(st.sampled_from((1, 2, 2, 3, 4)))):
            found.append(draw(instances(service, name, number, nodes, usual, disputed)))
    return Catalogue(tuple(found), chosen)
