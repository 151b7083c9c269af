# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Registrations that no edge may serve, whatever their tags and health, and that take nothing from others."""

from __future__ import annotations

import typing as t

import pytest
from edge_rig import DOMAIN, Backends, Consul, Nginx, Rendered, ask, free_port, say

Render = t.Callable[..., Rendered]
EdgeFixture = t.Callable[..., int]

UDP = "not a TCP instance: it has tag udp, an id that ends in :udp, or meta registrator-protocol"
SIDECAR = "a sidecar proxy of Consul Connect is never exposed"
OWN = "this address and port belong to an edge itself"
EVERY_TAG = ["http", "tcp", "tls"]
EDGE_ADDRESSES = ["192.0.2.10", "192.0.2.11", "2001:db8:0:1::b"]


def reasons(rendered: Rendered, service: str) -> set[str]:
    """Why a service, or an instance of it, was refused."""
    return {reason for name, reason in rendered.skipped() if name == service}


# -- protocols --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tags", "instance", "meta"),
    [
        (["udp"], "node:dns:53", {}),
        ([], "node:dns:53:udp", {}),
        ([], "node:dns:53", {"registrator-protocol": "udp"}),
        ([], "node:dns:53", {"registrator-protocol": "sctp"}),
    ],
)
def test_only_tcp_instances_are_upstreams(consul: Consul, render: Render, nginx: Nginx, tags: list[str], instance: str, meta: dict[str, str]) -> None:
    """The host port of a UDP port can be another container's TCP port: Docker gives them independently."""
    public = {"edge_port": "5353"}
    consul.register("dns", 8001, tags=EVERY_TAG, meta={**public, "registrator-protocol": "tcp"})
    consul.register("dns", 8002, tags=EVERY_TAG + tags, meta={**public, **meta}, instance=instance)
    http_side, tcp_side = render("http"), render("tcp")
    nginx.test(http_side.text, tcp_side.text)
    lines = [line for line in (http_side.text + tcp_side.text).split("\n") if line.startswith("    server 192.0.2.1:")]
    assert lines and all(":8001 " in line for line in lines)
    for rendered in (http_side, tcp_side):
        assert all(list(entry["servers"]) == ["192.0.2.1:8001"] for entry in rendered.report if entry["kind"] == "served")
        assert reasons(rendered, "dns") == {UDP}
        assert all(entry["instance"] == instance for entry in rendered.report if entry["kind"] == "skipped")


def test_a_udp_service_takes_no_name_and_no_port(consul: Consul, render: Render, nginx: Nginx) -> None:
    """It has no part in the order by which names and ports are given away, and its name is not answered as that of a service without an instance."""
    consul.register("dns-5353", 8001, tags=[*EVERY_TAG, "udp"])
    consul.register("zone", 8002, tags=["tcp"], meta={"edge_port": "5353"})
    http_side, tcp_side = render("http"), render("tcp")
    nginx.test(http_side.text, tcp_side.text)
    assert tcp_side.line("zone")["port"] == 5353
    assert reasons(http_side, "dns-5353") == reasons(tcp_side, "dns-5353") == {UDP}
    assert "dns-5353" not in "\n".join(line for line in (http_side.text + tcp_side.text).split("\n") if not line.startswith("#"))


def test_the_stranger_at_the_udp_port_is_never_asked(consul: Consul, backends: Backends, edge: EdgeFixture) -> None:
    public = free_port()
    meta = {"edge_port": str(public)}
    consul.register("dns", backends.echo("dns").server_address[1], address="127.0.0.1", tags=["tcp"], meta=meta)
    consul.register("dns", backends.echo("stranger").server_address[1], address="127.0.0.1", tags=["tcp", "udp"], meta=meta, instance="node:dns:53:udp")
    edge([public])
    assert {say(public, "x").split()[0] for _ in range(10)} == {"dns"}


# -- Consul Connect ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def agent(consul: Consul) -> t.Iterator[t.Callable[..., None]]:
    """Registers at the agent, as people do who use Connect."""
    ids: list[str] = []

    def register(name: str, port: int, **more: t.Any) -> None:
        consul.ask("PUT", "/v1/agent/service/register", {"Name": name, "ID": name, "Port": port, "Address": "192.0.2.1", "Tags": EVERY_TAG, **more})
        ids.append(more.get("ID", name))

    yield register
    for name in ids:
        consul.ask("PUT", f"/v1/agent/service/deregister/{name.replace(' ', '%20')}")


