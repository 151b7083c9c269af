# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of the modules that watch over a Consul agent. Private to the collection."""

from __future__ import annotations


class ModuleDocFragment:
    """Shared documentation."""

    DOCUMENTATION = r"""
options:
  node:
    description: [The Consul node name of the host that the module runs on.]
    type: str
    required: true
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
  url:
    description: [The HTTP API of the agent on this host.]
    type: str
    default: http://127.0.0.1:8500
  token:
    description: [An ACL token with C(operator:read) and C(agent:read), where ACLs are on.]
    type: str
  token_file:
    description:
      - A file on this host with such a token, so that it needs not pass through the playbook. One that does not exist means that there is no token.
    type: path
  unit:
    description: [The systemd unit of the agent, whose journal an error shows.]
    type: str
    default: consul.service
  timeout:
    description: [How long to wait, in seconds.]
    type: int
    default: 60
  remedy:
    description: [What an error says at its end, such as the way back that the caller knows.]
    type: str
    default: ""
"""
