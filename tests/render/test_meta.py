# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an instance writes for the edge has its effect, or one line of the report says why not."""

from __future__ import annotations

import collections
import itertools
import json
import re
import typing as t
from pathlib import Path

import pytest
from edge_rig import Consul, Nginx, Rendered

from ansible_collections.trinode.platform.plugins.plugin_utils._edge.meta import META

Render = t.Callable[..., Rendered]
INTERNAL = {"internal": {"listen_addresses": ["127.0.0.2"]}}
KEYS = ("canary", "canary_share", "https", "keepalive", "port", "proxy_protocol", "weight")
KNOWN = f"known are {', '.join(f'edge_{key}' for key in KEYS)}"


def lines(rendered: Rendered) -> list[tuple[str, str, str]]:
    """(kind, service, reason) of all that is not served as it was asked for."""
    report = [entry for entry in rendered.report if entry["kind"] != "served"]
    return [(entry["kind"], entry["service"], entry["reason"]) for entry in report]


# Tags and meta of the instances of one service, options of the edge, and on which side the line is.
Case = tuple[list[tuple[list[str], dict[str, str]]], dict[str, t.Any], str, str]
CASES: dict[str, Case] = {
    "a mistyped key": (
        [(["http"], {"edge_keepalvie": "false"})],
        {},
        "http",
        f"meta edge_keepalvie is not known; {KNOWN}",
    ),
    "a key in capitals": (
        [(["tcp"], {"Edge_Port": "9000", "edge_port": "9000"})],
        {},
        "tcp",
        f"meta Edge_Port is not known; {KNOWN}",
    ),
    "a hyphen": ([(["tls"], {"edge-weight": "50"})], {}, "tcp", f"meta edge-weight is not known; {KNOWN}"),
    "an empty value": ([(["http"], {"edge_canary": ""})], {}, "http", "meta edge_canary is empty and has no effect"),
    "a tcp key over HTTP": (
        [(["http"], {"edge_port": "9000"})],
        {},
        "http",
        "meta edge_port has an effect with tag tcp only",
    ),
    "a tcp key inside": (
        [(["http"], {"edge_port": "9000"})],
        INTERNAL,
        "http",
        "meta edge_port has an effect with tag tcp or tcp-internal only",
    ),
    "a tcp key with TLS": (
        [(["tls"], {"edge_proxy_protocol": "yes"})],
        {},
        "tcp",
        "meta edge_proxy_protocol has an effect with tag tcp only",
    ),
    "an HTTP key on tcp": (
        [(["tcp"], {"edge_port": "9000", "edge_canary": "yes"})],
        {},
        "tcp",
        "meta edge_canary has an effect with tag http only",
    ),
    "HTTPS inside": (
        [(["http-internal"], {"edge_https": "redirect"})],
        INTERNAL,
        "http",
        "meta edge_https has an effect with tag http only",
    ),
    "a share without a canary": (
        [(["http"], {"edge_canary_share": "5"})],
        {},
        "http",
        "meta edge_canary_share has an effect with meta edge_canary only",
    ),
    "a share of no canary": (
        [(["http"], {"edge_canary_share": "5", "edge_canary": "no"})],
        {},
        "http",
        "meta edge_canary_share has an effect with meta edge_canary only",
    ),
    "shares that differ": (
        [
            (["http"], {}),
            (["http"], {"edge_canary": "1", "edge_canary_share": "5"}),
            (["http"], {"edge_canary": "1", "edge_canary_share": "3"}),
        ],
        {},
        "http",
        "instances disagree about meta edge_canary_share: 3 is used",
    ),
    "canaries only": (
        [(["http"], {"edge_canary": "1"})],
        {},
        "http",
        "meta edge_canary has no effect, because every usable instance is a canary",
    ),
    "no certificate": ([(["http"], {"edge_https": "both"})], {}, "http", "no certificate covers the host name"),
    "HTTPS mistyped": (
        [(["http"], {}), (["http"], {"edge_https": "on"})],
        {},
        "http",
        "meta edge_https must be redirect, both or off",
    ),
    "HTTPS that differs": (
        [(["http"], {"edge_https": "off"}), (["http"], {"edge_https": "both"})],
        {"tls": {"certificates": [{"name": "apps"}]}},
        "http",
        "instances disagree about meta edge_https: both is used",
    ),
    "reuse that differs": (
        [(["http"], {"edge_keepalive": "yes"}), (["http"], {"edge_keepalive": "no"})],
        {},
        "http",
        "meta edge_keepalive=true has no effect: keepalive is 0, or unshared_services or another instance turns it off",
    ),
    "reuse that is off for the service": (
        [(["http"], {"edge_keepalive": "yes"})],
        {"unshared_services": ["web"]},
        "http",
        "meta edge_keepalive=true has no effect: keepalive is 0, or unshared_services or another instance turns it off",
    ),
    "reuse that is off for all": (
        [(["http"], {"edge_keepalive": "yes"})],
        {"keepalive": 0},
        "http",
        "meta edge_keepalive=true has no effect: keepalive is 0, or unshared_services or another instance turns it off",
    ),
    "a header that only one expects": (
        [(["tcp"], {"edge_port": "9000"}), (["tcp"], {"edge_port": "9000", "edge_proxy_protocol": "true"})],
        {},
        "tcp",
        "instances disagree about meta edge_proxy_protocol on port 9000: none gets the header",
    ),
    "a header that one does not expect": (
        [
            (["tcp-internal"], {"edge_port": "9000"}),
            (["tcp-internal"], {"edge_port": "9000", "edge_proxy_protocol": "no"}),
        ],
        {"proxy_protocol": True, **INTERNAL},
        "tcp",
        "instances disagree about meta edge_proxy_protocol on port 9000: none gets the header",
    ),
    "no internal side, http": (
        [(["http-internal"], {})],
        {},
        "http",
        "the tag http-internal has no effect, because internal.listen_addresses is empty",
    ),
    "no internal side, tcp": (
        [(["tcp-internal"], {})],
        {},
        "tcp",
        "the tag tcp-internal has no effect, because internal.listen_addresses is empty",
    ),
}


