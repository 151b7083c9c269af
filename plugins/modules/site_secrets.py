# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action of this name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: site_secrets
short_description: Make the first secret of a site
version_added: 1.0.0
author: [Contributors to the trinode.platform project (@trinode)]
description:
  - Makes the management token of a new site. From then on P(trinode.platform.secret#lookup) makes the other secrets when they are needed.
  - Fails, and makes nothing, when an agent belongs to a secure cluster and the secrets of that cluster are not on this control node.
    New ones would be given to the nodes, and would not fit those of the others.
options:
  directory:
    description: The directory of the secrets, an absolute path on the control node.
    type: path
    required: true
  stages:
    description: By host, how far its agent is, as M(trinode.platform.consul_security_info) returns it.
    type: dict
    required: true
  left_out:
    description: Hosts with an agent that were not asked. The first secrets of a site are only made when all hosts were.
    type: list
    elements: str
    default: []
  servers:
    description: The hosts with a server. When none of them has ACLs yet, the first management token of their cluster is made, too.
    type: list
    elements: str
    default: []
  own_authority:
    description: Whether the site brings certificates of its own, and has no authority among its secrets.
    type: bool
    default: false
  key_files:
    description: Private keys of the operator's own, to warn of those that git has or would take in clear.
    type: list
    elements: path
    default: []
  lost:
    description: Whether the secrets are lost, and a running cluster is to get new ones.
    type: bool
    default: false
attributes:
  check_mode:
    description: Can run in check mode and writes nothing then.
    support: full
  diff_mode:
    description: A secret is not shown.
    support: none
seealso:
  - module: trinode.platform.secret
"""

EXAMPLES = r"""
- name: Make the first secret of a new site
  trinode.platform.site_secrets:
    directory: "{{ inventory_dir }}/secrets"
    stages: {consul-1: absent, consul-2: absent, consul-3: absent}
    servers: [consul-1, consul-2, consul-3]
  run_once: true
"""

RETURN = r"""
changed:
  description: Whether the first secret was made.
  returned: always
  type: bool
"""
