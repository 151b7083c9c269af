#!/usr/bin/python
# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read what one node is, has and holds."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_info
short_description: Read what one node is, has and holds
version_added: 1.0.0
author: [Contributors to the trinode.platform project (@trinode)]
description:
  - Reads in one call what must be known of a host before the platform is installed on it. It judges nothing but the ports, and changes nothing.
  - On a Docker host whose kernel does not tell all its features, these are tried in a network namespace that ends with the try.
options:
  node:
    description: [The inventory name of this node in O(nodes).]
    type: str
    required: true
  nodes:
    description: All nodes of the platform, as the filter P(trinode.platform.platform_nodes#filter) makes them.
    type: list
    elements: dict
    required: true
  ports:
    description: The port table, as in the variable C(preflight_ports) of the role P(trinode.platform.preflight#role).
    type: list
    elements: dict
    default: []
  artifacts:
    description:
      - Releases that the node needs, each with C(product), C(version) and, optionally, C(nodes), and C(checksums),
        C(trust_mirror) and C(allow_unencrypted_mirror) as in M(trinode.platform.artifact).
    type: list
    elements: dict
    default: []
  artifact_root:
    description: [The directory in which releases are installed.]
    type: path
    default: /opt
  mirror:
    description: [The mirror of the releases. A URL is asked for the checksums of every release that is not installed yet.]
    type: str
    default: ""
  docker_settings:
    description: The settings that Docker is to get here, as in its F(daemon.json). They are returned with what the host has.
    type: dict
    default: {}
attributes:
  check_mode:
    description: Does the same in check mode.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
"""

EXAMPLES = r"""
- name: Read the state of the host
  trinode.platform.node_info:
    node: consul-1
    nodes: "{{ groups | trinode.platform.platform_nodes(hostvars) }}"
    ports:
      - {port: 8500, protocol: tcp, nodes: [server, client], addresses: [loopback, node], owner: [consul], purpose: Consul's API}
"""

RETURN = r"""
facts:
  description:
    - The system (C(distribution), C(version), C(name), C(architecture), C(kernel), C(python), C(root), C(systemd)), its C(addresses) and name
      servers (C(dns)), the networks it is in (C(routes)) and who is connected to it (C(callers)), resources (C(memory_mb), C(free_mb)), C(clock), what another
      installation of C(consul) left, and, on a Docker host, kernel C(features), C(cgroups) and C(docker).
  returned: always
  type: dict
conflicts:
  description: Ports that this node needs and that another process than their owner holds.
  returned: always
  type: list
  elements: dict
  contains:
    port: {description: The port., type: int}
    protocol: {description: V(tcp) or V(udp)., type: str}
    address: {description: The address on which it is held., type: str}
    process: {description: The name of the process. Empty when none is to be seen., type: str}
    pid: {description: Its id., type: int}
    user: {description: The owner of the socket., type: str}
    unit: {description: Its systemd unit., type: str}
    container: {description: The id of its container., type: str}
    owner: {description: Processes and units that may hold the port., type: list, elements: str}
    purpose: {description: What the platform needs the port for., type: str}
artifacts:
  description: The releases that this node needs.
  returned: always
  type: list
  elements: dict
  contains:
    product: {description: The product., type: str}
    version: {description: The version., type: str}
    installed: {description: Whether it is installed., type: bool}
    url: {description: The list of checksums that was asked for., type: str}
    reason: {description: Why it could not be had. Empty when it could., type: str}
"""

import platform

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._host.artifact import ARCHITECTURES
from ..module_utils._host.ports import SELECTORS, conflicts, find_node, holders, parse_nodes, parse_ports
from ..module_utils._preflight.docker import docker_state
from ..module_utils._preflight.facts import artifact_state, consul_state, gather


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "node": {"type": "str", "required": True},
            "nodes": {"type": "list", "elements": "dict", "required": True},
            "ports": {"type": "list", "elements": "dict", "default": []},
            "artifacts": {"type": "list", "elements": "dict", "default": []},
            "artifact_root": {"type": "path", "default": "/opt"},
            "mirror": {"type": "str", "default": ""},
            "docker_settings": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    params = module.params
    node = find_node(parse_nodes(params["nodes"]), params["node"])
    if node is None:
        module.fail_json(msg=f"{params['node']} is not among the nodes")
        return
    ports = [port for port in parse_ports(params["ports"]) if port.used_by(node)]
    held = holders({(port.port, port.protocol) for port in ports})
    architecture = ARCHITECTURES.get(platform.machine().lower(), "")
    module.exit_json(
        changed=False,
        facts={
            **gather(docker=node.docker),
            "consul": consul_state(params["artifact_root"]) if node.consul != "none" else {},
            "docker": docker_state(params["docker_settings"]) if node.docker else {},
        },
        conflicts=conflicts(node, ports, held),
        artifacts=[
            artifact_state(one, architecture, params["artifact_root"], params["mirror"])
            for one in params["artifacts"]
            if node.selectors & set(one.get("nodes") or SELECTORS)
        ],
    )


if __name__ == "__main__":
    main()
