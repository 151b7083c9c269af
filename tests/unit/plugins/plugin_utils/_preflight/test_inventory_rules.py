# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each rule of the inventory, with the sentence that it says."""

from __future__ import annotations

import dataclasses
import typing as t

import pytest

from ansible_collections.trinode.platform.plugins.module_utils._host.ports import Node
from ansible_collections.trinode.platform.plugins.plugin_utils._preflight.inventory_rules import (
    Names,
    Problem,
    address_fault,
    inventory_problems,
    inventory_warnings,
    name_fault,
)

GOOD = Names("dc1", "consul", "apps.hospital.example")


def nodes(count: int = 3, **changes: t.Any) -> list[Node]:
    """A good platform; `n2={"address": ""}` changes the second node."""
    made = []
    for number in range(1, count + 1):
        values: dict[str, t.Any] = {
            "name": f"n{number}",
            "host": f"n{number}",
            "address": f"192.0.2.{number}",
            "consul": "server",
            "docker": True,
            "edge": number < 3,
        }
        values.update(changes.get(f"n{number}", {}))
        made.append(Node(**values))
    return made


def only(problems: list[Problem]) -> str:
    """The text of the only problem."""
    assert len(problems) == 1, [str(problem) for problem in problems]
    return str(problems[0])


def test_a_good_inventory_has_no_problem() -> None:
    assert inventory_problems(nodes(), GOOD) == []
    assert inventory_warnings(nodes(), GOOD) == []
    assert inventory_problems(nodes(5, n4={"consul": "client"}, n5={"consul": "client"}), GOOD) == []


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "The inventory has no Consul server; put an odd number of hosts, usually three, into the group consul_servers."),
        (1, "n1 is the only Consul server, so its loss is the loss of the platform; put three hosts"),
        (2, "2 Consul servers (n1 and n2) survive no more failures than 1 would, and can split in halves; make it 3 or 1"),
        (4, 'While one server takes the place of another, run with -e \'{"preflight_tolerated": ["servers"]}\'.'),
        (4, "4 Consul servers (n1, n2, n3 and n4) survive no more failures than 3 would"),
    ],
)
def test_number_of_servers(count: int, text: str) -> None:
    assert text in only(inventory_problems(nodes(count), GOOD))


def test_a_single_server_can_be_allowed() -> None:
    names = Names("dc1", "consul", "apps.hospital.example", allow_single_server=True)
    assert inventory_problems(nodes(1), names) == []
    assert "n1 is the only Consul server" in only(inventory_warnings(nodes(1), names))


@pytest.mark.parametrize(
    ("changes", "host", "text"),
    [
        ({"n2": {"name": "N1"}}, "n1", "n1 and n2 have the same node name 'n1' and 'N1' (case does not count); give each host a name of its own"),
        ({"n2": {"name": "n_2"}}, "n2", "n2 (192.0.2.2): the node name 'n_2' cannot be asked for by DNS"),
        ({"n2": {"name": "-n2"}}, "n2", "the node name '-n2' cannot be asked for"),
        ({"n2": {"name": "a" * 64}}, "n2", "cannot be asked for by DNS; give it 1 to 63 letters"),
        ({"n2": {"name": "n2.example"}}, "n2", "the node name 'n2.example' cannot"),
        ({"n3": {"address": ""}}, "n3", "n3 has no platform_address; set platform_address of this host"),
        ({"n3": {"address": "0.0.0.0"}}, "n3", "n3: the platform_address '0.0.0.0' stands for all addresses"),
        ({"n3": {"address": "127.0.1.1"}}, "n3", "'127.0.1.1' is a loopback address, which no other node reaches"),
        ({"n3": {"address": "192.0.2.300"}}, "n3", "'192.0.2.300' is not an IP address"),
        ({"n3": {"address": "n3.example"}}, "n3", "'n3.example' is not an IP address"),
        ({"n3": {"address": "192.0.2.1"}}, "n1", "n1 and n3 have the same platform_address 192.0.2.1; give each host its own address"),
        ({"n3": {"address": "2001:db8::1"}}, "", "The nodes have addresses of two families: IPv4 on n1 and n2, IPv6 on n3; use one family"),
        ({"n3": {"consul": "both"}}, "n3", "n3 (192.0.2.3) is both a Consul server and a Consul client"),
    ],
)
def test_nodes(changes: dict[str, t.Any], host: str, text: str) -> None:
    found = inventory_problems(nodes(**changes), GOOD)
    assert text in only(found)
    assert found[0].host == host


