# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the edge treats instances and clients, asked of a real nginx: reuse, another try, balance, limits, and changes under open connections."""

from __future__ import annotations

import collections
import contextlib
import http.client
import re
import socket
import ssl
import threading
import time
import typing as t
from pathlib import Path

import pytest
from edge_rig import DOMAIN, Backends, Consul, Nginx, Rendered, ask, free_port, make_certificate, poll, say

Render = t.Callable[..., Rendered]
EdgeFixture = t.Callable[..., int]


def request(port: int, name: str, method: str = "GET", path: str = "/", body: bytes = b"", headers: dict[str, str] | None = None) -> tuple[int, str]:
    """Status and body of one request over HTTP."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, body=body or None, headers={"Host": f"{name}.{DOMAIN}", **(headers or {})})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


# -- instances --------------------------------------------------------------------------------------------------------------


def test_connections_to_instances_are_reused(consul: Consul, backends: Backends, edge: EdgeFixture) -> None:
    web = backends.http("web")
    consul.register("web", web.server_address[1], address="127.0.0.1")
    port = edge()
    assert all(ask(port, f"web.{DOMAIN}") == (200, "web") for _ in range(30))
    # One for each of the two workers.
    assert web.connections <= 2


def test_without_keepalive_they_are_not(consul: Consul, backends: Backends, edge: EdgeFixture) -> None:
    web = backends.http("web")
    consul.register("web", web.server_address[1], address="127.0.0.1")
    port = edge(keepalive=0)
    assert all(ask(port, f"web.{DOMAIN}") == (200, "web") for _ in range(5))
    assert web.connections == 5


def test_only_what_is_safe_is_sent_twice(consul: Consul, backends: Backends, edge: EdgeFixture) -> None:
    """An instance that takes a request and hangs up may have done what it was asked to."""
    closing = backends.closing("closing")
    consul.register("get", closing.server_address[1], address="127.0.0.1")
    consul.register("get", backends.http("good").server_address[1], address="127.0.0.1")
    consul.register("post", closing.server_address[1], address="127.0.0.1")
    consul.register("post", closing.server_address[1], address="127.0.0.2")
    port = edge(max_fails=0)
    assert {request(port, "get") for _ in range(6)} == {(200, "good")}
    assert "GET" in closing.seen
    closing.seen.clear()
    for method in ("POST", "PATCH"):
        assert request(port, "post", method, body=b"x")[0] == 502
        assert closing.seen == [method]
        closing.seen.clear()


def test_a_request_that_was_never_sent_is_tried_elsewhere(consul: Consul, backends: Backends, edge: EdgeFixture) -> None:
    good = backends.http("good")
    consul.register("web", good.server_address[1], address="127.0.0.1")
    consul.register("web", free_port(), address="127.0.0.1")
    port = edge(max_fails=0)
    assert {request(port, "web", "POST", body=b"x") for _ in range(6)} == {(200, "good")}


class Stalled:
    """An instance whose queue of connections is full, so that the kernel drops what comes: just what a lost packet looks like. It answers from
    :meth:`go_on` on."""

    def __init__(self, identity: str) -> None:
        self.identity, self.fillers = identity, []
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(0)
        self.port = self.listener.getsockname()[1]
        while len(self.fillers) < 20:
            filler = socket.socket()
            filler.settimeout(0.3)
            try:
                filler.connect(("127.0.0.1", self.port))
            except TimeoutError:
                filler.close()
                return
            self.fillers.append(filler)
        pytest.fail("the queue is never full")

    def dropped(self) -> bool:
        """Whether somebody waits for an answer to the first packet of a connection (state 02 of the kernel's table)."""
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return any(row[3] == "02" and row[2].endswith(f":{self.port:04X}") for row in rows)

    def go_on(self) -> None:
        """Accept and answer from now on, over HTTP or else with a line."""
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection = self.listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            said = connection.recv(4096)
            if said.startswith((b"GET ", b"POST ")):
                length = len(self.identity)
                connection.sendall(f"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{self.identity}".encode())
            elif said:
                connection.sendall(f"{self.identity} x\n".encode())

    def stop(self) -> None:
        """End."""
        for filler in self.fillers:
            filler.close()
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


@pytest.fixture
def stalled() -> t.Iterator[t.Callable[[str], Stalled]]:
    """Makes instances that do not take connections, for a while."""
    made: list[Stalled] = []

    def make(identity: str) -> Stalled:
        made.append(Stalled(identity))
        return made[-1]

    yield make
    for one in made:
        one.stop()


def in_background(work: t.Callable[[], t.Any]) -> t.Callable[[], t.Any]:
    """Begin something; what is returned waits for its result."""
    results: list[t.Any] = []
    thread = threading.Thread(target=lambda: results.append(work()), daemon=True)
    thread.start()

    def result() -> t.Any:
        thread.join(30)
        return results[0] if results else "nothing within 30 s"

    return result


def until_one_is_waited_for(instances: list[Stalled], ask_for: t.Callable[[int], t.Any]) -> list[bool]:
    """Ask one instance after the other, each of which takes connections as soon as nginx has met it; true for one that answers.

    With the limits of the product, a machine that is busy for half a second loses the race. It does not lose it every time.
    """
    answered: list[bool] = []
    for number, instance in enumerate(instances):
        answer = in_background(lambda number=number: ask_for(number))
        poll("nginx waits for the instance", instance.dropped)
        instance.go_on()
        answered.append(instance.identity in str(answer()))
        if answered[-1]:
            break
    return answered


TRIES = range(4)


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("gray", [False, True])
def test_a_lost_packet_to_the_only_instance_is_a_wait(
    consul: Consul, backends: Backends, edge: EdgeFixture, stalled: t.Callable[[str], Stalled], method: str, gray: bool
) -> None:
    """A kernel sends the first packet of a connection again after one second. Canaries are no second instance of the others' requests."""
    instances = [stalled(f"only-{number}") for number in TRIES]
    for number, only in enumerate(instances):
        consul.register(f"web{number}", only.port, address="127.0.0.1")
        if gray:
            meta = {"edge_canary": "true", "edge_canary_share": "0"}
            consul.register(f"web{number}", backends.http("canary").server_address[1], address="127.0.0.1", meta=meta)
    port = edge()
    body = b"x" if method == "POST" else b""
    assert any(until_one_is_waited_for(instances, lambda number: request(port, f"web{number}", method, body=body)))


def test_a_dead_canary_is_not_waited_for(consul: Consul, backends: Backends, edge: EdgeFixture, stalled: t.Callable[[str], Stalled]) -> None:
    """It has the stable instance behind it, be that the only one."""
    canary = stalled("canary")
    consul.register("web", backends.http("stable").server_address[1], address="127.0.0.1")
    consul.register("web", canary.port, address="127.0.0.1", meta={"edge_canary": "true", "edge_canary_share": "100"})
    # Whoever waited for the canary would get no answer from the client's point of view.
    port = edge(only_connect_timeout="5m")
    for method, body in (("GET", b""), ("POST", b"x" * 200_000)):
        assert request(port, "web", method, body=body) == (200, "stable")
    assert request(port, "web", headers={"X-Canary": "never"}) == (200, "stable")


def test_a_lost_packet_behind_a_dead_canary_is_a_wait(consul: Consul, edge: EdgeFixture, stalled: t.Callable[[str], Stalled]) -> None:
    instances = [stalled(f"only-{number}") for number in TRIES]
    for number, only in enumerate(instances):
        consul.register(f"web{number}", only.port, address="127.0.0.1")
        consul.register(f"web{number}", free_port(), address="127.0.0.1", meta={"edge_canary": "true", "edge_canary_share": "100"})
    port = edge()
    assert any(until_one_is_waited_for(instances, lambda number: request(port, f"web{number}", "POST", body=b"x")))


def test_a_canary_next_to_an_only_instance_gets_its_requests(consul: Consul, backends: Backends, edge: EdgeFixture) -> None:
    """Whole, counted once, and with everything that the edge adds."""
    stable, canary = backends.http("stable"), backends.http("canary")
    consul.register("web", stable.server_address[1], address="127.0.0.1")
    consul.register("web", canary.server_address[1], address="127.0.0.1", meta={"edge_canary": "true", "edge_canary_share": "50"})
    port = edge(rate_limit=1, rate_limit_burst=40)
    assert request(port, "web", "POST", "/a%20b?c=d", b"x" * 200_000, {"X-Canary": "always"}) == (200, "canary")
    assert (canary.seen[-1]["host"], canary.seen[-1]["content-length"]) == (f"web.{DOMAIN}", "200000")
    found = collections.Counter(request(port, "web")[1] for _ in range(30))
    assert set(found) == {"stable", "canary"}, found
    assert {request(port, "web", headers={"X-Canary": choice}) for choice in ("always", "never")} == {(200, "canary"), (200, "stable")}


def test_a_lost_packet_to_the_only_tcp_instance_is_a_wait(consul: Consul, edge: EdgeFixture, stalled: t.Callable[[str], Stalled]) -> None:
    instances, ports = [stalled(f"only-{number}") for number in TRIES], [free_port() for _ in TRIES]
    for public, only in zip(ports, instances):
        consul.register(f"db-{public}", only.port, address="127.0.0.1", tags=["tcp"])
    edge(ports)
    assert any(until_one_is_waited_for(instances, lambda number: say(ports[number], "x")))


def client_hello(host: str) -> bytes:
    """What a TLS client sends first."""
    outgoing = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=host)
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


