# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Schema of the edge description: what is accepted, what is refused and how it is said, and that the documentation is the schema."""

from __future__ import annotations

import json
import os
import re
import typing as t
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.trinode.platform.plugins.doc_fragments import _edge as fragment_module
from ansible_collections.trinode.platform.plugins.plugin_utils._edge.headers import CLEARED_HEADERS, cleared_headers
from ansible_collections.trinode.platform.plugins.plugin_utils._edge.options import SCHEMA
from ansible_collections.trinode.platform.plugins.plugin_utils._edge.schema import EdgeError, check_edge

ROOT = Path(__file__).resolve().parents[5]
MINIMAL = {"domain": "apps.example"}

# option, value, what the check makes of it
ACCEPTED = [
    ("domain", "Apps.Example", "apps.example"),
    ("domain", "lan", "lan"),
    ("domain", "x1-y.z", "x1-y.z"),
    ("http_port", 1, 1),
    ("http_port", "8080", 8080),
    ("tls_port", 65535, 65535),
    ("http_tag", "edge_http-2", "edge_http-2"),
    ("listen_addresses", ["192.0.2.1", "2001:DB8::1", "192.0.2.1"], ("192.0.2.1", "2001:db8::1")),
    ("ipv6", True, True),
    ("host_names", ["Shop.apps.example", "team-*.apps.example", "*.apps.example"], ("shop.apps.example", "team-*.apps.example", "*.apps.example")),
    ("tcp_ports", [22, "22", "80-90"], ("22-22", "80-90")),
    ("tcp_ports", [], ()),
    ("reserved_ports", [22, "8500"], (22, 8500)),
    ("connect_timeout", "1m", "1m"),
    ("only_connect_timeout", "3s", "3s"),
    ("max_fails", 0, 0),
    ("keepalive", 0, 0),
    ("next_upstream", [], ()),
    ("next_upstream", ["http_503", "error"], ("http_503", "error")),
    ("client_max_body_size", "0", "0"),
    ("client_max_body_size", "1G", "1G"),
    ("trusted_proxies", ["192.0.2.0/24", "192.0.2.1", "2001:db8::/32"], ("192.0.2.0/24", "192.0.2.1/32", "2001:db8::/32")),
    ("request_id", "generate", "generate"),
    ("http_access_log", "off", "off"),
    ("http_access_log", "/var/log/nginx/a.b-c_d.log", "/var/log/nginx/a.b-c_d.log"),
    ("map_hash_bucket_size", 0, 0),
    ("response_header_size", "4K", "4K"),
    ("response_header_size", "1048576", "1048576"),
    ("upgrades", [], ()),
    ("upgrades", ["WebSocket", "TLS/1.2"], ("websocket", "tls/1.2")),
    ("cleared_headers", [], ()),
    ("cleared_headers", ["X-Site", "X-Site"], ("X-Site",)),
    ("passed_headers", ["x-host", "X-Host"], ("X-Host",)),
    ("underscore_headers", True, True),
    ("unshared_services", ["Portal_2"], ("Portal_2",)),
]

# certificates, what the check makes of them
CERTIFICATES = [
    ([{"name": "apps"}], ({"name": "apps", "host_names": ("*.apps.example",)},)),
    ([{"name": "apps", "host_names": []}], ({"name": "apps", "host_names": ("*.apps.example",)},)),
    (
        [{"name": "a-1", "host_names": ["Web.Apps.example", "old_ris.apps.example"]}, {"name": "b", "host_names": ["*.apps.example"]}],
        ({"name": "a-1", "host_names": ("web.apps.example", "old_ris.apps.example")}, {"name": "b", "host_names": ("*.apps.example",)}),
    ),
]

