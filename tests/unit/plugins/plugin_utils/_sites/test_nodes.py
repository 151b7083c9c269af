# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From inventory groups to nodes."""

from __future__ import annotations

from ansible_collections.trinode.platform.plugins.plugin_utils._sites.nodes import platform_nodes

HOSTVARS = {
    "a.example": {"platform_address": "192.0.2.1"},
    "b": {"platform_address": "192.0.2.2", "consul_server_node_name": "node-b"},
    "c": {},
}


def test_every_host_once_with_all_that_it_does() -> None:
    groups = {"consul_servers": ["a.example"], "consul_clients": ["b"], "docker_hosts": ["b", "a.example"], "edge": ["b", "c"], "other": ["z"]}
    assert platform_nodes(groups, HOSTVARS) == [
        {"name": "a", "host": "a.example", "address": "192.0.2.1", "consul": "server", "docker": True, "edge": False},
        {"name": "node-b", "host": "b", "address": "192.0.2.2", "consul": "client", "docker": True, "edge": True},
        {"name": "c", "host": "c", "address": "", "consul": "none", "docker": False, "edge": True},
    ]


def test_missing_groups_are_empty() -> None:
    assert platform_nodes({}, {}) == []


def test_a_host_in_both_groups_is_both() -> None:
    """The preflight names it; as one of the two, the other group would be ignored without a word."""
    groups = {"consul_servers": ["a.example", "b"], "consul_clients": ["b"]}
    assert [node["consul"] for node in platform_nodes(groups, HOSTVARS)] == ["server", "both"]
