# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Golden files of the generated consul-template sources, and the building blocks' own rules."""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import typing as t
from pathlib import Path

import jinja2
import pytest

from ansible_collections.trinode.platform.plugins.plugin_utils._edge import go
from ansible_collections.trinode.platform.plugins.plugin_utils._edge.datacenters import datacenter_templates
from ansible_collections.trinode.platform.plugins.plugin_utils._edge.http import http_template
from ansible_collections.trinode.platform.plugins.plugin_utils._edge.option import Option
from ansible_collections.trinode.platform.plugins.plugin_utils._edge.options import SCHEMA
from ansible_collections.trinode.platform.plugins.plugin_utils._edge.render import render
from ansible_collections.trinode.platform.plugins.plugin_utils._edge.tcp import tcp_template

GOLDEN = Path(__file__).parents[2] / "golden"
GENERATORS = {"http": http_template, "tcp": tcp_template}
BASE = {"domain": "apps.example"}

# What an option of a dictionary needs around it to have an effect.
AROUND: dict[str, t.Any] = {"tls": {"certificates": [{"name": "apps"}]}, "internal": {"listen_addresses": ["172.17.0.1"]}}

# One case for every option; its golden file is the difference that it makes to the default source of each side.
OPTIONS: dict[str, t.Any] = {
    "domain": "other.example",
    "http_port": 8080,
    "tls_port": 8443,
    "http_tag": "web",
    "tcp_tag": "stream",
    "tls_tag": "sni",
    "listen_addresses": ["192.0.2.10", "2001:db8::10"],
    "ipv6": True,
    "host_names": ["shop.apps.example", "team1-*.apps.example"],
    "reserved_host_names": ["ui.apps.example"],
    "tcp_ports": [5432, "9000-9999"],
    "reserved_ports": [8500, 22],
    "backend_reserved_ports": [22],
    "unexposed_services": ["Internal-Gateway", "ui"],
    "protected_services": ["consul", "Billing", "billing", "db-5432"],
    "edge_addresses": ["192.0.2.10", "2001:db8::10"],
    "allow_loopback": True,
    "accept_warning": True,
    "connect_timeout": "1s",
    "only_connect_timeout": "3s",
    "read_timeout": "5m",
    "send_timeout": "5m",
    "idle_timeout": "1h",
    "preread_timeout": "2s",
    "max_fails": 5,
    "fail_timeout": "30s",
    "keepalive": 0,
    "keepalive_timeout": "60s",
    "keepalive_requests": 10,
    "unshared_services": ["shop", "portal"],
    "next_upstream": [],
    "next_upstream_tries": 2,
    "next_upstream_timeout": "1s",
    "client_max_body_size": "1m",
    "response_header_size": "128k",
    "upgrades": ["websocket", "tls/1.2"],
    "cleared_headers": ["X-Site-Gateway"],
    "passed_headers": ["X-Host"],
    "underscore_headers": True,
    "request_limit": 50,
    "connection_limit": 0,
    "unlimited_networks": ["192.0.2.0/24"],
    "rate_limit": 50,
    "rate_limit_burst": 20,
    "trusted_proxies": ["192.0.2.0/24"],
    "request_id": "generate",
    "canary.share": 50,
    "canary.by": "client",
    "canary.header": "X-Gray",
    "canary.cookie": "",
    "public": False,
    "internal.listen_addresses": ["172.17.0.1", "fd00::1"],
    "internal.domain": "inside.example",
    "internal.http_port": 8080,
    "internal.http_tag": "http",
    "internal.tcp_tag": "tcp",
    "internal.tcp_ports": [5432],
    "internal.allowed_networks": ["10.0.0.0/8"],
    "remote_services": [
        {"name": "shop", "datacenter": "dc2"},
        {"name": "archive", "datacenter": "dc2", "use": "always"},
        {"name": "shop", "datacenter": "dc3"},
    ],
    "remote_directory": "/srv/remote",
    "tls.certificates": [{"name": "apps"}, {"name": "shop", "host_names": ["shop.apps.example", "cart.apps.example"]}],
    "tls.https": "both",
    "tls.profile": "modern",
    "tls.http2": "directive",
    "tls.hsts_max_age": 31536000,
    "tls.keepalive_timeout": "75s",
    "tls.certificate_directory": "/srv/tls",
    "tls.socket_directory": "/run/tls",
    "proxy_protocol": True,
    "http_access_log": "off",
    "tcp_access_log": "off",
    "log_format": "text",
    "map_hash_bucket_size": 0,
    "max_services": 10,
    "max_instances": 3,
    "max_reports": 5,
}


