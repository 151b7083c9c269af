#!/usr/bin/python
# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Try every path from this node to the others."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_probe
short_description: Try every path from this node to the others
version_added: 1.0.0
author: [Contributors to the trinode.platform project (@trinode)]
description:
  - Asks the listeners that M(trinode.platform.node_listener) left on the other nodes, all at once, on every port that this node has to reach.
  - A port that a service of the node holds already only has to take a TCP connection. Over UDP such a port is not tried.
  - Brings the difference between the clocks of both nodes home, exact to half of the round trip.
options:
  node:
    description: [The inventory name of this node in O(nodes).]
    type: str
    required: true
  nodes:
    description: [All nodes of the platform.]
    type: list
    elements: dict
    required: true
  ports:
    description: [The port table.]
    type: list
    elements: dict
    required: true
  listeners:
    description: What M(trinode.platform.node_listener) returned, by the inventory name of the node. Nodes without a listener are left out.
    type: dict
    required: true
  timeout:
    description: Seconds to wait for an answer. Over UDP, four questions are sent in this time.
    type: float
    default: 2.0
attributes:
  check_mode:
    description: Does the same in check mode.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
"""

EXAMPLES = r"""
- name: Try the paths to the other nodes
  trinode.platform.node_probe:
    node: consul-1
    nodes: "{{ groups | trinode.platform.platform_nodes(hostvars) }}"
    ports: "{{ port_table }}"
    listeners:
      consul-2: "{{ hostvars['consul-2'].__listener }}"
"""

RETURN = r"""
results:
  description: One entry for each path.
  returned: always
  type: list
  elements: dict
  contains:
    peer: {description: The inventory name of the other node., type: str}
    port: {description: The port., type: int}
    protocol: {description: V(tcp) or V(udp)., type: str}
    ok: {description: Whether the path is open., type: bool}
    reason: {description: Why it is not. Only when it is not., type: str}
    sample: {description: Whether this is the free port that stands for published ones., type: bool}
    purpose: {description: What the path is needed for. Empty for a sample that nothing needs., type: str}
    offset: {description: Seconds by which the clock of the other node is ahead. Only with an answer over TCP., type: float}
    rtt: {description: Seconds that question and answer took. Only with an answer over TCP., type: float}
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._host.ports import find_node, parse_nodes, parse_ports
from ..module_utils._preflight.mesh import make_probes, run_probes


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "node": {"type": "str", "required": True},
            "nodes": {"type": "list", "elements": "dict", "required": True},
            "ports": {"type": "list", "elements": "dict", "required": True},
            "listeners": {"type": "dict", "required": True},
            "timeout": {"type": "float", "default": 2.0},
        },
        supports_check_mode=True,
    )
    params = module.params
    nodes = parse_nodes(params["nodes"])
    node = find_node(nodes, params["node"])
    if node is None:
        module.fail_json(msg=f"{params['node']} is not among the nodes")
        return
    probes = make_probes(node, nodes, parse_ports(params["ports"]), params["listeners"])
    # From the node's own address: that is how the services will call.
    source = (params["listeners"].get(node.host) or {}).get("address", "")
    module.exit_json(changed=False, results=run_probes(probes, node.host, source, params["timeout"]))


if __name__ == "__main__":
    main()
