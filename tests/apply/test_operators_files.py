# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the operator's own files do to the edge, and what registrations and clients make of it: each costs only itself."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest
from apply_rig import Edge
from edge_rig import Consul, free_port, tool

NAME = "shop.service.consul"


def operators_server(edge: Edge, target: str, path: str = "conf.d/www.conf") -> Path:
    """Write the operator's own server, www.test, which passes requests on."""
    file = edge.etc / path
    file.parent.mkdir(exist_ok=True)
    file.write_text(f"server {{ listen 127.0.0.1:{edge.http_port}; server_name www.test; location / {{ proxy_pass {target}; }} }}\n")
    return file


def shared(edge: Edge, *names: str) -> str:
    """Return an http file with both upstreams of each service, as the edge filters write it."""
    parts = []
    for name in names:
        line = {"kind": "served", "side": "http", "service": name, "host": f"{name}.test", "upstream": f"http_{name}"}
        parts.append(f"#! {json.dumps(line)}")
        parts.append(f"upstream http_{name} {{ server 127.0.0.1:9; keepalive_requests 1; }}")
        parts.append(f"upstream http_{name}.shared {{ server 127.0.0.1:9; keepalive 8; }}")
        server = f"listen 127.0.0.1:{edge.http_port}; server_name {name}.test; location / {{ proxy_pass http://http_{name}.shared; }}"
        parts.append(f"server {{ {server} }}")
    return "\n".join(parts) + "\n"


# -- names that have no address -------------------------------------------------------------------------------------------------


class Names:
    """Name servers of the edge: those of a real Consul, or none that answers."""

    address = "127.0.0.54"

    def __init__(self, consul: Consul, conf: Path) -> None:
        self.consul, self.conf = consul, conf
        self.answer()

    def answer(self) -> None:
        """Let Consul answer."""
        self._use(self.address)

    def fail(self) -> None:
        """Let nobody answer."""
        self._use("127.0.0.55")

    def _use(self, address: str) -> None:
        # In place: the programs see this very file.
        self.conf.write_text(f"nameserver {address}\noptions timeout:1 attempts:1\n")


@pytest.fixture
def names(edge: Edge, tmp_path: Path) -> Iterator[Names]:
    """Name servers that only the edge of this test has."""
    if os.getuid() != 0 or subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("needs the right to mount")
    directory = tmp_path / "consul"
    directory.mkdir()
    consul = Consul(tool("consul", "CONSUL_BIN"), directory, dns=53, addresses={"dns": Names.address})
    try:
        found = Names(consul, tmp_path / "resolv.conf")
        mounted = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
        edge.prefix = ("unshare", "--mount", "sh", "-c", mounted, str(found.conf))
        yield found
    finally:
        consul.stop()


def remedy(result: dict[str, Any], file: Path) -> bool:
    """Whether a result names the operator's file and line, and what to write instead."""
    message = result["message"]
    return f"the operator's own file {file}, line 1: host not found in upstream" in message and "use http_NAME for a service" in message


@pytest.mark.parametrize("target", [f"http://{NAME}", f"https://{NAME}/app/"])
def test_a_name_without_an_address_costs_only_the_operators_server(edge: Edge, names: Names, target: str) -> None:
    file = operators_server(edge, target)
    edge.stage(edge.http("one", "two"), edge.stream())
    result = edge.apply("--strict")
    assert result["outcome"] == "applied" and f"passes requests to {NAME}, which has no address now" in result["message"]
    assert result["waiting"], "the program asks again by itself"
    assert edge.ask("one") == (200, "one") and edge.ask("www")[0] == 502
    warnings = edge.status()["warnings"]
    assert [entry["service"] for entry in warnings] == [NAME]
    assert warnings[0]["reason"].startswith(f"{file} passes requests to {NAME}, which has no address now: they get 502; use http_NAME")
    edge.stage(edge.http("one", "two", "three"))
    assert edge.apply("--strict")["outcome"] == "applied" and edge.ask("three") == (200, "three")
    # nginx is killed, and has to start again with that file.
    edge.stop()
    assert edge.apply("--strict")["serving"] and edge.ask("three") == (200, "three")
    # It has an address again: nothing new is staged, and requests go there.
    names.consul.register("shop", edge.http_port, address="127.0.0.1")
    edge.wait_until(lambda: edge.apply("--strict")["outcome"] == "applied", "the name is used again")
    assert edge.status()["warnings"] == [] and not edge.apply()["waiting"]
    live = edge.state / "live" / "http" / "10-status.conf"
    assert NAME not in live.read_text()


