# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a catalogue becomes: the exact set of served and refused services, and nginx's word on the result."""

from __future__ import annotations

import re
import signal
import subprocess
import typing as t
from pathlib import Path

import pytest
from edge_rig import DOMAIN, Consul, Nginx, Rendered, poll, tool

from ansible_collections.trinode.platform.plugins.plugin_utils._edge.http import http_template
from ansible_collections.trinode.platform.plugins.plugin_utils._edge.tcp import tcp_template

Render = t.Callable[..., Rendered]

# What an attacker may put into any field that a registration has.
INJECTIONS = (
    "127.0.0.1:1; } server { listen 8888; root /; autoindex on; } upstream zz { server 127.0.0.1",
    "192.0.2.1\n} server { listen 8888; }",
    "192.0.2.1;",
    "192.0.2.1 down",
    "unix:/run/docker.sock",
    "$host",
    '192.0.2.1" "',
    "192.0.2.1'",
    "{{ key `secret` }}",
    "{% include 'x' %}",
    "192.0.2.1#",
    "192.0.2.1\r\n#! {}",
    "192.0.2.1\\",
    "١٩٢.0.2.1",
    "192.0.2.1\u2028server",
    "192.0.2.1\x00",
    "x" * 4000,
)
REFUSED_ADDRESSES = (
    "backend.example.org",
    "localhost",
    "0.0.0.1",
    "127.0.0.1",
    "127.1",
    "2130706433",
    "0x7f.1",
    "010.0.0.1",
    "169.254.169.254",
    "224.0.0.1",
    "255.255.255.255",
    "192.0.2.256",
    "192.0.2",
    "192.0.2.1.1",
    "192.0.2.1:80",
    "::2",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:7f00:1",
    "0:0:0:0:0:ffff:7f00:1",
    "fe80::1",
    "fe80::1%eth0",
    "ff02::1",
    "64:ff9b::7f00:1",
    "[2001:db8::1]",
    "2001:db8:::1",
    "2001:db8::1::2",
    "2001:db8:1:2:3:4:5:6:7",
    "2001:db8:1:2:3:4:5:6::",
    "2001:db8:1:2:3:4:5::",
)
GOOD_ADDRESSES = {
    "192.0.2.1": "192.0.2.1",
    "10.0.0.10": "10.0.0.10",
    "1.0.0.0": "1.0.0.0",
    "126.255.255.255": "126.255.255.255",
    "128.0.0.1": "128.0.0.1",
    "223.255.255.254": "223.255.255.254",
    "2001:db8::1": "[2001:db8::1]",
    "2001:DB8::A": "[2001:db8::a]",
    "2001:db8:1:2:3:4:5:6": "[2001:db8:1:2:3:4:5:6]",
    "2001:db8:1:2:3:4::": "[2001:db8:1:2:3:4::]",
    "2001:db8:1:2:3:4::6": "[2001:db8:1:2:3:4::6]",
    "2001::6": "[2001::6]",
    "fd00::": "[fd00::]",
    "fc00:1::2:3": "[fc00:1::2:3]",
}
BAD_ADDRESS = "the address must be a unicast IPv4 or IPv6 address, and not loopback"
BAD_NAME = "the name must be at most 63 letters, digits, hyphens and underscores, with a letter or digit at both ends"


def servers(rendered: Rendered, upstream: str) -> list[str]:
    """The server lines of an upstream, without the settings that all of them have; the only one behind the TLS port is listed once for each try."""
    block = re.search(rf"^upstream {re.escape(upstream)} {{\n(.*?)^}}", rendered.text, re.MULTILINE | re.DOTALL)
    assert block, rendered.text
    lines = [re.sub(r" max_fails=\d fail_timeout=5s", "", line) for line in re.findall(r"^ *server (.*);$", block.group(1), re.MULTILINE)]
    return lines[:1] if upstream.startswith("tls_") and lines == lines[:1] * 3 else lines


def directives(rendered: Rendered) -> str:
    """The configuration without its comments."""
    return "\n".join(line for line in rendered.text.split("\n") if not line.startswith("#"))


def test_empty_catalogue(render: Render, nginx: Nginx) -> None:
    http_side, tcp_side = render("http"), render("tcp")
    nginx.test(http_side.text, tcp_side.text)
    assert http_side.report == tcp_side.report == []
    assert "upstream " not in http_side.text.replace("log_format", "") or "upstream http_" not in http_side.text
    assert "server {" not in tcp_side.text


