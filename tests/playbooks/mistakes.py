# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mistakes that operators make in an inventory, each with what the report must say of it."""

from __future__ import annotations

import typing as t

Inventory = dict[str, t.Any]
# A mistake of all hosts names them in the order of the inventory; other mistakes add hosts behind these.
ALL = "consul-1, consul-2"


class Mistake(t.NamedTuple):
    """One mistake.

    `part` is what it spoils: two mistakes of one part hide each other. `expected` are the words of one line of the report: the host where it is one
    host's mistake, the value, and the remedy.
    """

    name: str
    part: str
    spoil: t.Callable[[Inventory], None]
    expected: tuple[str, ...]


def groups(inventory: Inventory) -> dict[str, t.Any]:
    """Return the groups."""
    return t.cast("dict[str, t.Any]", inventory["all"]["children"])


def setting(part: str, name: str, value: t.Any, *expected: str, label: str = "") -> Mistake:
    """Make a variable of all hosts wrong."""

    def spoil(inventory: Inventory) -> None:
        inventory["all"]["vars"][name] = value

    return Mistake(label or f"{name}: {value!r}", part, spoil, expected)


def lacking(part: str, name: str, *expected: str) -> Mistake:
    """Leave a variable out."""

    def spoil(inventory: Inventory) -> None:
        del inventory["all"]["vars"][name]

    return Mistake(f"no {name}", part, spoil, expected)


def own(part: str, host: str, name: str, value: t.Any, *expected: str) -> Mistake:
    """Make a variable of one host wrong; None leaves it out."""

    def spoil(inventory: Inventory) -> None:
        variables = groups(inventory)["consul_servers"]["hosts"][host]
        if value is None:
            del variables[name]
        else:
            variables[name] = value

    return Mistake(f"{host}: {name}: {value!r}", part, spoil, expected)


def group(part: str, label: str, change: t.Callable[[dict[str, t.Any]], t.Any], *expected: str) -> Mistake:
    """Make the groups wrong."""
    return Mistake(label, part, lambda inventory: change(groups(inventory)), expected)


def _rename(old: str, new: str) -> t.Callable[[dict[str, t.Any]], None]:
    def change(known: dict[str, t.Any]) -> None:
        known[new] = known.pop(old)

    return change


def _host(old: str, new: str) -> t.Callable[[dict[str, t.Any]], None]:
    def change(known: dict[str, t.Any]) -> None:
        for name in known:
            hosts = known[name]["hosts"]
            known[name]["hosts"] = {new if host == old else host: value for host, value in hosts.items()}

    return change


def _further(known: dict[str, t.Any], name: str, host: str, number: int) -> None:
    variables = {"ansible_host": f"192.0.2.{number}", "platform_address": f"192.0.2.{number}"}
    known.setdefault(name, {"hosts": {}})["hosts"][host] = variables


REMEDY_ADDRESS = "set it to the address under which the other nodes reach this host"
QUOTES = "write it in quotes"
FROM_FACTS = ("consul-1: platform_address (", "is made of facts of the host", "write the value itself into the inventory")
OTHERS = "or list it in preflight_ignored_variables when it belongs to other software"

