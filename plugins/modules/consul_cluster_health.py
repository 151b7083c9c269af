#!/usr/bin/python
# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wait until a Consul cluster is healthy."""

from __future__ import annotations

DOCUMENTATION = r"""
module: consul_cluster_health
short_description: Wait until a Consul cluster is healthy
version_added: 1.0.0
author: [Contributors to the trinode.platform project (@trinode)]
description:
  - Asks the node's own agent until there is a leader, every expected server is alive and a voter, and autopilot calls the cluster healthy.
  - When that does not happen in time, the error names each missing or sick server, and shows the end of the agent's journal.
  - Changes nothing.
extends_documentation_fragment: [trinode.platform._consul_agent, trinode.platform._consul_cluster]
options:
  catalogue:
    description:
      - Whether to wait, too, until the catalogue holds every service of this host's agent. After a snapshot was restored, or a catalogue entry was taken out,
        an agent enters itself again within two minutes.
    type: bool
    default: false
  datacenters:
    description:
      - Other data centres that this one is to be joined with over the WAN. A server also waits, for 10 seconds at most, until one server of each of them and
        every server of its own is alive there. What is missing then is a warning, because it may be the other site that is down.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: [The name of the data centre.]
        type: str
        required: true
      servers:
        description: [The addresses of its servers.]
        type: list
        elements: str
        required: true
attributes:
  check_mode:
    description: Can run in check mode. There it looks once, does not wait, and only warns.
    support: full
  diff_mode:
    description: Returns details on what has changed (or possibly needs changing in check mode), when in diff mode.
    support: none
seealso:
  - module: trinode.platform.consul_agent_restart
"""

EXAMPLES = r"""
- name: Wait until the cluster is complete
  trinode.platform.consul_cluster_health:
    node: consul-1
    servers:
      - {name: consul-1, address: 192.0.2.1}
      - {name: consul-2, address: 192.0.2.2}
      - {name: consul-3, address: 192.0.2.3}
    timeout: 60
"""

RETURN = r"""
leader:
  description: Address and port of the leader.
  type: str
  returned: success
leads:
  description: Whether this host is the leader.
  type: bool
  returned: success
version:
  description: The version that the agent on this host runs. Empty when it does not answer.
  type: str
  returned: success
failure_tolerance:
  description: The number of voters that may be lost without losing the quorum. V(-1) when the agent is a client.
  type: int
  returned: success
seconds:
  description: How long it took.
  type: float
  returned: success
problems:
  description: What was wrong at the end, one sentence each.
  type: list
  elements: str
  returned: always
"""

import time
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._consul.cluster import ConsulApi, Server, evaluate, is_leader, wan_problems
from ..module_utils._consul.module import ARGUMENTS, api_of, journal, servers_of, with_remedy

POLL_SECONDS = 0.25
WAN_SECONDS = 10.0


def join_of_others(api: ConsulApi, servers: list[Server], datacenter: str, others: dict[str, list[str]], patience: float) -> list[str]:
    """What keeps this data centre and others from being joined, after some patience."""
    started = time.monotonic()
    while True:
        problems = wan_problems(api.optional("/v1/agent/members?wan=1"), datacenter, servers, others)
        if not problems or time.monotonic() - started > patience:
            return problems
        time.sleep(POLL_SECONDS)


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            **ARGUMENTS,
            "catalogue": {"type": "bool", "default": False},
            "datacenters": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {"name": {"type": "str", "required": True}, "servers": {"type": "list", "elements": "str", "required": True}},
            },
        },
        supports_check_mode=True,
    )
    params: dict[str, t.Any] = module.params
    api, servers = api_of(module), servers_of(module)
    started = time.monotonic()
    while True:
        state = api.state(params["mode"], params["node"] if params["catalogue"] else "")
        problems = evaluate(state, servers, params["node"], params["mode"])
        elapsed = time.monotonic() - started
        if not problems or module.check_mode or elapsed > params["timeout"]:
            break
        time.sleep(POLL_SECONDS)
    if problems and not module.check_mode:
        module.fail_json(
            msg=with_remedy(
                module,
                f"The Consul cluster, as {params['node']} sees it, is not healthy after {elapsed:.0f} s: {'; '.join(problems)}."
                f" Look at the journal of {params['unit']} on the servers named here. Its end on {params['node']}:\n"
                f"{journal(module, params['unit'])}",
            ),
            problems=problems,
        )
    others = {entry["name"]: entry["servers"] for entry in params["datacenters"]}
    if others and not problems and params["mode"] == "server":
        problems = join_of_others(api, servers, str((state.config or {}).get("Datacenter")), others, 0 if module.check_mode else WAN_SECONDS)
    for problem in problems:
        module.warn(f"{params['node']}: {problem}")
    module.exit_json(
        changed=False,
        leader=state.leader or "",
        leads=is_leader(state, next((server.address for server in servers if server.name == params["node"]), "")),
        version=str((state.config or {}).get("Version", "")),
        failure_tolerance=int((state.autopilot or {}).get("FailureTolerance", -1)),
        seconds=round(elapsed, 2),
        problems=problems,
    )


if __name__ == "__main__":
    main()
