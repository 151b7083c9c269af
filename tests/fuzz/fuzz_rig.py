# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One catalogue, from Consul to an nginx that answers, compared with what the oracle says at each step.

Everything happens on addresses below 127 that this run took for itself, so that it meets no other service of the machine.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import difflib
import http.client
import itertools
import json
import math
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import typing as t
from dataclasses import dataclass, field
from pathlib import Path

from edge_rig import Consul, Nginx, poll, tool
from grammar import Block, Side, read
from oracle import DOMAIN, Expected, Instance, Node, Oracle, Ports, Settings, Upstream

from ansible_collections.trinode.platform.plugins.plugin_utils._edge.http import http_template
from ansible_collections.trinode.platform.plugins.plugin_utils._edge.tcp import tcp_template

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "roles" / "nginx" / "files"))

from nginx_edge.allowed import objections
from nginx_edge.nginxconf import Document, Places
from nginx_edge.report import report_lines

#: The machine whose agent is asked to register; the others are written into the catalogue.
AGENT = Node("edge-under-test", "127.0.0.1")
#: Where the last catalogue and what was rendered of it are left, for people.
LEFT = ROOT / "build" / "fuzz"
# Below the range that the kernel gives to outgoing connections. 20000 is held for the whole run and marks the network as taken.
MARK_PORT, FIRST_PORT, LAST_PORT = 20000, 20001, 20039
EDGE_PORTS = {"http": 20090, "tls": 20091, "state": 20092}
BACKEND_PORTS = (20100, 20101, 20102, 20103)
#: Stands in every free field that no configuration may hold, in the spelling of the generators and in lower case.
MARKER = "zQmARKz"
#: What a template that ran would have read.
SECRET = "key-value-of-the-fuzz-tests"
#: What each server of the http side says, the one for unknown names too.
EVERY_SERVER = ["    server_tokens off;"]


class Network:
    """A network of loopback addresses that no other run uses: 127.N.0.0/16."""

    def __init__(self) -> None:
        for number in range(16, 250):
            number = 16 + (number + os.getpid()) % 234
            mark = socket.socket()
            try:
                mark.bind((f"127.{number}.255.1", MARK_PORT))
            except OSError:
                mark.close()
                continue
            self.mark, self.number = mark, number
            return
        raise RuntimeError("every loopback network is taken; is a port 20000 held on all addresses?")

    def address(self, service: int, instance: int) -> str:
        """The address of an instance; it always means the same."""
        return f"127.{self.number}.{service}.{instance}"


NETWORK = Network()
EDGE = NETWORK.address(255, 2)
# Addresses of edges, as they are told to the edge and as somebody may spell them.
EDGES = ("192.0.2.10", "2001:db8::1:0:a")
EDGE_PLACES = (EDGE, *EDGES, "2001:DB8:0:0:0:1:0:A", "2001:db8:0:0::0001:0:a")