def test_three_instances(consul: Consul, render: Render, nginx: Nginx) -> None:
    for number in range(1, 4):
        at = {"address": f"192.0.2.{number}", "node": f"consul-{number}"}
        consul.register("httpfront", 32768 + number, meta={"version": "v1.0.0"}, **at)
        consul.register("tcpfront-9999", 32778 + number, tags=["tcp"], **at)
        consul.register("secure", 32788 + number, tags=["tls"], **at)
        consul.register("httpbackend", 8081, tags=[], **at)
        consul.register("httpbackend2", 8081, tags=["http2", "HTTP", "xhttp"], **at)
    http_side, tcp_side = render("http"), render("tcp")
    nginx.test(http_side.text, tcp_side.text)
    assert http_side.served() == {"httpfront"}
    assert not http_side.skipped()
    assert tcp_side.served() == {"tcpfront-9999", "secure"}
    assert not tcp_side.skipped()
    assert servers(http_side, "http_httpfront") == ["192.0.2.1:32769", "192.0.2.2:32770", "192.0.2.3:32771"]
    assert servers(tcp_side, "tcp_tcpfront-9999.9999") == ["192.0.2.1:32779", "192.0.2.2:32780", "192.0.2.3:32781"]
    assert servers(tcp_side, "tls_secure") == ["192.0.2.1:32789", "192.0.2.2:32790", "192.0.2.3:32791"]
    assert http_side.line("httpfront") == {
        "kind": "served",
        "side": "http",
        "service": "httpfront",
        "host": f"httpfront.{DOMAIN}",
        "port": 80,
        "upstream": "http_httpfront",
        "instances": 3,
        "servers": {"192.0.2.1:32769": 100, "192.0.2.2:32770": 100, "192.0.2.3:32771": 100},
        "versions": {"v1.0.0": 3},
    }
    assert "httpbackend" not in http_side.text + tcp_side.text
    # The same catalogue gives the same bytes.
    assert render("http").text == http_side.text
    assert render("tcp").text == tcp_side.text


def test_the_guide_shows_what_is_rendered(consul: Consul, render: Render) -> None:
    """What the guide leaves out of its example it leaves out; what it shows is true."""
    guide = Path(__file__).resolve().parents[2] / "docs" / "filter_guide.md"
    shown = guide.read_text().partition("becomes this")[2].partition("```nginx\n")[2].partition("```")[0].splitlines()
    consul.register("httpfront", 32768, address="192.0.2.1")
    consul.register("httpfront", 32769, address="192.0.2.2", meta={"edge_weight": "25"})
    rendered = iter(render("http", domain="apps.hospital.example").text.splitlines())
    missing = next((line for line in shown if line not in rendered), None)
    assert len(shown) > 15
    assert missing is None, f"docs/filter_guide.md shows {missing!r}, which is not rendered there"


def test_one_instance_opts_in_alone(consul: Consul, render: Render) -> None:
    consul.register("web", 8001, address="192.0.2.1")
    consul.register("web", 8002, address="192.0.2.2", tags=[])
    consul.register("web", 8003, address="192.0.2.3", tags=["HTTP"])
    rendered = render("http")
    assert servers(rendered, "http_web") == ["192.0.2.1:8001"]
    assert not rendered.skipped()


@pytest.mark.parametrize(("status", "reason"), [("critical", "not healthy"), ("warning", "not healthy"), ("maintenance", "in maintenance")])
def test_only_healthy_instances(consul: Consul, render: Render, nginx: Nginx, status: str, reason: str) -> None:
    for name, tag in (("web", "http"), ("echo-9999", "tcp"), ("secure", "tls")):
        consul.register(name, 8001, tags=[tag], address="192.0.2.1", node="good")
        consul.register(name, 8002, tags=[tag], address="192.0.2.2", node="ill", status=status)
    consul.register("nocheck", 8003, status="none")
    http_side, tcp_side = render("http"), render("tcp")
    nginx.test(http_side.text, tcp_side.text)
    assert servers(http_side, "http_web") == ["192.0.2.1:8001"]
    assert servers(http_side, "http_nocheck") == ["192.0.2.1:8003"]
    assert servers(tcp_side, "tcp_echo-9999.9999") == servers(tcp_side, "tls_secure") == ["192.0.2.1:8001"]
    assert http_side.skipped() == {("web", reason)}
    assert tcp_side.skipped() == {("echo-9999", reason), ("secure", reason)}