MISTAKES: tuple[Mistake, ...] = (
    setting("security", "platform_security", "Secure", ALL, "'Secure'", "write platform_security: secure"),
    setting("security", "platform_security", True, ALL, "'True'", "write platform_security: secure"),
    setting("security", "platform_security", None, ALL, "'None'", "write platform_security: secure"),
    own("security", "consul-2", "platform_security", "open", "differs", "'open' on consul-2", "set it once"),
    setting("security-name", "platform_securty", "secure", ALL, "platform_securty", "did you mean platform_security?"),
    setting("prefix", "plattform_domain", "consul", ALL, "plattform_domain", "did you mean platform_domain?"),
    setting("protected", "platform_protected_services", "billing", ALL, '"billing"', 'write ["billing"]'),
    setting("protected", "platform_protected_services", {"billing": True}, ALL, "is a dictionary", "write '- '"),
    setting("protected", "platform_protected_services", None, ALL, "has no value", "write []"),
    setting("public", "platform_public_names", "www.example.org", ALL, '"www.example.org"', 'write ["www.example.org"]'),
    setting("recursors", "platform_recursors", "114.114.114.114", ALL, '"114.114.114.114"', "must be a list"),
    setting("recursors", "platform_recursors", ["dns.example"], "'dns.example' is not an IP address", "name it by its address"),
    setting("recursors", "platform_recursors", ["127.0.0.1"], "127.0.0.1", "in a circle", "outside of the platform"),
    setting("certificates", "platform_tls_certificates", {"name": "apps"}, ALL, "is a dictionary", "write '- '"),
    setting("certificates", "platform_tls_certificates", "apps.crt", ALL, '"apps.crt"', "must be a list"),
    setting("own-certificates", "platform_consul_certificates", {"ca": "/a", "cert": "/b", "key": "/c"}, ALL, "cert", "correct its value"),
    setting("edge", "platform_edge", ["x"], ALL, "a list", "must be a dictionary"),
    setting("datacenter", "platform_datacenter", "DC 1", "'DC 1'", "lower-case letters"),
    setting("datacenter", "platform_datacenter", "DC1", "'DC1'", "for example 'dc1'"),
    setting("datacenter", "platform_datacenter", ["dc1"], ALL, "is a list", "correct its value"),
    lacking("datacenter", "platform_datacenter", ALL, "platform_datacenter is not set", "platform_datacenter: dc1"),
    own("datacenter", "consul-3", "platform_datacenter", "dc2", "'dc2' on consul-3", "set it once"),
    setting("domain", "platform_domain", "consul.", "'consul.'", "set platform_domain to a DNS name"),
    setting("domain", "platform_domain", "my_domain", "'my_domain'", "set platform_domain to a DNS name"),
    setting("domain", "platform_domain", False, ALL, "is false", QUOTES),
    lacking("domain", "platform_domain", ALL, "platform_domain is not set", "platform_domain: consul"),
    setting("edge-domain", "platform_edge_domain", "apps..example", "'apps..example'", "set platform_edge_domain"),
    setting("edge-domain", "platform_edge_domain", "", "'' is empty", "set platform_edge_domain"),
    lacking("edge-domain", "platform_edge_domain", ALL, "platform_edge_domain is not set", "platform_edge_domain: apps"),
    lacking("mirror", "platform_artifact_mirror", ALL, "platform_artifact_mirror is not set", "for example"),
    setting("version", "consul_server_version", 1.2, ALL, "is 1.2", QUOTES),
    setting("level", "consul_server_log_level", "loud", ALL, "loud", "see the README of the role consul_server"),
    setting("role-name", "consul_server_log_levle", "debug", ALL, "consul_server_log_levle", "consul_server_log_level?"),
    setting("role-other", "nginx_my_vhosts", ["x"], ALL, "nginx_my_vhosts", "is no variable of the role nginx", OTHERS),
    setting("role-list", "consul_server_client_addresses", "127.0.0.1", ALL, '"127.0.0.1"', 'write ["127.0.0.1"]'),
    setting("role-bool", "consul_server_wait_healthy", "ture", ALL, "ture", "see the README of the role consul_server"),
    setting("template", "platform_backup_directory", "{{ my_backups }}", ALL, "'my_backups' is undefined", "set my_backups"),
    setting("wan", "platform_wan_datacenters", "dc2", ALL, '"dc2"', "must be a list"),
    setting("wan", "platform_wan_datacenters", [{"name": "dc2", "server": ["192.0.2.9"]}], ALL, "server", "correct its value"),
    setting("wan", "platform_wan_datacenters", [{"name": "dc2", "servers": "192.0.2.9"}], ALL, "'servers'", 'write ["192.0.2.9"]'),
    setting("wan", "platform_wan_datacenters", [{"name": "dc2", "servers": ["nine"]}], "'nine'", "by their platform_address"),
    setting("wan", "platform_wan_datacenters", [{"name": "dc2", "servers": 5}], ALL, "'servers'", "write [5]"),
    setting("queries", "platform_prepared_queries", [{"nam": "shop"}], ALL, "wrong: ", "nam. ", "correct its value"),
    setting("queries", "platform_prepared_queries", [{"service": "shop"}], "'' has no name", "correct platform_prepared_queries"),
    setting("queries", "platform_prepared_queries", [{"name": "shop", "failover": "dc2"}], ALL, "'failover'", '"dc2"', "names with values"),
    setting("queries", "platform_prepared_queries", [{"name": "shop", "tags": 5}], ALL, "'tags'", "write [5]"),
    setting("queries", "platform_prepared_queries", [{"name": "shop", "failover": {"datacenters": 5}}], ALL, "'datacenters'", "write [5]"),
    setting("queries", "platform_prepared_queries", [{"name": "shop", "failover": {"nearest_n": "two"}}], ALL, "two", "correct its value"),
    setting("queries", "platform_prepared_queries", [{"name": "shop", "ttl": 10}], "ttl is 10", "such as 10s", "correct platform_prepared_queries"),
    own("address-1", "consul-1", "platform_address", None, "consul-1: platform_address is not set", REMEDY_ADDRESS),
    own("address-1", "consul-1", "platform_address", "127.0.0.1", "consul-1", "'127.0.0.1' is a loopback", "set it to the address"),
    own("address-1", "consul-1", "platform_address", "192.0.2.256", "consul-1", "'192.0.2.256'", "set it to the address"),
    own("address-1", "consul-1", "platform_address", "0.0.0.0", "consul-1", "'0.0.0.0'", "set it to the address"),
    own("address-1", "consul-1", "platform_address", "{{ ansible_hots }}", "consul-1", "'ansible_hots' is undefined", "set ansible_hots"),
    own("address-1", "consul-1", "platform_address", "{{ ansible_facts.default_ipv4.address }}", *FROM_FACTS),
    own("address-1", "consul-1", "platform_address", "{{ ansible_default_ipv4.address }}", *FROM_FACTS),
    own("address-2", "consul-2", "platform_address", "192.0.2.3", "consul-2 and consul-3", "192.0.2.3", "its own address"),
    own("address-2", "consul-2", "platform_address", "224.0.0.1", "consul-2", "'224.0.0.1' is a multicast", "set it to the address"),
    own("name-3", "consul-3", "consul_server_node_name", "Consul-2", "consul-2 and consul-3", "'consul-2' and 'Consul-2'", "of its own"),
    own("name-3", "consul-3", "consul_server_node_name", "node_3", "consul-3", "'node_3'", "inner hyphens"),
    group("edge-group", "edges", _rename("edge", "edges"), "consul-1 and consul-2 in the group edges", "did you mean edge?"),
    group("edge-group", "no edge", lambda known: known.pop("edge"), "no group edge", "add it to the inventory"),
    group("docker-group", "docker_host", _rename("docker_hosts", "docker_host"), "in the group docker_host", "did you mean docker_hosts?"),
    group("docker-group", "no docker_hosts", lambda known: known.pop("docker_hosts"), "no group docker_hosts", "add it"),
    group(
        "clients",
        "server and client",
        lambda known: known.setdefault("consul_clients", {"hosts": {}})["hosts"].update({"consul-2": None}),
        "consul-2",
        "both a Consul server and a Consul client",
        "leave it in only one",
    ),
    group("servers", "four servers", lambda known: _further(known, "consul_servers", "consul-4", 4), "4 Consul servers", "consul-4", "make it 5 or 3"),
    group("docker-only", "no agent", lambda known: _further(known, "docker_hosts", "box-7", 7), "box-7", "runs containers", "put it into the group"),
    group("edge-only", "no agent at an edge", lambda known: _further(known, "edge", "box-8", 8), "box-8", "is an edge", "put it into the group"),
)
