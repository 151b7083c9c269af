# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections to instances that the edge uses again: never one that is being closed, never one that is logged in."""

from __future__ import annotations

import collections
import http.client
import http.server
import json
import socket
import sys
import threading
import typing as t

import pytest
from edge_rig import DOMAIN, ROLE, Backends, Consul, Nginx, Rendered, ask, free_port, poll

sys.path.insert(0, str(ROLE / "files"))
from nginx_edge import logins as logs

EdgeFixture = t.Callable[..., int]


def post(port: int) -> int:
    """The status of a request that may not be sent twice."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("POST", "/", body=b"x", headers={"Host": f"web.{DOMAIN}"})
        return connection.getresponse().status
    finally:
        connection.close()


# -- idle connections -------------------------------------------------------------------------------------------------


class ClosesIdle(http.server.BaseHTTPRequestHandler):
    """Closes a connection on which nothing was asked for two seconds, as gunicorn's threads do."""

    protocol_version = "HTTP/1.1"
    timeout = 2
    wbufsize = -1

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: t.Any) -> None:
        """Silent."""


class FarAway:
    """A network in which the end of a connection is on its way for long: the edge does not know of it yet."""

    def __init__(self, instance: int) -> None:
        self.instance = instance
        self.closed: list[str] = []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        self.accepting = threading.Thread(target=self._accept, daemon=True)
        self.accepting.start()

    def _accept(self) -> None:
        while True:
            try:
                edge, _ = self.listener.accept()
            except OSError:
                return
            instance = socket.create_connection(("127.0.0.1", self.instance), 20)
            instance.settimeout(None)
            ended: list[str] = []
            threading.Thread(target=self._carry, args=(edge, instance, "edge", ended), daemon=True).start()
            threading.Thread(target=self._carry, args=(instance, edge, "instance", ended), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket, name: str, ended: list[str]) -> None:
        try:
            # What the edge sends to a connection that the instance has closed is answered with its end.
            while (data := source.recv(65536)) and not ended:
                target.sendall(data)
        except OSError:
            pass
        ended.append(name)
        self.closed += ended if len(ended) == 1 else []
        if name == "edge":
            source.close()
            target.close()

    def close(self) -> None:
        """Take no more connections."""
        # Closing alone does not wake the thread up, and the next socket would get its descriptor.
        self.listener.shutdown(socket.SHUT_RDWR)
        self.accepting.join(20)
        self.listener.close()


@pytest.fixture
def far(consul: Consul, backends: Backends) -> t.Iterator[FarAway]:
    """The service web, behind such a network."""
    server = backends.serve(http.server.ThreadingHTTPServer(("127.0.0.1", 0), ClosesIdle), "web")
    network = FarAway(server.server_address[1])
    consul.register("web", network.port, address="127.0.0.1")
    yield network
    network.close()


def test_the_edge_closes_an_idle_connection_before_the_instance_does(far: FarAway, edge: EdgeFixture) -> None:
    port = edge()
    assert post(port) == 200
    poll("one side has closed the connection", lambda: far.closed)
    assert far.closed == ["edge"]
    assert post(port) == 200


def test_what_happens_to_a_post_when_it_does_not(far: FarAway, edge: EdgeFixture) -> None:
    """The setting is what the test above depends on."""
    port = edge(keepalive_timeout="60s", keepalive_requests=10)

    def met() -> bool:
        """Return whether a request met a connection that has ended. Each of the two workers has connections of its own."""
        seen = len(far.closed)
        answers = [post(port) for _ in range(4)]
        poll("the instance has closed a connection", lambda: len(far.closed) > seen)
        return 502 in answers + [post(port) for _ in range(8)]

    poll("a request meets a connection that has ended", met, 60)


# -- logins of connections --------------------------------------------------------------------------------------------


