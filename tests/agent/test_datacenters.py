# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two data centres of real Consul agents: the join over the WAN, prepared queries that fail over, and what is said when the other site is down."""

from __future__ import annotations

import typing as t
import uuid
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

from edge_rig import Consul, free_port, poll, tool

from ansible_collections.trinode.platform.plugins.module_utils._consul import acl
from ansible_collections.trinode.platform.plugins.module_utils._consul import prepared_query as pq
from ansible_collections.trinode.platform.plugins.module_utils._consul.cluster import ConsulApi, Server, wan_problems

SHOP = {"name": "shop", "near": "_agent", "failover": {"datacenters": ["dc2"]}}
HERE = [Server("edge-under-test", "127.0.0.1")]
OTHERS = {"dc2": ["127.0.0.1"]}


class Site(t.NamedTuple):
    consul: Consul

    @property
    def api(self) -> ConsulApi:
        return ConsulApi(f"http://{self.consul.address}")

    def keep(self, queries: list[dict[str, t.Any]]) -> pq.Plan:
        """What the module does."""
        todo = pq.plan(queries, self.api.request("/v1/query") or [])
        pq.apply(self.api, todo)
        return todo

    def addresses(self, name: str) -> set[str]:
        """The A records of a name, as the DNS of this site's agent tells them."""
        return self.consul.addresses(name)


def site(directory: Path, datacenter: str, wan: int, join: int = 0) -> Site:
    directory.mkdir(exist_ok=True)
    more: dict[str, t.Any] = {"retry_join_wan": [f"127.0.0.1:{join}"], "retry_interval_wan": "1s"} if join else {}
    return Site(Consul(tool("consul", "CONSUL_BIN"), directory, wan=wan, dns=free_port(), datacenter=datacenter, **more))


@pytest.fixture
def wan() -> tuple[int, int]:
    return free_port(), free_port()


@pytest.fixture
def here(tmp_path: Path, wan: tuple[int, int]) -> t.Iterator[Site]:
    """It starts alone, and asks for the other one."""
    made = site(tmp_path / "dc1", "dc1", wan[0], join=wan[1])
    yield made
    made.consul.stop()


@pytest.fixture
def there(tmp_path: Path, here: Site, wan: tuple[int, int]) -> t.Iterator[Site]:
    """It names nobody: that one side does is enough."""
    made = site(tmp_path / "dc2", "dc2", wan[1])
    try:
        poll("both sites know each other", lambda: not problems(here) and "dc1" in made.api.request("/v1/catalog/datacenters"))
        yield made
    finally:
        made.consul.stop()


def problems(here: Site) -> list[str]:
    return wan_problems(here.api.request("/v1/agent/members?wan=1"), "dc1", HERE, OTHERS)


def test_the_join_and_what_is_said_without_the_other_site(here: Site, there: Site) -> None:
    assert "dc2" in here.api.request("/v1/catalog/datacenters")
    assert [node["Datacenter"] for node in here.api.request("/v1/catalog/nodes?dc=dc2")] == ["dc2"]
    there.consul.stop()
    (text,) = poll("the gate sees that the other site is gone", lambda: problems(here), 60)
    assert text.startswith("no server of the data centre dc2 (127.0.0.1) is alive on the WAN"), text
    # Its own work goes on.
    here.consul.register("web", address="192.0.2.7")
    assert here.addresses("web.service.dc1.consul") == {"192.0.2.7"}


def test_a_query_fails_over_and_comes_back(here: Site, there: Site) -> None:
    here.keep([SHOP])
    there.consul.register("shop", address="198.51.100.1")
    here.consul.register("shop", address="192.0.2.1")
    # The other site by its name.
    poll("the other site's DNS name", lambda: here.addresses("shop.service.dc2.consul") == {"198.51.100.1"})
    assert here.addresses("shop.query.consul") == {"192.0.2.1"}
    here.consul.clear()
    assert here.addresses("shop.service.consul") == set()
    assert here.addresses("shop.query.consul") == {"198.51.100.1"}
    here.consul.register("shop", address="192.0.2.1", status="critical")
    assert here.addresses("shop.query.consul") == {"198.51.100.1"}
    here.consul.register("shop", address="192.0.2.2")
    assert here.addresses("shop.query.consul") == {"192.0.2.2"}
    # Without any instance there is no answer, and without the other site at once.
    here.consul.clear()
    there.consul.stop()
    poll("nobody has an instance", lambda: here.addresses("shop.query.consul") == set(), 60)


