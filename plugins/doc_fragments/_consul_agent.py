# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of the modules that ask the Consul agent of the host. Private to the collection."""

from __future__ import annotations


class ModuleDocFragment:
    """Shared documentation. What rights the token needs is each module's own to say."""

    DOCUMENTATION = r"""
options:
  node:
    description: [The Consul node name of the host that the module runs on.]
    type: str
    required: true
  url:
    description: [The HTTP API of the agent on this host.]
    type: str
    default: http://127.0.0.1:8500
  token:
    description: An ACL token, where ACLs are on.
    type: str
  token_file:
    description:
      - A file on this host with such a token, so that it needs not pass through the playbook. One that does not exist means that there is no token.
    type: path
  timeout:
    description: How long to wait, in seconds.
    type: int
    default: 60
"""
