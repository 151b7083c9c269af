#!/usr/bin/python
# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Listen for a while on the ports that other nodes must reach."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_listener
short_description: Listen for a while on the ports that other nodes must reach
version_added: 1.0.0
author: [Contributors to the trinode.platform project (@trinode)]
description:
  - Leaves a process on the node that listens on those ports of the table that other nodes must reach and that are free, and on one more
    free port that stands for the ports that Docker publishes. M(trinode.platform.node_probe) on the other nodes then asks it.
  - The process gives up all privileges once the ports are open, answers only questions with the right token, never with more than was
    asked, is bound to the address of the node, writes nothing, and ends when it is told to or after O(deadline).
options:
  state:
    description: [Whether to start a listener or to end it.]
    type: str
    choices: [started, stopped]
    default: started
  node:
    description: [The inventory name of this node in O(nodes). Needed with O(state=started).]
    type: str
  nodes:
    description: [All nodes of the platform. Needed with O(state=started).]
    type: list
    elements: dict
  ports:
    description: [The port table. Needed with O(state=started).]
    type: list
    elements: dict
  deadline:
    description: [Seconds after which the listener ends by itself.]
    type: int
    default: 60
  token:
    description: [The token of the listener to end. Needed with O(state=stopped).]
    type: str
  pid:
    description: [The process of the listener to end. Needed with O(state=stopped).]
    type: int
attributes:
  check_mode:
    description: Does the same in check mode, because nothing of it outlives the check.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
"""

EXAMPLES = r"""
- name: Listen
  trinode.platform.node_listener:
    node: consul-1
    nodes: "{{ groups | trinode.platform.platform_nodes(hostvars) }}"
    ports: "{{ port_table }}"
  register: __listener

- name: End it
  trinode.platform.node_listener:
    state: stopped
    token: "{{ __listener.token }}"
    pid: "{{ __listener.pid }}"
"""

RETURN = r"""
token:
  description: What a question must hold. It is worth nothing once the listener has ended.
  returned: when started
  type: str
pid:
  description: The process.
  returned: when started
  type: int
address:
  description: The address of the node.
  returned: when started
  type: str
port:
  description: The free port that was added.
  returned: when started
  type: int
listening:
  description: The open ports, each with C(port) and C(protocol).
  returned: when started
  type: list
  elements: dict
held:
  description: The ports that some process holds already.
  returned: when started
  type: list
  elements: dict
failed:
  description: The ports that could not be opened, with C(reason).
  returned: when started
  type: list
  elements: dict
stopped:
  description: Whether the process has ended.
  returned: when stopped
  type: bool
seen:
  description: The questions that arrived, each with C(node), C(port) and C(protocol).
  returned: when stopped
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._host.ports import find_node, parse_nodes, parse_ports, wanted_listeners
from ..module_utils._preflight.mesh import start, stop


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["started", "stopped"], "default": "started"},
            "node": {"type": "str"},
            "nodes": {"type": "list", "elements": "dict"},
            "ports": {"type": "list", "elements": "dict"},
            "deadline": {"type": "int", "default": 60},
            # Marked as no secret: it ends with the listener, and the result of the start has to carry it to the others.
            "token": {"type": "str", "no_log": False},
            "pid": {"type": "int"},
        },
        required_if=[("state", "started", ("node", "nodes", "ports")), ("state", "stopped", ("token", "pid"))],
        supports_check_mode=True,
    )
    params = module.params
    if params["state"] == "stopped":
        try:
            _there, seen = stop(params["token"], params["pid"])
        except OSError as error:
            module.fail_json(msg=str(error), stopped=False)
        module.exit_json(changed=False, stopped=True, seen=seen)
    nodes = parse_nodes(params["nodes"])
    node = find_node(nodes, params["node"])
    if node is None:
        module.fail_json(msg=f"{params['node']} is not among the nodes")
        return
    try:
        result = start(node.address, wanted_listeners(node, nodes, parse_ports(params["ports"])), params["deadline"])
    except (OSError, ValueError) as error:
        module.fail_json(msg=f"cannot listen on {node.address}: {error}")
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
