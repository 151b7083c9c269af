#!/usr/bin/python
# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action of this name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight_report
short_description: One report of everything that preflight found on all hosts
version_added: 1.0.0
author: [Contributors to the trinode.platform project (@trinode)]
description:
  - Judges, on the control node, what M(trinode.platform.role_variables), M(trinode.platform.node_info),
    M(trinode.platform.node_listener) and M(trinode.platform.node_probe) found on each host, and the inventory itself.
  - Fails with one numbered list of all problems of all hosts, each with its remedy. What is no problem but deserves a word becomes a warning.
  - Meant to run once for all hosts, from the role P(trinode.platform.preflight#role).
options:
  nodes:
    description: [All nodes of the platform.]
    type: list
    elements: dict
    required: true
  ports:
    description: [The port table.]
    type: list
    elements: dict
    required: true
  hosts:
    description: [The inventory names of the hosts of this play.]
    type: list
    elements: str
    required: true
  variables:
    description: The results of M(trinode.platform.role_variables), in the order of O(hosts).
    type: list
    elements: dict
    required: true
  facts:
    description: The results of M(trinode.platform.node_info), in the order of O(hosts).
    type: list
    elements: dict
    required: true
  listener:
    description: The results of M(trinode.platform.node_listener) with O(trinode.platform.node_listener#module:state=started), in the order of O(hosts).
    type: list
    elements: dict
    required: true
  probe:
    description: The results of M(trinode.platform.node_probe), in the order of O(hosts).
    type: list
    elements: dict
    required: true
  stop:
    description: The results of M(trinode.platform.node_listener) with O(trinode.platform.node_listener#module:state=stopped), in the order of O(hosts).
    type: list
    elements: dict
    required: true
  datacenter:
    description: [The name of the datacenter.]
    type: str
    default: ""
  domain:
    description: [The domain of Consul.]
    type: str
    default: ""
  edge_domain:
    description: [The domain below which services are exposed.]
    type: str
    default: ""
  wan_datacenters:
    description: [The other data centres.]
    type: list
    elements: dict
    default: []
  prepared_queries:
    description: [The prepared queries.]
    type: list
    elements: dict
    default: []
  wan_faults:
    description: ["Why this site cannot be joined with the other data centres, as C(message) and C(remedy)."]
    type: list
    elements: dict
    default: []
  wan_warnings:
    description: ["What to warn of about them, as C(message) and C(remedy)."]
    type: list
    elements: dict
    default: []
  recursors:
    description: [Name servers that Consul is told to ask.]
    type: list
    elements: str
    default: []
  allow_single_server:
    description: [Whether one Consul server is enough.]
    type: bool
    default: false
  platforms:
    description: [Supported versions by distribution.]
    type: dict
    required: true
  clock_skew_max:
    description: [Seconds by which the clocks of two nodes may differ.]
    type: float
    default: 5.0
  memory_min:
    description: [Megabytes of memory below which to warn.]
    type: int
    default: 0
  disk_min:
    description: [Megabytes of free space below which to warn.]
    type: int
    default: 0
  mirror:
    description: The mirror of the releases. A directory is looked into, checksums included, for what a node lacks.
    type: str
    default: ""
  tolerated:
    description: [Checks whose problems only warn.]
    type: list
    elements: str
    default: []
  edge:
    description: The edge description, which is checked when there is one.
    type: dict
    default: {}
  certificates:
    description: The certificates of the edge, as M(trinode.platform.tls_certificates) takes them, which are checked.
    type: list
    elements: dict
    default: []
  structured:
    description: [Whether to return the problems as data too.]
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
- name: Report
  ansible.builtin.include_role:
    name: trinode.platform.preflight
"""

RETURN = r"""
msg:
  description: The report, one line for each problem.
  returned: always
  type: str
problems:
  description: The problems, each with C(host), C(check), C(message) and C(remedy).
  returned: with O(structured=true)
  type: list
  elements: dict
warned:
  description: The warnings, in the same form.
  returned: with O(structured=true)
  type: list
  elements: dict
unchecked:
  description: Hosts that could not be looked at.
  returned: with O(structured=true)
  type: list
  elements: str
paths:
  description: How many paths between hosts were tried.
  returned: with O(structured=true)
  type: int
"""
