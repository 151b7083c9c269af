# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Catalogues with a name: what was found once, and what chance alone brings too rarely. Together they have every reason for a refusal."""

from __future__ import annotations

import itertools
import typing as t

from fuzz_rig import AGENT, BACKEND_PORTS, EDGE, EDGE_PLACES, EDGES, MARKER, NETWORK, PORTS, Catalogue
from oracle import DOMAIN, Instance, Node, Settings

NODE = Node("node-0", NETWORK.address(250, 1))
OTHER = Node("node-1", NETWORK.address(250, 2))


def instance(service: str, number: int = 0, **more: t.Any) -> Instance:
    """An instance of a service, which is told by its first letter where it has no place of its own."""
    values: dict[str, t.Any] = {
        # Consul takes two ids that differ only in case for one.
        "id": f"{number} {service if service.islower() else service.encode().hex()}",
        "node": NODE,
        "address": NETWORK.address(1 + ord(service[0]) % 200, 1 + number),
        "port": BACKEND_PORTS[0],
        "tags": ("http",),
        **more,
    }
    values["meta"] = tuple(sorted(values.get("meta", {}).items()))
    return Instance(service=service, **values)


# One of each: what is served in all ways, and what is refused for each kind of reason.
EVERYTHING = Catalogue(
    (
        *(instance("web", number, tags=("http", "tls", "tcp"), meta={"edge_port": str(PORTS.first), "version": f"v{number}"}) for number in range(3)),
        instance("web", 3, tags=(), id="not exposed"),
        instance("web", 4, status="critical"),
        instance("web", 5, status="maintenance"),
        instance("Web", tags=("http", "tls"), address=NETWORK.address(240, 1)),
        instance("shop", meta={"edge_weight": "25"}),
        instance("shop", 1, weights=(3, 1)),
        instance("shop", 2, meta={"edge_weight": "0"}),
        instance("shop", 3, meta={"edge_weight": f"1{MARKER}"}),
        instance("gray"),
        instance("gray", 1, meta={"edge_canary": "yes", "edge_canary_share": "30"}),
        instance("db-20002", tags=("tcp",), meta={"edge_proxy_protocol": "true"}),
        instance("cache", tags=("tcp",), meta={"edge_port": "20002"}),
        instance("bad", address=f"127.0.0.1; }} server {{ listen 1; }} # {MARKER}"),
        instance("bad", 1, port=8500),
        instance("bad", 2, address=f"192.0.2.9; }} server {{ listen 1; }} # {MARKER}"),
        instance("bad", 3, address=f"2001:db8::9; }} # {MARKER}"),
        instance("bad", 4, address="169.254.169.254"),
        instance(f"a b {MARKER}"),
        instance("low", tags=("tcp",), meta={"edge_port": "20039"}),
        instance("off", tags=("tcp",), meta={"edge_port": "20050"}),
        instance("odd", tags=("tcp",), meta={"edge_port": f"20003;{MARKER}"}),
        instance("twin"),
        instance("twin", 1, address=NETWORK.address(1 + ord("t") % 200, 1)),
        instance("udp", tags=("http", "tls")),
        instance("udp", 1, tags=("http", "tls", "udp")),
        instance("udp", 2, tags=("http", "tls"), id="2:udp"),
        instance("udp", 3, tags=("http", "tls"), meta={"registrator-protocol": "sctp"}),
        instance("only-20005", tags=("tcp", "udp")),
        instance("only", tags=("http", "tls", "udp")),
        instance("other", tags=("tcp",), meta={"edge_port": "20005"}),
        instance("mesh", tags=("http", "tls", "tcp"), meta={"edge_port": "20006"}, mesh="native"),
        instance("mesh", 1, tags=("http", "tls", "tcp"), meta={"edge_port": "20006"}, mesh="sidecar"),
        instance("loop", tags=("http", "tls"), address=EDGE, port=PORTS.http),
        instance("loop", 1, tags=("http", "tls"), address=EDGE, port=PORTS.tls),
        instance("loop", 2, tags=("tcp",), address=EDGE, port=20007, meta={"edge_port": "20007"}),
        instance("loop", 3, tags=("http", "tls", "tcp"), meta={"edge_port": "20007"}),
        instance("db-20008", tags=("tcp",)),
        instance("mesh-gateway", tags=("http", "tls", "tcp"), meta={"edge_port": "20009"}),
        instance("DB-20008", tags=("tcp",), address=NETWORK.address(239, 1)),
        instance("c0nsul", tags=("http", "tls", "tcp"), address=NETWORK.address(238, 1), meta={"edge_port": "20010"}),
        instance("con-sul", tags=()),
        instance("xn--web-abc", tags=("http", "tls", "tcp"), meta={"edge_port": "20011"}),
    ),
    Settings(protected_services=("consul",)),
)