def bindable(address: str, port: int) -> bool:
    """Whether a server can have this socket."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True


# A port that another program holds on every address is nobody's here. The oracle is told the same as the edge.
PORTS = Ports(EDGE_PORTS["http"], EDGE_PORTS["tls"], FIRST_PORT, LAST_PORT,
              frozenset({20039} | {port for port in range(FIRST_PORT, LAST_PORT + 1) if not bindable(EDGE, port)}),
              frozenset({EDGE}))  # fmt: skip


@dataclass(frozen=True)
class Catalogue:
    """What is registered, and the description of the edge that serves it."""

    instances: tuple[Instance, ...]
    settings: Settings = field(default_factory=Settings)

    @property
    def services(self) -> set[str]:
        """The names of all services."""
        return {instance.service for instance in self.instances}


class Answerer:
    """Every backend there is: listens where it is told to, and tells each caller at which address and port it was reached."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.servers: dict[tuple[str, int], asyncio.Server | None] = {}
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            host, port = writer.get_extra_info("sockname")[:2]
            first = await asyncio.wait_for(reader.read(4096), 10)
            proxied = ""
            if first.startswith(b"PROXY "):
                _, _, first = first.partition(b"\r\n")
                proxied = " proxied"
                first = first or await asyncio.wait_for(reader.read(4096), 10)
            body = f"{host}:{port}{proxied}"
            if first.startswith(b"GET "):
                body = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}"
            elif first.startswith(b"\x16"):
                body += " tls"
            writer.write(body.encode())
            await writer.drain()
            # nginx closes after its client did; to close first would turn an answer that is not yet read into a reset.
            while await asyncio.wait_for(reader.read(4096), 10):
                pass
        except (OSError, asyncio.TimeoutError):
            pass
        finally:
            writer.close()

    async def _listen(self, address: str, port: int) -> asyncio.Server | None:
        try:
            return await asyncio.start_server(self._answer, address, port, reuse_address=True)
        except OSError:
            return None

    def listen(self, address: str, port: int) -> bool:
        """Answer at an address from now on; false where that can't be, because another program is there."""
        if (address, port) not in self.servers:
            self.servers[address, port] = asyncio.run_coroutine_threadsafe(self._listen(address, port), self.loop).result(10)
        return self.servers[address, port] is not None

    def stop(self) -> None:
        """End."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)


class Tally:
    """How much was tried."""

    def __init__(self) -> None:
        self.catalogues = 0
        self.counts: collections.Counter[str] = collections.Counter()
        self.reasons: collections.Counter[str] = collections.Counter()

    def __str__(self) -> str:
        return f"{self.catalogues} catalogues: " + ", ".join(f"{count} {name}" for name, count in sorted(self.counts.items()))


# It only ever says its hello, so it needs no certificates, and they take long to read.
CLIENT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def kind_of(reason: str) -> str:
    """A reason without the port, the rival and the key in it."""
    reason = re.sub(r"(?s)^meta .* (is not known|is empty and|has an effect with tag)\b", r"meta KEY \1", reason)
    reason = re.sub(r"^(instances disagree about meta \w+|meta KEY is not known)\b.*", r"\1", reason)
    reason = re.split(" belongs to service |(?<=[gt] of service) |(?<=protected service) ", reason)[0]
    return re.sub("^port [0-9]+ ", "port N ", f"{reason} ").strip()


def hello(host: str) -> bytes:
    """What a TLS client says first."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = CLIENT.wrap_bio(incoming, outgoing, server_hostname=host)
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def exchange(port: int, said: bytes) -> str:
    """What the edge answers to the first bytes of a client; empty when it refuses or closes."""
    answer = b""
    try:
        with socket.create_connection((EDGE, port), 10) as connection:
            connection.sendall(said)
            while part := connection.recv(4096):
                answer += part
                if not said.startswith(b"GET "):
                    break
    except OSError:
        pass
    return answer.decode("utf-8", "replace")