@pytest.mark.parametrize(
    ("certificates", "options"),
    [(False, {}), (True, {}), (False, {"next_upstream_tries": 1}), (True, {"next_upstream_tries": 2, "next_upstream_timeout": "500ms"})],
)
def test_the_only_instance_behind_the_tls_port_is_tried_again(
    consul: Consul,
    backends: Backends,
    edge: EdgeFixture,
    stalled: t.Callable[[str], Stalled],
    certificates: bool,
    options: dict[str, t.Any],
    tmp_path: Path,
) -> None:
    """One limit holds for all names there, and it is a short one for the sake of those with several instances.

    What the operator says about tries of several instances takes none from the only one."""
    instances, tls_port = [stalled(f"only-{number}") for number in TRIES], free_port()
    for number, only in enumerate(instances):
        consul.register(f"only{number}", only.port, address="127.0.0.1", tags=["tls"])
    for number in range(2):
        consul.register("several", backends.echo(f"e{number}").server_address[1], address="127.0.0.1", tags=["tls"])
    sockets = {"socket_directory": str(tmp_path / "s"), "certificate_directory": str(tmp_path)}
    if certificates:
        (tmp_path / "s").mkdir(mode=0o711)
        make_certificate(tmp_path / "apps.pem", f"*.{DOMAIN}")
    tls = {"certificates": [{"name": "apps"}] if certificates else [], **sockets}
    edge([tls_port], tls_port=tls_port, tls=tls, **options)

    def first_answer(number: int) -> bytes:
        with socket.create_connection(("127.0.0.1", tls_port), 10) as connection:
            connection.sendall(client_hello(f"only{number}.{DOMAIN}"))
            return connection.recv(100)

    assert any(until_one_is_waited_for(instances, first_answer))