def test_warning_instances_on_request(consul: Consul, render: Render) -> None:
    consul.register("web", 8001, address="192.0.2.1", weights={"Passing": 10, "Warning": 1})
    consul.register("web", 8002, address="192.0.2.2", status="warning", weights={"Passing": 10, "Warning": 1})
    consul.register("web", 8003, address="192.0.2.3", status="warning", weights={"Passing": 10, "Warning": 0})
    rendered = render("http", accept_warning=True)
    assert servers(rendered, "http_web") == ["192.0.2.1:8001 weight=10", "192.0.2.2:8002 weight=1"]
    assert rendered.skipped() == {("web", "warns and Weights.Warning is 0")}
    assert rendered.line("web")["warns"] == {"192.0.2.2:8002": True}


def test_no_usable_instance(consul: Consul, render: Render, nginx: Nginx) -> None:
    """One service without an instance changes nothing for the others."""
    for name, tag in (("web", "http"), ("echo-9999", "tcp"), ("secure", "tls")):
        consul.register(name, 8001, tags=[tag], status="critical")
    consul.register("muted", 8001, meta={"edge_weight": "0"})
    consul.register("other", 8001, tags=["http", "tls"])
    http_side, tcp_side = render("http"), render("tcp")
    nginx.test(http_side.text, tcp_side.text)
    assert http_side.served() == tcp_side.served() == {"other"}
    assert {("web", "no usable instance"), ("muted", "no usable instance"), ("muted", "edge_weight is 0")} <= http_side.skipped()
    assert {("echo-9999", "no usable instance"), ("secure", "no usable instance")} <= tcp_side.skipped()
    assert 'return 503 "Service web has no healthy instance now.' in http_side.text
    assert "9999" not in directives(tcp_side)
    assert "tls_secure" not in directives(tcp_side)


@pytest.mark.parametrize(
    ("side", "tag", "name", "upstream"),
    [("http", "http", "web", "http_web"), ("tcp", "tcp", "web-9999", "tcp_web-9999.9999"), ("tcp", "tls", "web", "tls_web")],
)
def test_addresses(consul: Consul, render: Render, nginx: Nginx, side: str, tag: str, name: str, upstream: str) -> None:
    wrong = (*REFUSED_ADDRESSES, *INJECTIONS)
    for number, address in enumerate([*wrong, *GOOD_ADDRESSES]):
        consul.register(name, 8080, tags=[tag], address=address, instance=f"i{number}", node="all")
    rendered = render(side)
    nginx.test(**{f"{side}_side": rendered.text})
    assert servers(rendered, upstream) == sorted(f"{address}:8080" for address in GOOD_ADDRESSES.values())
    refused = {entry["instance"] for entry in rendered.report if entry["kind"] == "skipped" and entry["reason"] == BAD_ADDRESS}
    assert refused == {f"i{number}" for number in range(len(wrong))}
    assert "8888" not in directives(rendered)
    assert "autoindex" not in directives(rendered)


def test_hostile_names(consul: Consul, render: Render, nginx: Nginx) -> None:
    """A name that consul-template would exit on costs only its own service."""
    names = [text for text in INJECTIONS if "\x00" not in text] + [
        "web.v2",
        "a/b",
        "a b",
        "a@dc2",
        "a~near",
        "a|any",
        "a?ns=x",
        "-a",
        "a-",
        "_a",
        "a" * 64,
        "ünï",
        "http.web",
    ]
    for number, name in enumerate(names):
        consul.register(name, 8080, tags=["http", "tcp", "tls"], instance=f"i{number}", meta={"edge_port": str(9000 + number)})
    good = ["web", "a", "9", "a_b", "a--b", "a" * 63]
    for number, name in enumerate(good):
        consul.register(name, 8080, tags=["http", "tcp", "tls"], instance=f"g{number}", meta={"edge_port": str(8000 + number)})
    http_side, tcp_side = render("http"), render("tcp")
    nginx.test(http_side.text, tcp_side.text)
    assert http_side.served() == tcp_side.served() == set(good)
    for rendered in (http_side, tcp_side):
        assert {reason for _, reason in rendered.skipped()} == {BAD_NAME}
        assert "8888" not in directives(rendered)
    assert len([entry for entry in http_side.report if entry["kind"] == "skipped"]) == len(names)


