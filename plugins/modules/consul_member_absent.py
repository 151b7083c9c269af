#!/usr/bin/python
# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take everything of a node that is gone out of the cluster."""

from __future__ import annotations

DOCUMENTATION = r"""
module: consul_member_absent
short_description: Take everything of a node that is gone out of the cluster
version_added: 1.0.0
author: [Contributors to the trinode.platform project (@trinode)]
description:
  - Runs on a server that stays. Removes the other node from the Raft configuration, from the members, and from the catalogue, and waits until it is gone.
  - The agent of that node must not run any more, or it comes back.
extends_documentation_fragment: [trinode.platform._consul_agent]
options:
  member:
    description: [The Consul node name of the node that is gone.]
    type: str
    required: true
  token:
    description: An ACL token with C(operator:write), C(agent:write) and C(node:write), where ACLs are on.
    type: str
attributes:
  check_mode:
    description: Can run in check mode and tells what is left of the node.
    support: full
  diff_mode:
    description: Returns details on what has changed (or possibly needs changing in check mode), when in diff mode.
    support: none
"""

EXAMPLES = r"""
- name: Forget the fourth server
  trinode.platform.consul_member_absent:
    node: consul-1
    member: consul-4
"""

RETURN = r"""
removed:
  description: As what the node was still known.
  type: list
  elements: str
  returned: success
"""

import time

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._consul.member import look
from ..module_utils._consul.module import AGENT_ARGUMENTS, api_of

POLL_SECONDS = 0.5


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            **AGENT_ARGUMENTS,
            "member": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    member, node = module.params["member"], module.params["node"]
    if member == node:
        module.fail_json(msg=f"{node} cannot remove itself; let another server do it.")
    api = api_of(module)
    deadline = time.monotonic() + module.params["timeout"]
    removed: dict[str, None] = {}
    while True:
        problem = ""
        try:
            left = look(api, member)
            if not left or module.check_mode:
                break
            for trace in left:
                api.request(trace.path, trace.method, trace.body)
                removed[trace.what] = None
            problem = f"{member} is still {' and '.join(trace.what for trace in left)} for {node}; see whether its agent still runs."
        except (OSError, ValueError) as error:
            # The node that is gone may have been the leader, and then nobody answers until there is another one.
            problem = f"The Consul agent on {node} refused: {error}. See `journalctl -u consul` there."
        if time.monotonic() > deadline:
            module.fail_json(msg=problem)
        time.sleep(POLL_SECONDS)
    module.exit_json(changed=bool(removed or left), removed=[*removed, *(trace.what for trace in left)])


if __name__ == "__main__":
    main()
