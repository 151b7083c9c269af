# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A change goes its whole way, from Consul to the answer of nginx, and nothing on it ends consul-template."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
import typing as t
from pathlib import Path

import pytest
from chain import DOMAIN, Chain, Places
from edge_rig import Consul, tool

if t.TYPE_CHECKING:
    from apply_rig import Edge


@pytest.fixture(scope="module")
def places() -> t.Iterator[Places]:
    """Instances that answer."""
    running = Places()
    yield running
    running.stop()


@pytest.fixture
def consul(tmp_path: Path) -> t.Iterator[Consul]:
    """A Consul of this test alone, which may stop it."""
    directory = tmp_path / "consul"
    directory.mkdir()
    agent = Consul(tool("consul", "CONSUL_BIN"), directory)
    yield agent
    agent.stop()


class Site:
    """Everything, with a catalogue that is easy to change."""

    def __init__(self, edge: Edge, consul: Consul, places: Places) -> None:
        self.edge, self.consul, self.places = edge, consul, places
        edge.configure(shrink_min_services=1000)
        self.chain = Chain(edge, consul.address)

    def register(self, name: str, number: int = 0, **more: t.Any) -> str:
        """An instance; the address that it answers with."""
        place = self.places.address(number, 0)
        self.consul.register(name, self.places.port, **{"address": place, "node": "node", "instance": f"{name}-{number}", **more})
        return place

    def serves(self, name: str, number: int = 0) -> None:
        """Wait until a service is served, whichever worker is asked: for a tenth of a second of a reload, the old ones answer too."""
        place = self.places.address(number, 0)
        self.chain.follows(lambda: self.chain.get(name) == (200, place) and len(self.edge.workers()) == self.edge.worker_count, f"{name} is served at {place}")


@pytest.fixture
def site(edge: Edge, consul: Consul, places: Places) -> t.Iterator[Site]:
    """An edge that follows a Consul, and serves one service."""
    made = Site(edge, consul, places)
    try:
        made.register("old")
        made.serves("old")
        yield made
    finally:
        made.chain.stop()


def test_a_change_goes_its_whole_way(site: Site) -> None:
    site.register("new", 1)
    site.serves("new", 1)
    site.register("echo", 2, tags=["tcp"], meta={"edge_port": str(site.edge.tcp_port)})
    site.chain.follows(lambda: ask_line(site.edge.tcp_port) == site.places.address(2, 0), "the tcp service answers")
    site.consul.ask("PUT", "/v1/catalog/deregister", {"Node": "node", "ServiceID": "new-1"})
    site.chain.follows(lambda: site.chain.get("new")[0] == 404, "a service that is gone is unknown")
    site.register("old", status="critical")
    site.chain.follows(lambda: site.chain.get("old")[0] == 503, "a service without an instance says so")
    assert ask_line(site.edge.tcp_port) == site.places.address(2, 0)


def ask_line(port: int) -> str:
    """What a tcp service answers; nothing without a connection."""
    try:
        with socket.create_connection(("127.0.0.1", port), 10) as connection:
            connection.sendall(b"who\n")
            return connection.recv(4096).decode()
    except OSError:
        return ""


def test_only_the_side_that_changed_is_written_and_nothing_without_a_change(site: Site) -> None:
    site.register("echo", 1, tags=["tcp"], meta={"edge_port": str(site.edge.tcp_port)})
    site.chain.follows(lambda: ask_line(site.edge.tcp_port), "the tcp service answers")
    staged = {name: (site.edge.state / "staging" / name).stat() for name in ("http.conf", "stream.conf")}
    workers, generation = site.edge.workers(), site.edge.status()["generation"]
    # Nothing of this is seen at the edge: no tag, the output of a check, an instance beside that opts out, another datum of a node.
    site.register("hidden", 2, tags=[])
    check = {"Node": "node", "CheckID": "check-old-0", "Name": "check", "Status": "passing", "ServiceID": "old-0", "Output": "still well"}
    site.consul.ask("PUT", "/v1/catalog/register", {"Node": "node", "Address": "192.0.2.250", "Check": check})
    site.register("old", 3, tags=["other"], instance="old-3")
    site.consul.ask("PUT", "/v1/catalog/register", {"Node": "node", "Address": "192.0.2.250", "NodeMeta": {"rack": "2"}})
    # All that is over when the next change, of one side, is served.
    site.register("new", 4)
    site.serves("new", 4)
    now = {name: (site.edge.state / "staging" / name).stat() for name in staged}
    assert (now["stream.conf"].st_ino, now["stream.conf"].st_mtime_ns) == (staged["stream.conf"].st_ino, staged["stream.conf"].st_mtime_ns)
    assert now["http.conf"].st_ino != staged["http.conf"].st_ino
    site.chain.follows(lambda: site.edge.status()["generation"] > generation, "the run has ended")
    assert int(site.edge.status()["generation"]) == int(generation) + 1, "one change, one generation"
    assert not set(workers) & set(site.edge.workers())
    changed = [line for line in site.edge.run("--diff").stdout.splitlines() if line[:1] in "+-" and not line.startswith(("+++", "---"))]
    assert changed and all(line.startswith("+") for line in changed) and not [line for line in changed if "old" in line or "echo" in line], changed