HOSTILE = [text[:512] for text in INJECTIONS]


def test_hostile_meta_tags_and_ids(consul: Consul, render: Render, nginx: Nginx) -> None:
    for number, text in enumerate(HOSTILE):
        for name, tag in ((f"h{number}", "http"), (f"t{number}", "tcp")):
            at = {"tags": [tag, text, *(f"tag{i}" for i in range(50))], "node": f"n{number}"}
            consul.register(name, 8080, instance=f"{name} {text}", meta={"edge_port": str(10000 + number), "version": text}, **at)
            for kind, meta in enumerate(
                ({"edge_weight": text}, {"edge_canary": text}, {"edge_proxy_protocol": text}, {"edge_canary": "true", "edge_canary_share": text})
            ):
                consul.register(f"{name}-{list(meta)[-1]}", 8080, meta={"edge_port": str(11000 + 100 * kind + number), **meta}, **at)
            consul.register(f"{name}-edge_port", 8080, meta={"edge_port": text}, **at)
    http_side, tcp_side = render("http"), render("tcp")
    nginx.test(http_side.text, tcp_side.text)
    numbers = range(len(HOSTILE))
    # What the other side reads is nothing to this one: only the keys that a side uses can cost a service its place.
    assert http_side.served() == {f"h{n}{suffix}" for n in numbers for suffix in ("", "-edge_proxy_protocol", "-edge_port")}
    assert tcp_side.served() == {f"t{n}{suffix}" for n in numbers for suffix in ("", "-edge_canary", "-edge_canary_share")}
    for rendered in (http_side, tcp_side):
        assert "8888" not in directives(rendered)
        assert "autoindex" not in directives(rendered)
        assert all(len(line) < 4000 for line in rendered.text.split("\n"))


def test_ports_and_weights_of_instances(consul: Consul, render: Render, nginx: Nginx) -> None:
    for number, (port, meta) in enumerate(
        [
            (0, {}),
            (65536, {}),
            (-1, {}),
            (8500, {}),
            (65535, {}),
            (1, {}),
            (8081, {"edge_weight": "0"}),
            (8082, {"edge_weight": "50"}),
            (8083, {"edge_weight": "101"}),
            (8084, {"edge_weight": "-1"}),
            (8085, {"edge_weight": "1.5"}),
            (8086, {"edge_weight": "abc"}),
            (8087, {"edge_weight": "100"}),
            (8088, {"edge_weight": "007"}),
        ]
    ):
        consul.register("web", port, meta=meta, instance=f"i{number}")
    rendered = render("http")
    nginx.test(rendered.text)
    assert servers(rendered, "http_web") == ["192.0.2.1:1 weight=2", "192.0.2.1:65535 weight=2", "192.0.2.1:8082 weight=1", "192.0.2.1:8087 weight=2"]
    assert rendered.skipped() == {
        ("web", "the port must be from 1 to 65535"),
        ("web", "the port is in backend_reserved_ports"),
        ("web", "edge_weight is 0"),
        ("web", "meta edge_weight must be an integer from 0 to 100"),
    }


def test_weights_are_shares_of_consul_weights(consul: Consul, render: Render, nginx: Nginx) -> None:
    consul.register("plain", 8001, weights={"Passing": 7, "Warning": 1})
    consul.register("plain", 8002, weights={"Passing": 7, "Warning": 1})
    consul.register("mixed", 8001, weights={"Passing": 3, "Warning": 1})
    consul.register("mixed", 8002)
    consul.register("mixed", 8003, meta={"edge_weight": "10"})
    consul.register("huge", 8001, weights={"Passing": 65535, "Warning": 1})
    consul.register("huge", 8002)
    rendered = render("http")
    nginx.test(rendered.text)
    assert servers(rendered, "http_plain") == ["192.0.2.1:8001", "192.0.2.1:8002"]
    assert servers(rendered, "http_mixed") == ["192.0.2.1:8001 weight=30", "192.0.2.1:8002 weight=10", "192.0.2.1:8003 weight=1"]
    assert servers(rendered, "http_huge") == ["192.0.2.1:8001 weight=65535", "192.0.2.1:8002 weight=1"]