def test_sidecars_are_never_exposed(consul: Consul, agent: t.Callable[..., None], render: Render, nginx: Nginx) -> None:
    """Consul copies the tags and meta of a service to its sidecar, so that each service of a mesh would be there twice."""
    meta = {"edge_port": "9000"}
    agent("shop", 8001, Meta=meta, Connect={"SidecarService": {}})
    agent("cart", 8002, Meta={"edge_port": "9001"}, Connect={"SidecarService": {"Name": "front-door", "Checks": []}})
    agent("native", 8003, Meta={"edge_port": "9002"}, Connect={"Native": True})
    proxy = {"Kind": "connect-proxy", "ID": "own", "Service": "own-proxy", "Tags": EVERY_TAG, "Address": "192.0.2.1", "Port": 8004}
    proxy |= {"Meta": {"edge_port": "9003"}, "Proxy": {"DestinationServiceName": "shop"}}
    consul.nodes.add("node-mesh")
    consul.ask("PUT", "/v1/catalog/register", {"Node": "node-mesh", "Address": "192.0.2.1", "Service": proxy})
    http_side, tcp_side = render("http"), render("tcp")
    nginx.test(http_side.text, tcp_side.text)
    assert http_side.served() == tcp_side.served() == {"shop", "cart", "native"}
    for rendered in (http_side, tcp_side):
        assert {name for name, _ in rendered.skipped()} == {"shop-sidecar-proxy", "front-door", "own-proxy"}
        assert {reason for _, reason in rendered.skipped()} == {SIDECAR}
        assert not [line for line in rendered.text.split("\n") if "proxy." in line.partition("#")[0] or "front-door" in line.partition("#")[0]]
    assert tcp_side.line("shop")["servers"] == {"192.0.2.1:8001": 100}, "and its port is not the sidecar's, whose meta asks for it, too"


@pytest.mark.parametrize("kind", ["mesh-gateway", "terminating-gateway", "ingress-gateway", "api-gateway"])
def test_gateways_that_consul_registered_are_not_exposed(agent: t.Callable[..., None], render: Render, nginx: Nginx, kind: str) -> None:
    """Under any name: the check is that of "consul connect envoy -gateway -register". One of an application is another."""
    check = {"TTL": "1h", "Status": "passing"}
    agent("south", 8001, Kind=kind, Meta={"edge_port": "9000"}, Check={"Name": f"{kind} listening", **check})
    agent("shop", 8002, Meta={"edge_port": "9001"}, Check={"Name": "gateway listening", **check})
    http_side, tcp_side = render("http"), render("tcp")
    nginx.test(http_side.text, tcp_side.text)
    for rendered in (http_side, tcp_side):
        assert rendered.served() == {"shop"}
        assert rendered.skipped() == {("south", "a gateway of Consul Connect is never exposed")}


@pytest.mark.parametrize("kind", ["mesh-gateway", "terminating-gateway", "ingress-gateway", "api-gateway"])
def test_gateways_are_not_exposed(agent: t.Callable[..., None], render: Render, nginx: Nginx, kind: str) -> None:
    """By the name that Consul gives them, in any spelling, or by the one that the operator lists: nothing else of them is seen."""
    own_name = kind == "api-gateway"
    names = ["south"] if own_name else [kind, kind.title()]
    for number, name in enumerate(names):
        agent(name, 8001 + number, ID=f"{name} {number}", Kind=kind, Meta={"edge_port": "9000"})
    options = {"unexposed_services": ["South"]} if own_name else {}
    http_side, tcp_side = render("http", **options), render("tcp", **options)
    nginx.test(http_side.text, tcp_side.text)
    for rendered in (http_side, tcp_side):
        assert rendered.served() == set()
        assert rendered.skipped() == {(name, "the name is in unexposed_services") for name in names}


# -- the edge itself --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["192.0.2.10", "192.0.2.11", "2001:db8:0:1::b", "2001:DB8:0:1:0:0:0:B", "2001:0db8:0000:0001::000b", "2001:db8::1:0:0:0:b"])
@pytest.mark.parametrize("port", [80, 443, 8888])
def test_the_edge_is_no_instance_of_its_own(consul: Consul, render: Render, nginx: Nginx, address: str, port: int) -> None:
    """One request to a service that leads back to the edge would use up every connection that the edge has."""
    for number, (place, at) in enumerate([(address, port), (address, 8080), ("192.0.2.99", port)]):
        consul.register("loop", at, tags=EVERY_TAG, address=place, meta={"edge_port": "9000"}, instance=f"i{number}")
    http_side, tcp_side = (render(side, edge_addresses=EDGE_ADDRESSES, reserved_ports=[8888]) for side in ("http", "tcp"))
    nginx.test(http_side.text, tcp_side.text)
    for rendered in (http_side, tcp_side):
        assert {server.rpartition(":")[2] for server in rendered.line("loop")["servers"]} == {"8080", str(port)}
        assert {(entry["instance"], entry["reason"]) for entry in rendered.report if entry["kind"] == "skipped"} == {("i0", OWN)}


