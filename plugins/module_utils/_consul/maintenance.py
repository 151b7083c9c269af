# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node out of service: its maintenance mode, and whose last instances it carries. Private to the collection.

Consul's own maintenance mode is a critical check of the whole node. It outlives restarts, and holds for what is registered later, whoever registers it.
"""

from __future__ import annotations

import typing as t
from urllib.parse import quote

from .cluster import ConsulApi

CHECK = "_node_maintenance"
# Consul registers itself on every server, and no caller depends on one of them.
OWN_SERVICE = "consul"

Instances = t.Mapping[str, t.Sequence[t.Mapping[str, t.Any]]]


def nodes_of(instances: t.Iterable[t.Mapping[str, t.Any]]) -> set[str]:
    """The nodes of the instances that /v1/health/service tells."""
    return {str((instance.get("Node") or {}).get("Node")) for instance in instances}


def only_here(passing: Instances, node: str) -> list[str]:
    """The services whose passing instances are all on the node."""
    return sorted(name for name, instances in passing.items() if name != OWN_SERVICE and nodes_of(instances) == {node})


def still_here(passing: Instances, node: str) -> list[str]:
    """The services that still have a passing instance on the node."""
    return sorted(name for name, instances in passing.items() if node in nodes_of(instances))


def in_maintenance(api: ConsulApi) -> bool:
    """Whether the agent's node is out of service. Raises OSError or ValueError."""
    return CHECK in (api.request("/v1/agent/checks") or {})


def set_maintenance(api: ConsulApi, wanted: bool, reason: str) -> None:
    """Take the node out of service or back. Raises OSError or ValueError."""
    api.request(f"/v1/agent/maintenance?enable={'true' if wanted else 'false'}&reason={quote(reason)}", method="PUT")


def passing_of(api: ConsulApi) -> dict[str, list[dict[str, t.Any]]]:
    """The passing instances, everywhere, of every service of this agent. Raises OSError or ValueError."""
    names = {str(service.get("Service")) for service in (api.request("/v1/agent/services") or {}).values()}
    return {name: api.request(f"/v1/health/service/{quote(name, safe='')}?passing") or [] for name in sorted(names)}
