# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two secure sites by the playbooks: the join, names and a query that fails over, an edge with instances of both, a link that is down, and back; and what is
secret, rotated on one site while the other one goes on."""

from __future__ import annotations

import datetime
import json
import shutil
import time
import typing as t
from collections.abc import Iterator
from pathlib import Path

import lab
import pytest
import secure
import traffic

from ansible_collections.trinode.platform.plugins.plugin_utils._sites import wan

SITES = {name: Path(__file__).resolve().parents[1] / "sites" / f"{name}.yml" for name in ("dc1", "dc2")}
MEMBERS = {"dc1": ["consul-1"], "dc2": ["consul-2", "consul-3"]}
FAR = ("consul-2", "consul-3")
LINK = [f"iptables {{}} {chain} {flag} {lab.NODES[node]} -j DROP" for node in FAR for chain, flag in (("INPUT", "-s"), ("OUTPUT", "-d"), ("FORWARD", "-d"))]


# Each site has a control node of its own.
SECRETS = {name: lab.SECRETS / name for name in SITES}
# Somebody who asks all the time while a site is joined. The pause waits for nothing: it keeps the load at some ten questions a second, where a loop without it
# would take a processor from the nodes.
ASKING = "while :; do getent hosts consul.service.dc1.consul; sleep 0.1; done"
# A server says so at each start, of a token that it makes for itself.
OWN_NOISE = r"agent\.leaf-certs\|agent\.server\.cert-manager"
ALONE: dict[str, t.Any] = {"platform_wan_datacenters": [], "platform_prepared_queries": [], "platform_edge": {}}


def play(playbook: str, name: str, *arguments: str, **variables: t.Any) -> lab.Play:
    """A playbook with the inventory and the secrets of a site."""
    result = lab.play(playbook, *arguments, inventory=SITES[name], variables={"platform_secrets_directory": str(SECRETS[name]), **variables})
    print(f"{playbook} of {name} {' '.join(arguments)}: status {result.status}, {result.seconds:.0f} s, {result.changed} changes")
    return result


def site(name: str, *arguments: str, **variables: t.Any) -> lab.Play:
    return play("site.yml", name, *arguments, **variables)


def give(name: str) -> None:
    """What the operators do: one site's file to the control node of the other."""
    (other,) = set(SITES) - {name}
    SECRETS[other].mkdir(parents=True, mode=0o700, exist_ok=True)
    shutil.copy(SECRETS[name] / f"site_{name}.txt", SECRETS[other])


def secret(name: str, of: str) -> str:
    return (SECRETS[of] / f"{name}.txt").read_text(encoding="utf-8").strip()


def common(name: str) -> wan.Common:
    """What a site has in common with the other one."""
    (other,) = set(SITES) - {name}
    now = datetime.datetime.now(datetime.timezone.utc)
    return wan.common(wan.read(secret(f"site_{name}", name)), {other: secret(f"site_{other}", name)}, now)


def keyring(node: str, pool: str) -> list[str]:
    return t.cast(list[str], json.loads(lab.run(node, f"cat /var/lib/consul/serf/{pool}.keyring")))


def consul(node: str, arguments: str, check: bool = True) -> str:
    """The command line, as root with the operator's token."""
    return lab.run(node, f"CONSUL_HTTP_TOKEN_FILE=/etc/consul.d/operator.token consul {arguments}", check=check)


def nodes_of(datacenter: str, node: str) -> set[str]:
    """What the agent of a node tells of a data centre to whoever has the common token."""
    (name,) = [name for name, members in MEMBERS.items() if node in members]
    return {one["Node"] for one in secure.ask(node, f"/v1/catalog/nodes?dc={datacenter}", common(name).token).json()}


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


class Joined(t.NamedTuple):
    """The runs that made the two sites, in their order."""

    refused: lab.Play
    first: lab.Play
    second: lab.Play
    back: lab.Play
    # What the first site's agent says of tokens that nobody knows, while somebody asks it for names all through the last run.
    unknown: str


@pytest.fixture(scope="session", name="joined", autouse=True)
def fixture_joined() -> Joined:
    """The first site alone, the second with the first one's file from its first run on, and the first again with the second one's."""
    refused = site("dc1")
    first = site("dc1", **ALONE)
    assert first.status == 0, first.output[-8000:]
    give("dc1")
    second = site("dc2")
    assert second.status == 0, second.output[-8000:]
    give("dc2")
    since = secure.clock("consul-1")
    lab.run("consul-1", f"{ASKING} >/dev/null 2>&1 & echo $! > /run/asking.pid")
    back = site("dc1")
    lab.run("consul-1", "kill $(cat /run/asking.pid)")
    assert back.status == 0, back.output[-8000:]
    unknown = lab.run("consul-1", f"journalctl --no-pager -u consul --since '{since}' | grep 'ACL not found' | grep -v '{OWN_NOISE}'", check=False)
    return Joined(refused, first, second, back, unknown)


@pytest.fixture
def link_down() -> Iterator[None]:
    link(up=False)
    yield
    link(up=True)
    lab.wait_for(lambda: "consul-2" in nodes_of("dc2", "consul-1"), 120, "the sites are joined again")