def test_the_same_ipv6_address_in_two_spellings() -> None:
    same = nodes(n1={"address": "2001:db8::1"}, n2={"address": "2001:DB8:0::1"}, n3={"address": "2001:db8::3"})
    assert "n1 and n2 have the same platform_address" in only(inventory_problems(same, GOOD))


def test_a_node_that_works_needs_an_agent() -> None:
    four = nodes(4, n4={"consul": "none", "edge": True})
    assert "n4 (192.0.2.4) runs containers and is an edge but has no Consul agent; put it into the group consul_clients" in only(inventory_problems(four, GOOD))
    assert inventory_problems(nodes(4, n4={"consul": "none", "docker": False, "edge": False}), GOOD) == []


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (Names("DC1", "consul", "a.b"), "Consul turns the datacenter name 'DC1' into lower case, so that names with it fail"),
        (Names("dc 1", "consul", "a.b"), "Consul refuses the datacenter name 'dc 1'; set platform_datacenter to at most 63 lower-case"),
        (Names("dc.1", "consul", "a.b"), "for example 'dc-1'."),
        (Names("", "consul", "a.b"), "Consul refuses the datacenter name ''"),
        (Names("d" * 64, "consul", "a.b"), "Consul refuses the datacenter name"),
        (Names("dc1", "", "a.b"), "The Consul domain '' is empty"),
        (Names("dc1", "consul.", "a.b"), "The Consul domain 'consul.' begins or ends with a dot"),
        (Names("dc1", "con_sul", "a.b"), "has the part 'con_sul', which is not 1 to 63 letters, digits and inner hyphens"),
        (Names("dc1", "consul", ""), "The edge domain '' is empty; set platform_edge_domain"),
        (Names("dc1", "consul", "apps..example"), "The edge domain 'apps..example' has the part ''"),
        (Names("dc1", "consul", "10.1"), "ends with a number, like an address"),
        (Names("dc1", "consul", "consul"), "The edge domain 'consul' is the Consul domain 'consul', so that Consul would answer"),
        (Names("dc1", "Consul", "apps.consul"), "The edge domain 'apps.consul' is inside the Consul domain 'Consul'"),
        (Names("dc1", "consul", "a.b", ["dns.example"]), "The recursor 'dns.example' is not an IP address; name it by its address"),
        (Names("dc1", "consul", "a.b", ["::"]), "Consul refuses the recursor ::"),
        (Names("dc1", "consul", "a.b", ["192.0.2.2"]), "The recursor 192.0.2.2 is n2, so that Consul would ask itself in a circle"),
        (Names("dc1", "consul", "a.b", ["127.0.0.1"]), "The recursor 127.0.0.1 is the agent itself"),
    ],
)
def test_names(names: Names, text: str) -> None:
    assert text in only(inventory_problems(nodes(), names))


def test_names_that_are_fine() -> None:
    assert inventory_problems(nodes(), Names("dc-1", "consul.hospital.example", "hospital.example", ["192.0.2.53", "127.0.0.53"])) == []
    # Without an edge, nobody asks for its domain.
    without = nodes(n1={"edge": False}, n2={"edge": False})
    assert inventory_problems(without, Names("dc1", "consul", "")) == []


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (Names("dc_1", "consul", "a.b"), "The datacenter name 'dc_1' has an underscore"),
        (Names("dc1", "site.local", "a.b"), "The Consul domain 'site.local' belongs to multicast DNS"),
    ],
)
def test_warnings(names: Names, text: str) -> None:
    assert inventory_problems(nodes(), names) == []
    assert text in only(inventory_warnings(nodes(), names))


def test_faults_of_single_values() -> None:
    assert name_fault("a." + "b" * 252) == "is longer than 253 characters"
    assert name_fault("hospital.example") == ""
    assert address_fault("224.0.0.1") == "is a multicast address"
    assert address_fault("169.254.1.1") == "is a link-local address, which is not fixed"
    assert address_fault("255.255.255.255") == "is the broadcast address"
    assert address_fault("2001:db8::1") == ""


