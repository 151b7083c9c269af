#!/usr/bin/python
# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remove the services of a node from the catalogue."""

from __future__ import annotations

DOCUMENTATION = r"""
module: consul_instances_absent
short_description: Remove the services of a node from the catalogue
version_added: 1.0.0
author: [Contributors to the trinode.platform project (@trinode)]
description:
  - Runs on another node. For a node whose agent the cluster does not hear, before it hears it again. What the catalogue holds of
    such a node may be of before its last boot, and lead to other containers now.
  - The node stays in the catalogue with its checks, and so does the service C(consul) of a server.
  - An agent that is a member registers its services again, where their tokens are still valid.
extends_documentation_fragment: [trinode.platform._consul_agent]
options:
  member:
    description: [The Consul node name of the node whose services are removed.]
    type: str
    required: true
  token:
    description: An ACL token with C(node:write) for the other node, where ACLs are on.
    type: str
attributes:
  check_mode:
    description: Can run in check mode and returns the services that would be removed.
    support: full
  diff_mode:
    description: Returns details on what has changed (or possibly needs changing in check mode), when in diff mode.
    support: none
"""

EXAMPLES = r"""
- name: Remove the services of the node that comes back
  trinode.platform.consul_instances_absent:
    node: consul-1
    member: consul-3
  delegate_to: consul-1
"""

RETURN = r"""
removed:
  description: The ids of the services.
  type: list
  elements: str
  returned: success
"""

import time

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._consul.member import instances
from ..module_utils._consul.module import AGENT_ARGUMENTS, api_of

POLL_SECONDS = 0.5


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(argument_spec={**AGENT_ARGUMENTS, "member": {"type": "str", "required": True}}, supports_check_mode=True)
    member, node = module.params["member"], module.params["node"]
    api = api_of(module)
    deadline = time.monotonic() + module.params["timeout"]
    removed: list[str] = []
    while True:
        try:
            left = instances(api, member)
            if not left or module.check_mode:
                break
            for instance in left:
                api.request(instance.path, instance.method, instance.body)
                removed.append(instance.what)
            continue
        except (OSError, ValueError) as error:
            problem = (
                f"The services of {member} cannot be removed from the catalogue, which may lead to other containers now, so {member} was left"
                f" outside of the cluster: the Consul agent on {node} refused ({error}). Bring the cluster of the other nodes in order first:"
                " `consul operator raft list-peers` shows its servers, recover_quorum.yml gives those that are left a leader. Then run again."
            )
        if time.monotonic() > deadline:
            module.fail_json(msg=problem)
        time.sleep(POLL_SECONDS)
    found = sorted({*removed, *(instance.what for instance in left)})
    module.exit_json(changed=bool(found), removed=found)


if __name__ == "__main__":
    main()