def test_nothing_is_begun_without_the_keys_of_the_other_site(joined: Joined) -> None:
    assert joined.refused.status != 0 and joined.refused.changed == 0
    said = text(joined.refused)
    assert f"The keys of the data centre dc2, which platform_security: secure takes, are not here ({SECRETS['dc1']}/site_dc2.txt)" in said
    assert "copy site_dc2.txt from the secrets of that site" in said


def test_a_site_does_not_fail_because_the_other_one_is_not_there(joined: Joined) -> None:
    assert "no server of the data centre dc1" in text(joined.second) and "is alive on the WAN" in text(joined.second)
    assert "is alive on the WAN" not in text(joined.back)


def test_no_agent_asks_with_a_token_before_it_is_made(joined: Joined) -> None:
    """It would answer no name of its own site."""
    assert joined.unknown == ""


def test_the_join() -> None:
    members = consul("consul-1", "members -wan")
    for name in ("consul-1.dc1", "consul-2.dc2"):
        assert any(line.startswith(name) and " alive " in line for line in members.splitlines()), members
    assert nodes_of("dc2", "consul-1") == {"consul-2", "consul-3"}
    assert nodes_of("dc1", "consul-3") == {"consul-1"}


def test_what_the_sites_have_in_common_and_what_not() -> None:
    """One key of the WAN, one token to read with. Keys, authorities and the other tokens stay each site's own."""
    assert common("dc1").gossip_key == common("dc2").gossip_key
    for node in ("consul-1", "consul-2"):
        assert keyring(node, "remote") == [common("dc1").gossip_key]
    assert keyring("consul-1", "local") != keyring("consul-2", "local") == keyring("consul-3", "local")
    assert lab.run("consul-3", "ls /var/lib/consul/serf/remote.keyring /etc/consul.d/tls/authorities.pem 2>/dev/null", check=False) == ""
    for name in ("operator", "automation", "management", "dns", "consul-template"):
        assert secure.ask("consul-1", "/v1/catalog/nodes?dc=dc2", secret(f"consul_token_{name}", "dc1")).status == 403, name
    assert secure.ask("consul-1", "/v1/catalog/nodes?dc=dc2").json() == []
    assert secure.ask("consul-1", "/v1/kv/x?dc=dc2", common("dc1").token).status == 403
    assert secure.ask("consul-1", "/v1/catalog/register?dc=dc2", common("dc1").token, "PUT", {"Node": "n", "Address": "192.0.2.9"}).status == 403


def test_a_certificate_of_the_other_site_opens_no_api() -> None:
    """Its authority is trusted between the servers only."""
    for cert in ("consul-1", "consul-2"):
        pem = lab.run(cert, "cat /etc/consul.d/tls/certificate.pem /etc/consul.d/tls/key.pem")
        lab.run("consul-1", f"umask 077; cat > /root/caller.pem <<'EOF'\n{pem}\nEOF")
        status = lab.run("consul-1", f"curl -sk -o /dev/null -m 5 --cert /root/caller.pem https://{lab.NODES['consul-1']}:8501/v1/status/leader; echo $?")
        lab.run("consul-1", "rm /root/caller.pem")
        assert (status == "0") is (cert == "consul-1"), status


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
    lab.wait_for(lambda: "failed" in consul("consul-1", "members -wan"), 120, "the other site is failed on the WAN")
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
    assert f"The keys of the data centre dc3, which platform_security: secure takes, are not here ({SECRETS['dc1']}/site_dc3.txt)" in said


def test_a_key_of_the_gossip_is_rotated_on_one_site() -> None:
    """Of dc2: the other site learns nothing of it, and knows this one again afterwards."""
    before = {(node, pool): keyring(node, pool) for node, pool in (("consul-1", "local"), ("consul-1", "remote"), ("consul-2", "remote"))}
    old = keyring("consul-2", "local")
    result = play("playbooks/rotate_gossip_key.yml", "dc2")
    assert result.status == 0, result.output[-6000:]
    assert keyring("consul-2", "local") == keyring("consul-3", "local") == [secret("consul_gossip_key", "dc2")] != old
    assert {(node, pool): keyring(node, pool) for node, pool in before} == before
    lab.wait_for(lambda: nodes_of("dc2", "consul-1") == {"consul-2", "consul-3"}, 60, "the sites are joined again")
    result = site("dc2", "--tags", "consul_server")
    assert result.status == 0 and result.changed == 0, result.changes() or result.output[-6000:]


def test_tokens_are_rotated_on_one_site() -> None:
    start("consul-2")
    result = play("playbooks/rotate_tokens.yml", "dc1")
    assert result.status == 0, result.output[-6000:]
    lab.wait_for(lambda: names("shop.service.dc2.consul") == {lab.NODES["consul-2"]}, 30, "names of the other site are answered")
    assert nodes_of("dc1", "consul-3") == {"consul-1"}


