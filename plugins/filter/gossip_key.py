# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which key a cluster encrypts its gossip with."""

from __future__ import annotations

DOCUMENTATION = r"""
name: gossip_key
short_description: Which key a cluster encrypts its gossip with
version_added: 1.0.0
author: [Contributors to the trinode.platform project (@trinode)]
description:
  - Compares the keys that the agents know with the one among the secrets of the site. More than half of the hosts decide, because
    the secrets may be an older copy, and a host may have the disk of a snapshot from before a rotation.
positional: stored, unseen
options:
  _input:
    description: The keys that the agent of each host knows, by host; the one that it encrypts with is the first.
    type: dict
    required: true
  stored:
    description: The key among the secrets of the site. Empty without one.
    type: str
    required: true
  unseen:
    description: How many further hosts the inventory has, which are not asked.
    type: int
    required: true
"""

EXAMPLES = r"""
- name: Show the hosts that were left behind
  ansible.builtin.debug:
    msg: "{{ (rings | trinode.platform.gossip_key(stored, 0)).left_behind }}"
"""

RETURN = r"""
_value:
  description: >-
    Has C(key), the key of the cluster; C(left_behind), the hosts whose agent does not know it; C(holders), those whose agent
    does; and C(problem), half a sentence that is empty when the key can be told.
  type: dict
"""

import typing as t

from ansible.errors import AnsibleFilterError

from ..plugin_utils._sites.gossip_key import cluster_key


def gossip_key(rings: t.Any, stored: t.Any, unseen: t.Any) -> dict[str, t.Any]:
    """Only converts arguments and the result."""
    if not isinstance(rings, dict) or not isinstance(stored, str) or not isinstance(unseen, int):
        raise AnsibleFilterError("trinode.platform.gossip_key: the keys are a dictionary of lists, stored is a text, and unseen a number")
    return cluster_key({str(host): [str(key) for key in ring or []] for host, ring in rings.items()}, stored, unseen)._asdict()


class FilterModule:
    """The filter of this file."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """What Ansible looks for."""
        return {"gossip_key": gossip_key}