def register(consul: Consul, name: str, instances: list[tuple[list[str], dict[str, str]]]) -> None:
    for number, (tags, meta) in enumerate(instances):
        consul.register(name, 8000 + number, tags=tags, meta=meta)


@pytest.mark.parametrize("case", CASES)
def test_what_has_no_effect_is_reported_once(consul: Consul, render: Render, tmp_path: Path, case: str) -> None:
    """On one side of the edge, however many instances write it and however many sides the service has."""
    instances, options, side, reason = CASES[case]
    tls = {"tls": {**options.get("tls", {}), "socket_directory": str(tmp_path), "certificate_directory": str(tmp_path)}}
    register(consul, "web", instances * 2)
    found = {name: lines(render(name, **{**options, **tls})) for name in ("http", "tcp")}
    told = [(name, kind) for name, entries in found.items() for kind, *rest in entries if rest == ["web", reason]]
    refused = reason.startswith("meta edge_https must")
    skipped = refused or reason.startswith(("no certificate", "the tag"))
    # An instance that is refused has a line of its own.
    assert told == [(side, "skipped" if skipped else "warning")] * (2 if refused else 1)


def test_a_line_for_both_scopes_is_told_once(consul: Consul, render: Render) -> None:
    register(
        consul,
        "web",
        [(["http", "http-internal", "tcp", "tcp-internal", "tls"], {"edge_prot": "1", "edge_port": "9000"})],
    )
    told = [entry for side in ("http", "tcp") for entry in lines(render(side, **INTERNAL)) if "edge_prot " in entry[2]]
    assert told == [("warning", "web", f"meta edge_prot is not known; {KNOWN}")]


def test_long_keys_stay_in_their_lines(consul: Consul, render: Render, nginx: Nginx) -> None:
    """Consul takes keys of 128 letters, digits, hyphens and underscores, and refuses others in the catalogue too."""
    register(consul, "web", [(["http"], {f"edge{sign}{'x' * 123}": "y" * 512 for sign in "-_"})])
    rendered = render("http")
    nginx.test(rendered.text)
    assert len([entry for entry in lines(rendered) if "is not known" in entry[2]]) == 2
    with pytest.raises(RuntimeError, match="Key contains invalid characters"):
        register(consul, "web", [(["http"], {"edge_;": "x"})])


def test_an_unshared_service_that_no_one_has_is_reported(consul: Consul, render: Render) -> None:
    register(consul, "Portal", [(["http"], {})])
    register(consul, "db", [(["tcp"], {"edge_port": "9000"})])
    rendered = render("http", unshared_services=["portal", "protal", "db"])
    reason = "unshared_services has this name, and no service with an HTTP tag has it"
    assert [entry for entry in lines(rendered) if "unshared" in entry[2]] == [
        ("warning", "protal", reason),
        ("warning", "db", reason),
    ]
    assert rendered.line("Portal")["keepalive"] is False


def test_instances_of_another_data_centre_are_looked_at_too(consul: Consul, render: Render, tmp_path: Path) -> None:
    far = {
        "Name": "shop",
        "ID": "far",
        "Address": "192.0.2.9",
        "Port": 8000,
        "Status": "passing",
        "Tags": ["http"],
        "Sidecar": "",
    }
    far |= {"ServiceMeta": {"edge_canary": "true", "edge_prot": "1"}, "Weights": {"Passing": 1, "Warning": 1}}
    instances = {"shop": [far, {**far, "ID": "farther", "Port": 8001}], "gone": []}
    (tmp_path / "datacenter-dc2.json").write_text(json.dumps(instances))
    register(consul, "shop", [(["http"], {})])
    remote = [{"name": name, "datacenter": "dc2"} for name in ("gone", "never", "shop")]
    options = {"remote_services": remote, "remote_directory": str(tmp_path)}
    rendered = render("http", **options)
    assert rendered.line("shop")["backups"] == 2
    missing = "remote_services has this name, and no instance of it in data center dc2 is known"
    assert lines(rendered) == [
        ("warning", "gone", missing),
        ("warning", "never", missing),
        ("warning", "shop", f"meta edge_prot is not known; {KNOWN}"),
        ("warning", "shop", "meta edge_canary has no effect on an instance that is used as backup"),
    ]
    assert lines(render("tcp", **options)) == []