# option, value, part of the message
REFUSED = [
    ("domain", "", "domain: '' is not allowed, it must be a domain name"),
    ("domain", 5, "domain: 5 is not allowed"),
    ("domain", None, "domain: None is not allowed"),
    ("domain", "-a.example", "domain"),
    ("domain", "a..b", "domain"),
    ("domain", "a.example.", "domain"),
    ("domain", "a_b.example", "domain"),
    ("domain", "a.example;", "domain"),
    ("domain", "a.example\n", "domain"),
    ("domain", "ä.example", "domain"),
    ("domain", "a" * 64, "domain"),
    ("domain", ".".join(["a" * 60] * 4), "at most 189 characters"),
    ("http_port", 0, "http_port: 0 is not allowed, it must be an integer from 1 to 65535"),
    ("http_port", 65536, "http_port: 65536 is not allowed"),
    ("http_port", True, "http_port: True is not allowed"),
    ("http_port", "80;", "http_port: '80;' is not allowed"),
    ("http_port", 80.0, "http_port: 80.0 is not allowed"),
    ("http_port", [80], "http_port: [80] is not allowed"),
    ("tls_port", 80, "tls_port: 80 is not allowed, it must differ from http_port"),
    ("tls_tag", "tcp", "tls_tag: 'tcp' is not allowed, it must differ from tcp_tag"),
    ("http_tag", "", "http_tag"),
    ("http_tag", "a.b", "http_tag: 'a.b' is not allowed, it must be a tag of letters"),
    ("http_tag", 'x" }}', "http_tag"),
    ("listen_addresses", "192.0.2.1", "listen_addresses: '192.0.2.1' is not allowed, it must be a list"),
    ("listen_addresses", ["192.0.2.1", "host"], "listen_addresses[1]: 'host' is not allowed, it must be an IPv4 or IPv6 address"),
    ("listen_addresses", ["fe80::1%eth0"], "listen_addresses[0]"),
    ("listen_addresses", [3221225985], "listen_addresses[0]"),
    ("ipv6", "yes", "ipv6: 'yes' is not allowed, it must be true or false"),
    ("ipv6", 1, "ipv6"),
    ("host_names", ["shop"], "host_names[0]: 'shop' is not allowed, it must be a host name directly below apps.example"),
    ("host_names", ["a.b.apps.example"], "host_names[0]"),
    ("host_names", ["shop.other.example"], "host_names[0]"),
    ("reserved_host_names", ["a`b.apps.example"], "reserved_host_names[0]"),
    ("tcp_ports", ["90-80"], "tcp_ports[0]: '90-80' is not allowed, it must be a port from 1 to 65535 or a range"),
    ("tcp_ports", ["0-80"], "tcp_ports[0]"),
    ("tcp_ports", ["80-65536"], "tcp_ports[0]"),
    ("tcp_ports", ["80-"], "tcp_ports[0]"),
    ("tcp_ports", [True], "tcp_ports[0]"),
    ("tcp_ports", {"80": 1}, "tcp_ports"),
    ("reserved_ports", [None], "reserved_ports[0]"),
    ("backend_reserved_ports", [-1], "backend_reserved_ports[0]: -1 is not allowed"),
    ("connect_timeout", 400, "connect_timeout: 400 is not allowed, it must be a positive whole number with one of the units"),
    ("connect_timeout", "0s", "connect_timeout"),
    ("connect_timeout", "1h 30m", "connect_timeout"),
    ("connect_timeout", "1.5s", "connect_timeout"),
    ("connect_timeout", "5s;", "connect_timeout"),
    ("max_fails", 101, "max_fails: 101 is not allowed, it must be an integer from 0 to 100"),
    ("next_upstream", ["non_idempotent"], "next_upstream[0]: 'non_idempotent' is not allowed, it must be one of error, timeout"),
    ("request_limit", "many", "request_limit: 'many' is not allowed, it must be an integer from 0 to 1000000"),
    ("connection_limit", -1, "connection_limit: -1 is not allowed, it must be an integer from 0 to 1000000"),
    ("unlimited_networks", ["192.0.2.1/24"], "unlimited_networks[0]: '192.0.2.1/24' is not allowed"),
    ("rate_limit", -1, "rate_limit: -1 is not allowed, it must be an integer from 0 to 100000"),
    ("client_max_body_size", "10 m", "client_max_body_size"),
    ("client_max_body_size", "1t", "client_max_body_size"),
    ("response_header_size", "2k", "response_header_size: '2k' is not allowed, it must be a size from 4k to 1024k, such as 40k"),
    ("response_header_size", "2m", "response_header_size: '2m' is not allowed"),
    ("response_header_size", "0", "response_header_size: '0' is not allowed"),
    ("response_header_size", "64 k", "response_header_size: '64 k' is not allowed, it must be a whole number"),
    ("upgrades", "websocket", "upgrades: 'websocket' is not allowed, it must be a list"),
    ("upgrades", ["H2C"], "upgrades[0]: 'H2C' is not allowed, it must be a protocol of letters"),
    ("upgrades", ["a b"], "upgrades[0]: 'a b' is not allowed"),
    ("upgrades", [""], "upgrades[0]: '' is not allowed"),
    ("cleared_headers", ["X Site"], "cleared_headers[0]: 'X Site' is not allowed, it must be a header name"),
    ("cleared_headers", ["x_site"], "cleared_headers[0]: 'x_site' is not allowed"),
    ("cleared_headers", ["x-forwarded-for"], "cleared_headers[0]: 'x-forwarded-for' is not allowed, it must be a header that the edge does"),
    ("cleared_headers", ["X-Site", "x-site"], "cleared_headers[1]: 'x-site' is not allowed, cleared_headers[0] is the same header"),
    ("passed_headers", ["X-Hots"], "passed_headers[0]: 'X-Hots' is not allowed, it must be a header that the edge clears, of which the nearest is X-Host"),
    ("passed_headers", ["X-Real-IP"], "passed_headers[0]: 'X-Real-IP' is not allowed, it must be a header that the edge clears"),
    ("passed_headers", ["x_host"], "passed_headers[0]: 'x_host' is not allowed, it must be a header name"),
    ("unshared_services", ["a.b"], "unshared_services[0]: 'a.b' is not allowed, it must be at most 63 letters"),
    ("underscore_headers", "yes", "underscore_headers: 'yes' is not allowed, it must be true or false"),
    ("trusted_proxies", ["192.0.2.1/24"], "trusted_proxies[0]: '192.0.2.1/24' is not allowed, it must be an IPv4 or IPv6 address or network"),
    ("request_id", "maybe", "request_id: 'maybe' is not allowed, it must be one of accept, generate"),
    ("http_access_log", "log", "http_access_log"),
    ("http_access_log", "/var/log/../../etc/passwd", "http_access_log"),
    ("http_access_log", "/var/log/a b", "http_access_log"),
    ("http_access_log", "/var/log/$host", "http_access_log"),
    ("canary", 10, "canary: 10 is not allowed, it must be a dictionary"),
    ("canary", {"share": 101}, "canary.share: 101 is not allowed, it must be an integer from 0 to 100"),
    ("canary", {"header": "X Canary"}, "canary.header: 'X Canary' is not allowed"),
    ("canary", {"cookie": "a-b"}, "canary.cookie: 'a-b' is not allowed"),
    ("canary", {"by": "cookie"}, "canary.by: 'cookie' is not allowed, it must be one of request, client"),
    ("canary", {"shares": 5}, "canary.'shares' is not a known key, the nearest known key is share"),
    ("max_services", 0, "max_services"),
    ("public", "no", "public: 'no' is not allowed, it must be true or false"),
    ("internal", {"listen_addresses": ["0.0.0.0"]}, "internal.listen_addresses[0]: '0.0.0.0' is not allowed, it must be an address of the node itself"),
    ("internal", {"listen_addresses": ["::"]}, "internal.listen_addresses[0]"),
    ("internal", {"listen_addresses": ["docker0"]}, "internal.listen_addresses[0]"),
    ("internal", {"domain": "a b"}, "internal.domain: 'a b' is not allowed"),
    ("internal", {"http_port": 0}, "internal.http_port: 0 is not allowed"),
    ("internal", {"http_tag": "a.b"}, "internal.http_tag: 'a.b' is not allowed"),
    ("internal", {"tcp_ports": ["2-1"]}, "internal.tcp_ports[0]: '2-1' is not allowed"),
    ("internal", {"allowed_networks": ["10.0.0.1/8"]}, "internal.allowed_networks[0]: '10.0.0.1/8' is not allowed"),
    ("tls", [], "tls: [] is not allowed, it must be a dictionary"),
    ("tls", {"certificate": []}, "tls.'certificate' is not a known key, the nearest known key is certificates"),
    ("tls", {"certificates": {"name": "apps"}}, "tls.certificates: {'name': 'apps'} is not allowed, it must be a list"),
    ("tls", {"certificates": ["apps"]}, "tls.certificates[0]: 'apps' is not allowed, it must be a dictionary"),
    ("tls", {"certificates": [{"host_names": []}]}, "tls.certificates[0].name is required"),
    ("tls", {"certificates": [{"name": "Apps"}]}, "tls.certificates[0].name: 'Apps' is not allowed, it must be at most 32 lower-case letters"),
    ("tls", {"certificates": [{"name": "../x"}]}, "tls.certificates[0].name: '../x'"),
    ("tls", {"certificates": [{"name": "a", "key": "x"}]}, "tls.certificates[0].'key' is not a known key, the nearest known key is name"),
    (
        "tls",
        {"certificates": [{"name": "a", "host_names": ["web.other.example"]}]},
        "'web.other.example' is not allowed, it must be a host name directly below apps.example, where * may stand for its whole first label, such as *.apps",
    ),
    ("tls", {"certificates": [{"name": "a", "host_names": ["w*.apps.example"]}]}, "tls.certificates[0].host_names[0]"),
    ("tls", {"certificates": [{"name": "a", "host_names": ["a.b.apps.example"]}]}, "tls.certificates[0].host_names[0]"),
    (
        "tls",
        {"certificates": [{"name": "a"}, {"name": "b", "host_names": ["*.apps.example"]}]},
        "tls.certificates[1].host_names: '*.apps.example' is not allowed, it must differ from tls.certificates[0].host_names",
    ),
    (
        "tls",
        {"certificates": [{"name": "a"}, {"name": "a", "host_names": ["b.apps.example"]}]},
        "tls.certificates[1].name: 'a' is not allowed, it must differ from tls.certificates[0].name",
    ),
    ("tls", {"https": "on"}, "tls.https: 'on' is not allowed, it must be one of redirect, both, off"),
    ("tls", {"hsts_max_age": -1}, "tls.hsts_max_age"),
    ("tls", {"keepalive_timeout": "soon"}, "tls.keepalive_timeout"),
    ("tls", {"certificate_directory": "tls"}, "tls.certificate_directory: 'tls' is not allowed, it must be an absolute path"),
    ("tls", {"socket_directory": "/run/../etc"}, "tls.socket_directory"),
    ("tls", {"socket_directory": "/run/x/"}, "tls.socket_directory"),
    ("tls", {"socket_directory": "/" + "x" * 64}, "tls.socket_directory"),
    ("remote_services", [{"name": "a.b", "datacenter": "dc2"}], "remote_services[0].name: 'a.b' is not allowed, it must be at most 63 letters, digits"),
    ("remote_services", [{"name": "a", "datacenter": "DC2"}], "remote_services[0].datacenter: 'DC2' is not allowed, it must be at most 63 lower-case"),
    ("remote_services", [{"name": "a", "datacenter": "dc2|any"}], "remote_services[0].datacenter: 'dc2|any' is not allowed"),
    ("remote_services", [{"name": "a"}], "remote_services[0].datacenter is required"),
    (
        "remote_services",
        [{"name": "a", "datacenter": "dc2", "use": "never"}],
        "remote_services[0].use: 'never' is not allowed, it must be one of backup, always",
    ),
    ("remote_services", [{"name": "a", "datacenter": "dc2", "tag": "x"}], "remote_services[0].'tag' is not a known key"),
    ("remote_services", [{"name": "a", "datacenter": "d"}, {"name": "a", "datacenter": "d"}], "remote_services[0] is the same service there"),
    ("remote_directory", "staging", "remote_directory: 'staging' is not allowed, it must be an absolute path"),
    ("edge_addresses", ["0.0.0.0"], "edge_addresses[0]: '0.0.0.0' is not allowed, it must be an address of the node itself"),
    ("unexposed_services", ["a.b"], "unexposed_services[0]: 'a.b' is not allowed, it must be at most 63 letters, digits"),
    ("http_tag", "udp", "http_tag: 'udp' is not allowed, this tag marks instances that are reached over UDP"),
    ("tcp_tag", "udp", "tcp_tag: 'udp' is not allowed, this tag marks"),
    ("tls_tag", "udp", "tls_tag: 'udp' is not allowed, this tag marks"),
    ("internal", {"http_tag": "udp"}, "internal.http_tag: 'udp' is not allowed, this tag marks"),
    ("internal", {"tcp_tag": "udp"}, "internal.tcp_tag: 'udp' is not allowed, this tag marks"),
    ("htpp_port", 80, "'htpp_port' is not a known key, the nearest known key is http_port"),
    (5, 80, "5 is not a known key"),
]


