#!/usr/bin/python
# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find the name servers that a host used before its resolver was pointed elsewhere."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_resolver_facts
short_description: Find the name servers that a host used before its resolver was pointed elsewhere
version_added: 1.0.0
author: [Contributors to the trinode.platform project (@trinode)]
description:
  - Returns the name servers of the site or the provider, never those that M(trinode.platform.host_resolver) set.
  - While a resolver's manager (resolvconf, systemd-resolved) knows them, they come from it, so a change by DHCP is followed.
    Otherwise they are what was remembered before the first change.
  - A forwarder on the host itself (systemd-resolved, dnsmasq) is replaced by the servers it forwards to.
options:
  servers:
    description: The servers that the host is, or will be, pointed to. They are never returned.
    type: list
    elements: str
    default: []
  former_servers:
    description: The answer, when it cannot be found out.
    type: list
    elements: str
    default: []
  state_file:
    description: [Where M(trinode.platform.host_resolver) remembers the former state.]
    type: path
    default: /var/lib/trinode/resolver.json
attributes:
  check_mode:
    description: Can run in check mode; it only reads.
    support: full
  diff_mode:
    description: There is nothing to show, as it only reads.
    support: none
  facts:
    description: Sets the fact C(resolvconf_dns_upstreams).
    support: full
seealso:
  - module: trinode.platform.host_resolver
"""

EXAMPLES = r"""
- name: Find the name servers of the site
  trinode.platform.host_resolver_facts:

- name: Show them
  ansible.builtin.debug:
    var: ansible_facts['resolvconf_dns_upstreams']
"""

RETURN = r"""
ansible_facts:
  description: The facts.
  type: dict
  returned: success
  contains:
    resolvconf_dns_upstreams:
      description: The addresses of the former name servers.
      type: list
      elements: str
      returned: success
"""

import platform
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._resolver import manager
from ..module_utils._resolver.manager import ResolverError, System


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "servers": {"type": "list", "elements": "str", "default": []},
            "former_servers": {"type": "list", "elements": "str", "default": []},
            "state_file": {"type": "path", "default": "/var/lib/trinode/resolver.json"},
        },
        supports_check_mode=True,
    )
    system = System(lambda command: t.cast("tuple[int, str, str]", module.run_command(command)))
    found: list[str] = module.params["former_servers"]
    if not found:
        try:
            found = manager.former_servers(system, manager.load_state(module.params["state_file"]), module.params["servers"])
        except ResolverError as exc:
            module.fail_json(msg=f"Host {platform.node()}: {exc}.")
    if not found:
        module.fail_json(
            msg=(
                f"Host {platform.node()}: no name server of the site can be found ({manager.RESOLV_CONF} names none but this host itself);"
                " set resolvconf_dns_former_servers for this host to the servers that resolve public names."
            )
        )
    module.exit_json(changed=False, ansible_facts={"resolvconf_dns_upstreams": found})


if __name__ == "__main__":
    main()