def test_queries_are_kept_and_those_of_others_left_alone(here: Site) -> None:
    others = here.api.request("/v1/query", "POST", {"Name": "theirs", "Service": {"Service": "web"}})["ID"]
    template = here.api.request("/v1/query", "POST", {"Name": "", "Template": {"Type": "name_prefix_match"}, "Service": {"Service": "${name.full}"}})["ID"]
    everything = {**SHOP, "service": "web", "tags": ["v1", "!old"], "only_passing": False, "ttl": "10s", "failover": {"nearest_n": 2, "datacenters": ["dc2"]}}
    for number, wanted in enumerate([[SHOP], [everything], [SHOP, {"name": "db"}], [{"name": "db", "near": "_ip"}], []]):
        todo = here.keep(wanted)
        assert todo.create or todo.update or todo.delete, number
        again = here.keep(wanted)
        assert (again.create, again.update, again.delete) == ((), (), ()), number
        assert {query["Name"] for query in here.api.request("/v1/query")} == {"", "theirs"} | {one["name"] for one in wanted}
    assert {query["ID"] for query in here.api.request("/v1/query")} == {others, template}
    with pytest.raises(pq.QueryError, match=rf"somebody else made a prepared query 'theirs' \(id {others}\)"):
        here.keep([{"name": "theirs"}])


def test_the_mark_does_not_keep_an_instance_out(here: Site) -> None:
    here.keep([{"name": "shop", "tags": ["v1", "!old"]}])
    for number, tags in enumerate([["v1"], ["v1", "old"], ["v2"], ["v1", "x"]], start=1):
        here.consul.register("shop", address=f"192.0.2.{number}", tags=tags)
    assert here.addresses("shop.query.consul") == {"192.0.2.1", "192.0.2.4"}


def test_rights(tmp_path: Path) -> None:
    """The automation's right is enough to keep queries, that of DNS to resolve them."""
    management, automation, dns = (str(uuid.uuid4()) for _number in range(3))
    agent = Consul(tool("consul", "CONSUL_BIN"), tmp_path, dns=free_port(), acl={"enabled": True, "default_policy": "deny", "tokens": {"default": dns}})
    try:
        client = acl.AclApi(f"http://{agent.address}", management)
        assert acl.bootstrap(client, 30).state == "made"
        reads = 'node_prefix "" { policy = "read" } service_prefix "" { policy = "read" }'
        wanted = [acl.Wanted("automation", automation, 'query_prefix "" { policy = "write" }'), acl.Wanted("dns", dns, reads)]
        acl.apply(client, acl.plan(wanted, client.policies(), client.tokens(), "dc1"), purge=False)
        node = {"Node": "n", "Address": "192.0.2.9", "Service": {"Service": "shop", "Port": 80}}
        client.call("PUT", "/v1/catalog/register", node)
        api = ConsulApi(f"http://{agent.address}", automation)
        for expected in (1, 0):
            todo = pq.plan([SHOP], api.request("/v1/query") or [])
            assert len(todo.create) == expected and not todo.update
            pq.apply(api, todo)
        poll("DNS resolves the query", lambda: agent.addresses("shop.query.consul") == {"192.0.2.9"})
        # Nobody without the right may see or change it.
        anonymous = ConsulApi(f"http://{agent.address}", dns)
        assert anonymous.request("/v1/query") == []
        with pytest.raises(OSError, match="403"):
            pq.apply(anonymous, pq.plan([SHOP], []))
    finally:
        agent.stop()