@pytest.mark.parametrize(("key", "value", "expected"), ACCEPTED)
def test_accepted(key: str, value: t.Any, expected: t.Any) -> None:
    assert check_edge({**MINIMAL, key: value})[key] == expected


@pytest.mark.parametrize(("key", "value", "message"), REFUSED)
def test_refused(key: t.Any, value: t.Any, message: str) -> None:
    with pytest.raises(EdgeError) as caught:
        check_edge({**MINIMAL, key: value})
    assert message in str(caught.value)
    assert len(caught.value.errors) == 1


def test_cleared_headers_are_added() -> None:
    """An inventory that repeats one of the edge's own list, as it had to before, is still right."""
    found = cleared_headers(check_edge({**MINIMAL, "cleared_headers": ["X-Site", "x-forwarded-user"], "passed_headers": ["X-Host"]}))
    assert found == [*(name for name in CLEARED_HEADERS if name != "X-Host"), "X-Site"]
    with pytest.raises(EdgeError, match=r"cleared_headers\[0\]: 'x-host' is not allowed, passed_headers has the same header"):
        check_edge({**MINIMAL, "cleared_headers": ["x-host"], "passed_headers": ["X-Host"]})


def test_the_guide_lists_the_headers_that_are_always_cleared() -> None:
    listed = (ROOT / "docs" / "filter_guide.md").read_text().partition("<!-- cleared headers -->")[2].partition("<!-- end of cleared headers -->")[0]
    assert re.findall(r"`([^`]+)`", listed) == list(CLEARED_HEADERS)
    assert len({name.lower() for name in CLEARED_HEADERS}) == len(CLEARED_HEADERS)


