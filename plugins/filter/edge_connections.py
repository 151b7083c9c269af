# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many connections to Consul an edge takes."""

from __future__ import annotations

DOCUMENTATION = r"""
name: edge_connections
short_description: How many connections to Consul an edge takes
version_added: 1.0.0
author: [Contributors to the trinode.platform project (@trinode)]
description:
  - consul-template asks Consul about every service on a connection of its own, and Consul lets one address have so many of them and no more (200, when nobody
    says otherwise). Past that limit consul-template renders nothing any more.
  - This is the most that the sources of P(trinode.platform.http_upstreams#filter) and P(trinode.platform.tcp_upstreams#filter) take together, in one
    consul-template. It follows from O(_input.max_services) and from what the edge serves. Registrations can't make it more.
  - Both sides get their limit from it. Consul's C(http_max_conns_per_client) is larger by what everything else on the host needs, and
    consul-template's C(max_conns_per_host) is just this, so that it waits for a connection and is never refused one.
extends_documentation_fragment:
  - trinode.platform._edge
seealso:
  - plugin: trinode.platform.http_upstreams
    plugin_type: filter
  - plugin: trinode.platform.tcp_upstreams
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Limits of both sides from one number
  ansible.builtin.set_fact:
    consul_template_max_connections: "{{ edge | trinode.platform.edge_connections }}"
    # Consul's own 200 for everything else.
    consul_server_http_max_conns_per_client: "{{ 200 + edge | trinode.platform.edge_connections }}"
  vars:
    edge:
      domain: apps.hospital.example
      max_services: 1000
    # 3001 and 3201
"""

RETURN = r"""
_value:
  description: The number of connections.
  type: int
"""

import typing as t

from ..plugin_utils._edge import connections as logic
from ..plugin_utils._edge.glue import generate


def edge_connections(edge: t.Any) -> int:
    """The filter."""
    return generate("edge_connections", logic.edge_connections, edge)


class FilterModule:
    """Filters of this file."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Names and functions."""
        return {"edge_connections": edge_connections}
