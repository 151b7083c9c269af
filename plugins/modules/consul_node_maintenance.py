#!/usr/bin/python
# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take a node and all its services out of service, or back."""

from __future__ import annotations

DOCUMENTATION = r"""
module: consul_node_maintenance
short_description: Take a node and all its services out of service, or back
version_added: 1.0.0
author: [Contributors to the trinode.platform project (@trinode)]
description:
  - Puts the node of the host's agent into Consul's maintenance mode, and waits until no service has a passing instance there any more.
    Then nobody finds one by DNS or through an edge, and the containers may be stopped.
  - The mode outlives restarts of everything, and holds for what is registered later.
  - Refuses where the node carries the last passing instance of a service, unless O(force) is set.
extends_documentation_fragment: [trinode.platform._consul_agent]
options:
  state:
    description: V(present) takes the node out of service, V(absent) brings it back.
    type: str
    choices: [present, absent]
    default: present
  reason:
    description: Why, for those who look at the node's checks.
    type: str
    default: drained by the operator
  force:
    description: [Whether services may lose their last passing instance.]
    type: bool
    default: false
  token:
    description: An ACL token with C(agent:write) and C(service:read), where ACLs are on.
    type: str
attributes:
  check_mode:
    description: Can run in check mode and tells what it would change, or why it would refuse.
    support: full
  diff_mode:
    description: Returns details on what has changed (or possibly needs changing in check mode), when in diff mode.
    support: none
seealso:
  - module: trinode.platform.consul_cluster_health
"""

EXAMPLES = r"""
- name: Take the node out of service
  trinode.platform.consul_node_maintenance:
    node: consul-3
    reason: new memory
"""

RETURN = r"""
services:
  description: The services of this node.
  type: list
  elements: str
  returned: success
last_instances:
  description: Those of them that have no passing instance on another node.
  type: list
  elements: str
  returned: always
seconds:
  description: How long it took.
  type: float
  returned: success
"""

import time
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._consul.maintenance import in_maintenance, only_here, passing_of, set_maintenance, still_here
from ..module_utils._consul.module import AGENT_ARGUMENTS, api_of

POLL_SECONDS = 0.25


def run(module: AnsibleModule) -> dict[str, t.Any]:
    """Do it, and wait for the effect."""
    params = module.params
    node, wanted = params["node"], params["state"] == "present"
    api = api_of(module)
    started = time.monotonic()
    passing = passing_of(api)
    changed = in_maintenance(api) is not wanted
    last = only_here(passing, node) if wanted else []
    if changed and last and not params["force"]:
        module.fail_json(
            msg=(
                f"{node} was left in service, because it carries the last passing instance of {', '.join(last)}."
                " Start one on another node first, or allow the loss with drain_last_instances=true."
            ),
            last_instances=last,
        )
    if changed and not module.check_mode:
        set_maintenance(api, wanted, params["reason"])
    left: list[str] = []
    while wanted and not module.check_mode:
        left = still_here(passing_of(api), node)
        if not left:
            break
        if time.monotonic() - started > params["timeout"]:
            module.fail_json(
                msg=f"{node} is in maintenance, and after {params['timeout']} s Consul still calls {', '.join(left)} there passing; look at `consul members`.",
                last_instances=last,
            )
        time.sleep(POLL_SECONDS)
    return {"changed": changed, "services": sorted(passing), "last_instances": last, "seconds": round(time.monotonic() - started, 2)}


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            **AGENT_ARGUMENTS,
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "reason": {"type": "str", "default": "drained by the operator"},
            "force": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    try:
        result = run(module)
    except (OSError, ValueError) as error:
        module.fail_json(msg=f"The Consul agent on {module.params['node']} refused: {error}. See `journalctl -u consul` there.")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
