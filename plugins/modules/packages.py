#!/usr/bin/python
# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action of this name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: packages
short_description: Install the packages of a role, or remove those that it installed
version_added: 1.0.0
author: [Contributors to the trinode.platform project (@trinode)]
description:
  - Installs packages with M(ansible.builtin.apt), without those that are only recommended.
  - Looks first whether one is missing. Where none is, nothing else happens, so a host whose package sources cannot be reached is in order as long as it has
    what it needs.
  - Remembers what it brought, dependencies included, with M(trinode.platform.packages_memory).
options:
  name:
    description: The packages. Required with O(state=present) and O(state=latest).
    type: list
    elements: str
  owner:
    description: The role for which they are remembered. Without one, they are not. Required with O(state=absent).
    type: str
  state:
    description:
      - V(latest) also looks for newer versions of what is installed.
      - V(absent) removes what O(owner) has ever installed on the host, with its configuration, and nothing that was there before.
    type: str
    choices: [present, latest, absent]
    default: present
  keep:
    description: Packages that O(state=absent) does not remove. They count as the operator's afterwards.
    type: list
    elements: str
    default: []
  update_lists:
    description:
      - Whether the host's package lists are updated before something is installed, when they are older than an hour or do not know it.
      - Without it they are only updated when what is wanted cannot be had by the present ones. This is for a host whose other sources are out of reach.
    type: bool
    default: true
  policy_rc_d:
    description: As in M(ansible.builtin.apt). V(101) keeps services from being started by their packages.
    type: int
attributes:
  action:
    description: Calls other modules on the host.
    support: full
  check_mode:
    description: Says whether something would be installed. It does not say whether that can be had, because check mode updates no package lists.
    support: full
  diff_mode:
    description: Shows what M(ansible.builtin.apt) shows.
    support: partial
    details: As M(ansible.builtin.apt).
seealso:
  - module: ansible.builtin.apt
  - module: trinode.platform.packages_memory
"""

EXAMPLES = r"""
- name: Install the client libraries
  trinode.platform.packages:
    name: [python3-docker, python3-requests]
    owner: registrator

- name: Remove the packages that the role installed
  trinode.platform.packages:
    owner: registrator
    state: absent
"""

RETURN = r"""
removed:
  description: The packages that were removed.
  type: list
  elements: str
  returned: with O(state=absent)
stdout:
  description: What apt said when it installed something.
  type: str
  returned: when something was installed
remembered:
  description: All packages that this owner ever brought to the host.
  type: list
  elements: str
  returned: when packages were brought
"""