DC2 = {"name": "dc2", "servers": ["198.51.100.1", "198.51.100.2", "198.51.100.3"]}


def names(**more: t.Any) -> Names:
    return dataclasses.replace(GOOD, **more)


def test_good_data_centres_and_queries() -> None:
    queries = [{"name": "shop", "failover": {"datacenters": ["dc2"], "nearest_n": 1}}, {"name": "db"}]
    good = names(others=[DC2, {"name": "dc-3", "servers": ["203.0.113.1"]}], queries=queries, edge_datacenters=["dc2"])
    assert inventory_problems(nodes(), good) == []


@pytest.mark.parametrize(
    ("others", "text"),
    [
        ([{"name": "DC2", "servers": ["198.51.100.1"]}], "The data centre name 'DC2' is not 1 to 63 lower-case letters, digits and hyphens; write it as that"),
        ([{"servers": ["198.51.100.1"]}], "The data centre name '' is not"),
        ([{**DC2, "name": "dc1"}], "The other data centre dc1 is this one's own platform_datacenter; give each site a platform_datacenter of its own."),
        ([DC2, {"name": "dc2", "servers": ["198.51.100.9"]}], "The data centre dc2 is there twice; put all of its servers into one entry."),
        ([{"name": "dc2"}], "The data centre dc2 has no list of servers; name the addresses of its Consul servers."),
        ([{"name": "dc2", "servers": "198.51.100.1"}], "The data centre dc2 has no list of servers"),
        ([{"name": "dc2", "servers": 5}], "The data centre dc2 has no list of servers"),
        ([{"name": "dc2", "servers": ["other"]}], "The server 'other' of the data centre dc2 is not an IP address; name that site's Consul servers by"),
        ([{"name": "dc2", "servers": ["127.0.0.1"]}], "The server '127.0.0.1' of the data centre dc2 is a loopback address"),
        ([{"name": "dc2", "servers": ["192.0.2.2"]}], "The server 192.0.2.2 of the data centre dc2 is n2 of this one; name that site's Consul servers."),
        ([{"name": "dc2", "servers": ["198.51.100.1", "198.51.100.1"]}], "The server 198.51.100.1 is twice in the data centre dc2; name it once"),
        ([DC2, {"name": "dc3", "servers": ["198.51.100.2"]}], "The server 198.51.100.2 is in dc2 and in the data centre dc3; name it once"),
        ([{"name": "dc2", "servers": ["2001:db8::1"]}], "The server 2001:db8::1 of the data centre dc2 is of another address family than this site"),
    ],
)
def test_other_data_centres(others: list[dict[str, t.Any]], text: str) -> None:
    assert only(inventory_problems(nodes(), names(others=others))).startswith(text)


def test_what_is_wrong_with_the_keys_of_other_sites_stands_in_the_way() -> None:
    fault = {"message": "the keys of the data centre dc2 are not here (/s/site_dc2.txt)", "remedy": "copy site_dc2.txt"}
    text = only(inventory_problems(nodes(), names(others=[DC2], wan_faults=[fault])))
    assert text == "The keys of the data centre dc2 are not here (/s/site_dc2.txt); copy site_dc2.txt."
    (warning,) = inventory_warnings(nodes(), names(others=[DC2], wan_warnings=[fault]))
    assert str(warning) == text


def test_services_and_queries_of_unknown_data_centres() -> None:
    assert "the edge takes services from the data centre dc9" in only(inventory_problems(nodes(), names(others=[DC2], edge_datacenters=["dc9", "dc2"]))).lower()
    assert "dc1, which is this one" in only(inventory_problems(nodes(), names(edge_datacenters=["dc1"])))
    query = {"name": "shop", "failover": {"datacenters": ["dc9"]}}
    assert only(inventory_problems(nodes(), names(others=[DC2], queries=[query]))) == (
        "The prepared query 'shop': failover.datacenters names dc9, which is none of platform_wan_datacenters; correct platform_prepared_queries."
    )