def test_http_names_collide(consul: Consul, render: Render, nginx: Nginx) -> None:
    """The lower-case spelling wins, then byte order; health does not matter, and nobody gets another's instances."""
    for number, name in enumerate(["Web", "web", "WEB", "Shop", "SHOP"]):
        consul.register(name, 8000 + number, tags=["http", "tls"], instance=f"i{number}", status="critical" if name == "web" else "passing")
    http_side, tcp_side = render("http"), render("tcp")
    nginx.test(http_side.text, tcp_side.text)
    assert http_side.served() == tcp_side.served() == {"SHOP"}
    assert servers(http_side, "http_shop") == servers(tcp_side, "tls_shop") == ["192.0.2.1:8004"]
    assert http_side.skipped() == {
        ("Web", "the host name belongs to service web"),
        ("WEB", "the host name belongs to service web"),
        ("Shop", "the host name belongs to service SHOP"),
        ("web", "not healthy"),
        ("web", "no usable instance"),
    }
    assert http_side.skipped() == tcp_side.skipped()


def test_http_and_stream_names_do_not_clash(consul: Consul, render: Render, nginx: Nginx) -> None:
    for name in ("web", "http_web", "tcp_web", "tls_web", "web_canary", "web-9000", "http"):
        consul.register(name, 8080, tags=["http", "tls"], meta={})
        consul.register(name, 8081, tags=["http", "tls"], meta={"edge_canary": "true"})
    for number, name in enumerate(("web", "http_web", "tcp_web", "web-9000")):
        consul.register(name, 8082, tags=["tcp"], meta={"edge_port": str(9000 + number)})
    http_side, tcp_side = render("http"), render("tcp")
    nginx.test(http_side.text, tcp_side.text)
    assert len(http_side.served()) == 7
    assert len([entry for entry in tcp_side.report if entry["kind"] == "served"]) == 11


def test_tcp_ports(consul: Consul, render: Render, nginx: Nginx) -> None:
    def tcp(name: str, edge_port: str = "", **more: t.Any) -> None:
        consul.register(name, 8080, tags=["tcp"], meta={"edge_port": edge_port} if edge_port else {}, instance=f"{name} {edge_port}", **more)

    tcp("a-named", "9001")  # would be first by name, but the port stands in the name of the next
    tcp("z-9001", status="critical")
    tcp("b-9002")
    tcp("a-9002")
    tcp("m1", "9003")
    tcp("m2", "9003")
    tcp("suffix-9004", "9005")  # meta wins over the suffix
    tcp("rolling", "9006")
    tcp("rolling", "9007")
    tcp("my-db-9008")
    tcp("nothing")
    tcp("nothing-")
    tcp("9009")
    tcp("x-0")
    tcp("x-65536")
    tcp("x-99999")
    tcp("x-09010")
    tcp("low-81")
    tcp("web-80", "")
    tcp("tls-443")
    tcp("consul-8500")
    for port in ("abc", "0", "-1", "65536", "9999999999999999999999", "9011;", " 9011", "9011\n", "0x2333", "22"):
        tcp(f"p{abs(hash(port))}", port)
    rendered = render("tcp", reserved_ports=[8500, 22])
    nginx.test("", rendered.text)
    served = {(entry["service"], entry["port"]) for entry in rendered.report if entry["kind"] == "served"}
    assert served == {("a-9002", 9002), ("m1", 9003), ("suffix-9004", 9005), ("rolling", 9006), ("rolling", 9007), ("my-db-9008", 9008)}
    assert {int(port) for port in re.findall(r"listen (\d+) ", rendered.text)} == {port for _, port in served}
    skipped = rendered.skipped()
    no_port = "no public port: set meta edge_port, or name the service NAME-PORT"
    assert {
        ("a-named", "port 9001 belongs to service z-9001"),
        ("z-9001", "not healthy"),
        ("z-9001", "no usable instance"),
        ("b-9002", "port 9002 belongs to service a-9002"),
        ("m2", "port 9003 belongs to service m1"),
        ("nothing", no_port),
        ("nothing-", BAD_NAME),
        ("9009", no_port),
        ("x-0", no_port),
        ("x-65536", "the public port must be from 1 to 65535"),
        ("x-99999", "the public port must be from 1 to 65535"),
        ("x-09010", no_port),
        ("low-81", "port 81 is not in tcp_ports"),
        ("web-80", "port 80 is reserved"),
        ("tls-443", "port 443 is reserved"),
        ("consul-8500", "port 8500 is reserved"),
    } <= skipped
    assert {reason for service, reason in skipped if re.fullmatch(r"p\d+", service)} == {
        "meta edge_port must be a port from 1 to 65535",
        "the public port must be from 1 to 65535",
        "port 22 is reserved",
    }


