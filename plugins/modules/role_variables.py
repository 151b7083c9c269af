#!/usr/bin/python
# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action of this name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: role_variables
short_description: Find mistyped role variables before any role runs
version_added: 1.0.0
author: [Contributors to the trinode.platform project (@trinode)]
description:
  - Compares the variables that the inventory and C(--extra-vars) define for a host with the argument specifications of this collection's roles.
  - A variable that begins with the name of a role, but that the role does not know, is a problem. So is one that begins with no role's name,
    but differs from a known variable in one or two letters.
  - The value of a known variable is evaluated and must be of the type, and among the choices, that the specification of the role asks for.
    A value that needs facts is left to the role itself.
  - Names that begin with C(__) or C(ansible_) are never looked at, nor is anything that a play passes to a role.
options:
  roles:
    description: The roles to look at, with or without the name of the collection. Empty means all roles of the collection.
    type: list
    elements: str
    default: []
  shared:
    description:
      - Variables that belong to no role. The keys are the words that they begin with, such as V(platform), and the values are
        argument specifications, by the name of the variable.
    type: dict
    default: {}
  ignored:
    description: Names, or patterns such as V(nginx_legacy_*), of variables that other software reads.
    type: list
    elements: str
    default: []
  report_only:
    description: [Whether to return what was found instead of failing.]
    type: bool
    default: false
attributes:
  check_mode:
    description: Does the same in check mode.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
"""

EXAMPLES = r"""
- name: Stop on a mistyped variable
  trinode.platform.role_variables:
    roles: [trinode.platform.consul_server, trinode.platform.nginx]
    shared:
      platform:
        platform_domain: {type: str}
"""

RETURN = r"""
problems:
  description: What was found.
  returned: always
  type: list
  elements: dict
  contains:
    check:
      description: Always V(variable).
      type: str
    message:
      description: A sentence that names the variable and, when it is known, the file and the line in which it was written.
      type: str
    remedy:
      description: What to do, with the nearest known name.
      type: str
"""