INSIDE = {"listen_addresses": ["172.17.0.1"]}


def test_internal() -> None:
    checked = check_edge({**MINIMAL, "internal": {"listen_addresses": ["172.17.0.1", "FD00::1"]}, "public": False})
    assert checked["internal"]["listen_addresses"] == ("172.17.0.1", "fd00::1")
    assert checked["internal"]["domain"] == "internal.apps.example"
    assert check_edge({**MINIMAL, "internal": {**INSIDE, "domain": "Inside.Example"}})["internal"]["domain"] == "inside.example"


@pytest.mark.parametrize(
    ("edge", "message"),
    [
        ({"public": False}, "public: False is not allowed, it must be true where internal.listen_addresses is empty"),
        ({"internal": {**INSIDE, "domain": "apps.example"}}, "internal.domain: 'apps.example' is not allowed, it must differ from domain"),
        (
            {"internal": INSIDE, "listen_addresses": ["192.0.2.1", "172.17.0.1"]},
            "internal.listen_addresses: '172.17.0.1' is not allowed, it must differ from those of listen_addresses",
        ),
        ({"internal": {**INSIDE, "http_port": 443}}, "internal.http_port: 443 is not allowed, it must differ from tls_port"),
        ({"domain": ".".join(["a" * 60] * 3), "internal": INSIDE}, "internal.domain"),
    ],
)
def test_the_internal_side_is_apart(edge: dict[str, t.Any], message: str) -> None:
    with pytest.raises(EdgeError) as caught:
        check_edge({**MINIMAL, **edge})
    assert message in str(caught.value)
    assert len(caught.value.errors) == 1


