# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Services for callers inside, beside the public side of the same nginx: each is reached at its own address and at no other."""

from __future__ import annotations

import collections
import json
import socket
import typing as t

import pytest
from edge_rig import DOMAIN, Backends, Consul, Nginx, Rendered, ask, free_port, poll, say

Render = t.Callable[..., Rendered]
# The public side has every address or this one, the internal side has the other one.
PUBLIC, INSIDE = "127.0.0.1", "127.0.0.2"
INSIDE_DOMAIN = f"internal.{DOMAIN}"


class Node:
    """A node with an internal side."""

    def __init__(self, render: Render, nginx: Nginx) -> None:
        self._render, self._nginx = render, nginx
        self.port, self.tls_port = free_port(), free_port()
        self.http = self.tcp = Rendered("")

    def start(self, wait_for: t.Iterable[int] = (), internal: dict[str, t.Any] | None = None, **options: t.Any) -> None:
        """Render both sides and serve them, both scopes on the same ports."""
        inside = {"listen_addresses": [INSIDE], "http_port": self.port, **(internal or {})}
        settings = {"http_port": self.port, "tls_port": self.tls_port, "allow_loopback": True, "listen_addresses": [PUBLIC], "internal": inside, **options}
        self.http, self.tcp = self._render("http", **settings), self._render("tcp", **settings)
        self._nginx.test(self.http.text, self.tcp.text)
        self._nginx.start(self.http.text, self.tcp.text, wait_for)
        poll("nginx listens inside", lambda: socket.create_connection((INSIDE, self.port), 1).close() is None)


@pytest.fixture
def node(render: Render, nginx: Nginx) -> Node:
    """A node, not yet started."""
    return Node(render, nginx)


# With all addresses, nginx has one socket for both sides and tells them apart by the address that a connection came to.
@pytest.mark.parametrize("listen", [[PUBLIC], []], ids=["one address", "all addresses"])
def test_each_side_is_reached_at_its_own_address_only(consul: Consul, backends: Backends, node: Node, listen: list[str]) -> None:
    shown, hidden, both = backends.http("shown"), backends.http("hidden"), backends.http("both")
    consul.register("shown", shown.server_address[1], address="127.0.0.1")
    consul.register("hidden", hidden.server_address[1], address="127.0.0.1", tags=["http-internal"])
    consul.register("both", both.server_address[1], address="127.0.0.1", tags=["http", "http-internal"])
    consul.register("other", hidden.server_address[1], address="127.0.0.1", tags=[])
    node.start(listen_addresses=listen)
    assert ask(node.port, f"shown.{DOMAIN}", at=PUBLIC) == (200, "shown")
    assert ask(node.port, f"both.{DOMAIN}", at=PUBLIC) == (200, "both")
    assert ask(node.port, f"hidden.{INSIDE_DOMAIN}", at=INSIDE) == (200, "hidden")
    assert ask(node.port, f"both.{INSIDE_DOMAIN}", at=INSIDE) == (200, "both")
    # Neither by its own name nor by the one that it would have there.
    seen = len(hidden.seen)
    for name in (f"hidden.{INSIDE_DOMAIN}", f"hidden.{DOMAIN}", f"both.{INSIDE_DOMAIN}", f"other.{DOMAIN}", INSIDE, "hidden"):
        assert ask(node.port, name, at=PUBLIC)[0] == 404, name
    for name in (f"shown.{DOMAIN}", f"shown.{INSIDE_DOMAIN}", f"both.{DOMAIN}", f"other.{INSIDE_DOMAIN}"):
        assert ask(node.port, name, at=INSIDE)[0] == 404, name
    assert len(hidden.seen) == seen
    assert {(entry["service"], entry.get("scope")) for entry in node.http.report} == {
        ("shown", None),
        ("hidden", "internal"),
        ("both", None),
        ("both", "internal"),
    }