def test_an_nginx_that_does_not_start_for_want_of_a_name_is_started_without_it(edge: Edge, names: Names) -> None:
    """The name had an address when its server was written, and has none when the host starts again."""
    names.consul.register("shop", free_port(), address="127.0.0.1")
    operators_server(edge, f"http://{NAME}")
    edge.stage(edge.http("one"), edge.stream())
    result = edge.apply("--strict")
    assert (result["outcome"], result["waiting"]) == ("applied", False), result
    edge.stop()
    names.consul.clear()
    result = edge.wait_until(lambda: (found := edge.apply("--strict"))["serving"] and found, "nginx runs again")
    assert edge.ask("one") == (200, "one") and edge.ask("www")[0] == 502


def test_name_servers_that_do_not_answer_take_no_requests_from_the_operators_server(edge: Edge, names: Names) -> None:
    """What nginx knows is good as long as nobody says otherwise: the change waits, and says for what."""
    names.consul.register("shop", edge.http_port, address="127.0.0.1")
    file = operators_server(edge, f"http://{NAME}")
    edge.stage(edge.http("one"), edge.stream())
    assert edge.apply("--strict")["outcome"] == "applied"
    names.fail()
    edge.stage(edge.http("one", "two"))
    result = edge.apply("--strict")
    assert (result["outcome"], result["blame"], result["serving"]) == ("failed", "operator", True) and remedy(result, file)
    names.answer()
    assert edge.apply("--strict")["outcome"] == "applied" and edge.ask("two") == (200, "two")
    # A name that has none already stays without one until a name server says otherwise.
    names.consul.clear()
    edge.stage(edge.http("one", "three"))
    edge.wait_until(lambda: edge.apply("--strict")["outcome"] == "applied", "the name has no address any more")
    names.fail()
    edge.stage(edge.http("one", "four"))
    assert edge.apply("--strict")["outcome"] == "applied" and edge.ask("four") == (200, "four")


@pytest.mark.parametrize(
    "text",
    [
        f"server {{ location / {{ proxy_pass http://{NAME}:8080; }} }}",
        f"upstream shop {{ server {NAME}; }}",
        f"server {{ location / {{ proxy_pass http://{NAME}; }} location /x {{ proxy_pass http://{NAME}:8080; }} }}",
    ],
)
@pytest.mark.usefixtures("names")
def test_a_name_that_the_edge_cannot_help_with_is_named_with_a_remedy(edge: Edge, text: str) -> None:
    """nginx takes no upstream of that name for these."""
    edge.stage(edge.http("one"), edge.stream())
    assert edge.apply("--strict")["outcome"] == "applied"
    file = edge.etc / "conf.d" / "www.conf"
    file.write_text(text.replace("server { ", f"server {{ listen 127.0.0.1:{edge.http_port}; server_name www.test; ") + "\n")
    edge.stage(edge.http("one", "two"))
    for _ in range(2):
        result = edge.apply("--strict")
        assert (result["outcome"], result["blame"], result["serving"]) == ("failed", "operator", True) and remedy(result, file), result
    file.unlink()
    assert edge.apply("--strict")["outcome"] == "applied" and edge.ask("two") == (200, "two")
    assert json.loads((edge.state / "state.json").read_text())["unresolved"] == {}


