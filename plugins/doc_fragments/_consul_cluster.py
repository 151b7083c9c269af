# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of the modules that watch over a Consul cluster, beside those of the agent. Private to the collection."""

from __future__ import annotations


class ModuleDocFragment:
    """Shared documentation."""

    DOCUMENTATION = r"""
options:
  servers:
    description: [All servers that have to be voters of the cluster.]
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: [The Consul node name of the server.]
        type: str
        required: true
      address:
        description: [The address that the server advertises.]
        type: str
        required: true
  mode:
    description: [What the agent on this host is. A client only needs a leader and living servers.]
    type: str
    choices: [server, client]
    default: server
  token:
    description: An ACL token with C(operator:read) and C(agent:read), where ACLs are on.
    type: str
  unit:
    description: The systemd unit of the agent, whose journal an error shows.
    type: str
    default: consul.service
  remedy:
    description: What an error says at its end, such as the way back that the caller knows.
    type: str
    default: ""
"""