def test_an_authority_is_renewed_on_one_site() -> None:
    result = play("playbooks/renew_authority.yml", "dc2")
    assert result.status != 0
    assert f"copy {SECRETS['dc2']}/site_dc2.txt to the secrets of each, run site.yml there, and then this again" in text(result)
    assert nodes_of("dc2", "consul-1") == {"consul-2", "consul-3"}
    give("dc2")
    assert site("dc1", "--tags", "consul_server").status == 0
    result = play("playbooks/renew_authority.yml", "dc2", renew_authority_given=True)
    assert result.status == 0, result.output[-6000:]
    # The servers keep connections open; new ones show whether the certificates are believed.
    for node in ("consul-1", "consul-2"):
        lab.run(node, "systemctl restart consul")
    lab.wait_for(lambda: nodes_of("dc2", "consul-1") == {"consul-2", "consul-3"} and nodes_of("dc1", "consul-3") == {"consul-1"}, 90, "both believe each other")
    give("dc2")
    result = site("dc1", "--tags", "consul_server")
    assert result.status == 0, result.output[-6000:]
    trusted = lab.run("consul-1", "grep -c 'BEGIN CERTIFICATE' /etc/consul.d/tls/authorities.pem")
    assert trusted == "2", "this site's own one and the new one of the other"
    lab.wait_for(lambda: nodes_of("dc2", "consul-1") == {"consul-2", "consul-3"}, 60, "the former one is not needed")


def test_what_they_have_in_common_is_renewed() -> None:
    before = common("dc1")
    (SECRETS["dc1"] / "wan_share.txt").unlink()
    result = site("dc1", "--tags", "consul_server")
    assert result.status == 0, result.output[-6000:]
    give("dc1")
    result = site("dc2", "--tags", "consul_server")
    assert result.status == 0, result.output[-6000:]
    after = common("dc1")
    assert after == common("dc2")._replace(authorities=after.authorities) and after.gossip_key != before.gossip_key and after.token != before.token
    lab.wait_for(lambda: nodes_of("dc2", "consul-1") == {"consul-2", "consul-3"}, 90, "the sites are joined again")
    for name, node in (("dc1", "consul-1"), ("dc2", "consul-2")):
        result = play("playbooks/rotate_tokens.yml", name, platform_rotate=[])
        assert result.status == 0, result.output[-6000:]
        assert secure.ask(node, "/v1/acl/token/self", before.token).status == 403, "the former token has ended"
    # The edge's process for the other site has its new token only with the edge.
    result = site("dc1")
    assert result.status == 0, result.output[-6000:]
    result = site("dc1")
    assert result.status == 0 and result.changed == 0, result.changes()


def test_no_secret_is_in_an_argument_or_the_output() -> None:
    patterns = [*secure.secrets(SECRETS["dc1"]), *secure.secrets(SECRETS["dc2"]), common("dc1").gossip_key, common("dc1").token]
    with secure.Arguments() as arguments:
        lab.run("consul-1", "rm /etc/consul.d/tokens.json /var/lib/consul/serf/remote.keyring /etc/consul-template-apart.d/consul.token")
        result = site("dc1", "-vvv", "--diff")
    assert result.status == 0, result.output[-6000:]
    assert secure.names_of(result.output, patterns) == []
    assert arguments.looks > 50
    assert secure.names_of("\n".join(arguments.seen), patterns) == []
    for path in ("/var/lib/consul/serf/remote.keyring", "/etc/consul.d/tokens.json", "/etc/consul-template-apart.d/consul.token"):
        assert lab.run("consul-1", f"stat -c %A {path}").endswith("---"), path
    for directory in SECRETS.values():
        assert {path.stat().st_mode & 0o777 for path in directory.glob("*.txt")} == {0o600}


def test_queries_and_the_process_apart_go_when_nobody_wants_them() -> None:
    result = site("dc1", "--tags", "consul_server,edge", platform_prepared_queries=[], platform_edge={})
    assert result.status == 0, result.output[-6000:]
    assert secure.ask("consul-1", "/v1/query", secret("consul_token_automation", "dc1")).json() == []
    assert lab.run("consul-1", "systemctl is-active consul-template-apart 2>/dev/null", check=False) == "inactive"
    assert lab.run("consul-1", "ls -d /etc/consul-template-apart.d /etc/systemd/system/consul-template-apart.service 2>/dev/null", check=False) == ""
    lab.wait_for(lambda: edge() == "200", 30, "the edge goes on with the instance here")
    result = site("dc1", "--tags", "consul_server,edge", platform_prepared_queries=[], platform_edge={})
    assert result.status == 0 and result.changed == 0, result.changes()


def test_the_sites_part() -> None:
    result = site("dc1", "--tags", "consul_server", **ALONE)
    assert result.status == 0, result.output[-6000:]
    assert lab.run("consul-1", "ls /var/lib/consul/serf/remote.keyring /etc/consul.d/tls/authorities.pem 2>/dev/null", check=False) == ""
    assert ":8302" not in lab.run("consul-1", "ss -Htln")
    assert names("consul.service.consul") == {lab.NODES["consul-1"]}
    assert names("shop.service.dc2.consul") == set()
    result = site("dc1", "--tags", "consul_server", **ALONE)
    assert result.status == 0 and result.changed == 0, result.changes()
