# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What counts as a healthy cluster, and when a server may be restarted."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.trinode.platform.plugins.module_utils._consul.cluster import (
    ClusterState,
    Server,
    evaluate,
    is_leader,
    may_restart,
    present,
    split_address,
    wan_problems,
)

SERVERS = [Server(f"consul-{number}", f"192.0.2.{number}") for number in (1, 2, 3)]


def healthy(**changes: t.Any) -> ClusterState:
    state = ClusterState(
        leader="192.0.2.1:8300",
        raft=[{"Node": server.name, "Voter": True} for server in SERVERS],
        autopilot={
            "Healthy": True,
            "FailureTolerance": 1,
            "Servers": [{"Name": server.name, "Healthy": True, "SerfStatus": "alive"} for server in SERVERS],
        },
        members=[{"Name": server.name, "Status": 1} for server in SERVERS],
        config={},
    )
    return state._replace(**changes)


def sick(name: str, tolerance: int = 0) -> dict[str, t.Any]:
    return {
        "Healthy": False,
        "FailureTolerance": tolerance,
        "Servers": [{"Name": server.name, "Healthy": server.name != name, "SerfStatus": "alive"} for server in SERVERS],
    }


def behind(name: str, entries: int) -> dict[str, t.Any]:
    servers = [{"Name": server.name, "Healthy": True, "LastIndex": 5000 - (entries if server.name == name else 0)} for server in SERVERS]
    return {"Healthy": True, "FailureTolerance": 1, "Servers": servers}


def test_a_healthy_cluster_has_no_problem() -> None:
    assert evaluate(healthy(), SERVERS, "consul-1", "server") == []
    assert evaluate(healthy(autopilot=behind("consul-2", 100)), SERVERS, "consul-1", "server") == []
    assert evaluate(healthy(services=["web"], catalogued=["web", "db"], entered=True), SERVERS, "consul-1", "server") == []


@pytest.mark.parametrize(
    ("state", "mode", "expected"),
    [
        (ClusterState(unreachable="Connection refused"), "server", "does not answer: Connection refused"),
        (healthy(leader=""), "server", "no leader"),
        (healthy(leader=""), "client", "no leader"),
        (healthy(members=[{"Name": "consul-1", "Status": 1}, {"Name": "consul-2", "Status": 1}]), "server", "consul-3 (192.0.2.3) never joined"),
        (
            healthy(members=[{"Name": "consul-1", "Status": 1}, {"Name": "consul-2", "Status": 4}, {"Name": "consul-3", "Status": 1}]),
            "client",
            "consul-2 (192.0.2.2) is failed",
        ),
        (healthy(raft=[{"Node": "consul-1", "Voter": True}, {"Node": "consul-3", "Voter": True}]), "server", "consul-2 (192.0.2.2) is missing among"),
        (healthy(raft=[{"Node": server.name, "Voter": server.name != "consul-3"} for server in SERVERS]), "server", "consul-3 (192.0.2.3) is not a voter"),
        (healthy(autopilot=sick("consul-2")), "server", "consul-2 (192.0.2.2) is not healthy for autopilot"),
        (
            healthy(autopilot={"Healthy": False, "Servers": [{"Name": "old-4", "Healthy": False}]}),
            "server",
            "unhealthy because of old-4",
        ),
        (healthy(autopilot=behind("consul-3", 101)), "server", "consul-3 (192.0.2.3) has not caught up: 101 entries"),
        (healthy(services=[], catalogued=[], entered=False), "server", "the catalogue does not hold consul-1 as it is now"),
        (healthy(services=["web", "db"], catalogued=["db"]), "server", "the catalogue does not hold web of consul-1"),
        (healthy(services=[str(number) for number in range(7)], catalogued=None), "client", "0, 1, 2, 3, 4 and 2 more of consul-1"),
        (healthy(raft=None), "server", "does not tell the Raft configuration"),
        (healthy(autopilot=None), "server", "autopilot does not tell"),
        (healthy(members=[]), "client", "consul-1 does not see itself"),
    ],
)
def test_a_problem_names_the_server(state: ClusterState, mode: str, expected: str) -> None:
    problems = evaluate(state, SERVERS, "consul-1", mode)
    assert any(expected in problem for problem in problems), problems


