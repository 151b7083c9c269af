# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must be so before hosts that somebody has broken into are evicted. Private to the collection, pure."""

from __future__ import annotations

import typing as t
from collections.abc import Collection, Iterator, Mapping, Sequence

from .._sites.nodes import EVICTED, platform_nodes
from .inventory_rules import Problem

Node = Mapping[str, t.Any]

_OWN_CERTIFICATES = (
    "stop Consul on all hosts that stay, put the certificates of another authority into platform_consul_certificates, run"
    ' site.yml, then rotate_tokens.yml; "A node that was broken into" in docs/secure_operations.md has every step'
)


def evicted(groups: Mapping[str, Sequence[str]], hostvars: Mapping[str, Mapping[str, t.Any]]) -> list[dict[str, t.Any]]:
    """Return the evicted hosts with the names that they have as nodes."""
    return platform_nodes({"consul_clients": groups.get(EVICTED) or ()}, hostvars)


def limit_problem(limit: str) -> Problem:
    """Return the problem of a run that would leave out hosts that stay: they would be locked out of the cluster."""
    return Problem(
        "",
        "limit",
        f"the eviction works on all hosts that stay, and not on --limit {limit}",
        f"run it without --limit; the hosts to evict are those in the group {EVICTED}",
    )


class Facts(t.NamedTuple):
    """What decides whether an eviction may begin."""

    nodes: Sequence[Node]
    evicted: Sequence[Node]
    #: Names of the evicted nodes that were servers.
    servers: Collection[str]
    secure: bool
    #: Hosts whose certificates come from the operator.
    own_certificates: Sequence[str]
    #: Variables that would leave out a part of it.
    partial: Sequence[str]


def problems(facts: Facts) -> Iterator[Problem]:
    """Find everything that keeps an eviction from beginning, or from being complete."""
    if not facts.secure:
        yield Problem(
            "",
            "security",
            "the site is open, so a host that was evicted could come back under any name",
            f"keep it off the network, take it out of {EVICTED}, remove it with remove_node.yml, and make the site secure: playbooks/secure_cluster.yml",
        )
        return
    if facts.own_certificates:
        yield Problem(
            facts.own_certificates[0],
            "security",
            "the agents have certificates of your own (platform_consul_certificates), which no playbook can replace",
            _OWN_CERTIFICATES,
        )
    for name in facts.partial:
        yield Problem("", "security", f"{name} leaves out a part of the eviction", f"run it without {name}; afterwards rotate_tokens.yml takes it")
    yield from _names(facts)
    yield from _majority(facts)


def _names(facts: Facts) -> Iterator[Problem]:
    """Find evicted nodes that another host has succeeded: their name stands for that host now."""
    present = {str(node["name"]).lower(): node for node in facts.nodes}
    for node in facts.evicted:
        if successor := present.get(str(node["name"]).lower()):
            yield Problem(
                str(node["host"]),
                "groups",
                f"{node['host']} in the group {EVICTED} has the node name {node['name']} of {successor['host']}, which is part of the platform",
                f"take {node['host']} out of {EVICTED} if it was evicted before; otherwise give {successor['host']} another node name",
            )


def _majority(facts: Facts) -> Iterator[Problem]:
    """Find that the servers that stay are no majority: they may lack what the others had agreed on."""
    stay = sum(node["consul"] == "server" for node in facts.nodes)
    gone = sorted({*facts.servers})
    if gone and stay <= len(gone):
        servers = "servers stay" if stay != 1 else "server stays"
        yield Problem(
            "",
            "security",
            f"{stay} {servers} and {len(gone)} ({', '.join(gone)}) would be evicted, so those that stay may lack what the majority knew",
            'build the cluster anew from a snapshot of before: docs/secure_operations.md, "A node that was broken into"',
        )