class LogsConnectionsIn(http.server.BaseHTTPRequestHandler):
    """Knows the user of a connection, not of a request, as IIS does with NTLM."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1
    user = ""

    def do_GET(self) -> None:
        scheme, _, name = self.headers.get("Authorization", "").partition(" ")
        if scheme.lower() in ("ntlm", "negotiate"):
            self.user = name
        body = self.user.encode()
        asked = self.headers.get("Upgrade")
        self.server.seen.append((asked, self.headers.get("Connection")))  # type: ignore[attr-defined]
        self.send_response(200 if self.user else 401)
        if not self.user:
            self.send_header("WWW-Authenticate", "Negotiate")
            self.send_header("WWW-Authenticate", "NTLM")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: t.Any) -> None:
        """Silent."""


@pytest.fixture
def logins(backends: Backends) -> t.Any:
    """An instance that logs connections in."""
    return backends.serve(http.server.ThreadingHTTPServer(("127.0.0.1", 0), LogsConnectionsIn), "logins")


# White space before a value is for nginx part of the value, and for instances not.
@pytest.mark.parametrize("scheme", ["NTLM", "Negotiate", "ntlm", "\tNTLM", " \tnegotiate"])
@pytest.mark.parametrize("more", [{}, {"Connection": "Upgrade", "Upgrade": "websocket"}])
def test_a_login_is_never_another_clients(
    consul: Consul,
    logins: t.Any,
    edge: EdgeFixture,
    scheme: str,
    more: dict[str, str],
) -> None:
    consul.register("web", logins.server_address[1], address="127.0.0.1")
    port = edge()
    answers: collections.Counter[tuple[int, str]] = collections.Counter()
    for _ in range(8):
        ask(port, f"web.{DOMAIN}")
        assert ask(port, f"web.{DOMAIN}", {"Authorization": f"{scheme} alice", **more}) == (200, "alice")
        answers[ask(port, f"web.{DOMAIN}")] += 1
    assert answers == {(401, ""): 8}
    # Only a request without a login shares connections, and none with it is upgraded.
    assert set(logins.seen) == {(None, None), (None, "close")}


OPERATORS = """
server {{
    listen 127.0.0.1:{port};
    location / {{
        proxy_pass http://{upstream};
        proxy_http_version 1.1;
        proxy_set_header Connection "";
    }}
}}
"""


@pytest.mark.parametrize("upstream", ["http_web", "http_web.canary", "internal_http_web"])
@pytest.mark.parametrize("meta", [{}, {"edge_keepalive": "false"}])
def test_a_login_is_never_another_clients_through_an_operators_server(
    consul: Consul,
    logins: t.Any,
    render: t.Callable[..., Rendered],
    nginx: Nginx,
    upstream: str,
    meta: dict[str, str],
) -> None:
    """It says itself which headers it sends, and no words of it make a connection that is logged in another client's."""
    here = {"address": "127.0.0.1", "tags": ["http", "http-internal"]}
    consul.register("web", logins.server_address[1], meta=meta, **here)
    if upstream.endswith(".canary"):
        consul.register("web", logins.server_address[1], meta={"edge_canary": "true", "edge_canary_share": "100", **meta}, **{**here, "address": "127.0.0.2"})
    port, own = free_port(), free_port()
    internal = {"listen_addresses": ["127.0.0.9"], "http_port": own}
    options = {"http_port": port, "tls_port": free_port(), "allow_loopback": True, "listen_addresses": ["127.0.0.1"], "internal": internal}
    text = render("http", **options).text + OPERATORS.format(port=own, upstream=upstream)
    nginx.start(text, render("tcp", **options).text, [port, own])
    answers: collections.Counter[tuple[int, str]] = collections.Counter()
    for _ in range(8):
        assert ask(own, "www", {"Authorization": "NTLM alice"}) == (200, "alice")
        answers.update(ask(at, f"web.{DOMAIN}") for at in (own, port, own))
    assert answers == {(401, ""): 24}


def test_a_second_authorization_header_hides_no_login(consul: Consul, logins: t.Any, edge: EdgeFixture) -> None:
    consul.register("web", logins.server_address[1], address="127.0.0.1")
    port = edge()
    head = f"GET / HTTP/1.1\r\nHost: web.{DOMAIN}\r\n"
    for first, second in (("Basic eDp5", "NTLM mallory"), ("NTLM mallory", "Basic eDp5")):
        with socket.create_connection(("127.0.0.1", port), 10) as connection:
            connection.sendall(f"{head}Authorization: {first}\r\nAuthorization: {second}\r\n\r\n".encode())
            assert connection.recv(4096)
        assert {ask(port, f"web.{DOMAIN}") for _ in range(4)} == {(401, "")}