def test_public_tcp_ports_are_the_edges_own(consul: Consul, render: Render, nginx: Nginx) -> None:
    """Neither does a service lead to its own port, nor two to each other's, be it by the internal side."""
    for name, public, port, tags in [
        ("self", 9000, 9000, ["tcp"]),
        ("one", 9001, 9002, ["tcp"]),
        ("two", 9002, 9001, ["tcp"]),
        ("inside", 9003, 9001, ["tcp-internal"]),
        ("good", 9004, 9999, ["tcp"]),
    ]:
        consul.register(name, port, tags=tags, address="192.0.2.10", meta={"edge_port": str(public)})
    internal = {"listen_addresses": ["192.0.2.77"]}
    consul.register("z-bridge", 9001, tags=["tcp"], address="192.0.2.77", meta={"edge_port": "9005"})
    rendered = render("tcp", edge_addresses=EDGE_ADDRESSES, internal=internal)
    nginx.test("", rendered.text.replace("192.0.2.77:", "127.0.0.1:"))
    assert rendered.served() == {"good", "one"}, "the first of two may lead on, and what it leads to has no instance"
    for name in ("self", "two", "inside", "z-bridge"):
        assert OWN in reasons(rendered, name), name


@pytest.mark.parametrize("port", [22, 53, 2375, 2376, 8098, 8099, 8300, 8301, 8302, 8500, 8501, 8502, 8503, 8600])
def test_ports_of_every_node_are_never_exposed(consul: Consul, render: Render, port: int) -> None:
    consul.register("node", port, tags=EVERY_TAG, meta={"edge_port": "9000"})
    for side in ("http", "tcp"):
        assert reasons(render(side), "node") == {"the port is in backend_reserved_ports", "no usable instance"}


def test_a_loop_is_not_served(consul: Consul, backends: Backends, render: Render, nginx: Nginx) -> None:
    port, public = free_port(), free_port()
    consul.register("loop", port, address="127.0.0.1")
    consul.register(f"loop-{public}", public, address="127.0.0.1", tags=["tcp"])
    consul.register("web", backends.http("web").server_address[1], address="127.0.0.1")
    for listen in ([], ["127.0.0.1"]):
        settings = {"http_port": port, "tls_port": free_port(), "allow_loopback": True, "listen_addresses": listen}
        http_side, tcp_side = render("http", **settings), render("tcp", **settings)
        assert reasons(http_side, "loop") == reasons(tcp_side, f"loop-{public}") == {OWN, "no usable instance"}
        nginx.start(http_side.text, tcp_side.text, [port])
        assert ask(port, f"loop.{DOMAIN}")[0] == 503 and ask(port, f"web.{DOMAIN}") == (200, "web")
        nginx.stop()


# -- spellings --------------------------------------------------------------------------------------------------------------


def test_one_spelling_of_a_name_is_served(consul: Consul, render: Render, nginx: Nginx) -> None:
    """Consul's ACLs tell the spellings apart, its DNS and its health API do not: who writes another one may not stand in for the owner."""
    names = [("Billing", EVERY_TAG), ("billing", EVERY_TAG), ("DB-5432", ["tcp"]), ("db-5432", ["tcp"])]
    names += [("Till", []), ("TILL", []), ("Ledger", ["http"]), ("ledger", ["tls"])]
    for number, (name, tags) in enumerate(names):
        consul.register(name, 8000 + number, tags=tags, instance=f"i{number}", meta={"edge_port": "9000"} if name.lower() == "billing" else {})
    http_side, tcp_side = render("http"), render("tcp")
    nginx.test(http_side.text, tcp_side.text)
    assert http_side.served() == {"billing", "Ledger"}
    assert tcp_side.served() == {"billing", "db-5432", "ledger"}
    assert tcp_side.line("db-5432")["servers"] == {"192.0.2.1:8003": 100}
    assert http_side.skipped() == {("Billing", "the host name belongs to service billing")}
    assert {(entry["service"], entry["reason"]) for entry in http_side.report if entry["kind"] == "warning"} == {
        ("DB-5432", "the name is another spelling of service db-5432"),
        ("Till", "the name is another spelling of service TILL"),
        ("Ledger", "the name is another spelling of service ledger"),
    }
    assert tcp_side.skipped() == {
        ("Billing", "the host name belongs to service billing"),
        ("Billing", "the name belongs to service billing"),
        ("DB-5432", "the name belongs to service db-5432"),
    }