class Rig:
    """Consul, consul-template and nginx, kept between catalogues as far as they can be."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.consul = Consul(tool("consul", "CONSUL_BIN"), directory)
        self.nginx = Nginx(tool("nginx", "NGINX_BIN"), directory)
        self.template = tool("consul-template", "CONSUL_TEMPLATE_BIN")
        self.answerer = Answerer()
        self.tally = Tally()
        self.connection = http.client.HTTPConnection("127.0.0.1", self.consul.port, timeout=30)
        self.nodes: set[str] = set()
        self.agents: dict[str, str] = {}
        self.baselines: dict[Settings, dict[str, frozenset[str]]] = {}
        #: Changes the template before it is used: the tests of these tests break it on purpose.
        self.sabotage: t.Callable[[str], str] = str
        self.ask("PUT", "/v1/kv/secret", SECRET)

    def stop(self) -> None:
        """End everything."""
        self.nginx.stop()
        self.answerer.stop()
        self.connection.close()
        self.consul.stop()

    # -- Consul -----------------------------------------------------------------------------------------------------------

    def ask(self, method: str, path: str, body: t.Any = None) -> tuple[int, bytes]:
        """One question to Consul, on a connection that is kept."""
        self.connection.request(method, path, None if body is None else json.dumps(body).encode())
        answer = self.connection.getresponse()
        return answer.status, answer.read()

    def register(self, instance: Instance) -> bool:
        """Register through the API; whether Consul took it."""
        node = instance.node
        service: dict[str, t.Any] = {
            "ID": instance.id,
            "Service": instance.service,
            "Tags": list(instance.tags),
            "Address": instance.address,
            "Port": instance.port,
            "Meta": dict(instance.meta),
        }
        if instance.weights:
            service["Weights"] = {"Passing": instance.weights[0], "Warning": instance.weights[1]}
        if instance.mesh == "sidecar":
            service.update(Kind="connect-proxy", Proxy={"DestinationServiceName": "behind"})
        elif instance.mesh == "native":
            service["Connect"] = {"Native": True}
        if node == AGENT:
            return self.register_with_agent(service, instance.status)
        checks: list[dict[str, str]] = []
        if instance.status == "maintenance":
            checks.append({"CheckID": f"_service_maintenance:{instance.id}", "Status": "critical", "ServiceID": instance.id})
        elif instance.status:
            checks.append({"CheckID": f"check {instance.id}", "Status": instance.status, "ServiceID": instance.id})
        if node.status == "maintenance":
            checks.append({"CheckID": "_node_maintenance", "Status": "critical"})
        elif node.status:
            checks.append({"CheckID": "node", "Status": node.status})
        for check in checks:
            check.update(Node=node.name, Name=f"{MARKER} {check['CheckID']}", Notes=MARKER, Output=f"{MARKER}; }} {{{{ key `secret` }}}}")
        body = {
            "Node": node.name,
            "Address": node.address,
            "NodeMeta": {"note": MARKER},
            "TaggedAddresses": {"wan": MARKER},
            "Service": service,
            "Checks": checks,
        }
        self.nodes.add(node.name)
        return self.took(*self.ask("PUT", "/v1/catalog/register", body))

    def register_with_agent(self, service: dict[str, t.Any], health: str) -> bool:
        """The usual way, which a registrator goes: the agent judges for itself, and tells the servers later."""
        if health == "maintenance":
            service["Check"] = {"TTL": "1h", "Status": "passing"}
        elif health:
            service["Check"] = {"TTL": "1h", "Status": health, "Name": MARKER, "Notes": MARKER}
        service["Name"] = service.pop("Service")
        taken = self.took(*self.ask("PUT", "/v1/agent/service/register", service))
        if taken:
            self.agents[service["ID"]] = health
            if health == "maintenance":
                status, said = self.ask("PUT", f"/v1/agent/service/maintenance/{service['ID']}?enable=true&reason={MARKER}")
                assert status == 200, said
        return taken

    def agent_is_through(self) -> None:
        """Wait until the servers know what the agent knows."""

        def known() -> bool:
            services = json.loads(self.ask("GET", f"/v1/catalog/node/{AGENT.name}")[1])["Services"]
            checks = json.loads(self.ask("GET", f"/v1/health/node/{AGENT.name}")[1])
            found: dict[str, set[str]] = {}
            for check in checks:
                state = "maintenance" if check["CheckID"].startswith("_service_maintenance:") else check["Status"]
                found.setdefault(check["ServiceID"], set()).add(state)
            wanted = {name: {health} - {""} | ({"passing"} if health == "maintenance" else set()) for name, health in self.agents.items()}
            return set(services) - {"consul"} == set(wanted) and all(found.get(name, set()) == states for name, states in wanted.items())

        poll("the agent has told the servers", known, 60)

    def took(self, status: int, said: bytes) -> bool:
        """Whether Consul took a registration."""
        if status == 200:
            return True
        # Consul says no in words; anything else is trouble with the test.
        assert status in (400, 500) and said and b"rpc error" not in said, (status, said)
        self.tally.counts["instances that Consul itself refused"] += 1
        return False

    def fill(self, catalogue: Catalogue) -> list[Instance]:
        """Register a catalogue; what Consul took of it."""
        places = {(instance.node.name.lower(), instance.id.lower()) for instance in catalogue.instances}
        assert len(places) == len(catalogue.instances), "Consul would take two of these instances for one"
        taken = [instance for instance in catalogue.instances if self.register(instance)]
        if self.agents:
            self.agent_is_through()
        return taken

    def clear(self) -> None:
        """Empty the catalogue."""
        for node in sorted(self.nodes):
            status, said = self.ask("PUT", "/v1/catalog/deregister", {"Node": node})
            assert status == 200, said
        self.nodes.clear()
        if self.agents:
            for name in self.agents:
                status, said = self.ask("PUT", f"/v1/agent/service/deregister/{name}")
                assert status == 200, said
            self.agents.clear()
            self.agent_is_through()

    # -- consul-template ----------------------------------------------------------------------------------------------------

    def description(self, settings: Settings) -> dict[str, t.Any]:
        """The edge description of these settings."""
        return {
            "domain": DOMAIN,
            "http_port": PORTS.http,
            "tls_port": PORTS.tls,
            "listen_addresses": [EDGE],
            "tcp_ports": [f"{PORTS.first}-{PORTS.last}"],
            "reserved_ports": sorted(PORTS.reserved),
            "http_access_log": f"{self.directory}/http.log",
            "tcp_access_log": f"{self.directory}/tcp.log",
            "edge_addresses": list(settings.edge_addresses),
            "connect_timeout": "200ms",
            "next_upstream_tries": 20,
            "max_services": settings.max_services,
            "max_instances": settings.max_instances,
            "max_reports": settings.max_reports,
            "host_names": list(settings.host_names),
            "reserved_host_names": list(settings.reserved_host_names),
            "protected_services": list(settings.protected_services),
            "proxy_protocol": settings.proxy_protocol,
            "accept_warning": settings.accept_warning,
            "allow_loopback": settings.allow_loopback,
            "canary": {"share": settings.canary_share},
        }

    def sources(self, settings: Settings) -> dict[str, str]:
        """The sources of both sides."""
        edge = self.description(settings)
        return {"http": self.sabotage(http_template(edge)), "tcp": self.sabotage(tcp_template(edge))}

    def templates(self, settings: Settings) -> list[str]:
        """Writes the sources; the arguments for consul-template."""
        arguments = []
        for side, source in self.sources(settings).items():
            (self.directory / f"{side}.ctmpl").write_text(source)
            arguments.append(f"-template={self.directory}/{side}.ctmpl:{self.directory}/{side}.rendered")
        return arguments

    def render(self, settings: Settings) -> dict[str, str]:
        """What consul-template makes of the catalogue as it is now."""
        command = [self.template, "-once", f"-consul-addr=http://{self.consul.address}", "-log-level=warn", "-consul-retry=false", *self.templates(settings)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, f"consul-template ended with {done.returncode}: {done.stderr}"
        return {side: (self.directory / f"{side}.rendered").read_text() for side in ("http", "tcp")}

    def fixed(self, settings: Settings) -> dict[str, frozenset[str]]:
        """The lines that each side has for an empty catalogue."""
        if settings not in self.baselines:
            assert not self.nodes, "the catalogue is not empty"
            self.baselines[settings] = {side: frozenset(text.split("\n")) for side, text in self.render(settings).items()}
        return self.baselines[settings]

    # -- the checks ---------------------------------------------------------------------------------------------------------

    def check(self, catalogue: Catalogue) -> Expected:
        """Everything that must be true of one catalogue. Fails with what is not."""
        fixed = self.fixed(catalogue.settings)
        LEFT.mkdir(parents=True, exist_ok=True)
        (LEFT / "catalogue.txt").write_text(repr(catalogue).replace("Instance(", "\n    Instance(") + "\n")
        try:
            taken = self.fill(catalogue)
            expected = Oracle(taken, catalogue.settings, PORTS).work_out()
            texts = self.render(catalogue.settings)
            for side, text in texts.items():
                (LEFT / f"{side}.conf").write_text(text)
            sides = {side: read(side, text, fixed[side]) for side, text in texts.items()}
            self.check_free_fields(texts)
            self.check_http(sides["http"], expected)
            self.check_stream(sides["tcp"], expected)
            for side, entries in (("http", sides["http"].report), ("tcp", sides["tcp"].report)):
                self.check_report(side, entries, expected, catalogue.settings)
            self.check_apply_reads(texts, catalogue.settings)
            self.check_traffic(texts, expected, taken)
        finally:
            self.clear()
        self.tally.catalogues += 1
        self.tally.counts["services"] += len({instance.service for instance in taken})
        self.tally.counts["instances"] += len(taken)
        self.tally.counts["exposures served"] += len(expected.http) + len(expected.tcp) + len(expected.tls)
        for found in expected.refused.values():
            for (_, _, reason), number in found.items():
                self.tally.counts["refusals"] += number
                self.tally.reasons[kind_of(reason)] += number
        return expected

    @staticmethod
    def check_free_fields(texts: dict[str, str]) -> None:
        """Nothing of a free field is in a directive, and no template of a registration was run."""
        for side, text in texts.items():
            assert SECRET not in text, f"{side}: a template of a registration was run"
            for number, line in enumerate(text.split("\n"), 1):
                assert line.startswith("#!") or MARKER.lower() not in line.lower(), f"{side}, line {number} holds an unchecked field: {line[:300]!r}"

    @staticmethod
    def upstreams(side: Side) -> dict[str, list[tuple[str, int, bool]]]:
        """The servers of each upstream; a name or zone that is there twice is a failure."""
        found: dict[str, list[tuple[str, int, bool]]] = {}
        for block in side.blocks:
            if block.kind == "upstream":
                name = block.one("upstream")
                assert name not in found, f"upstream {name} is there twice"
                # Those for servers of the operator have none: each worker counts failures for itself.
                assert block.one("zone") == (name if not name.startswith("http_") or name.endswith(".shared") else block.one("zone") and name), name
                found[name] = block.servers
        return found

    @staticmethod
    def check_servers(name: str, servers: list[tuple[str, int, bool]], shares: dict[str, int], backups: t.Collection[str] = ()) -> None:
        """An upstream has these servers, each once, with these shares of the traffic."""
        active = {server: weight for server, weight, backup in servers if not backup}
        # The only instance behind the TLS port is listed once for each try.
        times = 3 if name.startswith("tls_") and len(shares) == 1 else 1
        # So is the only one behind canaries.
        again = len(backups) == 1
        assert len(servers) == times * len({server for server, _, _ in servers}) + again, f"{name} names a server twice: {servers}"
        assert set(active) == set(shares), f"{name} has {sorted(active)} and should have {sorted(shares)}"
        assert {server for server, _, backup in servers if backup} == set(backups), f"{name} has other backups than {sorted(backups)}: {servers}"
        divisor = math.gcd(*shares.values()) if shares else 1
        factor = {weight * divisor / shares[server] for server, weight in active.items()}
        assert len(factor) <= 1, f"{name} has weights {active} for shares {shares}"

    def check_http(self, side: Side, expected: Expected) -> None:
        """The http file is exactly what the catalogue asks for."""
        upstreams = self.upstreams(side)
        names = {f"http_{label}" for label in expected.http} | {f"http_{label}.canary" for label, upstream in expected.http.items() if upstream.canaries}
        apart = {label for label, upstream in expected.http.items() if upstream.unshared}
        alone = {f"http_{label}{canary}" for label in apart for canary in ("", ".canary")}
        wanted = names | {f"{name}.shared" for name in names - alone}
        assert set(upstreams) == wanted, f"upstreams: {sorted(set(upstreams) ^ wanted)} are there or missing against the rules"
        for label, upstream in expected.http.items():
            for pool in ("",) if upstream.unshared else ("", ".shared"):
                self.check_servers(f"http_{label}{pool}", upstreams[f"http_{label}{pool}"], upstream.servers)
                if upstream.canaries:
                    canary = f"http_{label}.canary{pool}"
                    self.check_servers(canary, upstreams[canary], upstream.canaries, upstream.servers)
        servers: dict[str, Block] = {}
        for block in side.blocks:
            if block.kind == "server":
                host = f"{block.one('name')}.{block.one('domain')}"
                assert host not in servers, f"two servers are called {host}"
                assert block.found["listen"] == [f"{EDGE}:{PORTS.http}"], block
                servers[host] = block
        unknown = servers.pop("edge-unknown.invalid")
        assert unknown.found["fixed"] == [*EVERY_SERVER, '    set $edge_service "";', "    return 404;"], unknown
        assert set(servers) == {f"{label}.{DOMAIN}" for label in (*expected.http, *expected.empty)}, sorted(servers)
        for label, upstream in expected.http.items():
            block = servers[f"{label}.{DOMAIN}"]
            assert block.one("service") == upstream.service, block
            shared = "" if upstream.unshared else ".shared"
            if upstream.canaries and len(upstream.servers) == 1:
                assert block.found["pass"] == [f"http_{label}{shared}", f"http_{label}.canary{shared}"], block
                assert block.found["apart"] == ["418", "418"], block
                assert (block.one("stable"), block.one("canary"), block.one("share")) == ("", "", str(upstream.share)), block
            elif upstream.canaries:
                found = (block.one("pass"), block.one("stable"), block.one("canary"), block.one("share"))
                assert found == ("$edge_upstream", f"http_{label}{shared}", f"http_{label}.canary{shared}", str(upstream.share)), block
            else:
                assert (block.one("pass"), block.one("stable"), block.one("canary")) == (f"http_{label}{shared}", "", ""), block
            assert "empty" not in block.found and block.found["fixed"] == EVERY_SERVER, block
        for label, name in expected.empty.items():
            block = servers[f"{label}.{DOMAIN}"]
            assert (block.one("service"), block.one("empty"), block.one("pass")) == (name, name, ""), block
            assert block.found["fixed"] == EVERY_SERVER, block

    def check_stream(self, side: Side, expected: Expected) -> None:
        """The stream file is exactly what the catalogue asks for."""
        upstreams = self.upstreams(side)
        by_name = {f"tcp_{upstream.service.lower()}.{port}": upstream for port, upstream in expected.tcp.items()}
        by_name.update({f"tls_{label}": upstream for label, upstream in expected.tls.items()})
        assert set(upstreams) == set(by_name), f"upstreams: {sorted(set(upstreams) ^ set(by_name))} are there or missing against the rules"
        for name, upstream in by_name.items():
            self.check_servers(name, upstreams[name], upstream.servers)
        servers = {block.one("listen"): block for block in side.blocks if block.kind == "server"}
        assert len(servers) == sum(block.kind == "server" for block in side.blocks), "two servers share a port"
        wanted = {f"{EDGE}:{port}": f"tcp_{upstream.service.lower()}.{port}" for port, upstream in expected.tcp.items()}
        if expected.tls:
            wanted[f"{EDGE}:{PORTS.tls}"] = "$edge_tls_upstream"
        assert {listen: block.one("pass") for listen, block in servers.items()} == wanted
        for port, upstream in expected.tcp.items():
            proxied = servers[f"{EDGE}:{port}"].one("proxied") == "proxy_protocol"
            assert proxied == (upstream.proxied == len(upstream.servers)), f"PROXY protocol on {port}: {proxied}, {upstream}"
        routes = {label: target for block in side.blocks if block.kind == "map" for label, target in zip(block.found.get("sni", []), block.found.get("to", []))}
        assert routes == {label: f"tls_{label}" for label in expected.tls}

    @staticmethod
    def check_report(side: str, entries: list[dict[str, t.Any]], expected: Expected, settings: Settings) -> None:
        """The report tells exactly what is served and refuses, each refusal with its reason."""
        lines = [entry for entry in entries if entry["kind"] in ("skipped", "warning")]
        told = collections.Counter((entry["service"], entry.get("instance", ""), entry["reason"]) for entry in lines)
        refused = expected.refused[side]
        if sum(refused.values()) > settings.max_reports:
            more = [entry for entry in entries if "count" in entry]
            assert len(more) == 1 and more[0]["count"] == sum(refused.values()) - settings.max_reports, (more, sum(refused.values()))
            told["", "", "more refusals are not listed"] -= 1
            assert +told <= refused and sum(told.values()) == settings.max_reports, f"told and not refused: {dict(told - refused)}"
        else:
            assert told == refused, f"refused and not told: {dict(refused - told)}; told and not refused: {dict(told - refused)}"
        served = [entry for entry in entries if entry["kind"] == "served"]
        wanted: dict[tuple[str, t.Any], Upstream] = {}
        if side == "http":
            wanted.update({(upstream.service, f"{label}.{DOMAIN}"): upstream for label, upstream in expected.http.items()})
        else:
            wanted.update({(upstream.service, port): upstream for port, upstream in expected.tcp.items()})
            wanted.update({(upstream.service, f"{label}.{DOMAIN}"): upstream for label, upstream in expected.tls.items()})
        found = {(entry["service"], entry.get("host", entry["port"])): entry for entry in served}
        assert len(served) == len(found) and set(found) == set(wanted), f"{side}: reported as served: {sorted(map(str, set(found) ^ set(wanted)))}"
        for key, upstream in wanted.items():
            entry = found[key]
            for name, shares in (("servers", upstream.servers), ("canary_servers", upstream.canaries)):
                shown = entry.get(name, {})
                assert shown == shares if len(shares) <= 20 else len(shown) == 20 and shown.items() <= shares.items(), entry
            assert entry["instances"] == len(upstream.servers) and entry.get("canaries", 0) == len(upstream.canaries), entry
            assert entry.get("versions", {}) == upstream.versions, entry
            assert entry.get("keepalive", True) is not upstream.unshared, entry
            assert set(entry.get("warns", {})) == upstream.warns & {*entry["servers"], *entry.get("canary_servers", {})}, entry

    def check_apply_reads(self, texts: dict[str, str], settings: Settings) -> None:
        """The apply program takes the files, and reads every report line of them."""
        places = Places(loopback=settings.allow_loopback)
        for side, text in texts.items():
            where_the_role_logs = text.replace(f"{self.directory}/", "/var/log/nginx/")
            assert objections(Document(where_the_role_logs), {"tcp": "stream"}.get(side, side), places) == [], side
            assert not [entry for entry in report_lines(text) if entry["kind"] == "malformed"], side

    # -- traffic ------------------------------------------------------------------------------------------------------------

    def serve(self, texts: dict[str, str]) -> None:
        """Let nginx test the files, and run it with them."""
        self.nginx.stop()
        state = f"server {{ listen {EDGE}:{EDGE_PORTS['state']}; return 200 ready; }}\n"
        self.nginx.test(state + texts["http"], texts["tcp"])
        self.nginx.start(state + texts["http"], texts["tcp"], [])
        assert self.nginx.process is not None
        process = self.nginx.process

        def answers() -> bool:
            assert process.poll() is None, f"nginx ended: {process.stderr.read().decode() if process.stderr else ''}"
            return exchange(EDGE_PORTS["state"], b"GET / HTTP/1.0\r\n\r\n").endswith("ready")

        poll("nginx answers", answers)

    @staticmethod
    def listening() -> set[int]:
        """The ports on which something listens at the edge's address."""
        address = f"{int.from_bytes(socket.inet_aton(EDGE), sys.byteorder):08X}"
        lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return {int(fields[1].split(":")[1], 16) for fields in lines if fields[1].startswith(f"{address}:") and fields[3] == "0A"}

    def check_traffic(self, texts: dict[str, str], expected: Expected, taken: list[Instance]) -> None:
        """The running edge: exactly these ports, names and ports lead to their own instances only, and nothing else leads anywhere."""
        self.serve(texts)
        try:
            ports = {PORTS.http, EDGE_PORTS["state"], *expected.tcp} | ({PORTS.tls} if expected.tls else set())
            assert self.listening() == ports, f"listens on {sorted(self.listening() ^ ports)} against the rules"
            for label, upstream in expected.http.items():
                host = f"{label}.{DOMAIN}"
                for choice, servers in (("never", upstream.servers), ("always", upstream.canaries or upstream.servers)):
                    said = f"GET / HTTP/1.1\r\nHost: {host}\r\nX-Canary: {choice}\r\nConnection: close\r\n\r\n".encode()
                    self.ask_all(f"http {host}", servers, lambda said=said: self.http_answer(said))
            for label, name in expected.empty.items():
                answer = exchange(PORTS.http, f"GET / HTTP/1.1\r\nHost: {label}.{DOMAIN}\r\nConnection: close\r\n\r\n".encode())
                assert answer.startswith("HTTP/1.1 503 ") and f"Service {name} has no healthy instance" in answer, answer
            for port, upstream in expected.tcp.items():
                suffix = " proxied" if upstream.proxied == len(upstream.servers) else ""
                self.ask_all(f"tcp {port}", upstream.servers, lambda port=port: exchange(port, b"who\n"), suffix)
            for label, upstream in expected.tls.items():
                said = hello(f"{label}.{DOMAIN}")
                self.ask_all(f"tls {label}", upstream.servers, lambda said=said: exchange(PORTS.tls, said), " tls")
            self.ask_strangers(expected, taken)
        finally:
            self.nginx.stop()

    @staticmethod
    def http_answer(said: bytes) -> str:
        """The body of a good answer; the whole of any other."""
        answer = exchange(PORTS.http, said)
        return answer.partition("\r\n\r\n")[2] if answer.startswith("HTTP/1.1 200 ") else answer

    def ask_all(self, what: str, servers: dict[str, int], ask: t.Callable[[], str], suffix: str = "") -> None:
        """Ask until every instance has answered; no answer may come from anybody else. Shares that are equal give turns, so this ends soon."""
        places = {server: server.rpartition(":") for server in servers}
        if not all(address.startswith(f"127.{NETWORK.number}.") for address, _, _ in places.values()):
            # An instance of this service is not on this machine: nothing is sent there.
            return
        running = {server for server, (address, _, port) in places.items() if self.answerer.listen(address, int(port))}
        missing, equal = set(running), len(set(servers.values())) == 1
        for _ in range(3 * len(servers) + 2):
            answer = ask()
            self.tally.counts["answers of instances"] += 1
            good = answer in {f"{server}{suffix}" for server in running} if running else "HTTP/1.1 502 " in answer or not answer
            assert good, f"{what} is answered by {answer!r}, not {sorted(running)}{suffix}"
            missing.discard(answer.removesuffix(suffix))
            if not missing or not equal:
                return
        raise AssertionError(f"{what} is never answered by {sorted(missing)}")

    def ask_strangers(self, expected: Expected, taken: list[Instance]) -> None:
        """Names that are not served lead nowhere, in whatever spelling they came."""
        labels = {*expected.http, *expected.empty}
        for service in sorted({instance.service for instance in taken}):
            # A header can't hold line breaks, nginx takes 8 kB of one, and blanks around it do not count.
            if service.lower().strip(" \t") not in labels and not set("\r\n\0") & set(service):
                answer = exchange(PORTS.http, f"GET / HTTP/1.1\r\nHost: {service}.{DOMAIN}\r\nConnection: close\r\n\r\n".encode())
                assert answer.startswith(("HTTP/1.1 404 ", "HTTP/1.1 400 ")), f"{service!r} is answered: {answer[:200]!r}"
        if expected.tls:
            assert exchange(PORTS.tls, hello(f"nobody.{DOMAIN}")) == ""

    # -- following ----------------------------------------------------------------------------------------------------------

    def follow(self, settings: Settings) -> Follower:
        """A consul-template that keeps running."""
        return Follower(self, settings)


