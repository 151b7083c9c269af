# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One client that takes all it can get, asked of a real nginx: the others are served."""

from __future__ import annotations

import collections
import contextlib
import resource
import select
import socket
import ssl
import sys
import typing as t

import pytest
import yaml
from edge_rig import CLIENT, DOMAIN, ROLE, Backends, Consul, Nginx, Rendered, Tls, ask, free_port, poll, say

from ansible_collections.trinode.platform.plugins.plugin_utils._edge.options import SCHEMA

sys.path.insert(0, str(ROLE / "files"))
from nginx_edge.limited import Counted, logs_of

EdgeFixture = t.Callable[..., int]
GREEDY, OTHER = "127.0.0.2", "127.0.0.3"
# Two workers with 1,024 connections each: more requests than both have room for.
MANY = 2300


@pytest.fixture(name="web")
def running_web(consul: Consul, backends: Backends) -> t.Any:
    """An instance of the service web."""
    server = backends.http("web")
    consul.register("web", server.server_address[1], address="127.0.0.1")
    return server


@contextlib.contextmanager
def many_files() -> t.Iterator[None]:
    """Let this process have as many connections open as the test needs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 3 * MANY)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Slow:
    """Requests of one address that never become complete."""

    def __init__(self) -> None:
        self.open: list[socket.socket] = []
        self.answers: collections.Counter[bytes] = collections.Counter()

    def send(
        self,
        port: int,
        count: int,
        source: str = GREEDY,
        header: str = "",
        host: str = f"web.{DOMAIN}",
    ) -> None:
        """Send so many more, each with one byte of its body."""
        head = f"POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1000\r\n{header}\r\nx"
        for _ in range(count):
            client = socket.create_connection(("127.0.0.1", port), 10, (source, 0))
            client.sendall(head.encode())
            self.open.append(client)
            if len(self.open) % 50 == 0:
                self.answered()

    def go_on(self) -> None:
        """Send one more byte of each."""
        for client in self.open:
            with contextlib.suppress(OSError):
                client.sendall(b"x")

    def answered(self) -> int:
        """How many were answered, up to now."""
        poller = select.poll()
        clients = {client.fileno(): client for client in self.open}
        for number in clients:
            poller.register(number, select.POLLIN)
        for number, _ in poller.poll(0):
            try:
                answer = clients[number].recv(4096)
            except OSError:
                answer = b"closed"
            self.answers[answer.split(b"\r\n")[0]] += 1
            self.open.remove(clients[number])
            clients[number].close()
        return self.answers.total()

    def close(self) -> None:
        """Give up."""
        for client in self.open:
            client.close()


@pytest.fixture(name="slow")
def slow_requests() -> t.Iterator[Slow]:
    """Requests that are given up in the end."""
    with many_files():
        requests = Slow()
        yield requests
        requests.close()


@pytest.mark.usefixtures("web")
def test_slow_requests_of_one_client_leave_room_for_others(edge: EdgeFixture, slow: Slow) -> None:
    port = edge()
    slow.send(port, MANY)

    def others_are_served() -> bool:
        slow.go_on()
        slow.answered()
        return ask(port, f"web.{DOMAIN}", source=OTHER) == (200, "web")

    poll("another client is served", others_are_served)
    assert all(others_are_served() for _ in range(8))
    assert slow.answers[b"HTTP/1.1 429 Too Many Requests"] > 0
    assert len(slow.open) == 1000
    assert ask(port, f"web.{DOMAIN}", source=GREEDY)[0] == 429


@pytest.mark.usefixtures("web")
def test_a_network_without_limits(edge: EdgeFixture, slow: Slow) -> None:
    port = edge(request_limit=5, connection_limit=5, rate_limit=1, rate_limit_burst=0, unlimited_networks=[f"{GREEDY}/32"])
    slow.send(port, 20)
    assert {ask(port, f"web.{DOMAIN}", source=GREEDY) for _ in range(8)} == {(200, "web")}
    assert not slow.answered()
    slow.send(port, 20, OTHER)
    poll("what is too much is refused", lambda: slow.answered() >= 15)


@pytest.mark.usefixtures("web")
def test_clients_behind_a_trusted_proxy_count_one_by_one(edge: EdgeFixture, slow: Slow) -> None:
    port = edge(request_limit=5, trusted_proxies=[f"{GREEDY}/32"])
    slow.send(port, 10, header="X-Forwarded-For: 203.0.113.1\r\n")
    poll("what is too much is refused", lambda: slow.answered() == 5)
    others = [{"X-Forwarded-For": "203.0.113.2"}, {}]
    assert {ask(port, f"web.{DOMAIN}", headers, source=GREEDY) for headers in others} == {(200, "web")}
    assert ask(port, f"web.{DOMAIN}", {"X-Forwarded-For": "203.0.113.1"}, source=GREEDY)[0] == 429


@pytest.mark.usefixtures("web")
def test_a_client_has_a_whole_network_of_ipv6(edge: EdgeFixture, slow: Slow) -> None:
    port = edge(request_limit=5, trusted_proxies=[f"{GREEDY}/32"])
    for number in range(10):
        slow.send(port, 1, header=f"X-Forwarded-For: 2001:db8:0:1::{number + 9:x}\r\n")
    poll("what is too much is refused", lambda: slow.answered() == 5)
    for address, status in (("2001:db8:0:1:ffff::a0a", 429), ("2001:db8:0:2::9", 200)):
        assert ask(port, f"web.{DOMAIN}", {"X-Forwarded-For": address}, source=GREEDY)[0] == status


def test_connections_of_one_client_leave_room_for_others(
    consul: Consul,
    backends: Backends,
    edge: EdgeFixture,
) -> None:
    """To a TCP service and to the TLS port together."""
    public, shared = free_port(), free_port()
    consul.register(f"echo-{public}", backends.echo("echo").server_address[1], tags=["tcp"], address="127.0.0.1")
    own, _ = backends.tls("own", f"own.{DOMAIN}")
    consul.register("own", own.server_address[1], tags=["tls"], address="127.0.0.1")
    edge([public, shared], tls_port=shared, connection_limit=6)
    with contextlib.ExitStack() as held:

        def connect(port: int) -> socket.socket:
            return held.enter_context(socket.create_connection(("127.0.0.1", port), 10, (GREEDY, 0)))

        for _ in range(5):
            connection = connect(public)
            connection.sendall(b"x\n")
            assert connection.recv(100) == b"echo x\n"
        assert say(public, "x", source=GREEDY) == "echo x"
        poll("the TLS port counts, too", lambda: connect(shared) and say(public, "x", source=GREEDY) == "")
        assert {say(public, "x", source=OTHER) for _ in range(4)} == {"echo x"}
    poll("the client is served again", lambda: say(public, "x", source=GREEDY) == "echo x")


# The defaults are for a worker of 16,384 connections; this one has a sixteenth, and a client may have a sixteenth.
SMALL = 16


@pytest.mark.parametrize("limited", [True, False])
def test_one_client_leaves_connections_of_the_only_worker_to_others(
    consul: Consul,
    backends: Backends,
    tls: Tls,
    nginx: Nginx,
    limited: bool,
) -> None:
    """Over TLS, where each request takes four connections: of the client, two for the edge's own socket, and of the instance.

    Without limits, the same client takes all of them: what it does is enough."""
    web, other = backends.http("web"), backends.http("other")
    consul.register("web", web.server_address[1], address="127.0.0.1", meta={"edge_https": "both"})
    consul.register("other", other.server_address[1], address="127.0.0.1", meta={"edge_https": "both"})
    role = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())
    nginx.worker_processes, nginx.worker_connections = 1, role["nginx_worker_connections"] // SMALL
    limits = {option.name: option.default // SMALL if limited else 0 for option in SCHEMA if option.name in ("request_limit", "connection_limit")}
    tls.start(**limits)
    log = nginx.directory / "error.log"
    asked = f"GET /slow HTTP/1.1\r\nHost: web.{DOMAIN}\r\n\r\n".encode()
    with many_files(), contextlib.ExitStack() as held:
        # More than enough, if each takes four.
        for _ in range(nginx.worker_connections // 4 + 50):
            if "worker_connections are not enough" in log.read_text():
                break
            with contextlib.suppress(OSError):
                held.enter_context(tls.connect("web", source=GREEDY)).sendall(asked)
                held.enter_context(socket.create_connection(("127.0.0.1", tls.http_port), 10, (GREEDY, 0))).sendall(asked)
        exhausted = "worker_connections are not enough" in log.read_text()
        assert exhausted is not limited
        if limited:
            for _ in range(4):
                assert ask(tls.http_port, f"other.{DOMAIN}", source=OTHER) == (200, "other")
                with tls.connect("other", source=OTHER) as connection:
                    connection.sendall(f"GET / HTTP/1.1\r\nHost: other.{DOMAIN}\r\nConnection: close\r\n\r\n".encode())
                    assert connection.makefile().read().endswith("other")
            assert ask(tls.http_port, f"web.{DOMAIN}", source=GREEDY)[0] == 429
        web.gate.set()


def test_an_idle_connection_over_tls_is_closed_soon(consul: Consul, backends: Backends, tls: Tls) -> None:
    """It counts for the limit of its client until then."""
    consul.register("web", backends.http("web").server_address[1], address="127.0.0.1")
    tls.start({"keepalive_timeout": "1s"}, connection_limit=1)
    with tls.connect("web") as idle:
        idle.sendall(f"GET / HTTP/1.1\r\nHost: web.{DOMAIN}\r\n\r\n".encode())
        assert idle.recv(4096).startswith(b"HTTP/1.1 200")
        with pytest.raises((ssl.SSLError, OSError)):
            tls.connect("web")

        def another() -> bool:
            with tls.connect("web") as connection:
                return connection.version() is not None

        poll("the idle connection is closed, and another one is taken", another)


@pytest.mark.parametrize("form", ["json", "text"])
def test_the_logs_name_the_limit_that_refused(
    consul: Consul,
    backends: Backends,
    edge: EdgeFixture,
    nginx: Nginx,
    slow: Slow,
    form: str,
) -> None:
    """What the status page and the metrics count."""
    public = free_port()
    consul.register("web", backends.http("web").server_address[1], address="127.0.0.1")
    consul.register(f"echo-{public}", backends.echo("echo").server_address[1], tags=["tcp"], address="127.0.0.1")
    port = edge([public], request_limit=2, connection_limit=1, rate_limit=1, rate_limit_burst=4, log_format=form)
    counted = Counted(str(nginx.directory / "limited.json"))
    logs = sorted({path for name in ("http", "stream") for path in logs_of((nginx.directory / f"{name}.conf").read_text())})
    assert logs == [str(nginx.directory / "http.log"), str(nginx.directory / "tcp.log")]
    counted.follow(logs, 1.0)
    slow.send(port, 3)
    poll("the third request is refused", slow.answered)
    statuses = [ask(port, f"web.{DOMAIN}", source=OTHER)[0] for _ in range(8)]
    assert 429 in statuses
    with socket.create_connection(("127.0.0.1", public), 10, (GREEDY, 0)) as first:
        first.sendall(b"x\n")
        assert first.recv(100) == b"echo x\n"
        assert say(public, "x", source=GREEDY) == ""

    wanted = {"request_limit": 1, "connection_limit": 1, "rate_limit": statuses.count(429)}

    def all_seen() -> bool:
        """Whether every refusal is written: each worker has a buffer of its own."""
        counted.follow(logs, 2.0)
        return all(counted.hits[limit].count >= count for limit, count in wanted.items())

    poll("each refusal was seen in the logs", all_seen)
    found = {limit: (hits.count, hits.client) for limit, hits in counted.hits.items()}
    assert found["request_limit"] == (1, GREEDY) and found["connection_limit"] == (1, GREEDY)
    assert found["rate_limit"] == (statuses.count(429), OTHER)


@pytest.mark.parametrize("certificates", [True, False])
def test_a_connection_that_is_refused_at_the_tls_port_is_counted(
    consul: Consul,
    backends: Backends,
    tls: Tls,
    nginx: Nginx,
    certificates: bool,
) -> None:
    own, certificate = backends.tls("own", f"own.{DOMAIN}")
    consul.register("own", own.server_address[1], tags=["tls"], address="127.0.0.1")
    tls.certificates = tls.certificates if certificates else []
    tls.start(connection_limit=1)
    log = str(nginx.directory / "tcp.log")
    counted = Counted(str(nginx.directory / "limited.json"))
    counted.follow([log], 1.0)
    with tls.connect("own", certificate):
        with pytest.raises((ssl.SSLError, OSError)):
            tls.connect("own", certificate)
        poll("the refusal is in the log", lambda: counted.follow([log], 2.0))
    assert counted.document() == {"connection_limit": {"count": 1, "last": 2.0, "client": CLIENT}}


def test_callers_inside_are_not_limited(
    consul: Consul,
    backends: Backends,
    render: t.Callable[..., Rendered],
    nginx: Nginx,
    slow: Slow,
) -> None:
    """All containers of a node have the same address there."""
    web = backends.http("web")
    consul.register("web", web.server_address[1], address="127.0.0.1", tags=["http-internal"])
    port = free_port()
    internal = {"listen_addresses": ["127.0.0.1"], "http_port": port}
    options = {"internal": internal, "listen_addresses": ["127.0.0.9"], "allow_loopback": True, "tls_port": free_port()}
    nginx.start(*(render(side, request_limit=5, rate_limit=1, rate_limit_burst=0, **options).text for side in ("http", "tcp")), [port])
    slow.send(port, 20, host=f"web.internal.{DOMAIN}")
    assert {ask(port, f"web.internal.{DOMAIN}", source=GREEDY) for _ in range(8)} == {(200, "web")}
    assert not slow.answered()


@pytest.mark.usefixtures("web")
def test_a_slow_body_is_not_waited_for(edge: EdgeFixture, nginx: Nginx, slow: Slow) -> None:
    """A connection without news for the role's time is closed, long before the minute that nginx has by itself."""
    port = edge()
    assert "client_body_timeout 15s;\n" in (nginx.directory / "nginx.conf").read_text()
    slow.send(port, 1)
    poll("the request is given up", slow.answered, 40)
    assert set(slow.answers) <= {b"HTTP/1.1 408 Request Time-out", b"closed", b""}