@pytest.mark.parametrize(("certificates", "expected"), CERTIFICATES)
def test_certificates(certificates: t.Any, expected: t.Any) -> None:
    assert check_edge({**MINIMAL, "tls": {"certificates": certificates}})["tls"]["certificates"] == expected


def test_all_errors_at_once() -> None:
    with pytest.raises(EdgeError) as caught:
        check_edge({"http_port": 0, "ipv6": "no", "tcp_ports": ["x", "1-2", "y"], "canary": {"share": -1}, "domian": "x"})
    assert len(caught.value.errors) == 7
    assert "domain is required" in caught.value.errors


@pytest.mark.parametrize("edge", [None, "apps.example", ["domain"], 5])
def test_not_a_dictionary(edge: t.Any) -> None:
    with pytest.raises(EdgeError, match="the edge description must be a dictionary"):
        check_edge(edge)


def test_defaults_are_what_the_check_would_make_of_them() -> None:
    defaults = check_edge(MINIMAL)
    again = check_edge(defaults)
    # Ranges are brought into one form.
    assert again.pop("tcp_ports") == ("1024-65535",)
    defaults.pop("tcp_ports")
    assert again == defaults


def test_connections_to_the_only_instance_outlive_a_lost_packet() -> None:
    """A kernel sends the first packet of a connection again after one second, and after three."""
    assert check_edge(MINIMAL)["only_connect_timeout"] == "2s" and check_edge(MINIMAL)["connect_timeout"] == "400ms"


