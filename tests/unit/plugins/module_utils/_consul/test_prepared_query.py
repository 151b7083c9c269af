# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is done with prepared queries, and whose they are."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.trinode.platform.plugins.module_utils._consul import prepared_query as pq

SHOP: dict[str, t.Any] = {"name": "shop", "near": "_agent", "failover": {"nearest_n": 1, "datacenters": ["dc2"]}}


def held(query: dict[str, t.Any], **more: t.Any) -> dict[str, t.Any]:
    """As Consul gives a query back."""
    body = pq.definition(query)
    service = {**body["Service"], "NodeMeta": None, "Connect": False, "IgnoreCheckIDs": None, "Peer": "", "SamenessGroup": ""}
    service["Failover"] = {**service["Failover"], "Targets": None}
    empty = {"Session": "", "Token": "", "Template": {"Type": "", "Regexp": "", "RemoveEmptyTags": False}}
    return {"ID": f"id-{query['name']}", **body, "Service": service, **empty, "CreateIndex": 5, "ModifyIndex": 7, **more}


def test_a_description_becomes_a_query() -> None:
    assert pq.definition(SHOP) == {
        "Name": "shop",
        "Service": {
            "Service": "shop",
            "Tags": [pq.MARK],
            "OnlyPassing": True,
            "Near": "_agent",
            "Failover": {"NearestN": 1, "Datacenters": ["dc2"]},
        },
        "DNS": {"TTL": ""},
    }
    more = pq.definition({"name": "a", "service": "b", "tags": ["v1", "!old"], "only_passing": False, "ttl": "10s"})
    assert (more["Service"]["Service"], more["Service"]["Tags"], more["Service"]["OnlyPassing"]) == ("b", ["v1", "!old", pq.MARK], False)
    assert more["DNS"] == {"TTL": "10s"}


def test_nothing_is_done_twice() -> None:
    first = pq.plan([SHOP], [])
    assert [body["Name"] for body in first.create] == ["shop"] and first.before == ()
    again = pq.plan([SHOP], [held(SHOP)])
    assert (again.create, again.update, again.delete) == ((), (), ())
    assert again.before == again.after


@pytest.mark.parametrize(
    "change",
    [
        {"near": ""},
        {"service": "web"},
        {"tags": ["v1"]},
        {"only_passing": False},
        {"ttl": "5s"},
        {"failover": {}},
        {"failover": {"datacenters": ["dc3", "dc2"]}},
    ],
)
def test_each_value_is_mended(change: dict[str, t.Any]) -> None:
    (todo,) = pq.plan([SHOP], [held({**SHOP, **change})]).update
    assert todo == ("id-shop", pq.definition(SHOP))


def test_what_somebody_added_is_taken_back() -> None:
    assert pq.plan([SHOP], [held(SHOP, Token="<hidden>")]).update
    assert pq.plan([SHOP], [held(SHOP, Session="x")]).update


def test_only_ours_are_deleted() -> None:
    theirs = {"ID": "1", "Name": "theirs", "Service": {"Service": "web", "Tags": ["made-by-trinode.platform"]}}
    nameless = {"ID": "2", "Name": "", "Template": {"Type": "name_prefix_match"}, "Service": {"Service": "x", "Tags": None}}
    todo = pq.plan([], [theirs, held(SHOP), nameless])
    assert todo.delete == (("id-shop", "shop"),)
    assert todo.after == ()


def test_a_name_of_somebody_else_is_refused() -> None:
    with pytest.raises(pq.QueryError, match=r"somebody else made a prepared query 'Shop' \(id 1\): take that one away, with curl -X DELETE"):
        pq.plan([SHOP], [{"ID": "1", "Name": "Shop", "Service": {"Service": "web"}}])


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ({"name": "Shop"}, "the prepared query 'Shop' has no name that DNS can ask for"),
        ({"name": "a.b"}, "no name that DNS can ask for"),
        ({"name": "", "service": "web"}, "the prepared query '' has no name"),
        ({"name": "shop", "service": "a b"}, "the prepared query 'shop': service is 'a b', it must be the name of a service"),
        ({"name": "shop", "near": "not a node"}, "near is 'not a node', it must be a node, or _agent"),
        ({"name": "shop", "ttl": "10"}, "ttl is '10', it must be a whole number with one of the units ms, s, m, h, such as 10s"),
        ({"name": "shop", "tags": ["a b"]}, "tags is 'a b', it must be a tag without blanks"),
        ({"name": "shop", "tags": ["!!a"]}, "tags is '!!a'"),
        ({"name": "shop", "failover": {"datacenters": ["DC2"]}}, "failover.datacenters is 'DC2', it must be the name of a data centre"),
        ({"name": "shop", "failover": {"nearest_n": -1}}, "failover.nearest_n is -1, it must be a number from 0 to 100"),
        ({"name": "shop", "failover": {"datacenters": ["dc1"]}}, "failover.datacenters names dc1, which is the data centre itself"),
        ({"name": "shop", "failover": {"datacenters": ["dc9"]}}, "failover.datacenters names dc9, which is none of platform_wan_datacenters"),
    ],
)
def test_a_fault_names_query_and_key(query: dict[str, t.Any], text: str) -> None:
    (fault,) = pq.faults([query], "dc1", ["dc2"])
    assert text in fault


def test_no_fault() -> None:
    assert pq.faults([SHOP, {"name": "db", "service": "db-5432", "tags": ["!old"], "ttl": "10s", "near": "consul-1"}], "dc1", ["dc2"]) == []
    # Where nobody knows what else there is, any data centre may be named.
    assert pq.faults([SHOP]) == []
    assert pq.faults([SHOP, SHOP]) == ["the prepared query 'shop' is there twice"]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"failover": "dc2"}, "failover must be a dictionary"),
        ({"failover": ["dc2"]}, "failover must be a dictionary"),
        ({"tags": 5}, "tags must be a list"),
        ({"tags": "v1"}, "tags must be a list"),
        ({"failover": {"datacenters": 5}}, "failover.datacenters must be a list"),
        ({"failover": {"nearest_n": "²"}}, "failover.nearest_n is '²', it must be a number from 0 to 100"),
    ],
)
def test_a_value_of_another_form_is_a_fault(change: dict[str, t.Any], text: str) -> None:
    assert pq.faults([{"name": "shop", **change}]) == [f"the prepared query 'shop': {text}"]
