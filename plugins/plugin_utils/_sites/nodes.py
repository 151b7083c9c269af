# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From inventory groups to nodes. Private to the collection, pure."""

from __future__ import annotations

import typing as t

GROUPS = ("consul_servers", "consul_clients", "docker_hosts", "edge")
#: Hosts that somebody has broken into. The platform leaves them alone, and evict_node.yml ends what they know.
EVICTED = "evicted_nodes"


def platform_nodes(groups: t.Mapping[str, t.Sequence[str]], hostvars: t.Mapping[str, t.Mapping[str, t.Any]]) -> list[dict[str, t.Any]]:
    """All nodes, each once, in the order of the inventory.

    Args:
        groups: group names and their hosts.
        hostvars: the variables of every host. A host without ``platform_address`` gets an empty address; preflight says so.
    """
    members = {group: list(groups.get(group) or ()) for group in GROUPS}
    hosts = list(dict.fromkeys(host for group in GROUPS for host in members[group]))

    def consul(host: str) -> str:
        found = [kind for kind, group in (("server", "consul_servers"), ("client", "consul_clients")) if host in members[group]]
        return "both" if len(found) == 2 else "".join(found) or "none"

    return [
        {
            "name": str(hostvars[host].get("consul_server_node_name") or host.partition(".")[0]),
            "host": host,
            "address": str(hostvars[host].get("platform_address") or ""),
            "consul": consul(host),
            "docker": host in members["docker_hosts"],
            "edge": host in members["edge"],
        }
        for host in hosts
    ]