def test_a_protected_name_has_one_spelling_even_without_an_instance(consul: Consul, render: Render, nginx: Nginx) -> None:
    """A token that may not write `billing` can write `Billing`; it must not get the name while the owner is down, or has another tag."""
    consul.register("Billing", 8000, tags=EVERY_TAG, meta={"edge_port": "9000"})
    consul.register("Consul", 8001, tags=EVERY_TAG, meta={"edge_port": "9001"})
    consul.register("DB-5432", 8002, tags=["tcp"])
    consul.register("Ledger", 8003, tags=[])
    consul.register("ledger", 8004, tags=EVERY_TAG, meta={"edge_port": "9004"})
    options = {"protected_services": ["consul", "billing", "db-5432", "Ledger"]}
    http_side, tcp_side = render("http", **options), render("tcp", **options)
    nginx.test(http_side.text, tcp_side.text)
    assert http_side.served() == tcp_side.served() == set()
    owners = {"Billing": "billing", "Consul": "consul", "ledger": "Ledger"}
    assert http_side.skipped() == {(name, f"the host name belongs to service {owner}") for name, owner in owners.items()}
    assert tcp_side.skipped() >= {("DB-5432", "the name belongs to service db-5432"), ("Billing", "the name belongs to service billing")}
    warned = {entry["service"] for entry in http_side.report if entry["kind"] == "warning"}
    assert warned == {"DB-5432"}, "the names of the others are refused, which is a line each"

    # The owner of a name is served as ever, whatever the others do.
    consul.register("billing", 8005, tags=EVERY_TAG, meta={"edge_port": "9000"})
    consul.register("db-5432", 8006, tags=["tcp"])
    http_side, tcp_side = render("http", **options), render("tcp", **options)
    nginx.test(http_side.text, tcp_side.text)
    assert http_side.served() == {"billing"} and tcp_side.served() == {"billing", "db-5432"}
    assert tcp_side.line("db-5432")["servers"] == {"192.0.2.1:8006": 100}


# -- looks --------------------------------------------------------------------------------------------------------------

IMPOSTORS = {
    **dict.fromkeys(("bi11ing", "b1lling", "billlng", "bil-ling", "Bil_Ling"), "billing"),
    "rnail": "mail",
    "vvard": "ward",
    "c0nsul": "consul",
    "clb-5432": "db-5432",
    "db_5432": "db-5432",
}
PROTECTED = {"protected_services": ["consul", "billing", "mail", "ward", "db-5432"]}


def looks_like(rendered: Rendered, kind: str) -> set[tuple[str, str]]:
    """(service, the one that it looks like) of the lines of a kind."""
    words = "the name looks like that of " + {"skipped": "protected service ", "warning": "service "}[kind]
    found = [(entry["service"], entry["reason"]) for entry in rendered.report if entry["kind"] == kind]
    return {(service, reason[len(words) :]) for service, reason in found if reason.startswith(words)}


def test_what_looks_like_a_protected_service_is_not_served(consul: Consul, render: Render, nginx: Nginx) -> None:
    """On no side and at no port, whether the service itself has an instance or not."""
    inside = "192.0.2.77"
    for number, name in enumerate(IMPOSTORS):
        tags = [*EVERY_TAG, "http-internal", "tcp-internal"]
        consul.register(name, 8000 + number, tags=tags, meta={"edge_port": str(9000 + number)})
    options: dict[str, t.Any] = {**PROTECTED, "internal": {"listen_addresses": [inside]}}
    for owned in (False, True):
        http_side, tcp_side = render("http", **options), render("tcp", **options)
        nginx.test(*(side.text.replace(f"{inside}:", "127.0.0.1:") for side in (http_side, tcp_side)))
        assert http_side.served() == tcp_side.served() == ({"billing", "db-5432"} if owned else set())
        for rendered in (http_side, tcp_side):
            assert looks_like(rendered, "skipped") == set(IMPOSTORS.items())
            directives = [line for line in rendered.text.split("\n") if not line.startswith("#")]
            assert not [line for line in directives if any(name in line for name in IMPOSTORS)]
        assert not looks_like(http_side, "warning"), "each is refused, which is a line as well"
        consul.register("billing", 8100, tags=EVERY_TAG, meta={"edge_port": "9100"})
        consul.register("db-5432", 8101, tags=EVERY_TAG)


