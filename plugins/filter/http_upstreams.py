# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The consul-template source of the edge's HTTP side."""

from __future__ import annotations

DOCUMENTATION = r"""
name: http_upstreams
short_description: The consul-template source of the edge's HTTP side
version_added: 1.0.0
author: [Contributors to the trinode.platform project (@trinode)]
description:
  - Turns the description of an edge into a complete consul-template source. What consul-template renders from it belongs into nginx's C(http) block.
  - Every passing instance that carries O(_input.http_tag) becomes a server of its service, which is reached as C(NAME.domain) on O(_input.http_port).
  - Traffic is balanced round robin. Service meta C(edge_weight) (0 to 100) is the percentage of an instance's share of Consul's C(Weights.Passing).
  - An exposed service without a usable instance answers 503.
  - Instances with service meta C(edge_canary) get the part of the traffic that O(_input.canary) or service meta C(edge_canary_share) says.
  - The source is itself the guard. It emits only fields that it has checked, resolves collisions in a fixed order, and lists whatever it refuses, with
    the reason, in comment lines that begin with C(#!) and hold one JSON object.
extends_documentation_fragment:
  - trinode.platform._edge
seealso:
  - plugin: trinode.platform.tcp_upstreams
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Let consul-template render the HTTP side of the edge
  ansible.builtin.include_role:
    name: trinode.platform.consul_template
  vars:
    edge:
      domain: apps.hospital.example
      client_max_body_size: 20m
    consul_template_templates:
      - name: http
        contents: "{{ edge | trinode.platform.http_upstreams }}"
        destination: /var/lib/nginx-edge/staging/http.conf
        command: [/usr/local/bin/reload-edge]
"""

RETURN = r"""
_value:
  description: The consul-template source, with a line break at its end.
  type: string
"""

import typing as t

from ..plugin_utils._edge.glue import generate
from ..plugin_utils._edge.http import http_template


def http_upstreams(edge: t.Any) -> str:
    """The filter."""
    return generate("http_upstreams", http_template, edge)


class FilterModule:
    """Filters of this file."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Names and functions."""
        return {"http_upstreams": http_upstreams}
