# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules that the inventory alone must keep: no connection is needed to judge them. Private to the collection, pure."""

from __future__ import annotations

import ipaddress
import re
import typing as t
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ...module_utils._consul.prepared_query import faults
from ...module_utils._host.ports import Node

_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
# Consul's own rule for the datacenter, after it has lowered the case.
_DATACENTER = re.compile(r"[a-z0-9_-]+")


@dataclass(frozen=True)
class Problem:
    """Something that must not be so.

    `host` is empty when the platform as a whole is meant; `message` is a sentence without its full stop that names host and fact.
    """

    host: str
    check: str
    message: str
    remedy: str

    def __str__(self) -> str:
        # The name of a host, a variable or an option keeps its letters.
        named = self.host or not self.message.partition(" ")[0].isalpha()
        first = self.message[:1] if named else self.message[:1].upper()
        return f"{first}{self.message[1:]}; {self.remedy}."


@dataclass(frozen=True)
class Names:
    """What the platform as a whole is called."""

    datacenter: str
    domain: str
    edge_domain: str
    recursors: Sequence[str] = ()
    allow_single_server: bool = False
    # Other data centres as {name, servers}, prepared queries, the data centres from which the edge takes services, and what is wrong, as {message, remedy},
    # with the keys that this site and others have in common.
    others: Sequence[Mapping[str, t.Any]] = ()
    queries: Sequence[Mapping[str, t.Any]] = ()
    edge_datacenters: Sequence[str] = ()
    wan_faults: Sequence[Mapping[str, t.Any]] = ()
    wan_warnings: Sequence[Mapping[str, t.Any]] = ()


def name_fault(name: str) -> str:
    """Why a domain name is not one; empty when it is."""
    if not name:
        return "is empty"
    if name.endswith(".") or name.startswith("."):
        return "begins or ends with a dot"
    if len(name) > 253:
        return "is longer than 253 characters"
    for label in name.split("."):
        if not _LABEL.fullmatch(label):
            return f"has the part {label!r}, which is not 1 to 63 letters, digits and inner hyphens"
    if name.rsplit(".", maxsplit=1)[-1].isdigit():
        return "ends with a number, like an address"
    return ""