# -- upstreams of services --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["sites-available/www", "conf.d/www.conf.bak"])
def test_a_file_that_nginx_does_not_read_is_no_warning(serving: Edge, place: str) -> None:
    file = operators_server(serving, "http://http_shop", place)
    serving.stage(serving.http("one", "two", "three"))
    result = serving.apply("--strict")
    assert result["outcome"] == "applied" and "which no service has now" not in result["message"]
    assert serving.status()["warnings"] == [] and "http_shop" not in (serving.state / "live" / "http" / "10-status.conf").read_text()
    # As soon as nginx reads it, it is one.
    (serving.etc / "sites-enabled" / "www").symlink_to(file)
    serving.stage(serving.http("one", "two"))
    assert "http_shop, which no service has now" in serving.apply("--strict")["message"]
    assert [entry["reason"].split()[0] for entry in serving.status()["warnings"]] == [f"{serving.etc}/sites-enabled/www"]
    assert serving.ask("one") == (200, "one") and serving.ask("www")[0] == 502
    (serving.etc / "sites-enabled" / "www").unlink()
    serving.apply("--strict")
    assert serving.status()["warnings"] == []


def test_an_operators_upstream_takes_the_name_and_not_the_service(edge: Edge) -> None:
    """The edge's own servers do not use the name that is for the operator's."""
    file = edge.etc / "conf.d" / "www.conf"
    file.write_text("upstream http_shop { server 127.0.0.1:9; }\n")
    edge.stage(shared(edge, "shop", "one"), edge.stream())
    assert edge.apply("--strict")["outcome"] == "applied"
    assert edge.ask("shop")[0] == 502 and edge.ask("unknown")[0] == 404
    status = edge.status()
    assert {entry["service"] for entry in status["services"]} >= {"shop", "one"} and status["skipped"] == []
    assert [(entry["service"], entry["reason"]) for entry in status["warnings"]] == [
        ("http_shop", f"the operator's own {file} has an upstream http_shop, which requests to it get instead of the service's")
    ]


@pytest.mark.parametrize("there", [True, False])
def test_an_operators_server_that_uses_the_edges_own_upstream_is_a_warning(edge: Edge, there: bool) -> None:
    """Its connections serve one client after the other. Nor does it keep changes from others when the service is gone."""
    file = operators_server(edge, "http://http_shop.shared")
    edge.stage(shared(edge, *(["shop"] if there else []), "one"), edge.stream())
    assert edge.apply("--strict")["outcome"] == "applied" and edge.ask("www")[0] == 502
    reasons = [entry["reason"] for entry in edge.status()["warnings"]]
    assert (
        f"{file} passes requests to upstream http_shop.shared, whose connections serve one client after the other: "
        "use http_shop, or a login of the connection can reach another client"
    ) in reasons
    assert len(reasons) == (1 if there else 2)


# -- the edge as its own instance ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.77", "own"])
def test_an_instance_that_is_the_edge_itself_gets_no_request(edge: Edge, address: str, own_address: str) -> None:
    """At whichever address of the host: one request would come back until all connections are used up."""
    address = own_address if address == "own" else address
    (edge.base / "http.conf").write_text(f'server {{ listen {edge.http_port} default_server; server_name _; return 404 "unknown\\n"; }}\n')
    port, place = edge.http_port, f"{address}:{edge.http_port}"
    other = free_port()
    parts = []
    for name, servers in (("loop", [place]), ("both", [place, f"127.0.0.1:{other}"])):
        line = {"kind": "served", "side": "http", "service": name, "host": f"{name}.test", "upstream": f"http_{name}"}
        line.update(instances=len(servers), servers=dict.fromkeys(servers, 100))
        parts.append(f"#! {json.dumps(line)}")
        for pool in ("", ".shared"):
            parts.append(f"upstream http_{name}{pool} {{\n" + "".join(f"    server {server} max_fails=3;\n" for server in servers) + "}")
        parts.append(f"server {{ listen {port}; server_name {name}.test; location / {{ proxy_pass http://http_{name}.shared; }} }}")
    stream = f"upstream tcp_x.{edge.tcp_port} {{ server {address}:{edge.tcp_port}; }}\n"
    stream += f"server {{ listen {edge.tcp_port}; proxy_pass tcp_x.{edge.tcp_port}; }}\n"
    edge.stage("\n".join(parts) + "\n" + edge.http("one").replace("listen 127.0.0.1:", "listen "), stream)
    result = edge.apply("--strict")
    assert result["outcome"] == "applied" and "every instance is this edge itself" in result["message"], result
    assert edge.ask("one") == (200, "one") and edge.ask("both")[0] == 502 and edge.ask("loop")[0] == 404
    live = (edge.state / "live" / "http" / "50-edge.conf").read_text()
    assert f"server {place}" not in live and f"server 127.0.0.1:{other}" in live
    status = edge.status()
    assert {(entry["service"], entry["reason"]) for entry in status["skipped"] if entry["side"] == "http"} == {
        ("loop", "every instance is this edge itself"),
        ("loop", f"instance {place} is this edge itself"),
        ("both", f"instance {place} is this edge itself"),
    }
    both = next(entry for entry in status["services"] if entry["service"] == "both")
    assert (both["instances"], both["servers"]) == (1, {f"127.0.0.1:{other}": 100})
    assert edge.apply()["outcome"] == "unchanged"