def test_limits(consul: Consul, render: Render, nginx: Nginx) -> None:
    for number in range(6):
        consul.register(f"s{number}", 8080, tags=["http", "tls", "tcp"], meta={"edge_port": str(9000 + number)})
        consul.register("many", 8080 + number, instance=f"m{number}")
        consul.register("twice", 8080, instance=f"d{number}")
        consul.register(f"bad name {number}", 8080)
    http_side = render("http", max_services=5, max_instances=4, max_reports=3)
    tcp_side = render("tcp", max_services=5)
    nginx.test(http_side.text, tcp_side.text)
    assert http_side.served() == {"many", "s0", "s1", "s2", "s3"}
    assert http_side.line("many")["instances"] == 4
    assert http_side.report[-1] == {"kind": "skipped", "side": "http", "service": "", "reason": "more refusals are not listed", "count": 8}
    assert len([entry for entry in http_side.report if entry["kind"] == "skipped"]) == 4
    assert tcp_side.served() == {"s0", "s1", "s2", "s3", "s4"}
    assert tcp_side.skipped() == {("s5", "max_services are already served")}
    assert servers(render("http"), "http_twice") == ["192.0.2.1:8080"]


def test_host_names(consul: Consul, render: Render) -> None:
    for name in ("shop", "Team1-a", "team2-a", "team1-secret", "ui"):
        consul.register(name, 8080, tags=["http", "tls"])
    options = {"host_names": [f"shop.{DOMAIN}", f"team1-*.{DOMAIN}"], "reserved_host_names": [f"*-secret.{DOMAIN}"]}
    for side in ("http", "tcp"):
        rendered = render(side, **options)
        assert rendered.served() == {"shop", "Team1-a"}
        assert rendered.skipped() == {
            ("team2-a", "the host name is not in host_names"),
            ("ui", "the host name is not in host_names"),
            ("team1-secret", "the host name is in reserved_host_names"),
        }


def test_canary_groups(consul: Consul, render: Render, nginx: Nginx) -> None:
    for number, value in enumerate(["true", "TRUE", "1", "yes", "on"]):
        consul.register("shop", 9000 + number, meta={"edge_canary": value, "edge_canary_share": str(30 + number)})
    for number, value in enumerate(["", "false", "0", "no", "off"]):
        consul.register("shop", 8000 + number, meta={"edge_canary": value, "edge_canary_share": "1"})
    consul.register("shop", 8100, meta={"edge_canary": "perhaps"})
    consul.register("only", 8001, meta={"edge_canary": "true"})
    consul.register("half", 8001)
    consul.register("half", 8002, meta={"edge_canary": "true"})
    consul.register("none", 8001)
    consul.register("none", 8002, meta={"edge_canary": "true", "edge_canary_share": "0"})
    consul.register("all", 8001)
    consul.register("all", 8002, meta={"edge_canary": "true", "edge_canary_share": "100"})
    rendered = render("http")
    nginx.test(rendered.text)
    assert servers(rendered, "http_shop") == [f"192.0.2.1:{8000 + number}" for number in range(5)]
    stable = [f"192.0.2.1:{8000 + number} backup" for number in range(5)]
    assert servers(rendered, "http_shop.canary") == [f"192.0.2.1:{9000 + number}" for number in range(5)] + stable
    assert rendered.line("shop")["canary_share"] == 30
    assert rendered.line("half")["canary_share"] == 10
    assert servers(rendered, "http_only") == ["192.0.2.1:8001"]
    assert "canaries" not in rendered.line("only")
    assert rendered.skipped() == {("shop", "meta edge_canary must be true or false")}
    assert set(re.findall(r"\$edge_canary_draw_(\d+) {", rendered.text)) == {"0", "10", "30", "100"}