def test_names_that_look_alike_are_served_and_reported(consul: Consul, render: Render, nginx: Nginx) -> None:
    """Nothing shows which one is right. What has no tag is reported as well: it has its name in DNS."""
    names = ["web-1", "web-l", "web2", "node1", "node2", "node11", "db1", "DB-1", "mail", "app", "api"]
    for number, name in enumerate([*names, "dbl"]):
        consul.register(name, 8000 + number, tags=["http"] if name != "dbl" else [])
    consul.register("bi11ing", 8100, tags=[])
    consul.register("web-1", 8101, tags=["http"])
    http_side = render("http", **PROTECTED)
    nginx.test(http_side.text, render("tcp", **PROTECTED).text)
    assert http_side.served() == set(names)
    alike = {"web-l": "web-1", "db1": "DB-1", "dbl": "DB-1", "bi11ing": "billing"}
    assert looks_like(http_side, "warning") == set(alike.items())
    assert not looks_like(http_side, "skipped")


def test_a_protected_service_may_look_like_another(consul: Consul, render: Render) -> None:
    """The operator wanted both."""
    consul.register("mail", 8000, tags=EVERY_TAG, meta={"edge_port": "9000"})
    consul.register("mall", 8001, tags=EVERY_TAG, meta={"edge_port": "9001"})
    consul.register("rnall", 8002, tags=EVERY_TAG, meta={"edge_port": "9002"})
    for side in ("http", "tcp"):
        rendered = render(side, protected_services=["mall", "mail"])
        assert rendered.served() == {"mail", "mall"}
        assert looks_like(rendered, "skipped") == {("rnall", "mail")}
        assert {entry["service"] for entry in rendered.report if entry["kind"] != "served"} == {"rnall"}


def test_what_looks_like_a_reserved_host_name_does_not_get_it(consul: Consul, render: Render, nginx: Nginx) -> None:
    names = ["ui", "u1", "u-l", "team-adrnln", "team_admin", "superadmin", "consul-1", "gui", "status", "statu5"]
    for number, name in enumerate(names):
        consul.register(name, 8000 + number, tags=EVERY_TAG, meta={"edge_port": str(9000 + number)})
    options = {"reserved_host_names": [f"ui.{DOMAIN}", f"*-admin.{DOMAIN}", f"status.{DOMAIN}", f"*-ui.{DOMAIN}"]}
    http_side, tcp_side = render("http", **options), render("tcp", **options)
    nginx.test(http_side.text, tcp_side.text)
    alike = "the host name looks like one in reserved_host_names"
    for rendered in (http_side, tcp_side):
        refused = {name for name, reason in rendered.skipped() if reason == alike}
        assert refused == {"u1", "u-l", "team-adrnln", "team_admin"}
    assert http_side.served() == {"superadmin", "consul-1", "gui", "statu5"}, "separators count in a pattern"
    ports = {entry["port"] for entry in tcp_side.report if entry["kind"] == "served" and "host" not in entry}
    assert ports == set(range(9000, 9010)), "a port needs no host name"


def test_letters_of_other_scripts_are_served_nowhere(consul: Consul, render: Render, nginx: Nginx) -> None:
    """As such, in punycode, or in a tag that only looks like one of the edge."""
    for number, name in enumerate(["b\u0456lling", "xn--blling-xyf", "XN--Blling-xyf", "bac\u212aup", "\uff57eb"]):
        consul.register(name, 8000 + number, tags=EVERY_TAG, meta={"edge_port": str(9000 + number)})
    consul.register("backup", 8010, tags=["htt\u0440", "http\u200b", "t1s", "Tcp"], meta={"edge_port": "9010"})
    http_side, tcp_side = render("http", **PROTECTED), render("tcp", **PROTECTED)
    nginx.test(http_side.text, tcp_side.text)
    script = "a name that begins with xn-- is shown with other letters than it has"
    for rendered in (http_side, tcp_side):
        assert not rendered.served()
        assert {name for name, reason in rendered.skipped() if reason == script} == {"xn--blling-xyf", "XN--Blling-xyf"}
        assert {name for name, reason in rendered.skipped() if reason != script} == {"b?lling", "bac?up", "?eb"}
