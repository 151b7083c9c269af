# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every playbook requires of inventory and command line."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest

from ansible_collections.trinode.platform.plugins.plugin_utils._preflight import site_rules as rules

GROUPS: dict[str, list[str]] = {
    "all": ["a", "b"],
    "ungrouped": [],
    "consul_servers": ["a", "b"],
    "docker_hosts": ["a", "b"],
    "edge": ["a"],
}


@pytest.mark.parametrize("value", ["Secure", "SECURE", "open ", "Open", "tls", "", None, False, True, 1, ["open"], {"open": 1}])
def test_every_other_value_is_refused(value: t.Any) -> None:
    assert rules.security_fault(value)


def test_two_values_are_allowed() -> None:
    assert [rules.security_fault(value) for value in ("secure", "open")] == ["", ""]


def texts(problems: t.Iterable[t.Any]) -> list[str]:
    return [str(one) for one in problems]


def test_right_groups() -> None:
    assert texts(rules.group_problems(GROUPS, ["site"])) == []
    assert texts(rules.group_problems({**GROUPS, "edge": [], "consul_clients": [], "berlin": ["a"]}, ["site"])) == []
    assert texts(rules.group_problems({**GROUPS, "evicted_nodes": ["c"]}, ["site"])) == []
    # A group of the same hosts, under a similar name, takes nothing away.
    assert texts(rules.group_problems({**GROUPS, "edges": ["a"]}, ["site"])) == []
    assert texts(rules.group_problems({**GROUPS, "docker_host": ["b"], "edges": ["b"]}, ["site"])) == []


@pytest.mark.parametrize("edge", [["a"], []])
def test_a_short_name_is_no_misspelling(edge: list[str]) -> None:
    assert texts(rules.group_problems({**GROUPS, "edge": edge, "edv": ["b", "c"]}, ["site"])) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"edge": None}, ["The inventory (site) has no group edge; add it to the inventory; 'edge:' without hosts says that there are none."]),
        ({"edge": None, "edges": ["a"]}, ["has no group edge", "has a in the group edges, which the platform does not know; did you mean edge?"]),
        ({"edge": [], "edges": ["a"]}, ["has a in the group edges, which the platform does not know; did you mean edge?"]),
        ({"docker_host": ["c"]}, ["has c in the group docker_host, which the platform does not know; did you mean docker_hosts?"]),
        ({"consul-servers": ["c"]}, ["did you mean consul_servers?"]),
        ({"evicted_node": ["c"]}, ["has c in the group evicted_node, which the platform does not know; did you mean evicted_nodes?"]),
        ({"evicted_nodes": ["b"]}, ["b is in the group evicted_nodes and in consul_servers and docker_hosts; take it out of consul_servers and docker_hosts"]),
        (dict.fromkeys(GROUPS), ["has no host in the groups consul_servers, consul_clients, docker_hosts and edge"]),
    ],
)
def test_wrong_groups(changes: dict[str, t.Any], expected: list[str]) -> None:
    groups = {name: hosts for name, hosts in {**GROUPS, **changes}.items() if hosts is not None}
    found = texts(rules.group_problems(groups, ["site"]))
    assert len(found) == len(expected), found
    for text, part in zip(found, expected, strict=True):
        assert part in text


@pytest.mark.parametrize(
    ("limit", "unknown"),
    [
        ("a", []),
        ("a,b", []),
        ("edge:!b", []),
        ("a*", []),
        ("~a.", []),
        ("@failed.txt", []),
        ("edge[0]", []),
        ("consul_servers[0:1]", []),
        ("a:b", []),
        ("fd00::1", []),
        ("fd00::2", ["fd00::2"]),
        ("a,fd00::1,fd00::2", ["fd00::2"]),
        ("localhost,a,127.0.0.1", []),
        ("a,c", ["c"]),
        ("all:!c", ["c"]),
        ("edges:&a", ["edges"]),
    ],
)
def test_limits(limit: str, unknown: list[str]) -> None:
    assert [one.message.split()[2].rstrip(",") for one in rules.limit_problems(limit, {**GROUPS, "all": ["a", "b", "fd00::1"]})] == unknown


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ("a", []),
        ("all", []),
        ("localhost", []),
        ("c", ["--limit names c, which is in the group evicted_nodes; correct --limit"]),
        ("d,e", ["--limit names d, which is in none of the platform's groups", "--limit names e, which is in none"]),
    ],
)
def test_a_limit_to_hosts_outside_of_the_platform(limit: str, expected: list[str]) -> None:
    groups = {**GROUPS, "all": ["a", "b", "c", "d", "e", "localhost"], "evicted_nodes": ["c"]}
    found = texts(rules.foreign_limit_problems(limit, groups))
    assert len(found) == len(expected)
    for text, part in zip(found, expected, strict=True):
        assert text.startswith(part)


