# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must be so before hosts are evicted."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.trinode.platform.plugins.plugin_utils._preflight import eviction_rules as rules

HOSTVARS: dict[str, dict[str, t.Any]] = {name: {"platform_address": f"192.0.2.{number}"} for number, name in enumerate("abcde", 1)}


def nodes(*hosts: str, consul: str = "server") -> list[dict[str, t.Any]]:
    return [{"name": host, "host": host, "consul": consul} for host in hosts]


def found(**changes: t.Any) -> list[str]:
    facts = rules.Facts(nodes("a", "b"), nodes("c"), {"c"}, True, [], [])
    return [str(one) for one in rules.problems(facts._replace(**changes))]


def test_evicted_hosts_have_the_names_of_nodes() -> None:
    hostvars = {**HOSTVARS, "c.example": {}, "d": {"consul_server_node_name": "other"}}
    gone = rules.evicted({"consul_servers": ["a"], "evicted_nodes": ["c.example", "d"]}, hostvars)
    assert [(node["host"], node["name"]) for node in gone] == [("c.example", "c"), ("d", "other")]
    assert rules.evicted({"consul_servers": ["a"]}, hostvars) == []


def test_a_complete_eviction_begins() -> None:
    assert found() == []


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"secure": False}, "The site is open"),
        ({"own_certificates": ["a"]}, "have certificates of your own (platform_consul_certificates)"),
        ({"partial": ["platform_rotate"]}, "platform_rotate leaves out a part of the eviction"),
        ({"evicted": nodes("C", consul="client"), "nodes": nodes("a", "b", "c")}, "has the node name C of c, which is part of the platform"),
        ({"nodes": nodes("a"), "servers": {"c"}}, "1 server stays and 1 (c) would be evicted"),
        ({"servers": {"d", "c"}}, "2 servers stay and 2 (c, d) would be evicted"),
    ],
)
def test_each_reason_is_one_problem_that_nobody_tolerates(changes: dict[str, t.Any], text: str) -> None:
    (problem,) = found(**changes)
    assert text in problem
    facts = rules.Facts(nodes("a", "b"), nodes("c"), {"c"}, True, [], [])._replace(**changes)
    assert {one.check for one in rules.problems(facts)} <= {"security", "groups"}


def test_clients_do_not_count_for_the_majority() -> None:
    assert found(nodes=nodes("a"), servers=set(), evicted=nodes("c", "d", "e")) == []
