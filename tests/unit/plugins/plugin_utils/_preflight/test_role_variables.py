# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Known and unknown names of role variables."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from ansible_collections.trinode.platform.plugins.plugin_utils._preflight.role_variables import (
    RoleSpec,
    Unknown,
    distance,
    load_roles,
    nearest,
    owner,
    unknown_variables,
    without_requirements,
)

SPECS = [
    RoleSpec("consul_server", {"consul_server_version": {}, "consul_server_mode": {}}),
    RoleSpec("consul_template", {"consul_template_version": {}}, frozenset({"consul_template_wait"})),
    RoleSpec("consul", {"consul_version": {}}),
    RoleSpec("platform", {"platform_address": {"type": "str"}}),
]


def test_the_longest_prefix_wins() -> None:
    assert [spec.name if (spec := owner(name, SPECS)) else None for name in ("consul_template_x", "consul_x", "consul_server_", "nginx_x", "consul")] == [
        "consul_template",
        "consul",
        "consul_server",
        None,
        None,
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("consul_server_version", None),
        ("consul_template_wait", None),
        ("consul_server_verson", Unknown("consul_server_verson", "consul_server", "consul_server_version")),
        ("consul_template_wiat", Unknown("consul_template_wiat", "consul_template", "consul_template_wait")),
        ("platform_adress", Unknown("platform_adress", "platform", "platform_address")),
        ("platform_zzzzzz", Unknown("platform_zzzzzz", "platform", "")),
        ("consul_sever_version", Unknown("consul_sever_version", "consul", "consul_server_version")),
        # Outside of every prefix, only what is nearly a known name.
        ("platfrom_address", Unknown("platfrom_address", "", "platform_address")),
        ("plattform_address", Unknown("plattform_address", "", "platform_address")),
        ("my_platform_address", None),
        ("hospital_network", None),
        ("ansible_host", None),
        ("__consul_server_registered", None),
        ("consul_servers", Unknown("consul_servers", "consul", "consul_server_mode")),
    ],
)
def test_one_name(name: str, expected: Unknown | None) -> None:
    found = unknown_variables([name], SPECS)
    if expected is None:
        assert found == []
    else:
        assert found == [expected]


def test_the_nearest_name_is_named() -> None:
    (one,) = unknown_variables(["consul_server_verson"], SPECS)
    assert one.nearest == "consul_server_version"
    assert nearest("xyz", ["consul_server_version"]) == ""


def test_names_of_others_can_be_ignored() -> None:
    assert unknown_variables(["consul_x", "consul_legacy_a"], SPECS, ["consul_x", "consul_legacy_*"]) == []


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [("abc", "abc", 0), ("abc", "acb", 1), ("abc", "abcd", 1), ("abc", "bc", 1), ("abcd", "acbe", 2), ("abc", "xyz", 3), ("a", "abcdef", 3)],
)
def test_distance(left: str, right: str, expected: int) -> None:
    assert distance(left, right, 2) == expected
    assert distance(right, left, 2) == expected


def test_roles_are_read(tmp_path: Path) -> None:
    role = tmp_path / "web"
    (role / "meta").mkdir(parents=True)
    (role / "defaults").mkdir()
    (role / "meta" / "argument_specs.yml").write_text(
        "argument_specs:\n  main:\n    options:\n      web_port: {type: int, required: true}\n  install:\n    options:\n      web_mirror: {type: str}\n"
    )
    (role / "defaults" / "main.yml").write_text("web_port: 80\nweb_undocumented: 1\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    specs = load_roles(tmp_path)
    assert list(specs) == ["empty", "web"]
    assert specs["web"].known == {"web_port", "web_mirror", "web_undocumented"}
    assert specs["web"].options["web_port"]["type"] == "int"
    assert specs["empty"].known == frozenset()
    assert load_roles(tmp_path / "none") == {}


def test_only_what_is_defined_is_judged() -> None:
    options = {"web_port": {"type": "int", "required": True, "default": 1, "options": {"a": {"required": True}}}}
    assert without_requirements(options) == {"web_port": {"type": "int", "options": {"a": {"required": True}}}}


def test_our_own_roles_are_read_quickly() -> None:
    roles = Path(__file__).resolve().parents[5] / "roles"
    begin = time.process_time()
    specs = load_roles(roles)
    assert "preflight_nodes" in specs["preflight"].known
    assert time.process_time() - begin < 2