def test_a_lost_packet_does_not_mark_an_instance_as_failed(consul: Consul, backends: Backends, edge: EdgeFixture, stalled: t.Callable[[str], Stalled]) -> None:
    """Another instance answers meanwhile, at once, and the one that was not reached gets its share right afterwards."""
    slow, public = stalled("slow"), free_port()
    consul.register("web", slow.port, address="127.0.0.1")
    consul.register("web", backends.http("good").server_address[1], address="127.0.0.1")
    consul.register(f"db-{public}", slow.port, address="127.0.0.1", tags=["tcp"])
    consul.register(f"db-{public}", backends.echo("good").server_address[1], address="127.0.0.1", tags=["tcp"])
    port = edge([public])
    # Two in turn, so that one of them meets the instance that takes no connection.
    assert {request(port, "web") for _ in range(2)} == {(200, "good")}
    assert {say(public, "x").split()[0] for _ in range(2)} == {"good"}
    slow.go_on()
    assert (200, "slow") in {request(port, "web") for _ in range(2)}
    assert "slow" in {say(public, "x").split()[0] for _ in range(4)}


def test_a_silent_instance_is_left_after_the_read_time(consul: Consul, backends: Backends, edge: EdgeFixture) -> None:
    silent, good = backends.http("silent"), backends.http("good")
    good.gate.set()
    consul.register("web", silent.server_address[1], address="127.0.0.1", meta={"edge_weight": "100"})
    consul.register("web", good.server_address[1], address="127.0.0.1")
    port = edge(read_timeout="1s")
    assert {request(port, "web", path="/slow") for _ in range(3)} == {(200, "good")}
    assert silent.asked.is_set()