class Follower:
    """A consul-template that keeps running while catalogues come and go."""

    def __init__(self, rig: Rig, settings: Settings) -> None:
        self.rig, self.settings = rig, settings
        self.directory = Path(tempfile.mkdtemp(dir=rig.directory))
        arguments = []
        for side, source in rig.sources(settings).items():
            (self.directory / f"{side}.ctmpl").write_text(source)
            arguments.append(f"-template={self.directory}/{side}.ctmpl:{self.directory}/{side}.rendered")
        self.log = self.directory / "log"
        command = [rig.template, f"-consul-addr=http://{rig.consul.address}", "-log-level=warn", "-wait=50ms:500ms", *arguments]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def has(self, side: str) -> str:
        """What it has rendered last."""
        path = self.directory / f"{side}.rendered"
        return path.read_text() if path.exists() else ""

    def shows(self, texts: dict[str, str]) -> None:
        """Wait until it has rendered just this."""

        deadline = time.monotonic() + 60
        while different := [side for side in texts if self.has(side) != texts[side]]:
            assert self.process.poll() is None, f"consul-template ended with {self.process.returncode}: {self.log.read_text()[-3000:]}"
            if time.monotonic() > deadline:
                lines = [difflib.unified_diff(self.has(side).split("\n"), texts[side].split("\n"), "running", "new", n=0) for side in different]
                raise AssertionError("\n".join(["a running consul-template is behind a new one:", *itertools.chain(*lines), self.log.read_text()[-3000:]]))
            time.sleep(0.02)

    def stop(self) -> None:
        """End it."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(20)


__all__ = ["AGENT", "BACKEND_PORTS", "MARKER", "NETWORK", "PORTS", "Catalogue", "Instance", "Node", "Rig", "Settings"]