@pytest.fixture
def own_address() -> str:
    """An address of this host that is no loopback address."""
    text = Path("/proc/net/fib_trie").read_text().splitlines()
    found = [before.split()[-1] for before, line in zip(text, text[1:]) if line.split() == ["/32", "host", "LOCAL"]]
    outside = [address for address in found if not address.startswith("127.")]
    if not outside:
        pytest.skip("this host has loopback addresses only")
    return outside[0]


# -- what limits refuse ---------------------------------------------------------------------------------------------------------------


def test_what_limits_refuse_is_shown_and_counted(edge: Edge, log: Path, service: Callable[[], None]) -> None:
    """Without any change of the catalogue: on the page, in the metrics and by the command."""
    fields = '{"time":"$time_iso8601","client":"$remote_addr","limited":"$edge_limited_by","host":"$host"}'
    edge.configure(watch=0.1)
    edge.stage(
        'map $limit_req_status $edge_limited_by { default ""; REJECTED rate_limit; }\n'
        f"log_format edge_http escape=json '{fields}';\n"
        "map $remote_addr $edge_rated { default $remote_addr; }\nlimit_req_zone $edge_rated zone=edge_rate:1m rate=1r/s;\n"
        f"upstream http_one {{ server 127.0.0.1:9; }}\nserver {{\n    listen 127.0.0.1:{edge.http_port};\n    server_name one.test;\n"
        f"    access_log {log} edge_http;\n    limit_req zone=edge_rate;\n    limit_req_status 429;\n"
        "    location / { proxy_pass http://http_one; }\n}\n"
    )
    service()
    counted = edge.state / "limited.json"
    edge.wait_until(lambda: counted.exists() and str(log) in counted.read_text(), "the log is followed", 20)
    statuses: list[int] = []
    edge.wait_until(lambda: statuses.append(edge.ask("one")[0]) or 429 in statuses, "a request is refused", 20)
    refused = statuses.count(429)

    def metrics() -> str:
        return get(edge, "/metrics")

    edge.wait_until(lambda: f'nginx_edge_limited_total{{limit="rate_limit"}} {refused}\n' in metrics(), "the metrics have it", 20)
    assert 'nginx_edge_limited_total{limit="request_limit"} 0\n' in metrics()
    assert ">Refused by a limit<" in get(edge, "/") and ">rate_limit<" in get(edge, "/")
    assert json.loads(get(edge, "/status"))["limited"]["rate_limit"]["count"] == refused
    line = next(line for line in edge.run("--status").stdout.splitlines() if line.startswith("LIMITED"))
    assert f"rate_limit: {refused} refused, the last of 127.0.0.1 at 20" in line and "unlimited_networks" in line


def get(edge: Edge, path: str) -> str:
    """Return what the status server answers."""
    import urllib.request

    with urllib.request.urlopen(f"http://127.0.0.1:{edge.status_port}{path}", timeout=10) as answer:
        return str(answer.read().decode())