def test_every_option_is_accepted_by_nginx(consul: Consul, render: Render, nginx: Nginx) -> None:
    for number in range(70):
        consul.register("web", 8000 + number, tags=["http", "tls", "tcp"], meta={"edge_port": "9000", **({"edge_canary": "yes"} if number % 2 else {})})
    options: dict[str, t.Any] = {
        "domain": f"{'d' * 63}.{'e' * 63}.{'f' * 60}",
        "listen_addresses": ["127.0.0.1", "::1"],
        "trusted_proxies": ["192.0.2.0/24", "2001:db8::/32"],
        "request_id": "generate",
        "log_format": "text",
        "keepalive": 0,
        "next_upstream": [],
        "canary": {"share": 100, "by": "client", "header": "", "cookie": ""},
        "proxy_protocol": True,
        "max_fails": 0,
        "client_max_body_size": "0",
    }
    more: dict[str, t.Any] = {
        "http_access_log": "off",
        "tcp_access_log": "off",
        "ipv6": True,
        "map_hash_bucket_size": 0,
        "canary": {"header": "X-Gray", "cookie": ""},
    }
    nginx.test(render("http", **more).text, render("tcp", **more).text)
    consul.register("x" * 63, 8000, tags=["http", "tls"])
    consul.register("y" * 63, 8000, tags=["http", "tls"])
    nginx.test(render("http", **options).text, render("tcp", **options).text)
    with_hash = "map_hash_bucket_size 1024;\n" + render("tcp", domain="example.org", map_hash_bucket_size=0).text
    nginx.test("", with_hash)


def test_following_the_catalogue(consul: Consul, tmp_path: Path) -> None:
    """consul-template that keeps running: a new service never blanks out another, and no registration ends it."""
    for number in range(3):
        consul.register(f"old{number}", 8080, tags=["http", "tls", "tcp"], meta={"edge_port": str(9000 + number)})
    templates = []
    for side, generator in (("http", http_template), ("tcp", tcp_template)):
        (tmp_path / f"{side}.ctmpl").write_text(generator({"domain": DOMAIN}))
        # The command keeps every version that was ever written; one that the end interrupts does not count.
        keep = f"{tmp_path}/{side}.ctmpl:{tmp_path}/{side}.conf:new=$(mktemp {tmp_path}/{side}.XXXXXX) && cp {tmp_path}/{side}.conf $new && mv $new $new.seen"
        templates.append(f"-template={keep}")
    command = [tool("consul-template", "CONSUL_TEMPLATE_BIN"), f"-consul-addr=http://{consul.address}", "-log-level=err", *templates]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:

        def follows(*words: str, gone: str = "\0") -> None:
            def both() -> bool:
                texts = [(tmp_path / f"{side}.conf").read_text() for side in ("http", "tcp")]
                return all(word in text and f'"{gone}"' not in text for word in words for text in texts)

            poll(f"both sides hold {words}", both)

        follows("old0.", "old2.")
        consul.register("new", 8080, tags=["http", "tls", "tcp"], meta={"edge_port": "9100"})
        follows("new.", "old0.")
        for number, name in enumerate(["a b", "a|any", "x.y", "a@dc9", "} server {"]):
            consul.register(name, 8080, tags=["http", "tls", "tcp"], node="hostile", instance=f"h{number}")
        consul.register("new", 8081, tags=["http"], address="192.0.2.1; }", node="hostile", instance="new-hostile")
        follows("} server {", "a|any", "new.", "old1.")
        consul.ask("PUT", "/v1/catalog/deregister", {"Node": "hostile"})
        consul.register("last", 8080, tags=["http", "tls", "tcp"], meta={"edge_port": "9101"})
        follows("last.", "new.", "old2.", gone="a|any")
        assert process.poll() is None, (tmp_path / "log").read_text()
    finally:
        # consul-template hands SIGTERM to its child, of which there is none, and ends on SIGINT.
        process.send_signal(signal.SIGINT)
        process.wait(10)
    versions = list(tmp_path.glob("*.seen"))
    assert len(versions) >= 4
    assert all(f'"old{number}"' in path.read_text() for path in versions for number in range(3))
