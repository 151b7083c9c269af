# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An edge that takes services from another data centre, and what becomes of it while that one is away: two Consul agents that are joined over the WAN."""

from __future__ import annotations

import collections
import json
import os
import signal
import socket
import subprocess
import typing as t
from pathlib import Path

import pytest
from edge_rig import DOMAIN, Backends, Consul, Nginx, Rendered, ask, free_port, poll, say, tool

from ansible_collections.trinode.platform.plugins.plugin_utils._edge.datacenters import NOTHING, datacenter_templates
from ansible_collections.trinode.platform.plugins.plugin_utils._edge.http import http_template
from ansible_collections.trinode.platform.plugins.plugin_utils._edge.tcp import tcp_template

SHOP = [{"name": "shop", "datacenter": "dc2"}]


class Sites:
    """Two data centres, the first of which has an edge with its two consul-template processes."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.here = self.there = t.cast(Consul, None)
        self.wan = free_port(), free_port()
        self.port, self.tls_port = free_port(), free_port()
        self.running: list[subprocess.Popen[bytes]] = []
        for name in ("dc1", "dc2", "remote"):
            (directory / name).mkdir()
        self.here = Consul(
            tool("consul", "CONSUL_BIN"),
            directory / "dc1",
            wan=self.wan[0],
            datacenter="dc1",
            retry_join_wan=[f"127.0.0.1:{self.wan[1]}"],
            retry_interval_wan="1s",
        )

    def start_there(self) -> Consul:
        self.there = Consul(tool("consul", "CONSUL_BIN"), self.directory / "dc2", wan=self.wan[1], datacenter="dc2")
        poll("the data centres are joined", lambda: "dc2" in self.here.ask("GET", "/v1/catalog/datacenters"), 30)
        return self.there

    def edge(self, remote: list[dict[str, str]], **options: t.Any) -> None:
        """Write the sources and start both processes, as the role does."""
        edge = {
            "domain": DOMAIN,
            "http_port": self.port,
            "tls_port": self.tls_port,
            "listen_addresses": ["127.0.0.1"],
            "allow_loopback": True,
            "http_access_log": f"{self.directory}/http.log",
            "tcp_access_log": f"{self.directory}/tcp.log",
            "remote_services": remote,
            "remote_directory": str(self.directory / "remote"),
            **options,
        }
        apart = []
        for entry in datacenter_templates(edge):
            Path(entry["destination"]).write_text(NOTHING)
            apart.append((entry["name"], entry["contents"], entry["destination"]))
        self.render("apart", apart)
        sides = [("http", http_template(edge)), ("stream", tcp_template(edge))]
        self.render("edge", [(name, text, f"{self.directory}/{name}.conf") for name, text in sides])

    def render(self, name: str, templates: list[tuple[str, str, str]]) -> subprocess.Popen[bytes]:
        """A consul-template process with the retries of the role."""
        entries = []
        for template, text, destination in templates:
            source = self.directory / f"{template}.ctmpl"
            source.write_text(text)
            entries.append({"source": str(source), "destination": destination})
        retry = {"enabled": True, "attempts": 0, "backoff": "250ms", "max_backoff": "5s"}
        consul = {"address": f"http://{self.here.address}", "retry": retry}
        config = self.directory / f"{name}.json"
        config.write_text(json.dumps({"consul": consul, "template": entries, "max_stale": "30s", "log_level": "info"}))
        with (self.directory / f"{name}.log").open("w") as log:
            process = subprocess.Popen([tool("consul-template", "CONSUL_TEMPLATE_BIN"), "-config", str(config)], stdout=log, stderr=subprocess.STDOUT)
        self.running.append(process)
        return process

    def end_processes(self) -> None:
        for process in self.running:
            process.send_signal(signal.SIGINT)
            process.wait(20)
        self.running.clear()

    def side(self, name: str) -> Rendered:
        path = self.directory / f"{name}.conf"
        return Rendered(path.read_text() if path.exists() else "")

    def line(self, service: str, side: str = "http") -> dict[str, t.Any]:
        return next((one for one in self.side(side).report if one["kind"] == "served" and one["service"] == service), {})

    def stop(self) -> None:
        self.end_processes()
        for agent in (self.here, self.there):
            if agent and agent.process.poll() is None:
                agent.stop()


@pytest.fixture
def sites(tmp_path: Path) -> t.Iterator[Sites]:
    made = Sites(tmp_path)
    try:
        yield made
    finally:
        made.stop()


def lost(agent: Consul) -> None:
    """As when its site burns down: no good-bye."""
    agent.process.send_signal(signal.SIGKILL)
    agent.process.wait(10)


def test_instances_of_both_sites(sites: Sites, backends: Backends, nginx: Nginx) -> None:
    sites.start_there()
    far, near = (backends.http(name).server_address[1] for name in ("far", "near"))
    for name in ("shop", "all", "only"):
        sites.there.register(name, far, address="127.0.0.1")
    sites.there.register("unnamed", far, address="127.0.0.1")
    for name in ("shop", "all"):
        sites.here.register(name, near, address="127.0.0.1")
    remote = [{"name": "shop", "datacenter": "dc2"}, {"name": "all", "datacenter": "dc2", "use": "always"}, {"name": "only", "datacenter": "dc2"}]
    # Without connections that are kept, because an instance of these tests ends without closing those that it has.
    sites.edge(remote, keepalive=0)
    poll("the other site's instances are rendered", lambda: sites.line("shop").get("backups") == 1 and sites.line("only"))
    assert sites.line("all")["instances"] == 2 and "backups" not in sites.line("all")
    assert sites.side("http").served() == {"shop", "all", "only"}
    nginx.test(sites.side("http").text, sites.side("stream").text)
    nginx.start(sites.side("http").text, sites.side("stream").text, [sites.port])
    spread = {name: collections.Counter(ask(sites.port, f"{name}.{DOMAIN}") for _ in range(20)) for name in ("shop", "all", "only")}
    assert set(spread["shop"]) == {(200, "near")}
    assert set(spread["all"]) == {(200, "near"), (200, "far")}
    assert set(spread["only"]) == {(200, "far")}
    assert ask(sites.port, f"unnamed.{DOMAIN}")[0] == 404
    # The instance here dies: the very next request gets the other one, long before anybody has told Consul.
    near_server = next(server for server in backends.servers if server.identity == "near")
    near_server.shutdown()
    near_server.server_close()
    backends.servers.remove(near_server)
    assert {ask(sites.port, f"shop.{DOMAIN}") for _ in range(5)} == {(200, "far")}
    # And when Consul knows, the far one is what there is.
    sites.here.clear()
    poll("the far instance is the service", lambda: far in [int(one.rpartition(":")[2]) for one in sites.line("shop").get("servers", {})])


def test_tcp_and_tls_and_inside(sites: Sites, backends: Backends, nginx: Nginx) -> None:
    sites.start_there()
    port, inside = free_port(), free_port()
    far, near = (backends.echo(name).server_address[1] for name in ("far", "near"))
    far_tls, certificate = backends.tls("far", f"vault.{DOMAIN}")
    assert certificate
    sites.there.register(f"db-{port}", far, address="127.0.0.1", tags=["tcp"])
    sites.here.register(f"db-{port}", near, address="127.0.0.1", tags=["tcp"])
    sites.there.register("queue", far, address="127.0.0.1", tags=["tcp-internal"], meta={"edge_port": str(inside)})
    sites.there.register("vault", far_tls.server_address[1], address="127.0.0.1", tags=["tls"])
    sites.edge(
        [{"name": name, "datacenter": "dc2"} for name in (f"db-{port}", "queue", "vault")],
        internal={"listen_addresses": ["127.0.0.2"], "http_port": sites.port},
    )
    poll(
        "everything is rendered", lambda: sites.line(f"db-{port}", "stream").get("backups") and sites.line("queue", "stream") and sites.line("vault", "stream")
    )
    nginx.test(sites.side("http").text, sites.side("stream").text)
    nginx.start(sites.side("http").text, sites.side("stream").text, [port])
    assert say(port, "hello") == "near hello"
    assert poll("the internal side listens", lambda: say(inside, "hello", at="127.0.0.2")) == "far hello"
    assert f"vault.{DOMAIN} tls_vault;" in sites.side("stream").text
    server = next(server for server in backends.servers if server.identity == "near")
    server.shutdown()
    server.server_close()
    backends.servers.remove(server)
    assert say(port, "hello") == "far hello"


def test_what_is_here_never_waits_for_what_is_there(sites: Sites) -> None:
    """The other site is lost without a word; a change here is rendered as fast as ever, what was known of it stays, and so it does over a restart."""
    sites.start_there().register("shop", 9000)
    sites.here.register("web", 8000)
    sites.edge(SHOP)
    poll("both are rendered", lambda: sites.side("http").served() == {"web", "shop"})
    lost(sites.there)
    for number in range(3):
        sites.here.register(f"new{number}", 8000)
        poll("a change here is rendered", lambda number=number: f"new{number}" in sites.side("http").served(), 5)
    assert sites.line("shop")["servers"] == {"192.0.2.1:9000": 100}
    assert all(process.poll() is None for process in sites.running)
    # A restart of the edge: its files are gone, the one of the other site is not.
    sites.end_processes()
    for name in ("http", "stream"):
        (sites.directory / f"{name}.conf").unlink()
    sites.render("edge", [(name, (sites.directory / f"{name}.ctmpl").read_text(), f"{sites.directory}/{name}.conf") for name in ("http", "stream")])
    poll("the edge is rendered without the other site", lambda: {"web", "shop", "new2"} == sites.side("http").served() - {"new0", "new1"}, 5)


def test_an_edge_that_starts_without_the_other_site(sites: Sites) -> None:
    """A first start, with nothing known of the other site; it comes later."""
    sites.here.register("web", 8000)
    sites.edge([*SHOP, {"name": "web", "datacenter": "dc3"}])
    poll("what is here is rendered", lambda: sites.side("http").served() == {"web"}, 5)
    assert json.loads((sites.directory / "remote" / "datacenter-dc2.json").read_text()) == {}
    sites.start_there().register("shop", 9000)
    # That dc3 never comes keeps nothing from dc2, though one process asks both.
    poll("the other site's instances are rendered", lambda: sites.side("http").served() == {"web", "shop"}, 30)
    # Health there is health here.
    sites.there.clear()
    sites.there.register("shop", 9000, status="critical")
    poll("the ill instance is refused", lambda: ("shop", "no usable instance") in sites.side("http").skipped(), 30)
    assert ("shop", "not healthy") in sites.side("http").skipped()


def test_what_the_other_site_registers_is_judged_like_what_is_here(sites: Sites) -> None:
    sites.start_there()
    for number, more in enumerate(
        [
            {"address": "127.0.0.1"},
            {"port": 8500},
            {"meta": {"edge_weight": "x"}},
            {"tags": ["tcp"]},
            {"meta": {"edge_weight": "50"}},
            {"tags": ["http", "udp"]},
        ]
    ):
        sites.there.register("shop", **{"port": 9000 + number, "address": f"198.51.100.{number + 1}", **more})
    sites.there.register('evil";', 9000)
    proxy = {"Kind": "connect-proxy", "ID": "s", "Service": "shop", "Tags": ["http"], "Address": "198.51.100.9", "Port": 9009}
    for more in ({"Proxy": {"DestinationServiceName": "cart"}}, {"Kind": "", "ID": "n", "Port": 9010, "Connect": {"Native": True}}):
        sites.there.nodes.add("mesh")
        sites.there.ask("PUT", "/v1/catalog/register", {"Node": "mesh", "Address": "198.51.100.9", "Service": {**proxy, **more}})
    sites.edge([*SHOP], allow_loopback=False)
    poll("the good one is rendered", lambda: sites.line("shop").get("servers") == {"198.51.100.5:9004": 50, "198.51.100.9:9010": 100})
    assert {reason for service, reason in sites.side("http").skipped()} == {
        "the address must be a unicast IPv4 or IPv6 address, and not loopback",
        "the port is in backend_reserved_ports",
        "meta edge_weight must be an integer from 0 to 100",
        "not a TCP instance: it has tag udp, an id that ends in :udp, or meta registrator-protocol",
        "a sidecar proxy of Consul Connect is never exposed",
    }


def readiness(place: Path, start: t.Callable[[], object]) -> str:
    """What is said to systemd within some seconds of a start."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(place))
        listener.settimeout(5)
        os.environ["NOTIFY_SOCKET"] = str(place)
        try:
            start()
            return listener.recv(100).decode()
        except TimeoutError:
            return ""
        finally:
            del os.environ["NOTIFY_SOCKET"]


def test_the_edge_is_ready_without_the_other_site(sites: Sites, tmp_path: Path) -> None:
    """The unit is active when all of its own is rendered; the other site was never there."""
    sites.here.register("web", 8000)
    assert readiness(tmp_path / "notify", lambda: sites.edge(SHOP)) == "READY=1"
    assert sites.side("http").served() == {"web"}


def test_one_process_for_both_would_never_be_ready(sites: Sites, tmp_path: Path) -> None:
    """Why there are two; when this fails, consul-template has learned something."""
    sites.here.register("web", 8000)
    own, both = tmp_path / "own", tmp_path / "both"
    question = '{{ range services }}{{ .Name }} {{ end }}{{ range service "shop@dc2|any" }}{{ .Address }}{{ end }}'
    templates = [("own", "{{ range services }}{{ .Name }} {{ end }}", str(own)), ("both", question, str(both))]
    assert readiness(tmp_path / "notify", lambda: sites.render("one", templates)) == ""
    assert own.exists() and not both.exists()
