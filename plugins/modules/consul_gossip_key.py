#!/usr/bin/python
# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Let every member of a Consul cluster encrypt its gossip with another key."""

from __future__ import annotations

DOCUMENTATION = r"""
module: consul_gossip_key
short_description: Let every member of a Consul cluster encrypt its gossip with another key
version_added: 1.0.0
author: [Contributors to the trinode.platform project (@trinode)]
description:
  - Installs the key on every member, lets them all use it, and removes the old ones. After each of these steps every member is asked; the next one
    begins when all of them made it.
  - A cluster with a failed member is refused, because that one would be locked out when it comes back.
  - A server that takes part in the gossip between data centres is refused, because Consul would bring the key to all of them.
  - A run that broke off goes on where it was, when it is given the same key. Run it once for a cluster, on a server.
options:
  url:
    description: [The HTTP API of the agent on this host.]
    type: str
    default: http://127.0.0.1:8500
  token:
    description: [An ACL token with C(keyring:write) and C(node:read).]
    type: str
  key:
    description: ["The key from now on: 16, 24 or 32 bytes in base64."]
    type: str
    required: true
  timeout:
    description: How long each step may take to reach every member, in seconds.
    type: int
    default: 60
attributes:
  check_mode:
    description: Can run in check mode and tells what it would change.
    support: full
  diff_mode:
    description: A key is not shown.
    support: none
"""

EXAMPLES = r"""
- name: Let the whole cluster use the new key
  trinode.platform.consul_gossip_key:
    key: "{{ new_key }}"
    token: "{{ token }}"
  run_once: true
"""

RETURN = r"""
members:
  description: How many members use the key and hold no other one.
  type: int
  returned: success
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._consul.security import GossipError, KeyringApi, alive, alone, lacking, rotate


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "default": "http://127.0.0.1:8500"},
            "token": {"type": "str", "no_log": True},
            "key": {"type": "str", "required": True, "no_log": True},
            "timeout": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    params = module.params
    api = KeyringApi(params["url"], params["token"] or "")
    try:
        # In check mode nobody has taken it off the WAN before.
        if not module.check_mode:
            alone(params["url"], params["token"] or "")
        members = alive(params["url"], params["token"] or "")
        if module.check_mode:
            module.exit_json(changed=bool(lacking(api.rings(), params["key"], primary=True, alone=True)), members=members)
        calls = rotate(api, params["key"], members, params["timeout"])
    except (GossipError, OSError, ValueError) as error:
        module.fail_json(msg=f"The key of the gossip was not rotated: {error}")
    module.exit_json(changed=calls > 0, members=members)


if __name__ == "__main__":
    main()
