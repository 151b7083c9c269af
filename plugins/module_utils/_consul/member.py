# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a node that is gone is still in the cluster: as a voter, a member, or an entry of the catalogue. Private to the collection."""

from __future__ import annotations

import typing as t
from urllib.parse import quote

from .cluster import ConsulApi
from .maintenance import OWN_SERVICE


class Trace(t.NamedTuple):
    """Something of the node that is left, and the request that takes it away."""

    what: str
    method: str
    path: str
    body: t.Any = None


def traces(name: str, raft: t.Sequence[t.Mapping[str, t.Any]], members: t.Sequence[t.Mapping[str, t.Any]], catalogued: bool) -> list[Trace]:
    """What is left of a node, in the order in which it has to go: a member that is still a voter would count for the quorum."""
    found = [
        Trace("a Raft peer", "DELETE", f"/v1/operator/raft/peer?id={quote(str(peer.get('ID')), safe='')}") for peer in raft if str(peer.get("Node")) == name
    ]
    if any(str(member.get("Name")) == name for member in members):
        found.append(Trace("a member", "PUT", f"/v1/agent/force-leave/{quote(name, safe='')}?prune=1"))
    if catalogued:
        found.append(Trace("in the catalogue", "PUT", "/v1/catalog/deregister", {"Node": name}))
    return found


def look(api: ConsulApi, name: str) -> list[Trace]:
    """Ask for it. Raises OSError or ValueError."""
    raft = (api.request("/v1/operator/raft/configuration") or {}).get("Servers") or []
    return traces(name, raft, api.request("/v1/agent/members") or [], bool(api.request(f"/v1/catalog/node/{quote(name, safe='')}")))


def instances(api: ConsulApi, name: str) -> list[Trace]:
    """What the catalogue holds of a node's services, and the requests that take them out. Raises OSError or ValueError.

    The node itself stays, with its maintenance mode and what Consul registers of its own servers.
    """
    held = ((api.request(f"/v1/catalog/node/{quote(name, safe='')}") or {}).get("Services") or {}).values()
    return [
        Trace(str(service["ID"]), "PUT", "/v1/catalog/deregister", {"Node": name, "ServiceID": service["ID"]})
        for service in held
        if service["Service"] != OWN_SERVICE
    ]
