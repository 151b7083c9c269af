# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Traffic through a real nginx that serves what the templates rendered."""

from __future__ import annotations

import collections
import json
import socket
import ssl
import typing as t
from pathlib import Path

import pytest
from edge_rig import DOMAIN, Backends, Consul, Nginx, ask, free_port, poll, say


def answers(port: int, host: str, count: int, headers: dict[str, str] | None = None) -> collections.Counter[tuple[int, str]]:
    return collections.Counter(ask(port, host, headers) for _ in range(count))


def test_http(consul: Consul, backends: Backends, edge: t.Callable[..., int], nginx: Nginx) -> None:
    running = [backends.http(f"instance {number}") for number in range(3)]
    for server in running:
        consul.register("web", server.server_address[1], address="127.0.0.1", meta={"edge_weight": "100"})
    other = backends.http("other")
    consul.register("other", other.server_address[1], address="127.0.0.1")
    hidden = backends.http("hidden")
    consul.register("hidden", hidden.server_address[1], tags=[], address="127.0.0.1")
    consul.register("ill", other.server_address[1], address="127.0.0.1", status="critical")
    port = edge()

    spread = answers(port, f"web.{DOMAIN}", 30)
    assert set(spread) == {(200, f"instance {number}") for number in range(3)}
    # Two workers share one state: nobody is more than one turn ahead.
    assert max(spread.values()) - min(spread.values()) <= 2, spread
    assert answers(port, f"OTHER.{DOMAIN}", 3) == {(200, "other"): 3}
    status, text = ask(port, f"ill.{DOMAIN}")
    assert (status, text) == (503, "Service ill has no healthy instance now. Try again later.\n")
    assert ask(port, f"hidden.{DOMAIN}")[0] == ask(port, f"unknown.{DOMAIN}")[0] == ask(port, "web.elsewhere.example")[0] == 404
    assert not hidden.seen

    ask(port, f"other.{DOMAIN}", {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https", "X-Request-ID": "not ok \x7f"})
    seen = other.seen[-1]
    assert seen["host"] == seen["x-forwarded-host"] == f"other.{DOMAIN}"
    assert seen["x-real-ip"] == seen["x-forwarded-for"] == "127.0.0.1"
    assert seen["x-forwarded-proto"] == "http"
    assert len(seen["x-request-id"]) == 32
    assert "connection" not in seen
    ask(port, f"other.{DOMAIN}", {"X-Request-ID": "call-0123456789"})
    assert other.seen[-1]["x-request-id"] == "call-0123456789"

    lines = poll(
        "the access log has the last request", lambda: [line for line in (nginx.directory / "http.log").read_text().splitlines() if "call-0123456789" in line]
    )
    entry = json.loads(lines[0])
    assert (entry["service"], entry["upstream"], entry["instance"]) == ("other", "http_other", f"127.0.0.1:{other.server_address[1]}")
    assert entry["status"] == "200"
    assert float(entry["response_time"]) >= 0
    assert float(entry["connect_time"]) >= 0


def test_a_dead_instance_costs_no_request(consul: Consul, backends: Backends, edge: t.Callable[..., int]) -> None:
    alive = backends.http("alive")
    consul.register("web", alive.server_address[1], address="127.0.0.1")
    consul.register("web", free_port(), address="127.0.0.1")
    assert answers(edge(), f"web.{DOMAIN}", 20) == {(200, "alive"): 20}


def test_websocket(consul: Consul, backends: Backends, edge: t.Callable[..., int]) -> None:
    server = backends.http("socket")
    consul.register("web", server.server_address[1], address="127.0.0.1")
    with socket.create_connection(("127.0.0.1", edge()), 10) as connection:
        connection.sendall(f"GET / HTTP/1.1\r\nHost: web.{DOMAIN}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n".encode())
        stream = connection.makefile("rwb")
        assert stream.readline().startswith(b"HTTP/1.1 101")
        while stream.readline().strip():
            pass
        stream.write(b"both ways\n")
        stream.flush()
        assert stream.readline() == b"both ways\n"


def test_trusted_proxy(consul: Consul, backends: Backends, edge: t.Callable[..., int]) -> None:
    server = backends.http("web")
    consul.register("web", server.server_address[1], address="127.0.0.1")
    port = edge(trusted_proxies=["127.0.0.0/8"])
    ask(port, f"web.{DOMAIN}", {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"})
    assert server.seen[-1]["x-real-ip"] == "203.0.113.9"
    assert server.seen[-1]["x-forwarded-for"] == "203.0.113.9, 127.0.0.1"
    assert server.seen[-1]["x-forwarded-proto"] == "https"
    ask(port, f"web.{DOMAIN}")
    assert server.seen[-1]["x-forwarded-for"] == "127.0.0.1"
    assert server.seen[-1]["x-forwarded-proto"] == "http"


def test_canary(consul: Consul, backends: Backends, edge: t.Callable[..., int]) -> None:
    stable, canary = backends.http("stable"), backends.http("canary")
    for name, share in (("none", "0"), ("some", "30"), ("all", "100")):
        consul.register(name, stable.server_address[1], address="127.0.0.1")
        consul.register(name, canary.server_address[1], address="127.0.0.1", meta={"edge_canary": "true", "edge_canary_share": share})
    consul.register("dead", stable.server_address[1], address="127.0.0.1")
    consul.register("dead", free_port(), address="127.0.0.1", meta={"edge_canary": "true", "edge_canary_share": "100"})
    consul.register("only", canary.server_address[1], address="127.0.0.1", meta={"edge_canary": "true"})
    port = edge()
    assert answers(port, f"none.{DOMAIN}", 10) == {(200, "stable"): 10}
    assert answers(port, f"all.{DOMAIN}", 10) == {(200, "canary"): 10}
    # 400 draws of 30 %: outside of 75..165 once in some 10^6 runs.
    assert 75 <= answers(port, f"some.{DOMAIN}", 400)[200, "canary"] <= 165
    assert answers(port, f"dead.{DOMAIN}", 10) == {(200, "stable"): 10}
    assert answers(port, f"only.{DOMAIN}", 5, {"X-Canary": "never"}) == {(200, "canary"): 5}
    for headers, group in (
        ({"X-Canary": "always"}, "canary"),
        ({"X-Canary": "never"}, "stable"),
        ({"Cookie": "a=b; canary=always"}, "canary"),
        ({"Cookie": "canary=never"}, "stable"),
        ({"X-Canary": "never", "Cookie": "canary=always"}, "stable"),
        ({"X-Canary": "Always", "Cookie": "canary=never"}, "canary"),
    ):
        for name in ("none", "some", "all"):
            assert answers(port, f"{name}.{DOMAIN}", 4, headers) == {(200, group): 4}, (name, headers)
    assert answers(port, f"all.{DOMAIN}", 4, {"X-Canary": "perhaps"}) == {(200, "canary"): 4}


def test_tcp(consul: Consul, backends: Backends, edge: t.Callable[..., int], nginx: Nginx) -> None:
    public, proxied, ill = free_port(), free_port(), free_port()
    for number in range(3):
        server = backends.echo(f"echo {number}")
        consul.register(f"echo-{public}", server.server_address[1], tags=["tcp"], address="127.0.0.1")
    seen = backends.echo("proxied")
    consul.register("seen", seen.server_address[1], tags=["tcp"], address="127.0.0.1", meta={"edge_port": str(proxied), "edge_proxy_protocol": "true"})
    consul.register("ill", seen.server_address[1], tags=["tcp"], address="127.0.0.1", meta={"edge_port": str(ill)}, status="critical")
    edge([public, proxied])
    spread = collections.Counter(say(public, "hello") for _ in range(12))
    assert set(spread) == {f"echo {number} hello" for number in range(3)}
    assert say(proxied, "hello").startswith("proxied PROXY TCP4 127.0.0.1 127.0.0.1 ")
    assert say(ill, "hello") == ""
    lines = poll(
        "the access log has the connections", lambda: [line for line in (nginx.directory / "tcp.log").read_text().splitlines() if "echo-" in line][11:]
    )
    assert json.loads(lines[0])["instance"].startswith("127.0.0.1:")


def _tls(port: int, certificate: Path, name: str) -> str:
    context = ssl.create_default_context(cafile=str(certificate))
    with socket.create_connection(("127.0.0.1", port), 10) as raw, context.wrap_socket(raw, server_hostname=name) as connection:
        connection.sendall(b"hello\n")
        return connection.makefile().readline().strip()


def test_tls(consul: Consul, backends: Backends, edge: t.Callable[..., int]) -> None:
    """The client sees the service's own certificate, by SNI and on a port of its own."""
    own, shared = free_port(), free_port()
    one, certificate_one = backends.tls("one", f"one.{DOMAIN}")
    two, certificate_two = backends.tls("two", f"two.{DOMAIN}")
    consul.register("one", one.server_address[1], tags=["tls"], address="127.0.0.1")
    consul.register("Two", two.server_address[1], tags=["tls"], address="127.0.0.1")
    consul.register(f"two-{own}", two.server_address[1], tags=["tcp"], address="127.0.0.1")
    edge([own, shared], tls_port=shared)
    assert _tls(shared, certificate_one, f"one.{DOMAIN}") == "one hello"
    assert _tls(shared, certificate_two, f"two.{DOMAIN}") == "two hello"
    assert _tls(own, certificate_two, f"two.{DOMAIN}") == "two hello"
    with pytest.raises((ssl.SSLError, OSError)):
        _tls(shared, certificate_one, f"three.{DOMAIN}")
    with pytest.raises(ssl.SSLError):
        _tls(shared, certificate_one, f"two.{DOMAIN}")
