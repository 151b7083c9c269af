# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two sites by the playbooks: the join, names and a query that fails over, an edge with instances of both, a link that is down, and back."""

from __future__ import annotations

import json
import time
import typing as t
from collections.abc import Iterator
from pathlib import Path

import lab
import pytest
import traffic

SITES = {name: Path(__file__).resolve().parents[1] / "sites" / f"{name}.yml" for name in ("dc1", "dc2")}
MEMBERS = {"dc1": ["consul-1"], "dc2": ["consul-2", "consul-3"]}
FAR = ("consul-2", "consul-3")
LINK = [f"iptables {{}} {chain} {flag} {lab.NODES[node]} -j DROP" for node in FAR for chain, flag in (("INPUT", "-s"), ("OUTPUT", "-d"), ("FORWARD", "-d"))]


def site(name: str, *arguments: str, **variables: t.Any) -> lab.Play:
    result = lab.play("site.yml", *arguments, inventory=SITES[name], variables=variables)
    print(f"site.yml of {name} {' '.join(arguments)}: status {result.status}, {result.seconds:.0f} s, {result.changed} changes")
    return result


def text(result: lab.Play) -> str:
    return " ".join(result.output.split())


def names(name: str, node: str = "consul-1") -> set[str]:
    """What a name of Consul is on a host, by its own resolver."""
    return {line.split()[0] for line in lab.run(node, f"getent ahostsv4 {name}", check=False).splitlines() if line[:1].isdigit()}


def start(node: str, service: str = "shop") -> None:
    traffic.load_samples(node)
    stop(node, service)
    lab.run(node, f"docker run -d -P --restart always --name {service} -l SERVICE_NAME={service} -l SERVICE_TAGS=http trinode/httpbackend:v1.0.0")


def stop(node: str, service: str = "shop") -> None:
    lab.run(node, f"docker rm -f {service}", check=False)


def edge(service: str = "shop") -> str:
    """The status of the first site's edge for a service."""
    return lab.run("consul-1", f"curl -s -o /dev/null -m 10 -w '%{{http_code}}' -H 'Host: {service}.apps.dc1.example' http://{lab.NODES['consul-1']}/")


def upstream() -> set[tuple[str, bool]]:
    """The servers of the service on the first site's edge, and which of them are for the time when no other answers."""
    text = lab.run("consul-1", "nginx -T 2>/dev/null | sed -n '/^upstream http_shop/,/}/p'")
    lines = [line.strip() for line in text.splitlines() if line.strip().startswith("server ")]
    return {(line.split()[1].rpartition(":")[0], line.endswith(" backup;")) for line in lines}


def link(up: bool) -> None:
    for command in LINK:
        lab.run("consul-1", command.format("-D" if up else "-A"), check=not up)


@pytest.fixture(scope="session", name="first")
def fixture_first() -> lab.Play:
    """The first site alone: the other one is not there yet."""
    return site("dc1")


@pytest.fixture(scope="session", name="both", autouse=True)
def fixture_both(first: lab.Play) -> None:
    assert first.status == 0, first.output[-8000:]
    second = site("dc2")
    assert second.status == 0, second.output[-8000:]
    assert "is alive on the WAN" not in text(second)


@pytest.fixture
def link_down() -> Iterator[None]:
    link(up=False)
    yield
    link(up=True)
    lab.wait_for(lambda: "consul-2" in lab.run("consul-1", "consul catalog nodes -datacenter dc2", check=False), 120, "the sites are joined again")


def test_a_site_does_not_fail_because_the_other_one_is_not_there(first: lab.Play) -> None:
    assert "no server of the data centre dc2" in text(first) and "is alive on the WAN" in text(first)


def test_the_join() -> None:
    members = lab.run("consul-1", "consul members -wan")
    for name in ("consul-1.dc1", "consul-2.dc2"):
        assert any(line.startswith(name) and " alive " in line for line in members.splitlines()), members
    assert {"consul-2", "consul-3"} <= set(lab.run("consul-1", "consul catalog nodes -datacenter dc2").split())
    assert "consul-1" in lab.run("consul-3", "consul catalog nodes -datacenter dc1").split()


def test_a_second_run_changes_nothing() -> None:
    for name, nodes in MEMBERS.items():
        result = site(name)
        assert result.status == 0 and result.changed == 0, result.changes() or result.output[-6000:]
        assert set(result.recap) == set(nodes)
        assert "WARNING" not in result.output or "is alive on the WAN" not in text(result)
    result = site("dc1", "--check", "--diff")
    assert result.status == 0 and result.changed == 0, result.changes()


