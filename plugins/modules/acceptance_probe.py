#!/usr/bin/python
# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module: the steps of one phase of the acceptance on one node."""

from __future__ import annotations

DOCUMENTATION = r"""
module: acceptance_probe
short_description: Do one phase of the platform's acceptance on a node
version_added: 1.0.0
author: [Contributors to the trinode.platform project (@trinode)]
description:
  - Runs the steps of one phase of the acceptance on the host it is called on, and returns them with their commands, outputs and verdicts.
  - A step that fails does not fail the module, so that the following ones still run. Only in the phases V(prepare) and V(load) an
    error fails it, because nothing has been started yet.
  - It is the work horse of the role P(trinode.platform.acceptance#role) and of little use alone.
options:
  phase:
    description:
      - V(prepare) removes what an earlier run left and looks for everything that forbids a start.
      - V(load) loads the images of the sample services from O(archive) and removes the archive.
      - V(base) tries Consul and DNS.
      - V(start) starts the sample services.
      - V(traffic) tries names, edges and requests.
      - V(faults) lets instances come and go under load, on the one node that is chosen for it.
      - V(after) reads the configuration and logs afterwards.
      - V(cleanup) removes what was started.
    type: str
    required: true
    choices: [prepare, load, base, start, traffic, faults, after, cleanup]
  node:
    description: [The name of this node in O(nodes).]
    type: str
    required: true
  nodes:
    description: [All nodes of the platform.]
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: [Name of the node.]
        type: str
        required: true
      host:
        description: [Inventory name of the node. Not used here.]
        type: str
      address:
        description: [Address of the node.]
        type: str
        required: true
      consul:
        description: [What the node is to Consul.]
        type: str
        choices: [server, client, none]
        default: none
      docker:
        description: [Whether the node runs containers.]
        type: bool
        default: false
      edge:
        description: [Whether the node is an edge.]
        type: bool
        default: false
  run_id:
    description: [Name of the run. It is part of the path of each request that is looked for in the services' logs.]
    type: str
    required: true
  datacenter:
    description: [Consul's datacenter.]
    type: str
    default: dc1
  domain:
    description: [Consul's DNS domain.]
    type: str
    default: consul
  edge_domain:
    description: [Domain of the exposed services.]
    type: str
    required: true
  consul_url:
    description: [URL of the local agent's API.]
    type: str
    default: http://127.0.0.1:8500
  consul_token:
    description: ACL token to read the catalogue and the raft configuration with, where Consul asks for one.
    type: str
  consul_unit:
    description: [Name of the agent's systemd unit.]
    type: str
    default: consul.service
  consul_http_address:
    description: [Address at which the UI answers plain http. Empty means that of the node.]
    type: str
    default: ""
  consul_http_port:
    description: [Port of the API and the UI on the node's address.]
    type: int
    default: 8500
  docker_unit:
    description: [Name of the engine's systemd unit.]
    type: str
    default: docker.service
  edge_apply:
    description: [Path of the edge's apply program.]
    type: path
    default: /usr/local/sbin/nginx-edge-apply
  public_names:
    description: [Names outside of Consul that hosts and containers have to resolve.]
    type: list
    elements: str
    default: []
  samples:
    description: [Whether the sample services may be used.]
    type: bool
    default: true
  disruptive:
    description: [Whether an instance may be killed and Docker restarted on one node.]
    type: bool
    default: false
  keep:
    description: [Whether the sample services stay after the run.]
    type: bool
    default: false
  directory:
    description: [Directory on the node for what the sample services read.]
    type: path
    default: /var/lib/trinode-acceptance
  archive:
    description: Path on the node of the archive with the images, for the phase V(load).
    type: path
  ca:
    description: Certificate of the CA of this run, in PEM form.
    type: str
  certificate:
    description: Certificate of the https sample service, in PEM form.
    type: str
  key:
    description: Private key of the https sample service, in PEM form.
    type: str
  load_rate:
    description: [Requests in each second that are sent to each edge over http during the faults. TCP and TLS get a quarter and a fifth of it.]
    type: int
    default: 20
  registration_seconds:
    description: [Seconds from a container's start within which it must be in the catalogue.]
    type: float
    default: 1.0
  seen:
    description: [Facts that this module returned in earlier phases on all nodes.]
    type: list
    elements: dict
    default: []
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
    support: none
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in C(check_mode)), when in diff mode.
    support: none
notes:
  - Never reports a change. The containers that it starts are the instruments of a measurement, not a state that it keeps.
"""