def test_a_client_is_not_asked_for_the_quorum() -> None:
    state = healthy(raft=None, autopilot=None)
    assert evaluate(state, SERVERS, "consul-1", "client") == []


@pytest.mark.parametrize(
    ("state", "servers", "node", "allowed"),
    [
        (healthy(), SERVERS, "consul-1", True),
        (healthy(autopilot=sick("consul-2")), SERVERS, "consul-1", False),
        (healthy(autopilot=sick("consul-2")), SERVERS, "consul-2", True),
        (healthy(autopilot={"Healthy": True, "FailureTolerance": 0, "Servers": [{"Name": "consul-1", "Healthy": True}]}), SERVERS, "consul-1", False),
        (healthy(autopilot=behind("consul-2", 100)), SERVERS, "consul-1", True),
        (healthy(autopilot=behind("consul-2", 101)), SERVERS, "consul-1", False),
        (healthy(leader=""), SERVERS, "consul-1", True),
        (ClusterState(unreachable="refused"), SERVERS, "consul-1", True),
        (healthy(), SERVERS[:1], "consul-1", True),
        (healthy(autopilot=None), SERVERS, "consul-1", True),
    ],
)
def test_the_quorum_survives_a_restart(state: ClusterState, servers: list[Server], node: str, allowed: bool) -> None:
    problems = may_restart(state, servers, node)
    assert (problems == []) is allowed, problems


@pytest.mark.parametrize(("text", "host"), [("192.0.2.1:8300", "192.0.2.1"), ("[2001:db8::1]:8300", "2001:db8::1")])
def test_split_address(text: str, host: str) -> None:
    assert split_address(text) == host
    assert is_leader(ClusterState(leader=text), host)


def test_a_server_that_is_new_is_not_waited_for() -> None:
    assert present(healthy(), [*SERVERS, Server("consul-4", "192.0.2.4")]) == SERVERS
    assert present(ClusterState(unreachable="refused"), SERVERS) == []


def test_nobody_leads_without_a_leader() -> None:
    assert not is_leader(ClusterState(leader=""), "")


def wan_member(name: str, datacenter: str, status: int = 1) -> dict[str, t.Any]:
    return {"Name": f"{name}.{datacenter}", "Status": status, "Tags": {"dc": datacenter}}


OWN = [wan_member(server.name, "dc1") for server in SERVERS]
OTHER = {"dc2": ["198.51.100.1", "198.51.100.2"]}


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ([*OWN, wan_member("consul-1", "dc2")], []),
        # One that is alive is enough; the others are that site's own business.
        ([*OWN, wan_member("consul-1", "dc2", 4), wan_member("consul-2", "dc2")], []),
        (OWN, ["no server of the data centre dc2 (198.51.100.1, 198.51.100.2) is alive on the WAN, so its names are not answered"]),
        ([*OWN, wan_member("consul-1", "dc2", 4)], ["no server of the data centre dc2"]),
        ([*OWN, wan_member("consul-1", "dc-2")], ["is alive on the WAN, which knows dc-2, so its names"]),
        ([*OWN[:2], wan_member("consul-3", "dc1", 4), wan_member("consul-1", "dc2")], ["consul-3 (192.0.2.3) is not alive on the WAN"]),
        (None, ["the agent does not tell the members of the WAN"]),
    ],
)
def test_the_join_of_data_centres(members: t.Any, expected: list[str]) -> None:
    found = wan_problems(members, "dc1", SERVERS, OTHER)
    assert len(found) == len(expected)
    assert all(part in text for part, text in zip(expected, found)), found