def test_a_header_is_limited_in_time_and_size(site: Site) -> None:
    """With what the role sets: nginx itself would wait a minute."""

    def answer(header: str) -> bytes:
        text = b""
        edge = socket.create_connection(("127.0.0.1", site.edge.http_port), 30)
        # A connection that is given up is reset.
        with edge as connection, contextlib.suppress(ConnectionError):
            connection.sendall(f"GET / HTTP/1.1\r\nHost: old.{DOMAIN}\r\n{header}".encode())
            while data := connection.recv(4096):
                text += data
        return text

    assert answer(f"Cookie: {'x' * 48000}\r\nConnection: close\r\n\r\n").startswith(b"HTTP/1.1 200 ")
    assert answer(f"Cookie: {'x' * 66000}\r\nConnection: close\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    many = answer("".join(f"X-{number}: {'x' * 40000}\r\n" for number in range(9)) + "\r\n")
    assert not many or many.startswith(b"HTTP/1.1 400 ")
    assert answer("X-Slow: ") == b""


def test_a_burst_is_a_few_reloads_and_all_of_it_is_served(site: Site) -> None:
    before = int(site.edge.status()["generation"])
    for number in range(1, 81):
        site.register(f"s{number}", number)
    for number in (1, 40, 80):
        site.serves(f"s{number}", number)
    site.chain.follows(lambda: len(site.edge.status()["services"]) == 81 and site.edge.status()["up_to_date"], "all are served")
    assert int(site.edge.status()["generation"]) - before <= 40, "changes that come together go together"
    # A single change after the storm does not wait for others: it is one run of its own.
    site.chain.follows(lambda: site.edge.status()["up_to_date"], "quiet")
    generation = int(site.edge.status()["generation"])
    site.register("single", 90)
    site.serves("single", 90)
    site.chain.follows(lambda: int(site.edge.status()["generation"]) == generation + 1, "one change, one generation")


def test_in_a_storm_nothing_is_rendered_that_is_replaced_before_it_is_read(site: Site) -> None:
    before, rendered = int(site.edge.status()["generation"]), site.chain.rendered()["http"]
    number, until = 0, time.monotonic() + 20
    while time.monotonic() < until:
        number += 1
        site.register(f"s{number}", number)
        time.sleep(0.05)
    site.serves(f"s{number}", number)
    site.chain.follows(lambda: site.edge.status()["up_to_date"] and len(site.edge.status()["services"]) == number + 1, "quiet")
    runs, renderings = int(site.edge.status()["generation"]) - before, site.chain.rendered()["http"] - rendered
    print(f"{number} changes, {renderings} renderings, {runs} runs")
    assert runs <= 35, "ten at once, then one a second"
    # Those during the first run, and as many as may come between two runs.
    assert renderings <= 2 * runs + 10


def test_a_loss_in_a_storm_is_waited_for_to_its_end(site: Site) -> None:
    """A catalogue that melts away right after another change: the guard sees the whole loss, although renderings are held back in a storm."""
    for number in range(1, 9):
        site.register(f"s{number}", number)
    site.serves("s8", 8)
    site.chain.follows(lambda: site.edge.status()["up_to_date"] and len(site.edge.status()["services"]) == 9, "quiet")
    site.edge.configure()
    # The run of a change that nobody minds, and within a second of it the loss of one service after the other.
    site.register("new", 9)
    site.serves("new", 9)
    for number in range(1, 9):
        site.consul.ask("PUT", "/v1/catalog/deregister", {"Node": "node", "ServiceID": f"s{number}-{number}"})
    site.chain.follows(lambda: (site.edge.status()["refused"] or {}).get("gone_count") == 8, "the whole loss is refused")
    assert [site.chain.get(f"s{number}") for number in range(1, 9)] == [(200, site.places.address(number, 0)) for number in range(1, 9)]


def test_consul_template_outlives_whatever_happens_to_the_apply(site: Site) -> None:
    """Killed in the middle, gone, a full pipe's worth of requests, a program that can't be read, nginx killed: it goes on, and all catches up."""
    chain, edge = site.chain, site.edge
    # Killed in the middle of a change.
    chain.stop_service()
    chain.start_service(NGINX_EDGE_CRASH="swapped")
    site.register("one", 1)
    service = chain.service
    assert service is not None
    chain.follows(lambda: service.poll() == -signal.SIGKILL, "the apply is killed in the middle of the change")
    site.register("two", 2)
    chain.follows(lambda: '"two"' in (edge.state / "staging" / "http.conf").read_text(), "consul-template renders although nobody applies")
    assert chain.get("old")[0] == 200
    chain.start_service()
    site.serves("two", 2)
    # The pipe is gone, as when the socket unit was stopped: the request says so and ends well.
    chain.stop_service()
    chain.pipe.unlink()
    site.register("three", 3)
    chain.follows(lambda: "apply.request is not there" in chain.log.read_text(), "the request says what is missing")
    assert chain.get("two")[0] == 200
    os.mkfifo(chain.pipe)
    chain.start_service()
    site.serves("three", 3)
    # A configuration of the program that can't be read.
    good = edge.config.read_text()
    edge.config.write_text("{")
    site.register("four", 4)
    chain.follows(lambda: "can't be read" in (chain.directory / "apply.log").read_text(), "the reason is in the journal")
    assert chain.get("three")[0] == 200
    edge.config.write_text(good)
    chain.stop_service()
    chain.start_service()
    site.serves("four", 4)
    # nginx is killed with all its workers.
    edge.stop(signal.SIGKILL)
    site.register("five", 5)
    site.serves("five", 5)
    assert chain.template.poll() is None


def test_consul_template_outlives_what_nginx_refuses(site: Site) -> None:
    """The operator's own broken file, and a port that somebody holds: the edge stays as it was, and catches up when the reason is gone."""
    chain, edge = site.chain, site.edge
    broken = edge.etc / "sites-enabled" / "shop"
    broken.write_text("server { listen 127.0.0.1:1; nonsense; }\n")
    site.register("one", 1)
    chain.follows(lambda: (edge.status()["last"] or {}).get("blame") == "operator", "the operator's file is to blame")
    assert "the operator's own file" in edge.status()["last"]["message"] and chain.get("old")[0] == 200 and chain.get("one")[0] == 404
    broken.unlink()
    site.register("two", 2)
    site.serves("one", 1)
    site.serves("two", 2)
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        site.register("echo", 3, tags=["tcp"], meta={"edge_port": str(port)})
        site.register("three", 4)
        site.serves("three", 4)
        chain.follows(lambda: [entry["port"] for entry in edge.status()["skipped"] if "held by" in entry["reason"]] == [port], "the port is told")
    site.register("four", 5)
    chain.follows(lambda: ask_line(port) == site.places.address(3, 0), "the port is taken when it is free")
    assert chain.template.poll() is None


def test_consul_goes_and_comes_back(site: Site, tmp_path: Path) -> None:
    """Without Consul the edge serves on; an empty catalogue that comes back is a shrink, which somebody has to confirm."""
    chain, edge = site.chain, site.edge
    for number in range(1, 6):
        site.register(f"s{number}", number)
    site.serves("s5", 5)
    edge.configure()
    port = site.consul.port
    site.consul.stop()
    chain.follows(lambda: "(retry attempt 2" in chain.log.read_text(), "consul-template asks again")
    assert chain.get("s1")[0] == 200
    directory = tmp_path / "again"
    directory.mkdir()
    again = Consul(tool("consul", "CONSUL_BIN"), directory, port)
    try:
        # Consul answers a question that waits when its index is above the one that was seen last: a new one has to get there.
        for number in range(100):
            again.ask("PUT", f"/v1/kv/{number}", number)
        again.register("hidden", tags=[])
        chain.follows(lambda: (edge.status()["refused"] or {}).get("gone_count") == 6, "the empty catalogue is refused")
        assert chain.get("s1")[0] == 200
        site.consul = again
        for number in range(6):
            site.register(f"s{number}" if number else "old", number)
        for number in range(1, 6):
            site.serves(f"s{number}", number)
        chain.follows(lambda: edge.status()["refused"] is None and edge.status()["up_to_date"], "all that was refused is over")
    finally:
        again.stop()