def test_tcp_goes_to_the_instance_with_the_fewest_connections(consul: Consul, backends: Backends, edge: EdgeFixture) -> None:
    public = free_port()
    for name in ("a", "b"):
        consul.register(f"echo-{public}", backends.echo(name).server_address[1], address="127.0.0.1", tags=["tcp"])
    edge([public])

    def connect() -> tuple[str, socket.socket]:
        connection = socket.create_connection(("127.0.0.1", public), 10)
        connection.sendall(b"x\n")
        return connection.makefile().readline().split()[0], connection

    held = [connect() for _ in range(6)]
    try:
        for name, connection in held:
            if name == "a":
                connection.close()
        # In turn, every second one would be b's. nginx has to see first that those of a are gone.
        row: list[str] = []
        deadline = time.monotonic() + 20
        while row[-2:] != ["a", "a"] and time.monotonic() < deadline:
            name, connection = connect()
            row.append(name)
            if name == "a":
                held.append((name, connection))
            else:
                connection.close()
                time.sleep(0.05)
        assert row[-2:] == ["a", "a"], row
    finally:
        for _, connection in held:
            connection.close()


# -- clients ----------------------------------------------------------------------------------------------------------------


def test_the_version_of_nginx_is_not_told(consul: Consul, backends: Backends, edge: EdgeFixture) -> None:
    consul.register("ill", backends.http("x").server_address[1], address="127.0.0.1", status="critical")
    consul.register("dead", free_port(), address="127.0.0.1")
    port = edge()
    for name, status in (("ill", 503), ("dead", 502), ("unknown", 404)):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/", headers={"Host": f"{name}.{DOMAIN}"})
        answer = connection.getresponse()
        page = answer.read().decode()
        connection.close()
        assert (answer.status, answer.headers["Server"]) == (status, "nginx")
        assert not re.search(r"nginx/\d", page)


def test_a_body_that_is_too_large_is_refused(consul: Consul, backends: Backends, edge: EdgeFixture) -> None:
    web = backends.http("web")
    consul.register("web", web.server_address[1], address="127.0.0.1")
    port = edge(client_max_body_size="1k")
    assert request(port, "web", "POST", body=b"x" * 1000)[0] == 200
    assert request(port, "web", "POST", body=b"x" * 2000)[0] == 413
    assert len(web.seen) == 1


def test_a_client_that_is_too_fast_is_refused(consul: Consul, backends: Backends, edge: EdgeFixture) -> None:
    """At the service where it is too fast, and no other client."""
    web = backends.http("web")
    for name in ("web", "other"):
        consul.register(name, web.server_address[1], address="127.0.0.1")
    port = edge(rate_limit=1, rate_limit_burst=4)
    # 40 requests would take 35 seconds at that rate, and take a fraction of one.
    spread = collections.Counter(ask(port, f"web.{DOMAIN}")[0] for _ in range(40))
    assert set(spread) == {200, 429} and spread[200] >= 5, spread
    assert len(web.seen) == spread[200]
    assert ask(port, f"other.{DOMAIN}")[0] == 200
    assert ask(port, f"web.{DOMAIN}", source="127.0.0.9")[0] == 200


@pytest.mark.parametrize("form", ["json", "text"])
def test_the_log_names_service_and_instance_and_times(consul: Consul, backends: Backends, edge: EdgeFixture, nginx: Nginx, form: str) -> None:
    web, echo, public = backends.http("web"), backends.echo("echo"), free_port()
    consul.register("web", web.server_address[1], address="127.0.0.1")
    consul.register("echo", echo.server_address[1], address="127.0.0.1", tags=["tcp"], meta={"edge_port": str(public)})
    port = edge([public], log_format=form)
    ask(port, f"web.{DOMAIN}")
    say(public, "x")

    def line(side: str, server: t.Any) -> str:
        path: Path = nginx.directory / f"{side}.log"
        at = f"127.0.0.1:{server.server_address[1]}"
        return str(poll(f"the {side} log has the request", lambda: [text for text in path.read_text().splitlines() if at in text])[0])

    sides = {"http": line("http", web), "tcp": line("tcp", echo)}
    for side, keys in {"http": ["connect_time", "header_time", "response_time"], "tcp": ["connect_time", "session_time"]}.items():
        text = sides[side]
        for key in keys:
            assert re.search(rf'"?{key}"?[:=]"?\d+\.\d+', text), (key, text)
        service = "web" if side == "http" else "echo"
        assert f'"service":"{service}"' in text or f"service={service} " in text


# -- changes ----------------------------------------------------------------------------------------------------------------


