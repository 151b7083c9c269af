#!/usr/bin/python
# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far a Consul agent is on its way from open to secure."""

from __future__ import annotations

DOCUMENTATION = r"""
module: consul_security_info
short_description: How far a Consul agent is on its way from open to secure
version_added: 1.0.0
author: [Contributors to the trinode.platform project (@trinode)]
description:
  - Reads what the agent of this host is configured to demand, the keys of its gossip, and the token with which it answers DNS.
  - Reads files only, so that an agent that does not run answers as well. Use C(no_log), because the result holds the keys and the token.
options:
  config:
    description: [The agent's configuration file.]
    type: path
    default: /etc/consul.d/consul.json
  tokens:
    description: [The file with the agent's tokens.]
    type: path
    default: /etc/consul.d/tokens.json
  data_directory:
    description: [The agent's data directory.]
    type: path
    default: /var/lib/consul
attributes:
  check_mode:
    description: Changes nothing in any mode.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
"""

EXAMPLES = r"""
- name: See how far the agent is
  trinode.platform.consul_security_info:
  register: consul_security
  no_log: true
"""

RETURN = r"""
stage:
  description:
    - V(absent) without an agent, V(none) for an open one. At V(offer), V(use) and V(require) it has keys, certificates and ACLs. It demands nothing yet,
      uses them itself, and demands them of everybody.
  type: str
  returned: always
gossip_keys:
  description: The keys of the gossip that the agent knows. It encrypts with the first one.
  type: list
  elements: str
  returned: always
dns_token:
  description: The token with which the agent asks for callers of its DNS, empty without one.
  type: str
  returned: always
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._consul.security import dns_token, keys_of, stage_of


def read(path: str) -> str | None:
    """The text of a file, None when there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as source:
            return source.read()
    except FileNotFoundError:
        return None


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            "config": {"type": "path", "default": "/etc/consul.d/consul.json"},
            # A path, and no token.
            "tokens": {"type": "path", "default": "/etc/consul.d/tokens.json", "no_log": False},
            "data_directory": {"type": "path", "default": "/var/lib/consul"},
        },
        supports_check_mode=True,
    )
    module.exit_json(
        changed=False,
        stage=stage_of(read(module.params["config"])),
        gossip_keys=keys_of(read(f"{module.params['data_directory']}/serf/local.keyring")),
        dns_token=dns_token(read(module.params["tokens"])),
    )


if __name__ == "__main__":
    main()
