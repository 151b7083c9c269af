# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The nodes of the platform, from the groups of the inventory."""

from __future__ import annotations

DOCUMENTATION = r"""
name: platform_nodes
short_description: The nodes of the platform, from the groups of the inventory
version_added: 1.0.0
author: [Contributors to the trinode.platform project (@trinode)]
description:
  - Turns the inventory groups C(consul_servers), C(consul_clients), C(docker_hosts) and C(edge) into one list of nodes with what each of them does.
  - The one place where group names meet the roles, which know none.
  - Ignores C(--limit), because the platform does not shrink when a play works on a part of it.
options:
  _input:
    description: [The variable C(groups) of Ansible.]
    type: dict
    required: true
  hostvars:
    description: The variable C(hostvars) of Ansible. C(platform_address) and, optionally, C(consul_server_node_name) are read of each host.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show the nodes
  ansible.builtin.debug:
    msg: "{{ groups | trinode.platform.platform_nodes(hostvars) }}"
    # [{"name": "consul-1", "host": "consul-1", "address": "192.0.2.1", "consul": "server", "docker": true, "edge": true}]
"""

RETURN = r"""
_value:
  description:
    - One dictionary for each node, in the order of the inventory. C(name) is its Consul node name, C(host) its inventory name, C(address) its
      address, C(consul) one of V(server), V(client) and V(none), C(docker) and C(edge) whether it runs containers and is an edge.
  type: list
  elements: dict
"""

import typing as t

from ansible.errors import AnsibleFilterError

from ..plugin_utils._sites.nodes import platform_nodes


def platform_nodes_filter(groups: t.Any, hostvars: t.Any) -> list[dict[str, t.Any]]:
    """The filter."""
    try:
        return platform_nodes(groups, hostvars)
    except (TypeError, AttributeError) as error:
        raise AnsibleFilterError(f"trinode.platform.platform_nodes: needs Ansible's groups and hostvars: {error}") from error


class FilterModule:
    """Filters of this file."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Names and functions."""
        return {"platform_nodes": platform_nodes_filter}