@pytest.mark.parametrize(
    ("meta", "options"),
    [({"edge_keepalive": "false"}, {}), ({"edge_keepalive": "off"}, {}), ({}, {"unshared_services": ["Web"]})],
)
def test_a_service_can_have_its_connections_unshared(
    consul: Consul,
    backends: Backends,
    edge: EdgeFixture,
    meta: dict[str, str],
    options: dict[str, t.Any],
) -> None:
    web, other = backends.http("web"), backends.http("other")
    consul.register("web", web.server_address[1], address="127.0.0.1", meta=meta)
    consul.register("other", other.server_address[1], address="127.0.0.1")
    port = edge(**options)
    for name in ("web", "other"):
        assert {ask(port, f"{name}.{DOMAIN}") for _ in range(8)} == {(200, name)}
    # One connection a request, and at most one for each of the two workers.
    assert (web.connections, other.connections <= 2) == (8, True)
    assert web.seen[-1]["connection"] == "close"


def test_one_instance_that_wants_it_is_enough(consul: Consul, render: t.Callable[..., Rendered], nginx: Nginx) -> None:
    consul.register("web", 8000, meta={"edge_keepalive": "true"})
    consul.register("web", 8001, meta={"edge_keepalive": "no"})
    consul.register("both", 8000, meta={"edge_keepalive": "on"})
    consul.register("typo", 8000, meta={"edge_keepalive": "offf"})
    consul.register("ill", 8000)
    consul.register("ill", 8001, meta={"edge_keepalive": "no"}, status="critical")
    rendered = render("http")
    nginx.test(rendered.text)
    assert {name: rendered.line(name).get("keepalive", True) for name in ("web", "both", "ill")} == {
        "web": False,
        "both": True,
        "ill": True,
    }
    assert ("typo", "meta edge_keepalive must be true or false") in rendered.skipped()


class OffersBasicFirst(http.server.BaseHTTPRequestHandler):
    """Offers two schemes in two headers, and wants another step of every login, as NTLM does."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_GET(self) -> None:
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="x"')
        if self.server.identity != "basic":  # type: ignore[attr-defined]
            self.send_header("WWW-Authenticate", "NTLM")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: t.Any) -> None:
        """Silent."""


def test_a_login_in_the_second_header_is_noticed(consul: Consul, backends: Backends, edge: EdgeFixture, nginx: Nginx) -> None:
    """At the latest when a client tries it, where nginx shows the first header only."""
    for name in ("second", "basic"):
        server = backends.serve(http.server.ThreadingHTTPServer(("127.0.0.1", 0), OffersBasicFirst), name)
        consul.register(name, server.server_address[1], address="127.0.0.1")
    port = edge()
    for name, scheme in (("second", "NTLM TlRMTVNTUAAB"), ("basic", "Basic eDp5")):
        assert ask(port, f"{name}.{DOMAIN}")[0] == 401
        assert ask(port, f"{name}.{DOMAIN}", {"Authorization": scheme})[0] == 401
    log = nginx.directory / "http.log"
    poll("all requests are logged", lambda: len(log.read_text().splitlines()) == 4)
    assert logs.recent(str(log)) == {"second": "NTLM"}


@pytest.mark.parametrize("form", ["json", "text"])
def test_the_log_names_services_that_log_connections_in(
    consul: Consul,
    backends: Backends,
    logins: t.Any,
    edge: EdgeFixture,
    nginx: Nginx,
    form: str,
) -> None:
    consul.register("web", logins.server_address[1], address="127.0.0.1")
    consul.register("other", backends.http("other").server_address[1], address="127.0.0.1")
    port = edge(log_format=form)
    assert ask(port, f"web.{DOMAIN}")[0] == 401
    assert ask(port, f"other.{DOMAIN}")[0] == 200
    log = nginx.directory / "http.log"
    lines = poll("both requests are logged", lambda: len(found := log.read_text().splitlines()) == 2 and found)
    if form == "json":
        entries = [json.loads(line) for line in lines]
        assert {entry["service"]: entry["login"] for entry in entries} == {"web": "Negotiate", "other": ""}
        # What nginx-edge-apply --status reports, from the configuration that is live.
        assert logs.log_of((nginx.directory / "http.conf").read_text()) == str(log)
        assert logs.recent(str(log)) == {"web": "Negotiate"}
    else:
        # Each worker writes its own lines, so their order is not that of the requests.
        assert {" login=Negotiate " in line: "service=web " in line for line in lines} == {True: True, False: False}