def test_every_option_has_a_case() -> None:
    """An option that nobody tries with a wrong value may not be checked at all."""
    tried = {key for key, _, _ in REFUSED}
    kinds = {(option.kind, option.elements) for option in SCHEMA if option.name in tried}
    assert not [option.name for option in SCHEMA if (option.kind, option.elements) not in kinds]
    # The parts of a dictionary are tried one by one.
    messages = "\n".join(message for _, _, message in REFUSED)
    for outer in SCHEMA:
        parts = {(inner.kind, inner.elements) for inner in outer.suboptions if re.search(rf"{outer.name}(\[0\])?\.{inner.name}\b", messages)}
        assert not [inner.name for inner in outer.suboptions if (inner.kind, inner.elements) not in parts], outer.name


_anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.sampled_from(["80", "1-2", "10s", "off", "a.apps.example", "127.0.0.1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.sampled_from([option.name for option in SCHEMA]), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from([option.name for option in SCHEMA]) | st.text(max_size=8), _anything, max_size=6))
def test_any_input_is_checked_or_refused(edge: dict[str, t.Any]) -> None:
    """Never another exception, and what is accepted is made of harmless characters only."""
    try:
        checked = check_edge(edge)
    except EdgeError:
        return

    def leaves(value: t.Any) -> t.Iterator[t.Any]:
        if isinstance(value, dict):
            value = tuple(value.values())
        if isinstance(value, tuple):
            for element in value:
                yield from leaves(element)
        else:
            yield value

    for leaf in leaves(checked):
        assert type(leaf) in (str, int, bool)
        assert not set(str(leaf)) & set("{}\"'`;$\\ \t\r\n#")


# -- the documentation is the schema ---------------------------------------------------------------------------------------------


def _described(options: dict[str, t.Any], prefix: str = "") -> t.Iterator[tuple[str, dict[str, t.Any]]]:
    for name, entry in options.items():
        yield prefix + name, entry
        yield from _described(entry.get("suboptions", {}), f"{prefix}{name}.")


def test_the_documentation_is_the_schema() -> None:
    edge = yaml.safe_load(fragment_module.ModuleDocFragment.DOCUMENTATION)["options"]["_input"]
    described = dict(_described(edge["suboptions"]))
    assert list(edge["suboptions"]) == [option.name for option in SCHEMA]
    assert described["domain"]["required"] and "default" not in described["domain"]
    assert described["canary.share"]["description"][-1] == "From V(0) to V(100)."
    assert (described["canary.share"]["type"], described["canary.share"]["default"]) == ("int", 10)
    assert described["tls"]["default"] == {}
    assert described["tls.https"]["choices"] == ["redirect", "both", "off"]
    assert described["tcp_ports"]["elements"] == "str" and described["tcp_ports"]["default"] == ["1024-65535"]
    assert described["reserved_ports"]["elements"] == "int"
    assert described["tls.certificates.host_names"]["default"] == []


def _plain(text: str) -> str:
    """A description without Ansible's markup."""
    text = re.sub(r"P\(([^#)]*)#[a-z]+\)", r"`\1`", text)
    return re.sub(r"[COV]\((?:_input\.)?([^)]*)\)", r"`\1`", text).replace("|", "\\|")


def _table() -> str:
    rows = ["| option | default | meaning |", "|---|---|---|"]
    options = [("", option) for option in SCHEMA]
    # What a dictionary or the dictionaries of a list hold comes behind everything else.
    for prefix, option in options:
        options += [(f"{prefix}{option.name}{'[]' if option.kind == 'list' else ''}.", inner) for inner in option.suboptions]
        shown = list(option.default) if option.kind == "list" else option.default
        default = f"`{json.dumps(shown)}`"
        if option.required or option.kind == "dict" or option.default is None:
            default = "required" if option.required else "see below" if option.kind == "dict" else "see the text"
        choices = [f"One of {', '.join(f'`{choice}`' for choice in option.choices)}."] if option.choices else []
        span = [f"From {option.minimum} to {option.maximum}."] if option.kind == "int" else []
        rows.append(f"| `{prefix}{option.name}` | {default} | {_plain(' '.join([*option.description, *choices, *span]))} |")
    return "\n".join(rows) + "\n"


def test_the_guide_has_every_option() -> None:
    """GOLDEN_UPDATE=1 writes the table anew."""
    path = Path(fragment_module.__file__).parents[2] / "docs" / "filter_guide.md"
    head, mark, rest = path.read_text().partition("test_schema.py -->\n")
    table, end, tail = rest.partition("<!-- end of options -->")
    assert mark
    assert end
    if os.environ.get("GOLDEN_UPDATE"):
        table = _table()
        path.write_text(head + mark + table + end + tail)
    assert table == _table()


def test_the_playbook_adds_the_node_to_the_default_networks() -> None:
    """The description of the playbook can't read the schema, so its list is compared with it."""
    default = check_edge({"domain": "x", "internal": {"listen_addresses": ["172.17.0.1"]}})["internal"]["allowed_networks"]
    playbook = (Path(__file__).parents[5] / "playbooks" / "vars" / "platform.yml").read_text(encoding="utf-8")
    assert f"'allowed_networks': [{', '.join(map(repr, default))}, platform_address]" in playbook