@pytest.mark.parametrize("listen", [[PUBLIC], []], ids=["one address", "all addresses"])
def test_tcp(consul: Consul, backends: Backends, node: Node, nginx: Nginx, listen: list[str]) -> None:
    """The same port may be one service's outside and another's inside."""
    shared, inside, outside = free_port(), free_port(), free_port()
    echo = {name: backends.echo(name).server_address[1] for name in ("outer", "inner", "hidden", "shown")}
    consul.register(f"outer-{shared}", echo["outer"], address="127.0.0.1", tags=["tcp"])
    consul.register("inner", echo["inner"], address="127.0.0.1", tags=["tcp-internal"], meta={"edge_port": str(shared)})
    consul.register(f"hidden-{inside}", echo["hidden"], address="127.0.0.1", tags=["tcp-internal"])
    consul.register(f"shown-{outside}", echo["shown"], address="127.0.0.1", tags=["tcp"])
    node.start([shared, outside], listen_addresses=listen)
    assert say(shared, "hello", at=PUBLIC) == "outer hello"
    assert say(shared, "hello", at=INSIDE) == "inner hello"
    assert say(inside, "hello", at=INSIDE) == "hidden hello"
    assert say(outside, "hello", at=PUBLIC) == "shown hello"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((PUBLIC, inside), 5)
    log = nginx.directory / "tcp.log"
    expected = {f"outer-{shared}", "inner", f"hidden-{inside}", f"shown-{outside}"}
    named = poll(
        "the access log has a connection of each service",
        lambda: expected <= (found := {json.loads(line)["service"] for line in log.read_text().splitlines() if "127.0.0.1:" in line}) and found,
    )
    assert named == expected


def test_callers_from_elsewhere_are_refused(consul: Consul, backends: Backends, node: Node) -> None:
    port = free_port()
    web, echo = backends.http("web"), backends.echo("echo")
    consul.register("web", web.server_address[1], address="127.0.0.1", tags=["http", "http-internal"])
    consul.register("ill", web.server_address[1], address="127.0.0.1", tags=["http-internal"], status="critical")
    consul.register("echo", echo.server_address[1], address="127.0.0.1", tags=["tcp-internal"], meta={"edge_port": str(port)})
    node.start(internal={"allowed_networks": ["127.0.0.8/30"]}, trusted_proxies=["127.0.0.0/8"])
    assert ask(node.port, f"web.{INSIDE_DOMAIN}", at=INSIDE, source="127.0.0.9") == (200, "web")
    assert say(port, "hello", at=INSIDE, source="127.0.0.9") == "echo hello"
    for name in ("web", "ill", "unknown"):
        assert ask(node.port, f"{name}.{INSIDE_DOMAIN}", at=INSIDE, source="127.0.0.5")[0] == 403
    # The connection counts, not what a trusted proxy says of its client.
    assert ask(node.port, f"web.{INSIDE_DOMAIN}", {"X-Forwarded-For": "127.0.0.9"}, at=INSIDE, source="127.0.0.5")[0] == 403
    assert ask(node.port, f"web.{INSIDE_DOMAIN}", {"X-Forwarded-For": "127.0.0.5"}, at=INSIDE, source="127.0.0.9")[0] == 200
    assert say(port, "hello", at=INSIDE, source="127.0.0.5") == ""
    assert ask(node.port, f"web.{DOMAIN}", at=PUBLIC, source="127.0.0.5") == (200, "web")


def test_balancing_another_try_and_canaries_inside(consul: Consul, backends: Backends, node: Node) -> None:
    for number in range(2):
        consul.register("web", backends.http(f"web {number}").server_address[1], address="127.0.0.1", tags=["http-internal"])
    consul.register("web", free_port(), address="127.0.0.1", tags=["http-internal"])
    consul.register("gray", backends.http("stable").server_address[1], address="127.0.0.1", tags=["http-internal"])
    meta = {"edge_canary": "true", "edge_canary_share": "0"}
    consul.register("gray", backends.http("canary").server_address[1], address="127.0.0.1", tags=["http-internal"], meta=meta)
    consul.register("ill", 8080, tags=["http-internal"], status="critical")
    node.start()
    spread = collections.Counter(ask(node.port, f"web.{INSIDE_DOMAIN}", at=INSIDE) for _ in range(20))
    assert set(spread) == {(200, "web 0"), (200, "web 1")}
    assert ask(node.port, f"gray.{INSIDE_DOMAIN}", at=INSIDE) == (200, "stable")
    assert ask(node.port, f"gray.{INSIDE_DOMAIN}", {"X-Canary": "always"}, at=INSIDE) == (200, "canary")
    assert ask(node.port, f"ill.{INSIDE_DOMAIN}", at=INSIDE)[0] == 503
    assert {("ill", "not healthy"), ("ill", "no usable instance")} == node.http.skipped()
    assert all(entry["scope"] == "internal" for entry in node.http.report)