def test_names_queries_and_the_edge_fail_over_and_come_back() -> None:
    near, far = lab.NODES["consul-1"], lab.NODES["consul-2"]
    for node in ("consul-1", "consul-2"):
        start(node)
    lab.wait_for(lambda: names("shop.service.dc2.consul") == {far}, 30, "the other site's name")
    lab.wait_for(lambda: names("shop.service.dc1.consul", "consul-3") == {near}, 30, "the first site's name on the other site's client")
    assert names("shop.service.consul") == {near}
    assert names("shop.query.consul") == {near}
    lab.wait_for(lambda: edge() == "200", 60, "the edge serves it", lambda: lab.journal("consul-1", "consul-template", "consul-template-apart"))
    # The file of the other site is looked at every two seconds.
    lab.wait_for(lambda: upstream() == {(near, False), (far, True)}, 30, "the other site's instance is there for the time when none here answers")
    # The instances here go.
    stop("consul-1")
    lab.wait_for(lambda: names("shop.query.consul") == {far}, 30, "the query fails over")
    assert names("shop.service.consul") == set()
    lab.wait_for(lambda: upstream() == {(far, False)} and edge() == "200", 30, "the edge uses the other site's instance")
    # And come back.
    start("consul-1")
    lab.wait_for(lambda: names("shop.query.consul") == {near}, 30, "the query comes back")


def test_what_is_said_and_done_while_the_link_is_down(link_down: None) -> None:
    del link_down
    near = lab.NODES["consul-1"]
    started = time.monotonic()
    assert names("shop.query.consul") == {near}
    assert names("shop.service.consul") == {near}
    assert time.monotonic() - started < 5
    # What changes here is on the edge as ever.
    start("consul-1", "late")
    began = time.monotonic()
    lab.wait_for(lambda: edge("late") == "200", 15, "a new service here is served", lambda: lab.journal("consul-1", "consul-template"))
    print(f"a new service of the first site is served after {time.monotonic() - began:.1f} s while the link is down")
    lab.run("consul-1", "systemctl restart --no-block consul-template")
    lab.wait_for(lambda: lab.run("consul-1", "systemctl is-active consul-template", check=False) == "active", 30, "consul-template is ready")
    assert lab.run("consul-1", "systemctl is-active consul-template-apart") == "active"
    # How long a name of the other site, or a query without an instance here, keeps a caller waiting.
    stop("consul-1")
    began = time.monotonic()
    assert names("shop.query.consul") == set()
    print(f"a query that finds nobody is answered after {time.monotonic() - began:.1f} s")
    lab.wait_for(lambda: "failed" in lab.run("consul-1", "consul members -wan"), 120, "the other site is failed on the WAN")
    print(f"the other site is failed on the WAN {time.monotonic() - started:.0f} s after the link went down")
    began = time.monotonic()
    assert names("shop.query.consul") == set() and names("shop.service.dc2.consul") == set()
    print(f"then both names are answered after {time.monotonic() - began:.1f} s")
    start("consul-1")
    result = site("dc1")
    assert result.status == 0 and result.changed == 0, result.changes() or result.output[-6000:]
    assert "no server of the data centre dc2" in text(result)


def test_a_lost_agent_finds_the_other_site_again() -> None:
    lab.run("consul-1", "systemctl restart consul")
    lab.wait_for(lambda: "dc2" in lab.run("consul-1", "consul catalog datacenters", check=False), 60, "the join is back")


def test_what_preflight_refuses() -> None:
    wrong = [{"name": "dc1", "servers": [lab.NODES["consul-2"]]}, {"name": "dc3", "servers": ["nowhere", lab.NODES["consul-1"]]}]
    result = site("dc1", platform_wan_datacenters=wrong)
    said = text(result)
    assert result.status != 0 and result.changed == 0
    assert "The other data centre dc1 is this one's own platform_datacenter" in said
    assert "The server 'nowhere' of the data centre dc3 is not an IP address" in said
    assert f"The server {lab.NODES['consul-1']} of the data centre dc3 is consul-1 of this one" in said
    assert "failover.datacenters names dc2, which is none of platform_wan_datacenters" in said
    result = site("dc1", platform_security="secure", platform_secrets_directory="/nonexistent/secrets")
    assert result.status != 0 and result.changed == 0
    assert "platform_security is secure, which cannot be joined with other data centres yet" in text(result).replace("Platform", "platform")


def test_queries_and_the_process_apart_go_when_nobody_wants_them() -> None:
    result = site("dc1", "--tags", "consul_server,edge", platform_prepared_queries=[], platform_edge={})
    assert result.status == 0, result.output[-6000:]
    assert json.loads(lab.run("consul-1", "curl -s http://127.0.0.1:8500/v1/query")) == []
    assert lab.run("consul-1", "systemctl is-active consul-template-apart 2>/dev/null", check=False) == "inactive"
    assert lab.run("consul-1", "ls -d /etc/consul-template-apart.d /etc/systemd/system/consul-template-apart.service 2>/dev/null", check=False) == ""
    lab.wait_for(lambda: edge() == "200", 30, "the edge goes on with the instance here")
    result = site("dc1", "--tags", "consul_server,edge", platform_prepared_queries=[], platform_edge={})
    assert result.status == 0 and result.changed == 0, result.changes()