NAMED: dict[str, Catalogue] = {
    "everything": EVERYTHING,
    # Consul takes any word as the state of a check. It is none that passes.
    "a check in a state that nobody knows": Catalogue((instance("web"), instance("web", 1, status="unknown"), instance("web", 2, status=f"passing {MARKER}"))),
    # Consul takes weights out of its bounds into the catalogue, and answers with 1 and 1.
    "weights out of bounds": Catalogue((instance("web", weights=(3, -1)), instance("web", 1, weights=(0, 1)), instance("web", 2, weights=(65536, 1)))),
    "the largest and the smallest share": Catalogue((instance("web", weights=(65535, 1)), instance("web", 1, meta={"edge_weight": "1"}))),
    # An instance without an address has its node's, which is as free as its own.
    "the address of a node": Catalogue((instance("web", address=""), instance("bad", address="", node=Node("n", f"192.0.2.1 {MARKER}; }}")))),
    "an agent's own node": Catalogue((instance("web", address="", node=AGENT, id="web-0"), instance("shop", node=AGENT, id="shop-0", tags=("http", MARKER)))),
    "Consul's own name": Catalogue((instance("consul", tags=("http", "tls")),)),
    "names that mean something to consul-template": Catalogue(
        tuple(instance(name, tags=("http", "tls")) for name in ("any", "passing", "near", "http", "dc1"))
    ),
    # 512 characters of meta, and names, ids and addresses of 4 kB.
    "long values": Catalogue((instance("web", id=MARKER * 600, meta={"version": MARKER * 70}), instance("n" * 4096), instance("bad", address="1" * 4096))),
    "thousands of tags": Catalogue((instance("web", tags=("http", *(f"{MARKER} {number}" for number in range(5000)))),)),
    # The health of the owner does not matter, and the other one's instances stay where they are.
    "two spellings of one host name": Catalogue(
        (
            instance("Web"),
            instance("web", status="critical", address=NETWORK.address(200, 1)),
            instance("SHOP"),
            instance("Shop", address=NETWORK.address(201, 1)),
        )
    ),
    "a port for each instance": Catalogue(tuple(instance("web", number, tags=("tcp",), meta={"edge_port": str(20001 + number)}) for number in range(4))),
    "the name's port is lost to its owner only": Catalogue(
        (
            instance("z-20005", tags=("tcp",), status="critical"),
            instance("a-20005", tags=("tcp",), meta={"edge_port": "20006"}),
            instance("b", tags=("tcp",), meta={"edge_port": "20005"}),
        )
    ),
    "the same place twice": Catalogue(
        (instance("web"), instance("web", 0, id="again", node=OTHER), instance("web", 0, id="as canary", node=OTHER, meta={"edge_canary": "on"}))
    ),
    "meta that is none": Catalogue(
        (
            instance("web", meta={"edge_canary": "perhaps"}),
            instance("web", 1, meta={"edge_canary": "yes", "edge_canary_share": "101"}),
            instance("db", tags=("tcp",), meta={"edge_port": "20001", "edge_proxy_protocol": "perhaps"}),
            instance("far", tags=("tcp",), meta={"edge_port": "65536"}),
            instance("none", tags=("tcp",)),
            instance("void", port=0),
        )
    ),
    "meta without an effect": Catalogue(
        (
            instance("web", meta={"edge_keepalvie": "no", "edge-port": "80", "Edge_Weight": "9", "edge_weight": ""}),
            instance("web", 1, meta={"edge_port": "20001", "edge_canary_share": "7", "edge_keepalvie": "no"}),
            instance("gray"),
            *(instance("gray", number, meta={"edge_canary": "on", "edge_canary_share": str(number)}) for number in (1, 2)),
            instance("canary", meta={"edge_canary": "on"}),
            instance("portal", meta={"edge_https": "both", "edge_keepalive": "yes"}),
            instance("portal", 1, meta={"edge_https": "redirect", "edge_keepalive": "no"}),
            instance("portal", 2, meta={"edge_https": "on"}),
            instance("portal", 3, meta={"edge_keepalive": "maybe"}),
            instance("db", tags=("tcp",), meta={"edge_port": "20001", "edge_proxy_protocol": "yes", "edge_canary": "no"}),
            instance("db", 1, tags=("tcp",), meta={"edge_port": "20001"}),
            instance("both", tags=("http", "tls", "tcp"), meta={"edge_port": "20002", "edge_prot": "1"}),
        )
    ),
    "no loopback": Catalogue((instance("web"), instance("shop", address="192.0.2.1")), Settings(allow_loopback=False)),
    "addresses of edges, in every spelling": Catalogue(
        tuple(
            instance("loop", number, tags=("http", "tls", "tcp"), address=address, port=port, meta={"edge_port": "20001"})
            for number, (address, port) in enumerate(itertools.product(EDGE_PLACES, (PORTS.http, 20001, BACKEND_PORTS[0])))
        ),
        Settings(edge_addresses=EDGES),
    ),
    "two that lead to each other": Catalogue(
        tuple(
            instance(name, tags=("tcp",), address=EDGES[0], port=port, meta={"edge_port": str(public)})
            for name, public, port in (("one", 20001, 20002), ("two", 20002, 20001))
        ),
        Settings(edge_addresses=EDGES),
    ),
    "a spelling that asks for nothing": Catalogue(
        (instance("web"), instance("Web", tags=("tcp",), meta={"edge_port": "20001"}), instance("WEB", tags=()), instance("Consul", tags=()))
    ),
    "a name whose owner asks for nothing": Catalogue((instance("web", tags=()), instance("Web", tags=("http", "tls", "tcp"), meta={"edge_port": "20001"}))),
    "names that are the operator's": Catalogue(
        (instance("web"), instance("shop"), instance("ui"), instance("Shop-ui", address=NETWORK.address(202, 1))),
        Settings(host_names=(f"shop*.{DOMAIN}", f"ui.{DOMAIN}"), reserved_host_names=(f"*ui.{DOMAIN}",)),
    ),
    "names that look like protected ones": Catalogue(
        (
            *(
                instance(name, number, tags=("http", "tls", "tcp"), meta={"edge_port": str(20010 + number)})
                for number, name in enumerate(("shop", "sh0p", "SHO-P", "s-hop", "Web", "web", "vveb", "c0nsul"))
            ),
            *(instance(name, tags=("tcp",)) for name in ("db-20002", "clb-20003", "db_20002")),
            instance("5hop", tags=("http",)),
            instance("sho_p", tags=()),
        ),
        Settings(protected_services=("consul", "shop", "Web", "db-20002")),
    ),
    "two protected services that look alike": Catalogue(
        (
            instance("shop", tags=("http", "tls")),
            instance("sh0p", 1, tags=("http", "tls")),
            instance("s-hop", 2, tags=("http", "tls")),
        ),
        Settings(protected_services=("sh0p", "shop")),
    ),
    "names that look alike": Catalogue(
        (
            *(instance(name, number) for number, name in enumerate(("node1", "nodel", "node-i", "node2", "node11"))),
            *(instance(name, number, tags=()) for number, name in enumerate(("-node1-", "node.1", "Nodel"), 10)),
        )
    ),
    "names that look like the operator's": Catalogue(
        tuple(
            instance(
                name,
                tags=("http", "tls", "tcp"),
                address=NETWORK.address(200 + number, 1),
                meta={"edge_port": str(20010 + number)},
            )
            for number, name in enumerate(("u1", "u-l", "shop_ui", "shop--u1", "shopui", "gu-i", "consul-2"))
        ),
        Settings(reserved_host_names=(f"ui.{DOMAIN}", f"*-ui.{DOMAIN}")),
    ),
    "letters of other scripts": Catalogue(
        (
            instance("xn--shp-8cd", tags=("http", "tls", "tcp")),
            *(instance(name) for name in ("sh\u043ep", "\u212aey", "key")),
        )
    ),
    "those that warn": Catalogue(
        (instance("web", status="warning", weights=(5, 2)), instance("web", 1), instance("web", 2, status="warning", weights=(5, 0))),
        Settings(accept_warning=True),
    ),
    "nothing but canaries": Catalogue((instance("web", meta={"edge_canary": "TRUE"}), instance("web", 1, meta={"edge_canary": "1", "edge_canary_share": "0"}))),
    "one more than may be": Catalogue(
        tuple(instance(f"s{number}", address=NETWORK.address(1 + number, 1), tags=("http", "tls")) for number in range(6)),
        Settings(max_services=5, max_reports=1),
    ),
    "more instances than may be": Catalogue(tuple(instance("web", number) for number in range(4)), Settings(max_instances=3)),
    # What Consul answers to a question that waits is cut to 32 bits: then these are 80, and 8500, which is closed.
    "ports of more than 32 bits": Catalogue((instance("web", port=2**32 + 80), instance("shop", port=2**32 + 8500))),
    "nothing": Catalogue(()),
}

#: Those that are not too large for company.
RARE = [name for name, catalogue in NAMED.items() if catalogue.instances and name not in ("long values", "thousands of tags")]
