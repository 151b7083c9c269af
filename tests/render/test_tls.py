# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""TLS that the edge ends itself, asked by real clients, beside TLS that it passes through on the same port."""

from __future__ import annotations

import http.client
import json
import re
import socket
import ssl
import subprocess
import typing as t

import pytest
from edge_rig import CLIENT, DOMAIN, Backends, Consul, Nginx, Rendered, Tls, ask, poll, tool

Render = t.Callable[..., Rendered]


def plain(port: int, name: str, path: str = "/", method: str = "GET") -> tuple[int, str]:
    """Status and Location of one request over HTTP."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, headers={"Host": f"{name}.{DOMAIN}"})
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.headers.get("Location", "")
    finally:
        connection.close()


def test_https(consul: Consul, backends: Backends, tls: Tls, nginx: Nginx) -> None:
    web, shop = backends.http("web"), backends.http("shop")
    consul.register("web", web.server_address[1], address="127.0.0.1")
    consul.register("Shop", shop.server_address[1], address="127.0.0.1")
    consul.register("ill", web.server_address[1], address="127.0.0.1", status="critical")
    tls.start()
    # The certificate is checked by the client: the exact name has its own, the others share one.
    assert tls.get("web")[:2] == (200, "web")
    assert tls.get("shop", tls.shop)[:2] == (200, "shop")
    for name, wrong in (("web", tls.shop), ("shop", tls.every)):
        with pytest.raises(ssl.SSLCertVerificationError):
            tls.connect(name, wrong)
    assert tls.get("ill")[:2] == (503, "Service ill has no healthy instance now. Try again later.\n")
    assert tls.get("unknown")[0] == 404
    # HTTP leads there, also what changes something, with its path.
    assert plain(tls.http_port, "web", "/a/b?c=d%20e", "POST") == (308, f"https://web.{DOMAIN}:{tls.port}/a/b?c=d%20e")
    assert plain(tls.http_port, "ill") == (308, f"https://ill.{DOMAIN}:{tls.port}/")
    assert plain(tls.http_port, "unknown")[0] == 404
    # The service learns who asks and how.
    tls.get("web", headers={"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "http"})
    seen = web.seen[-1]
    assert seen["x-real-ip"] == seen["x-forwarded-for"] == CLIENT
    assert seen["x-forwarded-proto"] == "https"
    assert seen["host"] == seen["x-forwarded-host"] == f"web.{DOMAIN}"
    # Each worker writes its lines when it pleases, so the first one need not be of the first request.
    log = nginx.directory / "http.log"
    entries = poll("the access log has a line over TLS", lambda: [line for line in log.read_text().splitlines() if '"web"' in line and "TLSv1" in line])
    entry = json.loads(entries[0])
    assert (entry["client"], entry["service"], entry["upstream"], entry["tls"]) == (CLIENT, "web", "http_web", "TLSv1.3")
    # The stream side logs what it passes on only where it ends.
    assert DOMAIN not in (nginx.directory / "tcp.log").read_text()


def test_names_that_no_certificate_covers_are_refused(consul: Consul, backends: Backends, tls: Tls, nginx: Nginx) -> None:
    web = backends.http("web")
    consul.register("web", web.server_address[1], address="127.0.0.1", meta={"edge_https": "redirect"})
    consul.register("shop", web.server_address[1], address="127.0.0.1")
    tls.certificates = tls.certificates[1:]
    tls.start()
    assert tls.get("shop", tls.shop)[0] == 200
    unverified = ssl.create_default_context()
    unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
    for name in (f"web.{DOMAIN}", f"a.b.{DOMAIN}", DOMAIN, "elsewhere.example", None):
        with pytest.raises((ssl.SSLError, OSError)), socket.create_connection(("127.0.0.1", tls.port), 10) as raw:
            unverified.wrap_socket(raw, server_hostname=name)
    # Without a certificate for it there is nothing to redirect to.
    assert ask(tls.http_port, f"web.{DOMAIN}") == (200, "web")
    lines = poll("the refusals are logged", lambda: (nginx.directory / "tcp.log").read_text().splitlines()[4:])
    assert json.loads(lines[0])["port"] == str(tls.port)


def test_which_services_get_https(consul: Consul, render: Render, tls: Tls, nginx: Nginx, backends: Backends) -> None:
    """The description says how, meta edge_https says otherwise, and of two instances the safer one wins."""
    web = backends.http("web")
    port = web.server_address[1]
    wishes = {"plain": [], "redirect": ["redirect"], "both": ["both"], "off": ["off"], "mixed1": ["off", "both"], "bad": ["yes"]}
    wishes["mixed2"] = ["both", "redirect", "off"]
    for name, values in wishes.items():
        for number, value in enumerate(values or [""]):
            consul.register(name, port, address=f"127.0.0.{number + 1}", meta={"edge_https": value} if value else {})
    for default, plain_status in (("redirect", 308), ("both", 200), ("off", 200)):
        options = {"tls": tls.options(https=default), "tls_port": tls.port, "allow_loopback": True}
        rendered = render("http", **options)
        nginx.test(rendered.text, render("tcp", **options).text)
        expected = {"redirect": "redirect", "both": "both", "off": None, "mixed1": "both", "mixed2": "redirect", "plain": None if default == "off" else default}
        assert {name: rendered.line(name).get("https") for name in expected} == expected
        assert all(rendered.line(name)["certificate"] == "every" and rendered.line(name)["tls_port"] == tls.port for name, how in expected.items() if how)
        assert rendered.skipped() == {("bad", "meta edge_https must be redirect, both or off"), ("bad", "no usable instance")}
        tls.start({"https": default})
        assert plain(tls.http_port, "plain")[0] == plain_status
        assert plain(tls.http_port, "redirect")[0] == 308
        assert ask(tls.http_port, f"both.{DOMAIN}")[0] == ask(tls.http_port, f"off.{DOMAIN}")[0] == 200
        assert tls.get("both")[0] == tls.get("redirect")[0] == 200
        assert tls.get("off")[0] == 404
        nginx.stop()


def test_a_service_that_asks_for_https_without_a_certificate_is_told(consul: Consul, render: Render, tls: Tls) -> None:
    consul.register("web", 8080, meta={"edge_https": "redirect"})
    consul.register("off", 8080, meta={"edge_https": "off"})
    consul.register("plain", 8080)
    tls.certificates = tls.certificates[1:]
    rendered = render("http", tls=tls.options())
    assert rendered.served() == {"web", "off", "plain"}
    assert rendered.skipped() == {("web", "no certificate covers the host name")}


def test_passthrough_on_the_same_port(consul: Consul, backends: Backends, tls: Tls, nginx: Nginx) -> None:
    """A passed through name wins over the certificate that covers it, whatever its health; the loser keeps its place on the HTTP port."""
    web = backends.http("web")
    port = web.server_address[1]
    own, certificate = backends.tls("own", f"own.{DOMAIN}")
    consul.register("own", own.server_address[1], tags=["tls"], address="127.0.0.1")
    consul.register("Own", port, address="127.0.0.1")
    consul.register("shop", port, tags=["tls"], address="127.0.0.1", status="critical")
    consul.register("Shop", port, address="127.0.0.1")
    consul.register("web", port, address="127.0.0.1")
    tls.start()
    with tls.connect("own", certificate) as connection:
        connection.sendall(b"hello\n")
        assert connection.makefile().readline() == "own hello\n"
    assert ask(tls.http_port, f"own.{DOMAIN}") == ask(tls.http_port, f"shop.{DOMAIN}") == (200, "web")
    with pytest.raises((ssl.SSLError, OSError)):
        tls.connect("shop", tls.shop)
    assert tls.get("web")[:2] == (200, "web")
    rendered = Rendered((nginx.directory / "http.conf").read_text())
    assert rendered.skipped() == {(name, f"TLS of the host name is passed through to service {name.lower()}") for name in ("Own", "Shop")}
    # A browser that reuses its connection for a name of another server is told to open one for it.
    assert tls.get("web", host=f"own.{DOMAIN}")[0] == 421
    log = nginx.directory / "tcp.log"
    lines = poll("the passed through connection is logged", lambda: [line for line in log.read_text().splitlines() if "tls_own" in line])
    entry = json.loads(lines[0])
    assert (entry["client"], entry["port"], entry["sni"]) == (CLIENT, str(tls.port), f"own.{DOMAIN}")
    assert entry["instance"] == f"127.0.0.1:{own.server_address[1]}"


def test_passthrough_of_large_data(consul: Consul, backends: Backends, tls: Tls) -> None:
    own, certificate = backends.tls("own", f"own.{DOMAIN}")
    consul.register("own", own.server_address[1], tags=["tls"], address="127.0.0.1")
    tls.start()
    with tls.connect("own", certificate) as connection:
        line = b"x" * 300_000 + b"\n"
        connection.sendall(line)
        assert connection.makefile("rb").readline() == b"own " + line


@pytest.mark.parametrize(
    ("profile", "version", "accepted"),
    [
        ("intermediate", ssl.TLSVersion.TLSv1_3, True),
        ("intermediate", ssl.TLSVersion.TLSv1_2, True),
        ("intermediate", ssl.TLSVersion.TLSv1_1, False),
        ("modern", ssl.TLSVersion.TLSv1_3, True),
        ("modern", ssl.TLSVersion.TLSv1_2, False),
    ],
)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_profiles(consul: Consul, backends: Backends, tls: Tls, profile: str, version: ssl.TLSVersion, accepted: bool) -> None:
    consul.register("web", backends.http("web").server_address[1], address="127.0.0.1")
    tls.start({"profile": profile})
    if not accepted:
        with pytest.raises((ssl.SSLError, OSError)):
            tls.connect("web", version=version)
        return
    with tls.connect("web", version=version) as connection:
        cipher = (connection.cipher() or ("",))[0]
    assert re.fullmatch(r"TLS_(AES|CHACHA20)_.*|ECDHE-ECDSA-(AES\d+-GCM-SHA\d+|CHACHA20-POLY1305)", cipher), cipher


def test_weak_ciphers_are_refused(consul: Consul, backends: Backends, tls: Tls) -> None:
    consul.register("web", backends.http("web").server_address[1], address="127.0.0.1")
    tls.start()
    context = ssl.create_default_context(cafile=str(tls.every))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-ECDSA-AES128-SHA:ECDHE-ECDSA-AES128-SHA256:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, OSError)), socket.create_connection(("127.0.0.1", tls.port), 10) as raw:
        context.wrap_socket(raw, server_hostname=f"web.{DOMAIN}")


def test_sessions_are_resumed_without_tickets(consul: Consul, backends: Backends, tls: Tls) -> None:
    consul.register("web", backends.http("web").server_address[1], address="127.0.0.1")
    tls.start()
    context = ssl.create_default_context(cafile=str(tls.every))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with socket.create_connection(("127.0.0.1", tls.port), 10) as raw, context.wrap_socket(raw, server_hostname=f"web.{DOMAIN}") as first:
        first.sendall(f"GET / HTTP/1.1\r\nHost: web.{DOMAIN}\r\n\r\n".encode())
        assert first.makefile().readline().startswith("HTTP/1.1 200")
        session = first.session
        assert session is not None and not session.has_ticket
    with socket.create_connection(("127.0.0.1", tls.port), 10) as raw:
        assert context.wrap_socket(raw, server_hostname=f"web.{DOMAIN}", session=session).session_reused


@pytest.mark.parametrize(("options", "protocol"), [({}, "h2"), ({"http2": "listen"}, "h2"), ({"http2": "off"}, "http/1.1")])
def test_http2(consul: Consul, backends: Backends, tls: Tls, options: dict[str, t.Any], protocol: str) -> None:
    web = backends.http("web")
    consul.register("web", web.server_address[1], address="127.0.0.1")
    tls.start(options)
    with tls.connect("web", alpn=["h2", "http/1.1"]) as connection:
        assert connection.selected_alpn_protocol() == protocol
    with tls.connect("web", alpn=["http/1.1"]) as connection:
        assert connection.selected_alpn_protocol() == "http/1.1"
    at = ["--resolve", f"web.{DOMAIN}:{tls.port}:127.0.0.1", "--cacert", str(tls.every), "--max-time", "10"]
    done = subprocess.run(
        [tool("curl", "CURL_BIN"), "--silent", "--show-error", "--http2", "--write-out", " %{http_version}", *at, f"https://web.{DOMAIN}:{tls.port}/"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, f"web {'2' if protocol == 'h2' else '1.1'}"), done.stderr
    assert web.seen[-1]["host"] == f"web.{DOMAIN}:{tls.port}"


def test_websocket_over_tls(consul: Consul, backends: Backends, tls: Tls) -> None:
    consul.register("web", backends.http("web").server_address[1], address="127.0.0.1")
    tls.start()
    with tls.connect("web", alpn=["http/1.1"]) as connection:
        connection.sendall(f"GET / HTTP/1.1\r\nHost: web.{DOMAIN}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n".encode())
        stream = connection.makefile("rwb")
        assert stream.readline().startswith(b"HTTP/1.1 101")
        while stream.readline().strip():
            pass
        stream.write(b"both ways\n")
        stream.flush()
        assert stream.readline() == b"both ways\n"


def test_hsts(consul: Consul, backends: Backends, tls: Tls) -> None:
    web = backends.http("web")
    consul.register("web", web.server_address[1], address="127.0.0.1", meta={"edge_https": "both"})
    consul.register("ill", web.server_address[1], address="127.0.0.1", status="critical")
    tls.start({"hsts_max_age": 86400})
    for name in ("web", "ill"):
        assert tls.get(name)[2].get_all("Strict-Transport-Security") == ["max-age=86400"], name
    connection = http.client.HTTPConnection("127.0.0.1", tls.http_port, timeout=10)
    connection.request("GET", "/", headers={"Host": f"web.{DOMAIN}"})
    assert connection.getresponse().headers.get("Strict-Transport-Security") is None
    connection.close()


def test_trusted_proxy_in_front_of_tls(consul: Consul, backends: Backends, tls: Tls) -> None:
    web = backends.http("web")
    consul.register("web", web.server_address[1], address="127.0.0.1", meta={"edge_https": "both"})
    tls.start(trusted_proxies=["127.0.0.0/8"])
    tls.get("web", headers={"X-Forwarded-For": "203.0.113.9, 198.51.100.7", "X-Forwarded-Proto": "http"})
    assert web.seen[-1]["x-forwarded-for"] == f"203.0.113.9, 198.51.100.7, {CLIENT}"
    assert web.seen[-1]["x-real-ip"] == "198.51.100.7"
    assert web.seen[-1]["x-forwarded-proto"] == "http"
    tls.get("web")
    assert (web.seen[-1]["x-forwarded-for"], web.seen[-1]["x-real-ip"], web.seen[-1]["x-forwarded-proto"]) == (CLIENT, CLIENT, "https")
    ask(tls.http_port, f"web.{DOMAIN}", {"X-Forwarded-For": "203.0.113.9"})
    assert (web.seen[-1]["x-forwarded-for"], web.seen[-1]["x-real-ip"]) == ("203.0.113.9, 127.0.0.1", "203.0.113.9")


@pytest.mark.parametrize(
    ("sent", "client"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("203.0.113.9, 127.0.0.2", "203.0.113.9"),
        ("198.51.100.1, 203.0.113.9, 127.0.0.2, 127.0.0.3", "203.0.113.9"),
        ("203.0.113.9,127.0.0.2,  127.0.0.3, 127.0.0.4", "203.0.113.9"),
        ("127.0.0.4, 127.0.0.2", "127.0.0.4"),
        ("203.0.113.9:4711, 127.0.0.2", "203.0.113.9"),
        ("2001:db8::9, 127.0.0.2", "2001:db8::9"),
        ("203.0.113.9, unknown, 127.0.0.2", "127.0.0.2"),
        ("unknown", CLIENT),
    ],
)
def test_the_client_behind_several_proxies_is_the_same_over_http_and_https(
    consul: Consul,
    backends: Backends,
    tls: Tls,
    sent: str,
    client: str,
) -> None:
    web = backends.http("web")
    consul.register("web", web.server_address[1], address="127.0.0.1", meta={"edge_https": "both"})
    tls.start(trusted_proxies=["127.0.0.0/8"])
    headers = {"X-Forwarded-For": sent}
    assert tls.get("web", headers=headers)[0] == 200
    assert ask(tls.http_port, f"web.{DOMAIN}", headers, source=CLIENT)[0] == 200
    assert [seen["x-real-ip"] for seen in web.seen] == [client, client]


def test_a_proxy_that_has_ended_tls_is_not_redirected_to_tls(consul: Consul, backends: Backends, tls: Tls) -> None:
    """It would come back as it was, for ever."""
    web = backends.http("web")
    consul.register("web", web.server_address[1], address="127.0.0.1", meta={"edge_https": "redirect"})
    consul.register("ill", web.server_address[1], address="127.0.0.1", status="critical", meta={"edge_https": "redirect"})
    tls.start(trusted_proxies=["127.0.0.2/32"])
    https = {"X-Forwarded-Proto": "https"}
    for name, status in (("web", 200), ("ill", 503)):
        assert ask(tls.http_port, f"{name}.{DOMAIN}", https, source="127.0.0.2")[0] == status
        # Its clients without TLS, and whoever only says so.
        for headers, source in (({"X-Forwarded-Proto": "http"}, "127.0.0.2"), ({}, "127.0.0.2"), (https, "127.0.0.3"), ({}, "127.0.0.3")):
            assert ask(tls.http_port, f"{name}.{DOMAIN}", headers, source=source)[0] == 308, (name, headers, source)
    assert {seen["x-forwarded-proto"] for seen in web.seen} == {"https"}
    assert plain(tls.http_port, "web", "/a?b") == (308, f"https://web.{DOMAIN}:{tls.port}/a?b")
    assert tls.get("web")[:2] == (200, "web")


def test_an_untrusted_client_is_not_believed(consul: Consul, backends: Backends, tls: Tls) -> None:
    """nginx itself, which passes the connection on, is no trusted proxy."""
    web = backends.http("web")
    consul.register("web", web.server_address[1], address="127.0.0.1")
    tls.start(trusted_proxies=["192.0.2.0/24"])
    tls.get("web", headers={"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "http"})
    assert web.seen[-1]["x-forwarded-for"] == web.seen[-1]["x-real-ip"] == CLIENT
    assert web.seen[-1]["x-forwarded-proto"] == "https"


def test_canaries_over_tls(consul: Consul, backends: Backends, tls: Tls) -> None:
    stable, canary = backends.http("stable"), backends.http("canary")
    consul.register("web", stable.server_address[1], address="127.0.0.1")
    consul.register("web", canary.server_address[1], address="127.0.0.1", meta={"edge_canary": "true", "edge_canary_share": "0"})
    tls.start()
    assert tls.get("web")[1] == "stable"
    assert tls.get("web", headers={"X-Canary": "always"})[1] == "canary"


def test_every_tls_option_is_accepted_by_nginx(consul: Consul, render: Render, tls: Tls, nginx: Nginx) -> None:
    for number in range(3):
        consul.register(f"web{number}", 8000, tags=["http", "tls"] if number else ["http"], meta={"edge_https": "both"})
    consul.register("ill", 8000, tags=["http", "tls"], status="critical")
    more: list[dict[str, t.Any]] = [
        {"tls": tls.options(profile="modern", http2="off", hsts_max_age=1, https="off"), "log_format": "text", "ipv6": True},
        {"tls": tls.options(), "http_access_log": "off", "tcp_access_log": "off", "trusted_proxies": ["192.0.2.0/24", "2001:db8::/32"]},
    ]
    for options in more:
        nginx.test(render("http", **options).text, render("tcp", **options).text)