@pytest.mark.parametrize(
    ("limit", "chosen", "named"),
    [
        ("", "abc", False),
        (",", "abc", False),
        (" ", "abc", False),
        ("!d", "abc", False),
        ("!c", "ab", False),
        ("all", "abc", False),
        ("a,b,c", "abc", False),
        ("@EMPTY", "abc", False),
        ("consul_servers", "ab", False),
        ("a,b", "ab", True),
        ("a", "a", True),
        ("c,", "c", True),
        ("&edge", "a", True),
        ("@ONE", "a", True),
    ],
)
def test_a_limit_names_hosts(tmp_path: Path, limit: str, chosen: str, named: bool) -> None:
    (tmp_path / "EMPTY").write_text("\n \n", encoding="utf-8")
    (tmp_path / "ONE").write_text("a\n", encoding="utf-8")
    assert rules.names_hosts(limit.replace("@", f"@{tmp_path}/"), chosen, {**GROUPS, "consul_clients": ["c"]}) is named


@pytest.mark.parametrize(("limit", "named"), [("a", True), ("all", False), (",", False), ("consul_servers", False)])
def test_the_only_host_of_a_site_can_be_named(limit: str, named: bool) -> None:
    assert rules.names_hosts(limit, ["a"], {"consul_servers": ["a"], "edge": ["a"]}) is named


def test_sources(tmp_path: Path) -> None:
    assert texts(rules.source_problems([str(tmp_path), "a,b"])) == []
    assert texts(rules.source_problems([f"{tmp_path}x"])) == [f"The inventory {tmp_path}x does not exist; correct -i."]


@pytest.mark.parametrize(
    ("arguments", "environment", "named"),
    [
        (["playbook.yml"], {}, False),
        (["playbook.yml", "--limit", "a"], {}, False),
        (["playbook.yml", "-e", "i=1"], {}, False),
        (["playbook.yml"], {"ANSIBLE_INVENTORY": ""}, False),
        (["playbook.yml"], {"ANSIBLE_INVENTORY": "site"}, True),
        (["-i", "site"], {}, True),
        (["-isite"], {}, True),
        (["-vKi", "site"], {}, True),
        (["--inventory=site"], {}, True),
        (["--inventory-file", "site"], {}, True),
    ],
)
def test_a_named_inventory(arguments: list[str], environment: dict[str, str], named: bool) -> None:
    assert rules.inventory_option(arguments, environment) is named


@pytest.mark.parametrize(
    ("given", "datacenters", "expected"),
    [
        ("dc1", ["dc1", "dc1"], ""),
        (None, ["dc1"], "The removal was not confirmed; this inventory is the site dc1; add -e confirm_datacenter=dc1, if that is the site you mean."),
        ("", ["dc1"], "not confirmed"),
        ("dc2", ["dc1"], "The removal was confirmed for the site 'dc2', but this inventory is the site dc1"),
        ("true", ["dc1"], "confirmed for the site 'true'"),
        ("dc1", ["dc1", "dc2"], "this inventory is the site dc1 and dc2"),
        ("dc1", [], "this inventory is the site the inventory's platform_datacenter"),
    ],
)
def test_confirmations(given: t.Any, datacenters: list[str], expected: str) -> None:
    problem = rules.confirmation_problem("the removal", given, datacenters)
    assert expected in str(problem) if expected else problem is None


def test_site_wide_variables_agree() -> None:
    values = {"a": {"platform_domain": "consul"}, "b": {"platform_domain": "consul"}, "c": {}}
    assert texts(rules.agreement_problems({"a": values["a"], "b": values["b"]})) == []
    assert texts(rules.agreement_problems(values)) == [
        "platform_domain differs from host to host: 'consul' on a and b; no value on c; set it once, in group_vars/all.yml."
    ]


@pytest.mark.parametrize("name", rules.SITE_WIDE)
def test_a_difference_in_security_cannot_be_tolerated(name: str) -> None:
    (problem,) = rules.agreement_problems({"a": {name: "open"}, "b": {}})
    secure = {"platform_security", "platform_secrets_directory", "platform_protected_services"}
    assert problem.check == ("security" if name in secure else "variable")


@pytest.mark.parametrize(
    ("values", "expected"),
    [(["open", "open"], "open"), (["open", None], "secure"), ([None, "open"], "secure"), (["open", "secure"], "secure"), ([None], "secure"), ([], "secure")],
)
def test_one_host_makes_a_site_secure(values: list[str | None], expected: str) -> None:
    hosts = {str(number): {} if value is None else {"platform_security": value} for number, value in enumerate(values)}
    assert rules.site_security(hosts) == expected


def test_what_a_variable_is_made_of() -> None:
    passed = {
        "nginx_http_port": "{{ platform_description.http_port }}",
        "platform_description": "{{ platform_edge | combine(platform_description) }}",
        "plain": 1,
    }
    assert rules.sources("nginx_http_port", passed, ["platform_edge", "platform_domain"]) == ["platform_edge"]
    assert rules.sources("plain", passed, ["platform_edge"]) == []