def address_fault(address: str) -> str:
    """Why an address cannot be a node's address; empty when it can."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return "is not an IP address"
    if parsed.is_unspecified:
        return "stands for all addresses"
    if parsed.is_loopback:
        return "is a loopback address, which no other node reaches"
    if parsed.is_multicast:
        return "is a multicast address"
    if parsed.is_link_local:
        return "is a link-local address, which is not fixed"
    if str(parsed) == "255.255.255.255":
        return "is the broadcast address"
    return ""


def _same(nodes: Sequence[Node], key: Callable[[Node], t.Any]) -> Iterator[list[Node]]:
    groups: dict[t.Any, list[Node]] = {}
    for node in nodes:
        value = key(node)
        if value:
            groups.setdefault(value, []).append(node)
    return (group for group in groups.values() if len(group) > 1)


def _canonical(node: Node) -> str:
    try:
        return str(ipaddress.ip_address(node.address))
    except ValueError:
        return ""


def _listed(nodes: Sequence[Node]) -> str:
    return " and ".join(", ".join(node.host for node in nodes).rsplit(", ", 1))


def server_problems(nodes: Sequence[Node], allow_single: bool) -> Iterator[Problem]:
    """The number of servers."""
    servers = [node for node in nodes if node.consul in ("server", "both")]
    count = len(servers)
    if count == 0:
        yield Problem("", "servers", "the inventory has no Consul server", "put an odd number of hosts, usually three, into the group consul_servers")
    elif count == 1 and not allow_single:
        yield Problem(
            servers[0].host,
            "servers",
            f"{servers[0].host} is the only Consul server, so its loss is the loss of the platform",
            "put three hosts into the group consul_servers, or set preflight_allow_single_server: true",
        )
    elif count % 2 == 0:
        yield Problem(
            "",
            "servers",
            f"{count} Consul servers ({_listed(servers)}) survive no more failures than {count - 1} would, and can split in halves",
            f"make it {count + 1} or {count - 1} in the group consul_servers; a host taken out can be in consul_clients. While one server takes the place"
            ' of another, run with -e \'{"preflight_tolerated": ["servers"]}\'',
        )


def node_problems(nodes: Sequence[Node]) -> Iterator[Problem]:
    """Names, addresses and duties of the nodes."""
    for node in nodes:
        if not _LABEL.fullmatch(node.name):
            yield Problem(
                node.host,
                "node_name",
                f"{node.shown}: the node name {node.name!r} cannot be asked for by DNS",
                "give it 1 to 63 letters, digits and inner hyphens (consul_server_node_name, or another name in the inventory)",
            )
        if not node.address:
            yield Problem(
                node.host,
                "address",
                f"{node.host} has no platform_address",
                "set platform_address of this host to the address under which the other nodes reach it",
            )
        elif fault := address_fault(node.address):
            yield Problem(
                node.host,
                "address",
                f"{node.host}: the platform_address {node.address!r} {fault}",
                "set it to the address under which the other nodes reach this host",
            )
        if node.consul == "both":
            yield Problem(
                node.host,
                "duties",
                f"{node.shown} is both a Consul server and a Consul client",
                "leave it in only one of the groups consul_servers and consul_clients",
            )
        elif node.consul == "none" and (node.docker or node.edge):
            what = " and ".join(word for word, has in (("runs containers", node.docker), ("is an edge", node.edge)) if has)
            yield Problem(
                node.host,
                "duties",
                f"{node.shown} {what} but has no Consul agent",
                "put it into the group consul_clients (or consul_servers) too",
            )
    for group in _same(nodes, lambda node: node.name.lower()):
        names = " and ".join(dict.fromkeys(repr(node.name) for node in group))
        yield Problem(
            group[0].host,
            "node_name",
            f"{_listed(group)} have the same node name {names} (case does not count)",
            "give each host a name of its own (consul_server_node_name, or another name in the inventory)",
        )
    for group in _same(nodes, _canonical):
        yield Problem(
            group[0].host,
            "address",
            f"{_listed(group)} have the same platform_address {group[0].address}",
            "give each host its own address in the inventory",
        )
    families: dict[int, list[Node]] = {}
    for node in nodes:
        if _canonical(node):
            families.setdefault(ipaddress.ip_address(node.address).version, []).append(node)
    if len(families) > 1:
        yield Problem(
            "",
            "address",
            f"the nodes have addresses of two families: IPv4 on {_listed(families[4])}, IPv6 on {_listed(families[6])}",
            "use one family for platform_address of all hosts",
        )


def naming_problems(nodes: Sequence[Node], names: Names) -> Iterator[Problem]:
    """Datacenter, domains, name servers."""
    datacenter, domain, edge = names.datacenter, names.domain, names.edge_domain
    if not _DATACENTER.fullmatch(datacenter) or len(datacenter) > 63:
        example = re.sub(r"[^a-z0-9-]+", "-", datacenter.lower()).strip("-")[:63] or "dc1"
        lowered = _DATACENTER.fullmatch(datacenter.lower()) and len(datacenter) <= 63
        yield Problem(
            "",
            "datacenter",
            f"Consul {'turns' if lowered else 'refuses'} the datacenter name {datacenter!r}{' into lower case, so that names with it fail' if lowered else ''}",
            f"set platform_datacenter to at most 63 lower-case letters, digits and hyphens, for example {example!r}",
        )
    if fault := name_fault(domain):
        yield Problem("", "domain", f"the Consul domain {domain!r} {fault}", "set platform_domain to a DNS name, for example 'consul'")
    if any(node.edge for node in nodes):
        if fault := name_fault(edge):
            yield Problem(
                "",
                "edge_domain",
                f"the edge domain {edge!r} {fault}",
                "set platform_edge_domain to the DNS name below which services are to appear, for example 'apps.hospital.example'",
            )
        elif f".{edge}".lower().endswith(f".{domain}".lower()):
            yield Problem(
                "",
                "edge_domain",
                f"the edge domain {edge!r} is {'the' if edge.lower() == domain.lower() else 'inside the'} Consul domain {domain!r}, "
                "so that Consul would answer for its names",
                "choose a name outside of it for platform_edge_domain",
            )
    own = {_canonical(node): node for node in nodes if _canonical(node)}
    for recursor in names.recursors:
        try:
            address = ipaddress.ip_address(recursor)
        except ValueError:
            yield Problem("", "recursors", f"the recursor {recursor!r} is not an IP address", "name it by its address")
            continue
        if address.is_unspecified:
            yield Problem("", "recursors", f"Consul refuses the recursor {recursor}", "name a name server that answers for foreign names")
        elif str(address) in own or recursor == "127.0.0.1":
            who = own[str(address)].host if str(address) in own else "the agent itself"
            yield Problem(
                "",
                "recursors",
                f"the recursor {recursor} is {who}, so that Consul would ask itself in a circle",
                "name a name server outside of the platform",
            )


def datacenter_problems(nodes: Sequence[Node], names: Names) -> Iterator[Problem]:
    """The other data centres, and what is wanted of them."""
    own = {_canonical(node): node for node in nodes if _canonical(node)}
    seen: set[str] = set()
    holders: dict[str, str] = {}
    families = {ipaddress.ip_address(address).version for address in own}
    listed = [(str(other.get("name") or ""), other.get("servers") or ()) for other in names.others]
    for name, servers in listed:
        if not _DATACENTER.fullmatch(name) or len(name) > 63:
            yield _wan(
                f"the data centre name {name!r} is not 1 to 63 lower-case letters, digits and hyphens", "write it as that site's platform_datacenter has it"
            )
        elif name == names.datacenter:
            yield _wan(f"the other data centre {name} is this one's own platform_datacenter", "give each site a platform_datacenter of its own")
        elif name in seen:
            yield _wan(f"the data centre {name} is there twice", "put all of its servers into one entry")
        seen.add(name)
        if not isinstance(servers, (list, tuple)) or not servers:
            yield _wan(f"the data centre {name} has no list of servers", "name the addresses of its Consul servers")
            continue
        for server in servers:
            fault = address_fault(str(server))
            address = "" if fault else str(ipaddress.ip_address(str(server)))
            if fault:
                yield _wan(f"the server {str(server)!r} of the data centre {name} {fault}", "name that site's Consul servers by their platform_address")
            elif address in own:
                yield _wan(f"the server {server} of the data centre {name} is {own[address].host} of this one", "name that site's Consul servers")
            elif address in holders:
                where = "twice in" if holders[address] == name else f"in {holders[address]} and in"
                yield _wan(f"the server {server} is {where} the data centre {name}", "name it once, where it belongs")
            elif families and ipaddress.ip_address(address).version not in families:
                yield _wan(f"the server {server} of the data centre {name} is of another address family than this site", "use one family on both sites")
            if address:
                holders.setdefault(address, name)
    for one in names.wan_faults:
        yield _wan(str(one.get("message")), str(one.get("remedy")))
    for name in dict.fromkeys(names.edge_datacenters):
        if name == names.datacenter:
            yield Problem(
                "", "edge", f"the edge takes services from the data centre {name}, which is this one", "name another one in platform_edge.remote_services"
            )
        elif name not in seen:
            yield Problem(
                "",
                "edge",
                f"the edge takes services from the data centre {name}, which is none of platform_wan_datacenters",
                "add it there, or correct platform_edge.remote_services",
            )
    for text in faults(names.queries, names.datacenter, [name for name, _servers in listed]):
        yield Problem("", "prepared_query", text, "correct platform_prepared_queries")


def _wan(message: str, remedy: str) -> Problem:
    return Problem("", "wan", message, remedy)


def inventory_problems(nodes: Sequence[Node], names: Names) -> list[Problem]:
    """All rules."""
    return [*server_problems(nodes, names.allow_single_server), *node_problems(nodes), *naming_problems(nodes, names), *datacenter_problems(nodes, names)]


def inventory_warnings(nodes: Sequence[Node], names: Names) -> list[Problem]:
    """What works, but deserves a word."""
    found = [_wan(str(one.get("message")), str(one.get("remedy"))) for one in names.wan_warnings]
    servers = [node for node in nodes if node.consul == "server"]
    if len(servers) == 1 and names.allow_single_server:
        found.append(
            Problem(servers[0].host, "servers", f"{servers[0].host} is the only Consul server: its loss is the loss of the platform", "use three on a site")
        )
    if "_" in names.datacenter and _DATACENTER.fullmatch(names.datacenter):
        found.append(
            Problem(
                "",
                "datacenter",
                f"the datacenter name {names.datacenter!r} has an underscore, which TLS certificates and some resolvers refuse",
                "use a hyphen",
            )
        )
    if names.domain.lower() == "local" or names.domain.lower().endswith(".local"):
        found.append(
            Problem(
                "",
                "domain",
                f"the Consul domain {names.domain!r} belongs to multicast DNS, which many resolvers ask instead of Consul",
                "use another one",
            )
        )
    return found
