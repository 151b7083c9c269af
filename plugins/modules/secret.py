#!/usr/bin/python
# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action of this name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: secret
short_description: Keep or forget a secret on the control node
version_added: 1.0.0
author: [Contributors to the trinode.platform project (@trinode)]
description:
  - Keeps a secret where P(trinode.platform.secret#lookup) finds it, as a file of mode 0600 that is encrypted when a vault password is configured.
  - Works on the control node, whatever host the task is for.
options:
  name:
    description: [The name of the secret.]
    type: str
    required: true
  directory:
    description: The directory of the secrets, an absolute path on the control node.
    type: path
    required: true
  value:
    description: [The secret. It is required with O(state=present).]
    type: str
  kind:
    description: What to make with O(state=renewed), as in P(trinode.platform.secret#lookup).
    type: str
    choices: [uuid, key]
    default: uuid
  state:
    description: Whether there is to be such a secret. With V(renewed), it is another one after each call.
    type: str
    choices: [present, absent, renewed]
    default: present
attributes:
  check_mode:
    description: Can run in check mode and tells what it would change.
    support: full
  diff_mode:
    description: A secret is not shown.
    support: none
seealso:
  - plugin: trinode.platform.secret
    plugin_type: lookup
"""

EXAMPLES = r"""
- name: Keep the key of the certificate authority
  trinode.platform.secret:
    name: consul_ca_key
    directory: "{{ inventory_dir }}/secrets"
    value: "{{ key.privatekey }}"
  no_log: true
"""

RETURN = r"""
changed:
  description: Whether the file was written or removed.
  returned: always
  type: bool
"""