def test_open_connections_live_through_a_change_of_weights(consul: Consul, backends: Backends, render: Render, nginx: Nginx) -> None:
    """The weight of an instance goes to 0 and nginx takes it: what is open there goes on, what is new goes elsewhere, and no request fails."""
    port, public = free_port(), free_port()
    old, new = backends.http("old"), backends.http("new")
    old_echo, new_echo = backends.echo("old"), backends.echo("new")
    settings = {"http_port": port, "tls_port": free_port(), "allow_loopback": True, "listen_addresses": ["127.0.0.1"]}

    def catalogue(old_weight: str, new_weight: str) -> tuple[str, str]:
        for number, (weight, web, echo) in enumerate(((old_weight, old, old_echo), (new_weight, new, new_echo))):
            meta = {"edge_weight": weight, "edge_port": str(public)}
            for name, server, tag in (("web", web, "http"), ("echo", echo, "tcp")):
                consul.register(name, server.server_address[1], address="127.0.0.1", tags=[tag], meta=meta, node=f"n{number}", instance=f"{name}-{number}")
        return render("http", **settings).text, render("tcp", **settings).text

    nginx.start(*catalogue("100", "0"), [port, public])
    tcp = socket.create_connection(("127.0.0.1", public), 30)
    tcp_lines = tcp.makefile("rw")
    socket_like = socket.create_connection(("127.0.0.1", port), 30)
    web_lines = socket_like.makefile("rwb")
    slow: list[tuple[int, str]] = []
    waiting = threading.Thread(target=lambda: slow.append(request(port, "web", "POST", "/slow", b"x")))
    stopped, failures, done = threading.Event(), [], collections.Counter()

    def load() -> None:
        while not stopped.is_set():
            try:
                answer = request(port, "web")
            except (OSError, http.client.HTTPException) as error:
                failures.append(repr(error))
                continue
            done[answer] += 1

    clients = [threading.Thread(target=load) for _ in range(3)]
    try:
        tcp_lines.write("before\n")
        tcp_lines.flush()
        assert tcp_lines.readline() == "old before\n"
        web_lines.write(f"GET / HTTP/1.1\r\nHost: web.{DOMAIN}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n".encode())
        web_lines.flush()
        assert web_lines.readline().startswith(b"HTTP/1.1 101")
        while web_lines.readline().strip():
            pass
        waiting.start()
        assert old.asked.wait(20)
        for client in clients:
            client.start()
        poll("the load is on", lambda: done.total() > 20)
        for weights in (("50", "50"), ("10", "100"), ("0", "100")):
            nginx.reload(*catalogue(*weights))
        poll("new requests go to the other instance", lambda: request(port, "web") == (200, "new"))
        assert say(public, "x") == "new x"
        # What was open before is still the old instance's, and works.
        tcp_lines.write("after\n")
        tcp_lines.flush()
        assert tcp_lines.readline() == "old after\n"
        web_lines.write(b"both ways\n")
        web_lines.flush()
        assert web_lines.readline() == b"both ways\n"
        old.gate.set()
        waiting.join(30)
        assert slow == [(200, "old")]
    finally:
        stopped.set()
        old.gate.set()
        for client in clients:
            if client.ident:
                client.join(30)
        tcp.close()
        socket_like.close()
    assert failures == []
    assert set(done) == {(200, "old"), (200, "new")}, done


# -- names ------------------------------------------------------------------------------------------------------------------


def test_upstreams_and_zones_of_all_sides_are_apart(consul: Consul, render: Render, nginx: Nginx) -> None:
    """Services that are called like the building blocks of the names."""
    names = ["http", "tcp", "tls", "canary", "internal", "internal_http", "http_a", "a", "edge_tls", "passed", "edge_passed", "unknown", "edge-unknown"]
    tags = ["http", "tcp", "tls", "http-internal", "tcp-internal"]
    for number, name in enumerate(names):
        for instance in range(2):
            meta = {"edge_port": str(9000 + number), **({"edge_canary": "true"} if instance else {})}
            consul.register(name, 8000 + instance, tags=tags, meta=meta)
    options = {"internal": {"listen_addresses": ["127.0.0.2"]}, "listen_addresses": ["127.0.0.1"]}
    sides = [render("http", **options), render("tcp", **options)]
    nginx.test(*(side.text for side in sides))
    # Those for servers of the operator have no zone.
    for pattern, count in ((r"^upstream (\S+) {", 11), (r"^ +zone (\S+) ", 7)):
        found = [name.lower() for side in sides for name in re.findall(pattern, side.text, re.MULTILINE)]
        assert len(found) == len(set(found)) == count * len(names), pattern
    assert all(side.served() == set(names) for side in sides)