def test_a_node_that_is_no_edge_has_the_internal_side_only(consul: Consul, backends: Backends, node: Node) -> None:
    public, inside = free_port(), free_port()
    web, echo = backends.http("web"), backends.echo("echo")
    consul.register("web", web.server_address[1], address="127.0.0.1", tags=["http", "http-internal", "tls"])
    consul.register("echo", echo.server_address[1], address="127.0.0.1", tags=["tcp"], meta={"edge_port": str(public)})
    consul.register("inner", echo.server_address[1], address="127.0.0.1", tags=["tcp-internal"], meta={"edge_port": str(inside)})
    # Neither the certificate nor the directory of the sockets is there: nothing may ask for them.
    node.start(public=False, tls={"certificates": [{"name": "apps"}]})
    assert ask(node.port, f"web.{INSIDE_DOMAIN}", at=INSIDE) == (200, "web")
    assert say(inside, "hello", at=INSIDE) == "echo hello"
    for address, port in ((PUBLIC, node.port), (PUBLIC, node.tls_port), (INSIDE, node.tls_port), (PUBLIC, public), (INSIDE, public), (PUBLIC, inside)):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((address, port), 5)
    assert {entry["service"] for entry in node.http.report} == {"web"}
    assert {entry["service"] for entry in node.tcp.report} == {"inner"}


def test_ports_and_names_of_the_two_sides(consul: Consul, render: Render) -> None:
    """Each side has its own owners; what the node itself needs is nobody's on either side."""
    for number, name in enumerate(["Web", "web"]):
        consul.register(name, 8000 + number, tags=["http-internal"] if name == "web" else ["http", "http-internal"], instance=f"i{number}")
    for name, port in (("low", "80"), ("inside", "8080"), ("tls", "443"), ("held", "8500"), ("db", "5432"), ("other", "5433")):
        consul.register(name, 8000, tags=["tcp", "tcp-internal"], meta={"edge_port": port})
    options = {
        "internal": {"listen_addresses": ["172.17.0.1", "fd00::1"], "http_port": 8080, "tcp_ports": ["1-6000", 8080, 8500]},
        "tcp_ports": ["1-5432", 8080, 8500],
        "reserved_ports": [8500],
    }
    http_side, tcp_side = render("http", **options), render("tcp", **options)
    served = {(entry["service"], entry.get("scope")) for side in (http_side, tcp_side) for entry in side.report if entry["kind"] == "served"}
    assert served == {("Web", None), ("web", "internal"), ("db", None), ("db", "internal"), ("other", "internal")}
    reasons = {(entry["service"], entry.get("scope"), entry["reason"]) for side in (http_side, tcp_side) for entry in side.report if entry["kind"] == "skipped"}
    reserved = {"low": 80, "inside": 8080, "tls": 443, "held": 8500}
    assert {(name, scope, f"port {port} is reserved") for name, port in reserved.items() for scope in (None, "internal")} <= reasons
    assert ("other", None, "port 5433 is not in tcp_ports") in reasons
    assert ("Web", "internal", "the host name belongs to service web") in reasons


def test_every_internal_option_is_accepted_by_nginx(consul: Consul, render: Render, nginx: Nginx) -> None:
    for number in range(70):
        tags = ["http", "tcp", "tls", "http-internal", "tcp-internal"]
        meta = {"edge_port": "9000", **({"edge_canary": "yes"} if number % 2 else {})}
        consul.register("web", 8000 + number, tags=tags, meta=meta)
    consul.register("ill", 8000, tags=["http-internal"], status="critical")
    more: list[dict[str, t.Any]] = [
        {"internal": {"listen_addresses": ["127.0.0.2", "::1"]}, "trusted_proxies": ["192.0.2.0/24"], "log_format": "text"},
        {"internal": {"listen_addresses": ["127.0.0.2"], "http_tag": "http", "tcp_tag": "tcp", "domain": "inside.example"}, "ipv6": True},
        {"internal": {"listen_addresses": ["127.0.0.2"]}, "tcp_access_log": "off", "http_access_log": "off", "proxy_protocol": True},
        {"internal": {"listen_addresses": ["127.0.0.2"]}, "public": False, "map_hash_bucket_size": 0},
    ]
    for options in more:
        nginx.test(render("http", **options).text, render("tcp", **options).text)
