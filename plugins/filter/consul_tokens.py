# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tokens of a secure site, each with its rights."""

from __future__ import annotations

DOCUMENTATION = r"""
name: consul_tokens
short_description: The tokens of a secure site, each with its rights
version_added: 1.0.0
author: [Contributors to the trinode.platform project (@trinode)]
description:
  - Returns the tokens of a site as M(trinode.platform.consul_acl) takes them, but for their secrets.
  - One token each for DNS, consul-template, operators, the playbooks, the rotation of the gossip key and backups. One for the agent and one for the
    registrator of each node that has these, one for each protected service, and for a client one that takes it out of service.
positional: _input, protected
options:
  _input:
    description: The nodes, as P(trinode.platform.platform_nodes#filter) returns them.
    type: list
    elements: dict
    required: true
  protected:
    description: The names of services that have a token of their own.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Show the names of the tokens
  ansible.builtin.debug:
    msg: "{{ groups | trinode.platform.platform_nodes(hostvars) | trinode.platform.consul_tokens(['billing']) | map(attribute='name') }}"
"""

RETURN = r"""
_value:
  description: A list of dictionaries with C(name), C(rules) and C(node).
  type: list
  elements: dict
"""

import typing as t

from ansible.errors import AnsibleFilterError

from ..plugin_utils._sites import tokens as logic


def consul_tokens(nodes: t.Any, protected: t.Any) -> list[dict[str, str]]:
    """Only converts errors."""
    try:
        return logic.tokens(nodes, protected)
    except logic.TokenError as error:
        raise AnsibleFilterError(f"trinode.platform.consul_tokens: {error}") from error


class FilterModule:
    """The filter of this file."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Return the filter under its name."""
        return {"consul_tokens": consul_tokens}
