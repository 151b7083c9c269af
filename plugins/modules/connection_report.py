#!/usr/bin/python
# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action of this name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: connection_report
short_description: Report all hosts that cannot be reached or read, each with its remedy
version_added: 1.0.0
author: [Contributors to the trinode.platform project (@trinode)]
description:
  - Fails with one numbered list of the hosts on which M(ansible.builtin.ping) did not succeed, such as those that want
    a password of sudo. Hosts with the same reason are one problem.
  - Runs on the control node, once for all hosts.
options:
  hosts:
    description: The inventory names of the hosts.
    type: list
    elements: str
    required: true
  results:
    description: The results of M(ansible.builtin.ping), run by M(trinode.platform.attempt), in the order of O(hosts).
    type: list
    elements: dict
    required: true
  allow_unreachable:
    description: Whether hosts without a connection are left out of the report, because the playbook expects some.
    type: bool
    default: false
attributes:
  check_mode:
    description: Can run in check mode and changes nothing.
    support: full
  diff_mode:
    description: Nothing is changed, so there is nothing to compare.
    support: none
seealso:
  - module: trinode.platform.attempt
  - module: trinode.platform.preflight_report
"""

EXAMPLES = r"""
- name: Connect to each host
  trinode.platform.attempt:
    module: ansible.builtin.ping
  register: connection

- name: Report the hosts that cannot be read
  trinode.platform.connection_report:
    hosts: "{{ ansible_play_hosts_all }}"
    results: "{{ ansible_play_hosts_all | map('extract', hostvars, 'connection') }}"
  run_once: true
"""

RETURN = r"""
msg:
  description: How many problems there are; the error has the list.
  type: str
  returned: failure
"""