# -- all of it ---------------------------------------------------------------------------------------------------

TAG_SETS = [
    ["http"],
    ["tcp"],
    ["tls"],
    ["http-internal"],
    ["tcp-internal"],
    ["http", "tcp"],
    ["http", "tcp-internal"],
    ["tcp", "tls"],
]
# Values that are not what holds without them, the wrong ones included.
VALUES = {
    "edge_canary": ["true", "maybe", ""],
    "edge_canary_share": ["5", "x", ""],
    "edge_https": ["both", "off", "on", ""],
    "edge_keepalive": ["false", "maybe", ""],
    "edge_port": ["x", "70000", "7", ""],
    "edge_proxy_protocol": ["true", "maybe", ""],
    "edge_weight": ["50", "0", "x", ""],
    "edge_prot": ["9000"],
    "EDGE_WEIGHT": ["50"],
    "edge-canary": ["true"],
}


def blocks(text: str) -> dict[str, list[str]]:
    """What nginx gets for each service, by the number in its name, without the name itself and its public port."""
    found: dict[str, list[str]] = collections.defaultdict(list)
    for block in re.split(
        r"\n(?=upstream |server |map |split_clients )",
        "\n".join(line for line in text.split("\n") if not line.startswith("#")),
    ):
        numbers = set(re.findall(r"[st](\d{4})\b", block)) if block.startswith(("upstream", "server")) else set()
        for number in numbers:
            for kind in "st":
                if re.search(rf"\b\w*{kind}{number}\b", block):
                    plain = re.sub(rf"{kind}{number}", "NAME", block)
                    found[f"{kind}{number}"].append(re.sub(r"\b(?:listen (?:\S+:)?|\.)[23]\d{4}\b", "PORT", plain))
    return found


@pytest.mark.parametrize("certificates", [False, True])
@pytest.mark.parametrize("everywhere", [False, True])
def test_nothing_is_dropped_silently(
    consul: Consul,
    render: Render,
    tmp_path: Path,
    certificates: bool,
    everywhere: bool,
) -> None:
    """Each key with each value on each kind of service, next to a twin without the key, on one instance or on both."""
    pairs = itertools.product(VALUES.items(), TAG_SETS)
    cases = [(key, value, tags) for (key, values), tags in pairs for value in values]
    assert set(META) <= {key for key, _value, _tags in cases}
    for number, (key, value, tags) in enumerate(cases):
        for kind in "st":
            public = str((20000 if kind == "s" else 30000) + number)
            base = {"edge_port": public} if {"tcp", "tcp-internal"} & set(tags) else {}
            if key == "edge_canary_share" and not everywhere and {"http", "http-internal"} & set(tags):
                base["edge_canary"] = "true"
            more = {key: value} if kind == "s" else {}
            for instance in range(2):
                meta = {name: text for name, text in base.items() if instance or name != "edge_canary"}
                wanted = more if instance or (everywhere and key != "edge_weight") else {}
                meta |= wanted
                consul.register(f"{kind}{number:04}", 8000 + instance, tags=tags, meta=meta, node=f"n{instance}")
    options = {
        **INTERNAL,
        "max_reports": 10000,
        "tcp_ports": ["1024-65535"],
        "tls": {"https": "redirect", "socket_directory": str(tmp_path)},
    }
    if certificates:
        options["tls"]["certificates"] = [{"name": "apps"}]
    sides = [render(side, **options) for side in ("http", "tcp")]
    told = {(entry["service"], key) for side in sides for entry in side.report if entry["kind"] != "served"
            for key in re.findall(r"(?i)edge[_-]\w+", entry["reason"])}  # fmt: skip
    for word, key in (("certificate", "edge_https"), ("port", "edge_port")):
        told |= {(service, key) for side in sides for _kind, service, reason in lines(side) if word in reason}
    found = [blocks(side.text) for side in sides]
    silent = []
    for number, (key, value, tags) in enumerate(cases):
        one, other = f"s{number:04}", f"t{number:04}"
        effect = any(side.get(one) != side.get(other) for side in found)
        # Off is what holds without certificates.
        as_ever = key == "edge_https" and value == "off" and not certificates and "http" in tags
        if not effect and (one, key) not in told and not as_ever:
            silent.append((key, value, tags))
        # And nobody is told of what has its full effect, or was not written.
        assert not [key for service, key in told if service == other], (other, key, tags)
    assert not silent
