# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The socket of the agent, which one role makes and two others use: they know nothing of each other."""

from __future__ import annotations

import typing as t
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]


def read(path: str) -> dict[str, t.Any]:
    """Return the variables of a file."""
    found: dict[str, t.Any] = yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))
    return found


def test_the_programs_of_the_platform_call_the_socket_that_the_agent_makes() -> None:
    platform = read("playbooks/vars/platform.yml")
    assert platform["platform_consul_socket"] == read("roles/consul_server/vars/main.yml")["__consul_server_socket"]
    assert platform["registrator_consul_socket"] == "{{ platform_consul_socket }}"
    assert platform["consul_template_consul_address"] == "unix://{{ platform_consul_socket }}"


def test_they_are_in_the_group_that_may_use_it() -> None:
    platform = read("playbooks/vars/platform.yml")
    assert platform["consul_server_socket_group"] == "consul-api"
    assert platform["registrator_consul_socket_group"] == "{{ consul_server_socket_group }}"
    assert "consul_server_socket_group" in platform["consul_template_groups"]


def test_the_forms_of_the_platform_change_none_of_it() -> None:
    for form in ("open", "secure"):
        assert not {name for name in read(f"playbooks/vars/{form}.yml") if "socket" in name or name.endswith(("consul_address", "consul_url"))}
