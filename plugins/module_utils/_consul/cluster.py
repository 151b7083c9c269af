# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What makes a Consul cluster healthy, and the few questions that tell.

Private to the collection. L(evaluate) and L(may_restart) are pure; L(ConsulApi) does the asking.
The rule of thumb behind both: C(consul info) and a listening port say nothing about the quorum; the Raft configuration and
autopilot do (https://developer.hashicorp.com/consul/api-docs/operator/autopilot).
"""

from __future__ import annotations

import json
import typing as t
import urllib.error
import urllib.request

REQUEST_SECONDS = 5.0
# Entries of the Raft log that a server may lack and still count as caught up. Autopilot itself tolerates 250 (max_trailing_logs).
TRAILING_ENTRIES = 100


class Server(t.NamedTuple):
    """A server that the inventory expects in the cluster."""

    name: str
    address: str

    def __str__(self) -> str:
        return f"{self.name} ({self.address})"


class ClusterState(t.NamedTuple):
    """The cluster as one agent sees it; a question that got no answer is None."""

    #: Why the agent could not be asked at all.
    unreachable: str | None = None
    #: Address and port of the leader, empty without one.
    leader: str | None = None
    #: ``Servers`` of /v1/operator/raft/configuration.
    raft: t.Sequence[t.Mapping[str, t.Any]] | None = None
    #: The answer of /v1/operator/autopilot/health.
    autopilot: t.Mapping[str, t.Any] | None = None
    #: The answer of /v1/agent/members.
    members: t.Sequence[t.Mapping[str, t.Any]] | None = None
    #: ``Config`` of /v1/agent/self.
    config: t.Mapping[str, t.Any] | None = None
    #: The ids of /v1/agent/services and of what /v1/catalog/node holds, when the two are to be compared.
    services: t.Collection[str] | None = None
    catalogued: t.Collection[str] | None = None
    #: Whether the catalogue holds the node as it is now, and not a machine of the same name that it replaced. None when nobody asked.
    entered: bool | None = None


#: Values of serf's member status (serf.MemberStatus).
MEMBER_STATUS = {0: "none", 1: "alive", 2: "leaving", 3: "left", 4: "failed"}


def split_address(address: str) -> str:
    """The host part of ``host:port`` or ``[host]:port``."""
    return address.rpartition(":")[0].strip("[]")


def is_leader(state: ClusterState, address: str) -> bool:
    """Whether the agent at this address leads the cluster."""
    return bool(state.leader) and split_address(state.leader or "") == address


def evaluate(state: ClusterState, servers: t.Sequence[Server], node: str, mode: str) -> list[str]:
    """Everything that keeps the cluster from being healthy; empty when it is.

    Args:
        state: what the node's own agent says.
        servers: the servers that have to be voters.
        node: the name of the node that was asked.
        mode: V(server) or V(client). A client answers for itself and for a leader, not for the quorum.
    """
    if state.unreachable is not None:
        return [f"the agent does not answer: {state.unreachable}"]
    problems = []
    alive = {str(member.get("Name")): MEMBER_STATUS.get(int(member.get("Status", 0)), "unknown") for member in state.members or ()}
    if alive.get(node) != "alive":
        problems.append(f"{node} does not see itself as a member of the cluster")
    for server in servers:
        if server.name not in alive:
            problems.append(f"{server} never joined (gossip, port 8301 tcp and udp)")
        elif alive[server.name] != "alive":
            problems.append(f"{server} is {alive[server.name]}")
    if not state.leader:
        problems.append("the cluster has no leader")
        return problems
    if state.entered is False:
        problems.append(f"the catalogue does not hold {node} as it is now")
    if state.services is not None:
        missing = sorted(set(state.services) - set(state.catalogued or ()))
        if missing:
            problems.append(f"the catalogue does not hold {', '.join(missing[:5])}{f' and {len(missing) - 5} more' if missing[5:] else ''} of {node}")
    if mode == "client":
        return problems
    if state.raft is None:
        problems.append("the leader does not tell the Raft configuration")
        return problems
    voters = {str(peer.get("Node")): bool(peer.get("Voter")) for peer in state.raft}
    for server in servers:
        if server.name not in voters:
            problems.append(f"{server} is missing among the Raft peers (port 8300 tcp)")
        elif not voters[server.name]:
            problems.append(f"{server} is not a voter yet")
    if state.autopilot is None:
        problems.append("autopilot does not tell the health of the servers")
        return problems
    health = {str(server.get("Name")): server for server in state.autopilot.get("Servers") or ()}
    problems += trailing(state, servers)
    for server in servers:
        entry = health.get(server.name)
        if entry is not None and not entry.get("Healthy"):
            problems.append(
                f"{server} is not healthy for autopilot"
                f" (serf {entry.get('SerfStatus')}, last contact {entry.get('LastContact')}, last index {entry.get('LastIndex')})"
            )
    if not state.autopilot.get("Healthy") and not problems:
        sick = [str(entry.get("Name")) for entry in health.values() if not entry.get("Healthy")]
        problems.append(f"autopilot calls the cluster unhealthy because of {', '.join(sick) or 'no named server'}")
    return problems


def wan_problems(
    members: t.Sequence[t.Mapping[str, t.Any]] | None, datacenter: str, servers: t.Sequence[Server], others: t.Mapping[str, t.Sequence[str]]
) -> list[str]:
    """What keeps this data centre and others from being joined. Never a reason to call the cluster itself sick: the other site may be the one that is down.

    Args:
        members: the answer of /v1/agent/members?wan=1 of a server.
        datacenter: the data centre of that server.
        servers: its own servers.
        others: the addresses of the servers of each other data centre.
    """
    if members is None:
        return ["the agent does not tell the members of the WAN"]
    alive: dict[str, set[str]] = {}
    for member in members:
        if MEMBER_STATUS.get(int(member.get("Status", 0))) == "alive":
            alive.setdefault(str((member.get("Tags") or {}).get("dc")), set()).add(str(member.get("Name")).rpartition(".")[0])
    problems = [
        f"{server} is not alive on the WAN (gossip, port 8302 tcp and udp), so other data centres do not ask it"
        for server in servers
        if server.name not in alive.get(datacenter, ())
    ]
    for name, addresses in others.items():
        if not alive.get(name):
            known = ", ".join(sorted(set(alive) - {datacenter}))
            problems.append(
                f"no server of the data centre {name} ({', '.join(addresses)}) is alive on the WAN{f', which knows {known}' if known else ''}, so its names"
                " are not answered and nothing fails over to it; see `consul members -wan` on servers of both sites, and let 8302 tcp and udp and 8300 tcp"
                " pass between all of them, in both directions"
            )
    return problems


def trailing(state: ClusterState, servers: t.Sequence[Server]) -> list[str]:
    """Which servers are well for autopilot and still lack much of the Raft log, as after a start."""
    health = {str(server.get("Name")): server for server in (state.autopilot or {}).get("Servers") or () if server.get("Healthy")}
    newest = max((int(entry.get("LastIndex") or 0) for entry in health.values()), default=0)
    missing = {server: newest - int(health[server.name].get("LastIndex") or 0) for server in servers if server.name in health}
    return [f"{server} has not caught up: {entries} entries of the Raft log are missing" for server, entries in missing.items() if entries > TRAILING_ENTRIES]


def present(state: ClusterState, servers: t.Sequence[Server]) -> list[Server]:
    """The servers that were members already: a new one, which starts later in the same run, is not to be waited for by those before it."""
    known = {str(member.get("Name")) for member in state.members or ()}
    return [server for server in servers if server.name in known]


def may_restart(state: ClusterState, servers: t.Sequence[Server], node: str) -> list[str]:
    """Why a running server must not be restarted now; empty when the quorum survives it.

    A server that is sick itself may always be restarted: it does not carry the quorum.
    """
    if len(servers) < 3 or state.unreachable is not None or not state.leader:
        # One server has no quorum to lose; an agent that does not answer, or knows no leader, can only win.
        return []
    autopilot = state.autopilot or {}
    own = next((entry for entry in autopilot.get("Servers") or () if entry.get("Name") == node), None)
    if own is None or not own.get("Healthy"):
        return []
    if int(autopilot.get("FailureTolerance") or 0) >= 1:
        return trailing(state, servers)
    return evaluate(state, servers, node, "server") or ["the failure tolerance of the cluster is 0"]


class UnknownToken(OSError):
    """The cluster has no token of this secret."""


class ConsulApi:
    """The HTTP API of the node's own agent."""

    def __init__(self, url: str, token: str | None = None) -> None:
        self.url = url.rstrip("/")
        self.token = token

    def request(self, path: str, method: str = "GET", body: t.Any = None) -> t.Any:
        """The decoded answer; raises OSError or ValueError.

        Autopilot answers 429 with a full body when it is unhealthy, so a body counts whatever its status.
        A token that the cluster does not know yet counts as none: while ACLs are being turned on, that may be enough.
        """
        try:
            return self._request(path, method, body, self.token)
        except UnknownToken:
            return self._request(path, method, body, None)

    def _request(self, path: str, method: str, body: t.Any, token: str | None) -> t.Any:
        headers = {"X-Consul-Token": token} if token else {}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path}", method=method, headers=headers, data=data)
        # The agent is a neighbour: a proxy of the environment has no business here.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=REQUEST_SECONDS) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            body = error.read().decode("utf-8", "replace")
            if error.code == 429 and body.startswith("{"):
                return json.loads(body)
            if error.code == 403 and token and "ACL not found" in body:
                raise UnknownToken(path) from error
            raise OSError(f"{path}: {error.code} {body.strip() or error.reason}") from error

    def optional(self, path: str) -> t.Any:
        """As L(request), but None when there is no usable answer."""
        try:
            return self.request(path)
        except (OSError, ValueError):
            return None

    def state(self, mode: str, catalogue_of: str = "") -> ClusterState:
        """Ask all that L(evaluate) wants to know; with the node's name, what the catalogue holds of it, too."""
        try:
            leader = self.request("/v1/status/leader")
            own = self.request("/v1/agent/self") or {}
        except (OSError, ValueError) as error:
            return ClusterState(unreachable=str(getattr(error, "reason", error)))
        state = ClusterState(leader=leader, members=self.optional("/v1/agent/members"), config=own.get("Config"))
        if catalogue_of and leader:
            held = self.optional(f"/v1/catalog/node/{catalogue_of}") or {}
            state = state._replace(
                services=tuple(self.optional("/v1/agent/services") or ()),
                catalogued=tuple(held.get("Services") or ()),
                entered=(held.get("Node") or {}).get("ID") == (own.get("Config") or {}).get("NodeID"),
            )
        if mode != "server" or not leader:
            return state
        raft = self.optional("/v1/operator/raft/configuration")
        return state._replace(
            raft=(raft or {}).get("Servers"),
            autopilot=self.optional("/v1/operator/autopilot/health"),
        )