def _compare(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("GOLDEN_UPDATE"):
        path.write_text(text)
    assert path.exists(), f"{name} is missing: run the tests once with GOLDEN_UPDATE=1 and read what it wrote"
    assert text == path.read_text(), f"{name} differs: if this is meant, run the tests once with GOLDEN_UPDATE=1 and read the difference"


@pytest.mark.parametrize("side", GENERATORS)
def test_default_source(side: str) -> None:
    _compare(f"{side}.ctmpl", GENERATORS[side](BASE))


def test_the_source_of_another_data_centre() -> None:
    first, second = datacenter_templates({**BASE, "remote_services": OPTIONS["remote_services"], "remote_directory": "/srv/remote"})
    _compare("datacenter.ctmpl", first["contents"])
    assert (first["name"], first["destination"], first["initial"]) == ("datacenter-dc2", "/srv/remote/datacenter-dc2.json", "{}\n")
    assert second["destination"] == "/srv/remote/datacenter-dc3.json"
    assert second["contents"] == first["contents"].replace("dc2", "dc3").replace(' "archive"', "")
    assert datacenter_templates(BASE) == []


def _edges(option: str) -> tuple[dict[str, t.Any], dict[str, t.Any]]:
    """The edge description without and with the option's case."""
    outer, dot, inner = option.partition(".")
    if option == "rate_limit_burst":
        return {**BASE, "rate_limit": 50}, {**BASE, "rate_limit": 50, option: OPTIONS[option]}
    if option == "remote_directory":
        base = {**BASE, "remote_services": OPTIONS["remote_services"]}
        return base, {**base, option: OPTIONS[option]}
    if option == "public":
        # Without a public side there must be an internal one.
        base = {**BASE, "internal": AROUND["internal"]}
        return base, {**base, "public": False}
    if not dot:
        return BASE, {**BASE, option: OPTIONS[option]}
    around = {} if inner in AROUND.get(outer, {}) else AROUND.get(outer, {})
    return {**BASE, outer: around}, {**BASE, outer: {**around, inner: OPTIONS[option]}}


@pytest.mark.parametrize("option", OPTIONS)
def test_option(option: str) -> None:
    parts = []
    for side, generator in GENERATORS.items():
        before, after = (generator(edge) for edge in _edges(option))
        parts += list(difflib.unified_diff(before.splitlines(True), after.splitlines(True), f"{side}, defaults", f"{side}, {option}: {OPTIONS[option]!r}", n=0))
    assert parts, "the option changes nothing"
    _compare(f"option_{option}.diff", "".join(parts))


def _names(schema: tuple[Option, ...], prefix: str = "") -> t.Iterator[str]:
    for option in schema:
        if option.kind == "dict":
            yield from _names(option.suboptions, f"{prefix}{option.name}.")
        else:
            yield prefix + option.name


def test_every_option_has_a_golden_file() -> None:
    assert set(OPTIONS) == set(_names(SCHEMA))
    assert {path.name for path in GOLDEN.iterdir()} == {"http.ctmpl", "tcp.ctmpl", "datacenter.ctmpl", *(f"option_{name}.diff" for name in OPTIONS)}


# The sources in which everything is switched on that a description can switch on.
FORMS = {
    "defaults": BASE,
    "all": {
        **BASE,
        "tls": {"certificates": OPTIONS["tls.certificates"]},
        "internal": {"listen_addresses": OPTIONS["internal.listen_addresses"]},
        "trusted_proxies": ["192.0.2.0/24"],
    },
    "two data centres": {**BASE, "remote_services": OPTIONS["remote_services"], "internal": AROUND["internal"], "accept_warning": True},
}
forms = pytest.mark.parametrize("form", FORMS)


@forms
@pytest.mark.parametrize("side", GENERATORS)
def test_shape(side: str, form: str) -> None:
    text = GENERATORS[side](FORMS[form])
    assert text.endswith("}}\n")
    assert not text.endswith("\n\n")
    assert text.count("{{") == text.count("}}")
    assert not re.search(r"<<|>>|<%|%>|<#|#>", text)
    # Whatever is asked of Consul about one service carries a checked name, and nothing is asked about everything but the list of names.
    assert set(re.findall(r"\bservice \(([^)]*)\)", text)) <= {
        f'printf "{tag}.%s|any" $name' for tag in ("http", "tcp", "tls", "http-internal", "tcp-internal")
    }
    # The files of the other data centres, whose names are in the description.
    text = re.sub(r'\bfile "/var/lib/nginx-edge/staging/datacenter-dc[23]\.json" \| parseJSON', "", text)
    assert not re.search(r"\b(key|ls|tree|env|file|secret|plugin|writeToFile|sockaddr|timestamp|sprig_env|sprig_getHostByName)\b [\"`(]", text)


# A value that reaches the output must have gone through one of these. The list is short on purpose: look hard at whatever you add.
CHECKED = {
    # $certificate is one of the names of the description, never from the catalogue; $pool and $shared are the template's own words.
    "http": {"$label", "$name", "$server", "$share", "$certificate", "$pool", "$shared"},
    "tcp": {"$port", "$name", "$label", "$server", "$upstream"},
}
SHARED = {
    'regexReplaceAll `[^ -~]` "?" (printf "%.100s" .)',
    "divide $by $weight",
    "$.more",
    "toJSON .",
    "toJSON $report",
    'toJSON (sprig_dict "kind" "skipped" "side" "SIDE" "service" "" "reason" "more refusals are not listed" "count" $more)',
}
# Numbers.
SIZES = re.compile(r"multiply 64 \(add 1 \(divide 32 \((?:len \$\w+|add \(len \$\w+\) \((?:len \$\w+|add \(len \$\w+\) \(len \$\w+\))\))\)\)\)")


@forms
@pytest.mark.parametrize("side", GENERATORS)
def test_only_checked_values_are_emitted(side: str, form: str) -> None:
    quiet = re.compile(r"\{\{-? *(?:/\*|\$\w+ :?= |scratch\.(?:Set|MapSet|MapSetX) |if |else|end|break|continue|range |with |define |template )")
    text = GENERATORS[side](FORMS[form])
    emitted = {match.group(1) for match in re.finditer(r"\{\{-? *(.*?) *-?\}\}", text, re.DOTALL) if not quiet.match(match.group(0))}
    emitted = {item.replace(f'"{side}"', '"SIDE"') for item in emitted if not SIZES.fullmatch(item)}
    assert emitted <= CHECKED[side] | SHARED


def test_a_missing_value_is_no_empty_text() -> None:
    with pytest.raises(jinja2.UndefinedError):
        render("datacenter.ctmpl", {"datacenter": "dc2"})


def test_go_values() -> None:
    assert go.go_string("a\\z") == "`a\\z`"
    with pytest.raises(ValueError, match="backquote"):
        go.go_string("a`b")
    assert go.go_ranges("$p", []) == "false"
    assert go.go_ranges("$p", ["1-2", "5-5"]) == "or (and (ge $p 1) (le $p 2)) (and (ge $p 5) (le $p 5)) false"
    assert go.go_host_labels(["a-b.x", "c*.x"]) == r"\A(?:a-b|c[a-z0-9_-]*)\z"


@pytest.mark.parametrize("address", ["2001:db8::1", "2001:db8:0:1::b", "fd00::", "2001:db8:1:2:3:4:5:6", "2001:0:0:1:0:0:0:1"])
def test_ipv6_spellings(address: str) -> None:
    """Every spelling of this address and no other address."""
    pattern = go.go_ipv6_spellings(address)
    groups = [int(group, 16) for group in ipaddress.IPv6Address(address).exploded.split(":")]
    spellings = {str(ipaddress.ip_address(address)), ipaddress.ip_address(address).exploded, ":".join(f"{group:x}" for group in groups)}
    for width in range(1, 5):
        texts = [f"{group:0{width}x}" for group in groups]
        for first in range(8):
            for last in range(first, 8):
                short = f"{':'.join(texts[:first])}::{':'.join(texts[last + 1 :])}"
                if not any(groups[first : last + 1]):
                    spellings.add(short)
                elif ipaddress.ip_address(short) != ipaddress.ip_address(address):
                    assert not _matches(pattern, f"[{short}]"), short
    assert all(ipaddress.ip_address(spelling) == ipaddress.ip_address(address) for spelling in spellings)
    assert [spelling for spelling in spellings if not _matches(pattern, f"[{spelling}]")] == []
    for other in ("2001:db8::2", f"{address}:1", address[1:], f"1{address}"):
        assert not _matches(pattern, f"[{other}]"), other


# Go's \z is Python's \Z; everything else in these patterns means the same in both.
def _matches(pattern: str, text: str) -> bool:
    return re.search(pattern.replace(r"\z", r"\Z"), text) is not None


@pytest.mark.parametrize("octet", range(256))
def test_ipv4_first_octet(octet: int) -> None:
    assert _matches(go.IPV4, f"{octet}.0.2.1") == (1 <= octet <= 223 and octet != 127)
    assert _matches(go.IPV4, f"192.{octet}.2.{octet}")
    assert _matches(go.IPV4_LOOPBACK, f"{octet}.0.2.1") == (octet == 127)


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        (go.IPV4, ["1.2.3.4"], ["", "1.2.3", "1.2.3.4.5", "01.2.3.4", "1.2.3.04", "1.2.3.256", "1.2.3.4\n", " 1.2.3.4", "1.2.3.4;", "0.0.0.0", "a.b.c.d"]),
        (
            go.IPV6,
            ["2001:db8::1", "2001::", "fd00::1:2", "3fff:1:2:3:4:5:6:7", "2001:1:2:3:4::5", "2001:1:2:3:4:5::", "FD00::AbCd"],
            [
                "::",
                "::1",
                "::ffff:1.2.3.4",
                "::ffff:102:304",
                "fe80::1",
                "ff02::1",
                "2001:db8",
                "2001:1:2:3:4:5:6::",
                "2001::1::2",
                "2001:12345::",
                "2001::1\n",
                "2001::1%e",
            ],
        ),
        (go.NAME, ["a", "A9", "a-b_c", "9"], ["", "-a", "a-", "_a", "a.b", "a/b", "a b", "a\n", "ä", "a;b"]),
        (go.PORT, ["1", "65535", "99999"], ["", "0", "01", "-1", "1.0", "123456", "80\n"]),
        (go.NAME_WITH_PORT, ["a-1", "a-b-9999"], ["9999", "-9999", "a-", "a-0", "a-09", "a-9999x", "a-123456"]),
        (go.PERCENT, ["0", "9", "10", "99", "100"], ["", "00", "101", "-1", "1.5", "007", "100\n"]),
        (go.TRUE, ["1", "true", "TRUE", "yes", "On"], ["", "0", "2", "truee", "true\n"]),
        (go.FALSE, ["0", "false", "No", "OFF"], ["", "1", "offf", "no\n"]),
        (go.VERSION, ["v1.0.0", "2024-01-01_b+1"], ["", "-v", "v 1", "v1\n", "v;"]),
    ],
)
def test_patterns(pattern: str, good: list[str], bad: list[str]) -> None:
    assert [text for text in good if not _matches(pattern, text)] == []
    assert [text for text in bad if _matches(pattern, text)] == []
