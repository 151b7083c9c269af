# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Headers of requests and answers, asked of a real nginx: how large they may be, and which reach an instance."""

from __future__ import annotations

import http.client
import re
import socket
import subprocess
import typing as t
from pathlib import Path

import pytest
from edge_rig import DOMAIN, Backends, Consul, Nginx, Rendered, ask, free_port, make_certificate, poll, tool

from ansible_collections.trinode.platform.plugins.plugin_utils._edge.headers import CLEARED_HEADERS, OWN_HEADERS

EdgeFixture = t.Callable[..., int]
OVER_TLS = pytest.mark.parametrize("protocol", ["--http1.1", "--http2"])


@pytest.fixture(name="web")
def running_web(consul: Consul, backends: Backends) -> t.Any:
    """An instance of the service web."""
    server = backends.http("web")
    consul.register("web", server.server_address[1], address="127.0.0.1")
    return server


class Secure:
    """An edge that ends TLS, asked by curl."""

    def __init__(self, render: t.Callable[..., Rendered], nginx: Nginx, directory: Path) -> None:
        self.render, self.nginx, self.directory = render, nginx, directory
        self.certificate = make_certificate(directory / "apps.pem", f"*.{DOMAIN}")
        self.port = free_port()

    def start(self, http2: str = "listen", **options: t.Any) -> None:
        """Serve what is registered."""
        sockets = self.directory / "s"
        sockets.mkdir()
        tls = {
            "certificates": [{"name": "apps"}],
            "certificate_directory": str(self.directory),
            "socket_directory": str(sockets),
            "http2": "directive" if self.nginx.version >= (1, 25, 1) else http2,
        }
        addresses = {"listen_addresses": ["127.0.0.1"], "http_port": free_port(), "tls_port": self.port}
        settings = {"tls": tls, "allow_loopback": True, **addresses, **options}
        self.nginx.start(self.render("http", **settings).text, self.render("tcp", **settings).text, [self.port])

    def curl(self, path: str, *options: str) -> tuple[int, str]:
        """Status and HTTP version of one request."""
        at = ["--resolve", f"web.{DOMAIN}:{self.port}:127.0.0.1", "--cacert", str(self.certificate), "--max-time", "10"]
        form = ["--silent", "--show-error", "--output", "/dev/null", "--write-out", "%{http_code} %{http_version}"]
        command = [tool("curl", "CURL_BIN"), *form, *at, *options, f"https://web.{DOMAIN}:{self.port}{path}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, done.stderr
        status, version = done.stdout.split()
        return int(status), version


@pytest.fixture
def secure(render: t.Callable[..., Rendered], nginx: Nginx) -> Secure:
    """An edge that ends TLS."""
    return Secure(render, nginx, nginx.directory)


def raw(port: int, text: str) -> tuple[int, dict[str, str], str]:
    """Send a request as it is written here; give status, headers and body of the answer."""
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(text.encode())
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        body = b"" if answer.status == 101 else answer.read()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, body.decode()


def path_of(port: int, path: str) -> int:
    """The status of an answer."""
    return raw(port, f"GET {path} HTTP/1.1\r\nHost: web.{DOMAIN}\r\n\r\n")[0]


# -- sizes ------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("web")
def test_an_answer_with_a_large_header_passes(edge: EdgeFixture) -> None:
    port = edge()
    assert [path_of(port, f"/cookies/{count}") for count in (0, 3, 4, 8, 32)] == [200] * 5
    # What is larger is refused, and told from a success.
    assert path_of(port, "/cookies/64") == 502


@pytest.mark.usefixtures("web")
def test_the_size_of_an_answers_header_can_be_set(edge: EdgeFixture, nginx: Nginx) -> None:
    port = edge(response_header_size="4k")
    assert [path_of(port, f"/cookies/{count}") for count in (2, 8)] == [200, 502]
    nginx.stop()
    port = edge(response_header_size="1m")
    assert path_of(port, "/cookies/80") == 200


@pytest.mark.parametrize("size", ["4k", "5000", "40k", "57k", "100k", "1m"])
def test_nginx_accepts_every_size(consul: Consul, render: t.Callable[..., Rendered], nginx: Nginx, size: str) -> None:
    consul.register("web")
    nginx.test(render("http", response_header_size=size).text)


@OVER_TLS
def test_large_headers_pass_over_tls(web: t.Any, secure: Secure, protocol: str) -> None:
    secure.start()
    version = protocol.removeprefix("--http")
    assert secure.curl("/cookies/32", protocol) == (200, version)
    assert secure.curl("/", protocol, "--header", "Authorization: Negotiate " + "x" * 49152) == (200, version)
    assert len(web.seen[-1]["authorization"]) > 49152


@pytest.mark.usefixtures("web")
def test_the_limits_of_an_old_http2_are_understood(secure: Secure) -> None:
    """A newer nginx calls the directives obsolete, and names the other one."""
    secure.start(http2="legacy")
    assert secure.curl("/", "--http2") == (200, "2")
    text = (secure.directory / "http.conf").read_text()
    assert "http2_max_field_size 64k;\n    http2_max_header_size 256k;" in text


def test_a_large_request_header_passes(web: t.Any, edge: EdgeFixture) -> None:
    """A Kerberos ticket of a user with many groups."""
    port = edge()
    for size in (9 << 10, 48 << 10):
        ticket = "Negotiate " + "x" * size
        assert ask(port, f"web.{DOMAIN}", {"Authorization": ticket})[0] == 200
        assert web.seen[-1]["authorization"] == ticket
    assert ask(port, f"web.{DOMAIN}", {"Authorization": "x" * (65 << 10)})[0] == 400


# -- upgrades ---------------------------------------------------------------------------------------------------------


def upgrade(port: int, protocol: str, more: str = "") -> int:
    """The status of a request that asks for another protocol."""
    head = f"GET / HTTP/1.1\r\nHost: web.{DOMAIN}\r\nConnection: Upgrade, HTTP2-Settings\r\n"
    return raw(port, f"{head}Upgrade: {protocol}\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n{more}\r\n")[0]


@pytest.mark.parametrize("protocol", ["h2c", "H2C", "h2c, websocket", "websocket, h2c", "TLS/1.0", "xwebsocket", "echo"])
def test_other_upgrades_are_not_passed_on(web: t.Any, edge: EdgeFixture, protocol: str) -> None:
    assert upgrade(edge(), protocol) == 200
    assert not {"upgrade", "connection", "http2-settings"} & set(web.seen[-1])


def test_a_second_upgrade_header_is_not_passed_on(web: t.Any, edge: EdgeFixture) -> None:
    upgrade(edge(), "websocket", "Upgrade: h2c\r\n")
    assert web.seen[-1].get("upgrade", "websocket") == "websocket"
    assert "http2-settings" not in web.seen[-1]


def test_the_upgrades_can_be_chosen(web: t.Any, edge: EdgeFixture, nginx: Nginx) -> None:
    port = edge(upgrades=["imap/4"])
    assert upgrade(port, "IMAP/4") == 200
    assert (web.seen[-1]["upgrade"], web.seen[-1]["connection"]) == ("imap/4", "upgrade")
    assert upgrade(port, "websocket") == 200
    assert "upgrade" not in web.seen[-1]
    nginx.stop()
    assert upgrade(edge(upgrades=[]), "websocket") == 200
    assert "upgrade" not in web.seen[-1]


# -- what the client states -------------------------------------------------------------------------------------------


# A newer nginx may refuse a Host header that differs from the absolute URI, or that is none; then its log has to say so.
DIFFERS = "client sent (?:invalid|different|duplicate).* [Hh]ost"


@pytest.mark.parametrize(
    ("target", "given", "host", "refused"),
    [
        ("/", f"web.{DOMAIN}", f"web.{DOMAIN}", ""),
        ("/", f"WEB.{DOMAIN}:8443", f"web.{DOMAIN}:8443", ""),
        ("/", f"web.{DOMAIN}.", f"web.{DOMAIN}", ""),
        (f"http://web.{DOMAIN}/", "other", f"web.{DOMAIN}", DIFFERS),
        (f"http://web.{DOMAIN}/", f"other.{DOMAIN}:99", f"web.{DOMAIN}", DIFFERS),
        (f"http://web.{DOMAIN}/", f"web.{DOMAIN}@other", f"web.{DOMAIN}", DIFFERS),
        (f"http://web.{DOMAIN}:81/", f"web.{DOMAIN}:81", f"web.{DOMAIN}:81", ""),
    ],
)
def test_the_instance_gets_the_host_that_routed_the_request(
    web: t.Any,
    edge: EdgeFixture,
    nginx: Nginx,
    target: str,
    given: str,
    host: str,
    refused: str,
) -> None:
    status = raw(edge(), f"GET {target} HTTP/1.1\r\nHost: {given}\r\nX-Forwarded-Host: third\r\n\r\n")[0]
    if refused and status == 400:
        assert not web.seen
        assert re.search(refused, (nginx.directory / "error.log").read_text())
        return
    assert status == 200
    assert web.seen[-1]["host"] == web.seen[-1]["x-forwarded-host"] == host


@pytest.mark.parametrize("given", ["a/b", f"web.{DOMAIN}\r\nHost: other", f"web.{DOMAIN}\x01"])
def test_a_host_header_that_is_none_is_refused(web: t.Any, edge: EdgeFixture, nginx: Nginx, given: str) -> None:
    """Also next to an absolute URI, which would have routed the request."""
    port = edge()
    for target in ("/", f"http://web.{DOMAIN}/"):
        assert raw(port, f"GET {target} HTTP/1.1\r\nHost: {given}\r\n\r\n")[0] == 400
    assert not web.seen
    log = (nginx.directory / "error.log").read_text()
    assert len(re.findall(r"client sent (?:invalid host header|duplicate host header|invalid header line)", log)) >= 2


# Every header of which the value counts, and one that is the client's to set.
STATED = (*CLEARED_HEADERS, "X-Real-IP", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "Proxy")
THEIRS = {"X-HTTP-Method-Override": "PUT", "Authorization": "Basic eDp5", "Cookie": "a=b"}


def test_a_client_cannot_speak_for_a_proxy(web: t.Any, edge: EdgeFixture) -> None:
    port = edge()
    assert ask(port, f"web.{DOMAIN}", {**dict.fromkeys(STATED, "forged"), **THEIRS})[0] == 200
    seen = web.seen[-1]
    assert not [name for name, value in seen.items() if "forged" in value]
    assert not {name.lower() for name in CLEARED_HEADERS} & set(seen)
    assert {name: seen[name.lower()] for name in THEIRS} == THEIRS


def test_a_trusted_proxy_may(web: t.Any, edge: EdgeFixture) -> None:
    port = edge(trusted_proxies=["127.0.0.1"])
    kept = {name: f"from-{name.lower()}" for name in (*CLEARED_HEADERS, "X-Forwarded-Host")}
    assert ask(port, f"web.{DOMAIN}", {**kept, "Proxy": "forged"})[0] == 200
    seen = web.seen[-1]
    assert {name: seen.get(name.lower()) for name in kept} == kept
    assert "proxy" not in seen
    # Another client of the same edge is no trusted proxy.
    assert ask(port, f"web.{DOMAIN}", kept, source="127.0.0.9")[0] == 200
    assert not [name for name, value in web.seen[-1].items() if value.startswith("from-")]
    assert web.seen[-1]["x-forwarded-host"] == f"web.{DOMAIN}"


def test_the_cleared_headers_can_be_chosen(web: t.Any, edge: EdgeFixture) -> None:
    """The site's own are added, and one is let through."""
    port = edge(cleared_headers=["X-Site-Gateway"], passed_headers=["x-host"])
    given = {"X-Site-Gateway": "forged", "X-Forwarded-User": "forged", "X-Forwarded-For": "forged", "X-Host": "alice"}
    assert ask(port, f"web.{DOMAIN}", given)[0] == 200
    seen = web.seen[-1]
    assert [name for name, value in seen.items() if value == "forged"] == []
    assert (seen["x-host"], seen["x-forwarded-for"]) == ("alice", "127.0.0.1")


# -- underscores ------------------------------------------------------------------------------------------------------


def test_headers_with_underscores_are_passed_on_when_wanted(web: t.Any, edge: EdgeFixture, nginx: Nginx) -> None:
    """And even then none that an application could take for one of the edge's own."""
    given = {"api_key": "k-1"}
    assert ask(edge(), f"web.{DOMAIN}", given)[0] == 200
    assert "api_key" not in web.seen[-1]
    nginx.stop()
    port = edge(underscore_headers=True)
    forged: dict[str, str] = {}
    for name in (*CLEARED_HEADERS, *OWN_HEADERS):
        if "-" in name and name not in ("Content-Length", "Transfer-Encoding"):
            forged[name.replace("-", "_")] = forged[name.replace("-", "_", 1)] = "forged"
    assert ask(port, f"web.{DOMAIN}", {**given, **forged})[0] == 200
    assert web.seen[-1]["api_key"] == "k-1"
    assert not [name for name, value in web.seen[-1].items() if value == "forged"]
    smuggled = "Content_Length: 7\r\nTransfer_Encoding: chunked\r\n"
    assert raw(port, f"GET / HTTP/1.1\r\nHost: web.{DOMAIN}\r\n{smuggled}\r\n")[0] == 200
    assert not {"content_length", "transfer_encoding"} & set(web.seen[-1])


@pytest.mark.parametrize("directive", ["underscores_in_headers on;", "ignore_invalid_headers off;"])
@pytest.mark.parametrize("wanted", [False, True])
def test_no_other_file_lets_underscores_through(consul: Consul, render: t.Callable[..., Rendered], nginx: Nginx, directive: str, wanted: bool) -> None:
    """Spellings of a cleared header would be among them, on every server of the edge."""
    consul.register("web")
    text = render("http", underscore_headers=wanted).text
    nginx.test(text)
    path = nginx.write(f"{directive}\n{text}", "")
    done = subprocess.run([nginx.binary, "-t", "-p", str(nginx.directory), "-c", str(path)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert f'"{directive.split()[0]}" directive is duplicate' in done.stderr


@pytest.mark.usefixtures("web")
def test_the_refused_headers_are_a_small_table(edge: EdgeFixture, nginx: Nginx) -> None:
    """nginx would warn of a table that is too small, and go on."""
    edge(underscore_headers=True, trusted_proxies=["192.0.2.1"])
    log = nginx.directory / "error.log"
    poll("nginx has started", log.exists)
    assert "proxy_headers_hash" not in log.read_text()