EXAMPLES = r"""
- name: Try Consul and DNS
  trinode.platform.acceptance_probe:
    phase: base
    node: consul-1
    nodes:
      - {name: consul-1, address: 192.0.2.129, consul: server, docker: true, edge: true}
    run_id: 20260101T000000
    edge_domain: apps.example.org
    samples: false
"""

RETURN = r"""
node:
  description: The node.
  returned: always
  type: str
phase:
  description: The phase.
  returned: always
  type: str
steps:
  description: What was done, each with C(check), C(title), C(status), C(command), C(output), C(message), C(seconds) and C(at).
  returned: always
  type: list
  elements: dict
facts:
  description: What later phases need to know.
  returned: always
  type: dict
seconds:
  description: How long the phase took.
  returned: always
  type: float
"""

import dataclasses
import time

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._acceptance.phases import FATAL, PHASES
from ..module_utils._acceptance.samples import Context, Node
from ..module_utils._acceptance.tools import AcceptanceError, Recorder


def main() -> None:
    """The module."""
    node_options = {
        "name": {"type": "str", "required": True},
        "host": {"type": "str"},
        "address": {"type": "str", "required": True},
        "consul": {"type": "str", "choices": ["server", "client", "none"], "default": "none"},
        "docker": {"type": "bool", "default": False},
        "edge": {"type": "bool", "default": False},
    }
    module = AnsibleModule(
        argument_spec={
            "phase": {"type": "str", "required": True, "choices": list(PHASES)},
            "node": {"type": "str", "required": True},
            "nodes": {"type": "list", "elements": "dict", "required": True, "options": node_options},
            "run_id": {"type": "str", "required": True},
            "datacenter": {"type": "str", "default": "dc1"},
            "domain": {"type": "str", "default": "consul"},
            "edge_domain": {"type": "str", "required": True},
            "consul_url": {"type": "str", "default": "http://127.0.0.1:8500"},
            "consul_token": {"type": "str", "no_log": True},
            "consul_unit": {"type": "str", "default": "consul.service"},
            "consul_http_address": {"type": "str", "default": ""},
            "consul_http_port": {"type": "int", "default": 8500},
            "docker_unit": {"type": "str", "default": "docker.service"},
            "edge_apply": {"type": "path", "default": "/usr/local/sbin/nginx-edge-apply"},
            "public_names": {"type": "list", "elements": "str", "default": []},
            "samples": {"type": "bool", "default": True},
            "disruptive": {"type": "bool", "default": False},
            "keep": {"type": "bool", "default": False},
            "directory": {"type": "path", "default": "/var/lib/trinode-acceptance"},
            "archive": {"type": "path"},
            "ca": {"type": "str"},
            "certificate": {"type": "str"},
            "key": {"type": "str", "no_log": True},
            "load_rate": {"type": "int", "default": 20},
            "registration_seconds": {"type": "float", "default": 1.0},
            "seen": {"type": "list", "elements": "dict", "default": []},
        },
    )
    params = dict(module.params)
    phase = params.pop("phase")
    nodes = [Node(entry["name"], entry["address"], entry["consul"], entry["docker"], entry["edge"]) for entry in params.pop("nodes")]
    own_name = params.pop("node")
    if own_name not in [node.name for node in nodes]:
        module.fail_json(msg=f"{own_name} is not among the nodes {', '.join(node.name for node in nodes)}; give the node's own name of that list")
    own = next(node for node in nodes if node.name == own_name)
    known = {field.name for field in dataclasses.fields(Context)}
    context = Context(node=own, nodes=nodes, **{key: value for key, value in params.items() if key in known and value is not None})
    record = Recorder(own.name)
    started = time.monotonic()
    facts = {}
    problem = ""
    try:
        facts = PHASES[phase](context, record)
    except (AcceptanceError, OSError, ValueError) as error:
        problem = str(error) or type(error).__name__
    result = {"changed": False, "node": own.name, "phase": phase, "steps": record.steps, "facts": facts, "seconds": round(time.monotonic() - started, 3)}
    if problem and phase in FATAL:
        module.fail_json(msg=problem, **result)
    if problem:
        record.add(0, f"Phase {phase} on {own.name}", False, problem)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
